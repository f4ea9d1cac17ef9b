/* SPDX-License-Identifier: Apache-2.0
 *
 * The transform validate: regular expressions of ECMA-262, what they match and what they cost.
 */
#include "validate_rig.h"

static void patterns(void **state)
{
    (void)state;
    const char *const rows[] = {
        "{'pattern':'^[a-z0-9_]{3,5}$'}",
        "+'abc'",
        "+'a_9zz'",
        "-'ab'",
        "-'abcdef'",
        "-'ABC'",
        "{'pattern':'^(foo|bar|)$'}",
        "+'foo'",
        "+'bar'",
        "+''",
        "-'foobar'",
        "-'fo'",
        "{'pattern':'^.$'}",
        "+'\xf0\x9f\x98\x80'",
        "+'a'",
        "-''",
        "-'ab'",
        "-'\\n'",
        "-'\\u2028'",
        "{'pattern':'^[^a-c\\\\s]+$'}",
        "+'xyz'",
        "-'xbz'",
        "-'x z'",
        "-'x\\u00a0z'",
        "+'\xc3\xa4'",
        "{'pattern':'^\\\\d{4}-\\\\d\\\\d$'}",
        "+'2026-01'",
        "-'2026-1'",
        "-'\xe0\xa7\xaa\xe0\xa7\xaa-11'",
        "{'pattern':'^\\\\W\\\\D\\\\S$'}",
        "+'-x.'",
        "-'a1 '",
        "-'-1.'",
        "{'pattern':'\\\\bcat\\\\b'}",
        "+'a cat.'",
        "+'cat'",
        "-'concat'",
        "-'cats'",
        "{'pattern':'a\\\\Bb'}",
        "+'ab'",
        "-'a b'",
        "{'pattern':'^(?:a+?b*?){2,}c??$'}",
        "+'abab'",
        "+'aabbac'",
        "-'b'",
        "-'a'",
        "+'aa'",
        "{'pattern':'^(?<year>\\\\d+)$'}",
        "+'12'",
        "-'x'",
        "{'pattern':'^\\\\u00e4\\\\x41\\\\u{1F600}\\\\uD83D\\\\uDE00\\\\t\\\\0$'}",
        "+'\\u00e4A\xf0\x9f\x98\x80\\ud83d\\ude00\\t\\u0000'",
        "-'x'",
        "{'pattern':'^[\\\\u00c0-\\\\u024f-]+$'}",
        "+'\xc3\xa4-'",
        "-'a'",
        "{'pattern':'^[\\\\]\\\\-\\\\\\\\^]+$'}",
        "+']-\\\\^'",
        "-'a'",
        "{'pattern':'^[]$'}",
        "-'a'",
        "-''",
        "{'pattern':'^[^]$'}",
        "+'a'",
        "+'\\n'",
        "-''",
        "{'pattern':'^\\\\cJ$'}",
        "+'\\n'",
        "-'J'",
        "{'pattern':'x*'}",
        "+''",
        "+'y'",
        "{'pattern':'^(a|b)*abb$'}",
        "+'babaabb'",
        "-'babaab'",
        "{'pattern':'^(\\\\d{1,3}\\\\.){3}\\\\d{1,3}$'}",
        "+'192.168.1.1'",
        "-'192.168.1'",
        "{'pattern':'^a{0}b{2}$'}",
        "+'bb'",
        "-'abb'",
        "-'b'",
        "{'pattern':'(^a|b$)'}",
        "+'ax'",
        "+'xb'",
        "-'xax'",
        "{'pattern':'^\\\\/[}]\\\\}]$'}",
        "+'/}}]'",
        "{'pattern':'[\\\\b]'}",
        "+'\\b'",
        "-'b'",
        "{'patternProperties':{'\\\\d$':{'type':'integer'}}}",
        "+{'a1':1}",
        "-{'a1':'x'}",
        NULL};
    table(rows);
}

/* What ECMA-262 has and only a matcher that goes back can do. */
static void patterns_that_look_around(void **state)
{
    (void)state;
    const char *const rows[] = {"{'pattern':'^(?=.*\\\\d)(?!.*x)[a-z\\\\d]{3,}$'}",
                                "+'ab1'",
                                "-'abc'",
                                "-'x12'",
                                "{'pattern':'(?<=\\\\$)\\\\d+(?<!0)$'}",
                                "+'$12'",
                                "-'12'",
                                "-'$10'",
                                "{'pattern':'^(.)(.)\\\\2\\\\1$'}",
                                "+'abba'",
                                "-'abab'",
                                "+'\xc3\xa4xx\xc3\xa4'",
                                "{'pattern':'^(?<q>[-_])\\\\w+\\\\k<q>$'}",
                                "+'-a-'",
                                "-'_a-'",
                                "{'pattern':'^(?:(a)|b)*\\\\1c$'}",
                                "+'bc'",
                                "{'pattern':'^(a)\\\\1[0]$'}",
                                "+'aa0'",
                                NULL};
    table(rows);
}

