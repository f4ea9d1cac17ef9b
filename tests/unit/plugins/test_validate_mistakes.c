/* SPDX-License-Identifier: Apache-2.0
 *
 * The transform validate: what does not compile, and the words of failures.
 */
#include "validate_rig.h"

static void mistakes(void **state)
{
    (void)state;
    static const struct {
        const char *schema, *expected;
    } rows[] = {
        {"1", "schema: a schema must be an object, true or false, found 1"},
        {"[]", "schema: a schema must be an object"},
        {"{'type':'strin'}", "schema.type: expected null, boolean, integer"},
        {"{'type':[]}", "schema.type: expected at least one type"},
        {"{'type':['string',1]}", "schema.type[1]: expected null, boolean"},
        {"{'propertys':{}}",
         "schema.propertys: keyword \"propertys\" is not supported; did you mean "
         "\"properties\"?"},
        {"{'unevaluatedProperties':1}", "schema.unevaluatedProperties: a schema must be"},
        {"{'unevaluatedItems':[]}", "schema.unevaluatedItems: a schema must be"},
        {"{'unevaluatedItem':true}", "did you mean \"unevaluatedItems\"?"},
        {"{'$dynamicAnchor':'x'}", "schema.$dynamicAnchor: keyword \"$dynamicAnchor\" is not"},
        {"{'$vocabulary':{}}", "schema.$vocabulary: keyword \"$vocabulary\" is not supported"},
        {"{'contentEncoding':'base64'}", "keyword \"contentEncoding\" is not supported"},
        {"{'$anchor':'1a'}", "schema.$anchor: expected a name that begins with a letter"},
        {"{'$anchor':''}", "schema.$anchor: expected a name"},
        {"{'$anchor':1}", "schema.$anchor: expected a name"},
        {"{'$anchor':'a','$defs':{'b':{'$anchor':'a'}}}",
         "schema.$defs.b.$anchor: another schema has the $anchor \"a\" as well"},
        {"{'$anchor':'a','allOf':[{'$ref':'#a'}]}", "refers to itself"},
        {"{'$ref':'#a','const':{'$anchor':'a'}}", "schema.$ref: \"#a\": no schema here has"},
        {"{'$dynamicRef':'#x'}", "not supported"},
        {"{'dependencies':{}}", "not supported"},
        {"{'contentEncoding':'base64'}", "not supported"},
        {"{'properties':{'a':{'minimum':'x'}}}",
         "schema.properties.a.minimum: expected a number, found the string \"x\""},
        {"{'properties':[]}", "schema.properties: expected an object of schemas by name"},
        {"{'properties':{'a':1}}", "schema.properties.a: a schema must be"},
        {"{'properties':{'a':{},'a':{}}}", "there twice"},
        {"{'minimum':1,'minimum':2}", "schema.minimum: the keyword is there twice"},
        {"{'required':'a'}", "schema.required: expected an array of names"},
        {"{'required':['a',1]}", "schema.required[1]: expected a name as a string, found 1"},
        {"{'minLength':-1}", "schema.minLength: expected a whole number from 0 on, found -1"},
        {"{'minLength':1.5}", "found 1.5"},
        {"{'maxItems':'3'}", "found the string \"3\""},
        {"{'minLength':5,'maxLength':3}", "minLength and maxLength: 5 and 3 exclude every value"},
        {"{'minItems':2,'maxItems':1}", "exclude every value"},
        {"{'multipleOf':0}", "schema.multipleOf: expected a number above 0"},
        {"{'multipleOf':-2}", "expected a number above 0"},
        {"{'exclusiveMinimum':true}", "schema.exclusiveMinimum: expected a number, found true"},
        {"{'items':[{}]}",
         "schema.items: one schema for all items; for schemas by place use prefixItems"},
        {"{'prefixItems':{}}", "schema.prefixItems: expected an array of at least one schema"},
        {"{'minContains':1}", "have no effect without contains"},
        {"{'uniqueItems':1}", "schema.uniqueItems: expected true or false, found 1"},
        {"{'enum':[]}", "schema.enum: expected an array of at least one value"},
        {"{'enum':'a'}", "schema.enum: expected an array"},
        {"{'anyOf':[]}", "schema.anyOf: expected an array of at least one schema"},
        {"{'allOf':[1]}", "schema.allOf[0]: a schema must be"},
        {"{'then':{}}", "then and else have no effect without if"},
        {"{'$ref':'other.json'}", "schema.$ref: only references inside this schema"},
        {"{'$ref':'#anchor'}", "schema.$ref: \"#anchor\": no schema here has this $anchor"},
        {"{'$ref':''}", "only references inside this schema"},
        {"{'$ref':5}", "only references inside this schema"},
        {"{'$ref':'#/$defs/x'}", "\"#/$defs/x\" leads nowhere in this schema"},
        {"{'$ref':'#/allOf/7','allOf':[{}]}", "leads nowhere"},
        {"{'$ref':'#'}", "refers to itself without going into the value"},
        {"{'$defs':{'a':{'$ref':'#/$defs/b'},'b':{'allOf':[{'$ref':'#/$defs/a'}]}}}",
         "refers to itself"},
        {"{'not':{'if':{'$ref':'#'}}}", "refers to itself"},
        {"{'dependentSchemas':{'a':{'$ref':'#'}}}", "refers to itself"},
        {"{'$schema':'http://json-schema.org/draft-07/schema#'}",
         "only draft 2020-12 is supported"},
        {"{'$defs':{'a':{'$id':'x'}}}", "schema.$defs.a.$id: $id is supported at the top only"},
        {"{'$id':1}", "schema.$id: expected a string"},
        {"{'$defs':[]}", "schema.$defs: expected an object of schemas"},
        {"{'$defs':{'unused':{'type':'x'}}}", "schema.$defs.unused.type: expected null"},
        {"{'format':'idn-email'}", "schema.format: expected date-time, date, time, email"},
        {"{'format':1}", "schema.format: expected date-time"},
        {"{'pattern':1}", "schema.pattern: expected a regular expression"},
        {"{'pattern':'a('}", "schema.pattern: \"a(\" at byte 1: the parenthesis is never closed"},
        {"{'pattern':'a)'}", "at byte 1: a closing parenthesis without an opening one"},
        {"{'pattern':'[a'}", "the bracket is never closed"},
        {"{'pattern':'[z-a]'}", "\"[z-a]\" at byte 3: range out of order"},
        {"{'pattern':'[\\\\d-x]'}", "cannot be an end of a range"},
        {"{'pattern':'*a'}", "nothing to repeat"},
        {"{'pattern':'a**'}", "nothing to repeat"},
        {"{'pattern':'a{2,1}'}", "the wrong way round"},
        {"{'pattern':'a{x}'}", "expected a number of repetitions"},
        {"{'pattern':'a{2'}", "the brace is never closed"},
        {"{'pattern':'{'}", "write \\{"},
        {"{'pattern':'a{1001}'}", "more than 1000 repetitions"},
        {"{'pattern':'(((a|b){1000}){1000}){1000}'}", "too large"},
        {"{'pattern':'^*'}", "at byte 1: there is nothing to repeat"},
        {"{'pattern':'a\\\\b+'}", "at byte 3: there is nothing to repeat"},
        {"{'pattern':'x(?<=a*)b'}", "lookbehind assertion"},
        {"{'pattern':'x(?i)a'}", "at byte 1: no such kind of group"},
        {"{'pattern':'(?>a)'}", "no such kind of group"},
        {"{'pattern':'(?|a)'}", "no such kind of group"},
        {"{'pattern':'(?C)'}", "no such kind of group"},
        {"{'pattern':'(?#x)'}", "no such kind of group"},
        {"{'pattern':'(?R)'}", "no such kind of group"},
        {"{'pattern':'(?P<n>a)'}", "no such kind of group"},
        {"{'pattern':'(?'}", "no such kind of group"},
        {"{'pattern':'(*UTF)a'}", "at byte 1: there is nothing to repeat"},
        {"{'pattern':'(*LIMIT_MATCH=1)a'}", "at byte 1: there is nothing to repeat"},
        {"{'pattern':'a++'}", "at byte 2: there is nothing to repeat"},
        {"{'pattern':'a{,3}'}", "expected a number of repetitions"},
        {"{'pattern':'\\\\C'}", "at byte 0: no such escape"},
        {"{'pattern':'a\\\\K'}", "at byte 1: no such escape"},
        {"{'pattern':'\\\\A'}", "no such escape"},
        {"{'pattern':'\\\\Qa'}", "no such escape"},
        {"{'pattern':'\\\\R'}", "no such escape"},
        {"{'pattern':'\\\\h'}", "no such escape"},
        {"{'pattern':'\\\\g1'}", "no such escape"},
        {"{'pattern':'[\\\\B]'}", "no such escape"},
        {"{'pattern':'\\\\01'}", "no such escape"},
        {"{'pattern':'[x-\\\\s]'}", "cannot be an end of a range"},
        {"{'pattern':'\\\\ud800'}", "half of a surrogate pair"},
        {"{'pattern':'[\\\\udc00]'}", "half of a surrogate pair"},
        {"{'pattern':'(?<n>a)(?<n>b)'}", "same name"},
        {"{'pattern':'(?<1>a)'}", "at byte "},
        {"{'pattern':'(?<name'}", "the group's name is never closed"},
        {"{'pattern':'(a)\\\\2'}", "at byte 3: reference to non-existent subpattern"},
        {"{'pattern':'a\\\\k<x>'}", "reference to non-existent subpattern"},
        {"{'pattern':'\\\\kx'}", "expected the name of a group"},
        {"{'pattern':'a\\\\p{Nowhere}'}", "at byte 1: unknown property"},
        {"{'pattern':'\\\\pL'}", "expected a property in braces"},
        {"{'pattern':'\\\\p{^L}'}", "expected a property in braces"},
        {"{'pattern':'[\\\\p{L'}", "expected a property in braces"},
        {"{'pattern':'\\\\a'}", "no such escape"},
        {"{'pattern':'\\\\x4'}", "two hexadecimal digits"},
        {"{'pattern':'\\\\u12'}", "four hexadecimal digits"},
        {"{'pattern':'\\\\u{110000}'}", "expected a code point"},
        {"{'pattern':'\\\\c1'}", "a letter behind"},
        {"{'pattern':'a\\\\'}", "a backslash at the end"},
        {"{'pattern':'[\\\\'}", "a backslash at the end"},
        {"{'patternProperties':{'(':{}}}", "schema.patternProperties.(: \"(\" at byte 0"},
        {"{'patternProperties':1}", "an object of schemas by pattern"},
        {"{'dependentRequired':{'a':1}}", "schema.dependentRequired.a: expected an array of names"},
        {"{'dependentRequired':[]}", "schema.dependentRequired: expected an object"},
        {"{'additionalProperties':1}", "schema.additionalProperties: a schema must be"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        *(const struct weir_value **)rig_option(&rig, "schema") = rig_json(&rig, rows[i].schema);
        if (rig_check(&rig))
            fail_msg("%s: nothing is wrong with it", rows[i].schema);
        if (strstr(rig.mistakes, rows[i].expected) == NULL)
            fail_msg("%s: %s", rows[i].schema, rig.mistakes);
        assert_int_equal(rig_open(&rig), WEIR_E_CONFIG);
    }
}

/* All mistakes are found at once. */
static void many_mistakes(void **state)
{
    (void)state;
    *(const struct weir_value **)rig_option(&rig, "schema") = rig_json(
        &rig, "{'type':'x','minLength':-1,'properties':{'a':{'pattern':'('},'b':{'foo':1}}}");
    assert_false(rig_check(&rig));
    assert_int_equal(rig.n_mistakes, 4);
}

static void neither_or_both(void **state)
{
    (void)state;
    assert_false(rig_check(&rig));
    assert_non_null(strstr(rig.mistakes, "schema: a schema is missing"));
    *(const struct weir_value **)rig_option(&rig, "schema") = rig_json(&rig, "{}");
    *(struct weir_str *)rig_option(&rig, "file") = weir_cstr("/nowhere.json");
    assert_false(rig_check(&rig));
    assert_non_null(strstr(rig.mistakes, "file: schema is given as well"));
    *(const struct weir_value **)rig_option(&rig, "schema") = NULL;
    assert_false(rig_check(&rig));
    assert_non_null(strstr(rig.mistakes, "cannot read /nowhere.json: No such file"));
    *(struct weir_str *)rig_option(&rig, "file") = weir_cstr("/");
    assert_false(rig_check(&rig));
    assert_non_null(strstr(rig.mistakes, "/ is no regular file"));
}

/* 41 schemas inside each other on one value are too many, 40 are not; through the value there is no
 * such limit. */
static void nesting(void **state)
{
    (void)state;
    char *fine = nest(40, "{'allOf':[", "]}"), *deep = nest(41, "{'allOf':[", "]}");
    char *inside = nest(100, "{'items':", "}");
    use(fine);
    assert_true(rig_apply(&rig, rig_json(&rig, "1")));
    use(inside);
    assert_true(rig_apply(&rig, rig_json(&rig, "[[[1]]]")));
    *(const struct weir_value **)rig_option(&rig, "schema") = rig_json(&rig, deep);
    assert_false(rig_check(&rig));
    assert_non_null(strstr(rig.mistakes, "more than 40 schemas nest on one value"));
    free(fine);
    free(deep);
    free(inside);
}

/* A chain of references as long as the schema: found too deep without going that deep. */
static void long_chain(void **state)
{
    (void)state;
    const uint32_t n = 20000;
    char *text = malloc(n * 50 + 100), *p = text;
    p += sprintf(p, "{'$defs':{");
    for (uint32_t i = 0; i < n; i++)
        p += sprintf(p, "'d%u':{'$ref':'#/$defs/d%u'},", i, i + 1);
    sprintf(p, "'d%u':{}},'$ref':'#/$defs/d0'}", n);
    *(const struct weir_value **)rig_option(&rig, "schema") = rig_json(&rig, text);
    assert_false(rig_check(&rig));
    assert_non_null(strstr(rig.mistakes, "more than 40 schemas nest on one value"));
    free(text);
}

/* ---- The words of failures ---- */

static void assert_words(const char *schema, const char *value, const char *expected)
{
    use(schema);
    assert_false(rig_apply(&rig, rig_json(&rig, value)));
    assert_string_equal(rig.message, expected);
}

static void words(void **state)
{
    (void)state;
    static const char person[] =
        "{'type':'object','required':['type'],'properties':{'type':{},'age':{'type':['integer','"
        "null'],"
        "'minimum':0},'tags':{'items':{'maxLength':3}},'kind':{'enum':['a','b']},"
        "'a/b':{'const':1.5}},'additionalProperties':false}";
    assert_words(person, "1", "the event: expected object, found 1 (#/type)");
    assert_words(person, "{}",
                 "the event: expected property \"type\", found an object of 0 (#/required)");
    assert_words(person, "{'type':1,'x':2}",
                 "the event: expected no property \"x\" (#/additionalProperties)");
    assert_words(person, "{'type':1,'age':'x'}",
                 "/age: expected null or integer, found the string \"x\" (#/properties/age/type)");
    assert_words(person, "{'type':1,'age':-1}",
                 "/age: expected a number >= 0, found -1 (#/properties/age/minimum)");
    assert_words(person, "{'type':1,'tags':['a','long']}",
                 "/tags/1: expected at most 3 characters, found the string \"long\" "
                 "(#/properties/tags/items/maxLength)");
    assert_words(person, "{'type':1,'kind':'c'}",
                 "/kind: expected one of [\"a\",\"b\"], found the string \"c\" "
                 "(#/properties/kind/enum)");
    assert_words(person, "{'type':1,'a/b':1}",
                 "/a~1b: expected 1.5, found 1 (#/properties/a~1b/const)");
    assert_words(
        "{'oneOf':[{'minimum':1},{'minimum':2}]}", "3",
        "the event: expected a value that one schema alone allows, not both 0 and 1, found 3 "
        "(#/oneOf)");
    assert_words("{'items':{'pattern':'^x'}}", "['x','y']",
                 "/1: expected a string that matches ^x, found the string \"y\" (#/items/pattern)");
    assert_words("{'uniqueItems':true}", "[1,'a',2,'a']",
                 "the event: expected items that differ from each other, twice, found the string "
                 "\"a\" (#/uniqueItems)");
    assert_words("{'properties':{'p':false}}", "{'p':null}",
                 "/p: expected no value, found null (#/properties/p/false)");
}

/* However long what it quotes is, a message ends within its room and inside no character. */
static void words_of_long_values(void **state)
{
    (void)state;
    char *value = malloc(70000), *p = value;
    p += sprintf(p, "{'");
    for (int i = 0; i < 1000; i++)
        p = stpcpy(p, "\xf0\x9f\x98\x80");
    p = stpcpy(p, "':{'\xc3\xa4\xc3\xa4':'");
    for (int i = 0; i < 10000; i++)
        p = stpcpy(p, "\xf0\x9f\x98\x80");
    stpcpy(p, "'}}");
    use("{'additionalProperties':{'additionalProperties':{'maxLength':5}}}");
    assert_false(rig_apply(&rig, rig_json(&rig, value)));
    assert_true(strlen(rig.message) < 512);
    assert_non_null(rig.host.make_str(rig.arena, weir_cstr(rig.message)));
    free(value);
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(mistakes),   T(many_mistakes), T(neither_or_both),      T(nesting),
        T(long_chain), T(words),         T(words_of_long_values),
    };
    return cmocka_run_group_tests_name("validate_mistakes", tests, NULL, NULL);
}