/* \d, \w and \b are ASCII, \s is not; a dot stops at four line ends and not at U+0085. */
static void patterns_and_unicode(void **state)
{
    (void)state;
    const char *const rows[] = {
        "{'pattern':'^\\\\p{Lu}\\\\p{Letter}+\\\\P{L}$'}",
        "+'\xc3\x84rger!'",
        "-'\xc3\xa4rger!'",
        "{'pattern':'^[\\\\p{Script=Greek}\\\\p{Nd}]+$'}",
        "+'\xce\xb1\xe0\xa7\xaa'",
        "-'a'",
        "{'pattern':'^\\\\p{General_Category=Decimal_Number}\\\\p{gc=Nd}$'}",
        "+'1\xe0\xa7\xaa'",
        "{'pattern':'^\\\\w$'}",
        "-'\xc3\xa4'",
        "+'_'",
        "{'pattern':'^\\\\s$'}",
        "+'\\u00a0'",
        "+'\\ufeff'",
        "+'\\u2029'",
        "+'\\t'",
        "-'\\u200b'",
        "-'\\u0085'",
        "{'pattern':'^[\\\\S]$'}",
        "-'\\u3000'",
        "+'\\u200b'",
        "{'pattern':'^.$'}",
        "+'\\u0085'",
        "+'\\f'",
        "-'\\r'",
        "-'\\u2029'",
        "{'pattern':'^a$'}",
        "-'a\\n'",
        "{'pattern':'^[[:alpha:]$'}",
        "+':'",
        "+'['",
        "-'b'",
        "{'pattern':'^\\\\v$'}",
        "+'\\u000b'",
        "-'\\n'",
        "{'pattern':'\xf0\x9f\x98\x80{2}$'}",
        "+'\xf0\x9f\x98\x80\xf0\x9f\x98\x80'",
        "-'\xf0\x9f\x98\x80'",
        NULL};
    table(rows);
}

/* Each of these runs for minutes and more in a matcher that goes back, if nobody counts. */
static void patterns_that_explode(void **state)
{
    (void)state;
    static const char *const schemas[] = {
        "{'pattern':'^(a+)+$'}",
        "{'pattern':'^(a|aa)+$'}",
        "{'pattern':'(x+x+)+[yz]'}",
        "{'pattern':'^(a?){100}a{100}$'}",
        "{'pattern':'((a*)*)*[bc]'}",
        "{'pattern':'(.*)(.*)(.*)(.*)(.*)[bc]$'}",
        "{'pattern':'a+$'}",
        "{'pattern':'a*?a*[cd]'}",
        "{'pattern':'(.*)\\\\1[bc]'}",
        "{'not':{'pattern':'^(a|b|ab)*(?=c)'}}",
        "{'anyOf':[{'pattern':'(a|a)*$'},{'type':'string'}]}",
    };
    const size_t n = 200000;
    char *text = malloc(n + 1);
    memset(text, 'a', n);
    for (size_t i = 0; i < sizeof(schemas) / sizeof(schemas[0]); i++) {
        use(schemas[i]);
        memset(text, i == 2 ? 'x' : 'a', n);
        text[n - 1] = '!';
        if (rig_apply(&rig, rig.host.make_str(rig.arena, weir_str_n(text, n))))
            fail_msg("%s: passed", schemas[i]);
        if (strcmp(rig.code, "too_complex") != 0 || strstr(rig.message, "the pattern ") == NULL)
            fail_msg("%s: %s: %s", schemas[i], rig.code, rig.message);
    }
    free(text);
}

/* Long strings are no trouble where a pattern goes forward. */
static void patterns_of_long_texts(void **state)
{
    (void)state;
    const size_t n = 1000000;
    char *text = malloc(n);
    memset(text, 'a', n);
    const struct weir_value *v = rig.host.make_str(rig.arena, weir_str_n(text, n));
    use("{'pattern':'^[a-z]+$'}");
    assert_true(rig_apply(&rig, v));
    use("{'pattern':'^(?:a|b)*$'}");
    assert_true(rig_apply(&rig, rig.host.make_str(rig.arena, weir_str_n(text, n / 20))));
    assert_false(rig_apply(&rig, v)); /* each of a million choices might have to be taken back */
    assert_string_equal(rig.code, "too_complex");
    use("{'pattern':'b'}");
    assert_false(rig_apply(&rig, v));
    assert_string_equal(rig.code, "invalid");
    struct weir_value *array = rig.host.make_array(rig.arena);
    for (int i = 0; i < 30; i++)
        assert_true(rig.host.array_append(rig.arena, array,
                                          rig.host.make_str(rig.arena, weir_str_n(text, n))));
    use("{'items':{'pattern':'^[a-z]+$'}}");
    assert_true(rig_apply(&rig, array));
    use("{'patternProperties':{'^(a+)+$':false}}");
    struct weir_value *object = rig.host.make_object(rig.arena);
    text[n - 1] = '!';
    assert_true(
        rig.host.object_set(rig.arena, object, weir_str_n(text, n), rig.host.make_null(rig.arena)));
    assert_false(rig_apply(&rig, object));
    assert_string_equal(rig.code, "too_complex");
    free(text);
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(patterns),
        T(patterns_that_look_around),
        T(patterns_and_unicode),
        T(patterns_that_explode),
        T(patterns_of_long_texts),
    };
    return cmocka_run_group_tests_name("validate_pattern", tests, NULL, NULL);
}
