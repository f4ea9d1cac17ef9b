/* SPDX-License-Identifier: Apache-2.0
 *
 * The transform validate: JSON Schema keyword by keyword, what does not compile, the words of
 * failures, and what hostile values cost. In the tables ' stands for ".
 */
#include "plugin_rig.h"

#include <time.h>

static struct rig rig;

static int setup(void **state)
{
    (void)state;
    rig_init(&rig, "validate", 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    rig_done(&rig);
    return 0;
}

static void use(const char *schema)
{
    *(const struct weir_value **)rig_option(&rig, "schema") = rig_json(&rig, schema);
    if (!rig_check(&rig))
        fail_msg("%s: %s", schema, rig.mistakes);
    if (rig_open(&rig) != WEIR_OK)
        fail_msg("%s: %s", schema, rig.message);
}

/* A schema, then values it allows (+) and values it does not (-), NULL at the end. */
static void table(const char *const *rows)
{
    uint32_t n = 0;
    for (; *rows != NULL; rows++) {
        const char *row = *rows;
        if (*row != '+' && *row != '-') {
            use(row);
            n++;
            continue;
        }
        if (rig_apply(&rig, rig_json(&rig, row + 1)) != (*row == '+'))
            fail_msg("schema %u, value %s: %s", n, row, rig.failed ? rig.message : "passed");
        if (*row == '-')
            assert_string_equal(rig.code, "invalid");
    }
}

/* ---- Keywords ---- */

static void types(void **state)
{
    (void)state;
    const char *const rows[] = {
        "{'type':'integer'}",
        "+1",
        "+1.0",
        "+-5e3",
        "+18446744073709551615",
        "+123456789012345678901234567890",
        "+1e400",
        "-1.5",
        "-'1'",
        "-null",
        "-true",
        "-[]",
        "{'type':'number'}",
        "+1",
        "+1.5",
        "+1e400",
        "-'1'",
        "-false",
        "{'type':'string'}",
        "+''",
        "+'x'",
        "-1",
        "-null",
        "{'type':'boolean'}",
        "+true",
        "+false",
        "-0",
        "-'true'",
        "{'type':'null'}",
        "+null",
        "-0",
        "-''",
        "-false",
        "{'type':'array'}",
        "+[]",
        "+[1]",
        "-{}",
        "-null",
        "{'type':'object'}",
        "+{}",
        "-[]",
        "-'x'",
        "{'type':['integer','null','array']}",
        "+1",
        "+null",
        "+[2]",
        "-1.5",
        "-{}",
        "{}",
        "+1",
        "+null",
        "+{}",
        "true",
        "+1",
        "+null",
        "false",
        "-1",
        "-null",
        "-{}",
        "{'$schema':'https://json-schema.org/draft/2020-12/schema','$id':'https://x/y','title':'t',"
        "'description':'d','$comment':'c','default':1,'examples':[1],'deprecated':true,"
        "'readOnly':true,'writeOnly':false}",
        "+1",
        NULL};
    table(rows);
}

static void choices(void **state)
{
    (void)state;
    const char *const rows[] = {"{'enum':[1,'a',null,[1,2],{'x':1,'y':2}]}",
                                "+1",
                                "+1.0",
                                "+'a'",
                                "+null",
                                "+[1,2]",
                                "+{'y':2,'x':1.0}",
                                "-2",
                                "-'b'",
                                "-[2,1]",
                                "-{'x':1}",
                                "-{'x':1,'y':2,'z':3}",
                                "-true",
                                "{'const':null}",
                                "+null",
                                "-0",
                                "-false",
                                "-''",
                                "{'const':{'a':[false]}}",
                                "+{'a':[false]}",
                                "-{'a':[0]}",
                                "-{'a':false}",
                                "{'const':0}",
                                "+0",
                                "+0.0",
                                "+-0.0",
                                "-false",
                                "-[]",
                                "{'const':9007199254740993}",
                                "+9007199254740993",
                                "-9007199254740992",
                                "{'const':'a\\u0000b'}",
                                "+'a\\u0000b'",
                                "-'a'",
                                NULL};
    table(rows);
}

static void numbers(void **state)
{
    (void)state;
    const char *const rows[] = {"{'minimum':1.1}",
                                "+2.6",
                                "+1.1",
                                "-0.6",
                                "+'x'",
                                "-1",
                                "{'maximum':300}",
                                "+300.0",
                                "+300",
                                "-300.5",
                                "-1e400",
                                "+-1e400",
                                "{'exclusiveMinimum':1.1}",
                                "+1.2",
                                "-1.1",
                                "-0",
                                "{'exclusiveMaximum':3}",
                                "+2.9",
                                "-3.0",
                                "-3",
                                "+-1e400",
                                "{'minimum':9007199254740993}",
                                "+9007199254740993",
                                "-9007199254740992",
                                "-9007199254740992.0",
                                "+18446744073709551615",
                                "+9007199254740994.0",
                                "{'maximum':18446744073709551615}",
                                "+18446744073709551615",
                                "+-9223372036854775808",
                                "-18446744073709551616",
                                "-18446744073709551616.0",
                                "{'minimum':-9223372036854775808,'maximum':-1}",
                                "+-9223372036854775808",
                                "-0",
                                "-18446744073709551615",
                                "-9223372036854775808",
                                "{'multipleOf':2}",
                                "+10",
                                "-7",
                                "+-4",
                                "+0",
                                "+1e30",
                                "+4.0",
                                "-4.5",
                                "{'multipleOf':1.5}",
                                "+0",
                                "+4.5",
                                "-35",
                                "+-3",
                                "{'multipleOf':0.0001}",
                                "+0.0075",
                                "-0.00751",
                                "+1",
                                "+123456789.1234",
                                "{'multipleOf':0.01}",
                                "+19.99",
                                "+0.07",
                                "+4.35",
                                "-4.355",
                                "+1e308",
                                "+1e-2",
                                "-1e-3",
                                "{'multipleOf':0.123456789}",
                                "-1e308",
                                "{'multipleOf':1e-8}",
                                "+12391239123",
                                "+1e-8",
                                "-1e-9",
                                "{'multipleOf':300}",
                                "+900",
                                "+3e2",
                                "-30",
                                "-3e1",
                                "+3e5",
                                "-1e5",
                                "{'multipleOf':7}",
                                "+123456789012345678901234567890",
                                "-123456789012345678901234567891",
                                "{'multipleOf':18446744073709551615}",
                                "+18446744073709551615",
                                "-18446744073709551614",
                                "+0.0",
                                NULL};
    table(rows);
}

static void strings(void **state)
{
    (void)state;
    const char *const rows[] = {"{'minLength':2}",
                                "+'fo'",
                                "-'f'",
                                "+100",
                                "-'\xf0\x9f\x92\xa9'",
                                "+'\xf0\x9f\x92\xa9\xc3\xa4'",
                                "{'maxLength':2.0}",
                                "+'fo'",
                                "-'foo'",
                                "+'\xf0\x9f\x92\xa9\xf0\x9f\x92\xa9'",
                                "+''",
                                "{'minLength':3,'maxLength':3}",
                                "+'a\\u0000b'",
                                "-'ab'",
                                "-'abcd'",
                                "{'pattern':'^a*$'}",
                                "+'aaa'",
                                "-'abc'",
                                "+true",
                                "+''",
                                "{'pattern':'a+'}",
                                "+'xxaayy'",
                                "-'xyz'",
                                NULL};
    table(rows);
}

static void formats(void **state)
{
    (void)state;
    const char *const rows[] = {"{'format':'date-time'}",
                                "+'1963-06-19T08:30:06.283185Z'",
                                "+'1998-12-31T23:59:60Z'",
                                "+'1998-12-31T15:59:60.123-08:00'",
                                "-'1998-12-31T23:58:60Z'",
                                "-'1990-02-31T15:59:59Z'",
                                "-'1963-06-19T08:30:06'",
                                "-'06/19/1963 08:30:06 PST'",
                                "-'1963-06-1\xe0\xa7\xaaT00:00:00Z'",
                                "-'1963-06-19 08:30:06Z'",
                                "+12",
                                "+null",
                                "{'format':'date'}",
                                "+'2020-02-29'",
                                "-'2021-02-29'",
                                "-'2020-1-1'",
                                "-'2020-01-01T'",
                                "-''",
                                "{'format':'time'}",
                                "+'08:30:06Z'",
                                "+'08:30:06.1+00:20'",
                                "-'08:30:06'",
                                "-'8:30:06Z'",
                                "{'format':'email'}",
                                "+'joe.bloggs@example.com'",
                                "+'te~st+x@example.com'",
                                "-'2962'",
                                "-'.test@example.com'",
                                "-'te..st@example.com'",
                                "-'a@b@c'",
                                "-'@x.y'",
                                "-'x@'",
                                "-'a b@example.com'",
                                "-'x@-y.com'",
                                "{'format':'hostname'}",
                                "+'www.example.com'",
                                "+'xn--4gbwdl.xn--wgbh1c'",
                                "-'-bad'",
                                "-'a..b'",
                                "-'under_score'",
                                "-''",
                                "-'a.'",
                                "+'localhost'",
                                "-'bad-.com'",
                                "{'format':'ipv4'}",
                                "+'192.168.0.1'",
                                "-'127.0.0.0.1'",
                                "-'256.256.256.256'",
                                "-'127.0'",
                                "-'0x7f000001'",
                                "-'087.10.0.1'",
                                "-'1.2.3.4\\u0000'",
                                "{'format':'ipv6'}",
                                "+'::1'",
                                "+'1::d6:192.168.0.1'",
                                "-'12345::'",
                                "-'1:1:1:1:1:1:1:1:1'",
                                "-'::laptop'",
                                "-'fe80::a%eth1'",
                                "-''",
                                "{'format':'uri'}",
                                "+'http://foo.bar/?baz=qux#quux'",
                                "+'urn:oasis:names:x'",
                                "+'http://[2001:db8::7]/c'",
                                "+'mailto:J@e.com'",
                                "+'http://u:p@h:8080/a%20b'",
                                "-'//foo.bar/'",
                                "-'/abc'",
                                "-'abc'",
                                "-'http:// x'",
                                "-'http://x/%zz'",
                                "-'http://h:port/'",
                                "-'bar,baz:foo'",
                                "-'http://a b/'",
                                "-'http://h/#a#b'",
                                "-':x'",
                                "-'http://[::1'",
                                "{'format':'uuid'}",
                                "+'2EB8AA08-aa98-11ea-b4aa-73b441d16380'",
                                "-'2eb8aa08-aa98-11ea-b4aa-73b441d1638'",
                                "-'2eb8aa08aa9811eab4aa73b441d16380xxxx'",
                                "-'2eb8aa08-aa98-11ea-b4ga-73b441d16380'",
                                NULL};
    table(rows);
}

static void arrays(void **state)
{
    (void)state;
    const char *const rows[] = {
        "{'items':{'type':'integer'}}",
        "+[1,2,3]",
        "-[1,'x']",
        "+{'0':'x'}",
        "+[]",
        "{'items':false}",
        "+[]",
        "-[1]",
        "{'prefixItems':[{'type':'integer'},{'type':'string'}]}",
        "+[1,'foo']",
        "-['foo',1]",
        "+[1]",
        "+[1,'foo',true]",
        "+[]",
        "{'prefixItems':[{}],'items':{'type':'integer'}}",
        "+['x',2,3]",
        "-['x','y']",
        "{'minItems':1,'maxItems':2}",
        "+[1]",
        "+[1,2]",
        "-[]",
        "-[1,2,3]",
        "+'x'",
        "{'contains':{'minimum':5}}",
        "+[3,4,5]",
        "-[2,3,4]",
        "-[]",
        "+{}",
        "{'contains':{'const':1},'minContains':2,'maxContains':3}",
        "-[1]",
        "+[1,2,1]",
        "+[1,1,1]",
        "-[1,1,1,1]",
        "{'contains':{'const':1},'minContains':0}",
        "+[]",
        "+[2]",
        "{'uniqueItems':true}",
        "+[1,2]",
        "-[1,1]",
        "-[1.0,1]",
        "+['a','b']",
        "-['a','a']",
        "-[{'a':1,'b':2},{'b':2,'a':1.0}]",
        "+[{'a':1},{'a':2}]",
        "+[[1],[2]]",
        "-[[1],[2],[1]]",
        "+[1,true]",
        "+[0,false]",
        "+[[1],[true]]",
        "+[{'a':false},{'a':0}]",
        "+[1,'1']",
        "+[]",
        "+['a',['a']]",
        "+[[],{}]",
        "+[null,0,'',[]]",
        "-[null,null]",
        "-[0,-0.0]",
        "-[18446744073709551615,1,18446744073709551615]",
        "-[123456789012345678901234567890,1,123456789012345678901234567890]",
        "+[[[1],2],[1,[2]]]",
        "+[{'a':1,'b':2},{'a':2,'b':1}]",
        "+['ab','a','b']",
        "{'uniqueItems':false}",
        "+[1,1]",
        NULL};
    table(rows);
}

static void objects(void **state)
{
    (void)state;
    const char *const rows[] = {
        "{'properties':{'foo':{'type':'integer'},'bar':{'type':'string'}}}", "+{'foo':1,'bar':'x'}",
        "-{'foo':'1'}", "-{'foo':1,'bar':{}}", "+{'quux':[]}", "+[]", "+{}",
        "{'properties':{'a':false,'':{'const':1},'toString':{'type':'integer'}}}", "+{'':1}",
        "-{'':2}", "-{'a':1}", "-{'toString':'x'}", "{'required':['foo','a\\u0000']}",
        "+{'foo':1,'a\\u0000':2}", "-{'foo':1}", "-{'a':1}", "+[]", "+{'foo':null,'a\\u0000':null}",
        "{'properties':{'a':{}},'patternProperties':{'^v':{}},'additionalProperties':false}",
        "+{'a':1}", "+{'vroom':1}", "-{'a':1,'x':2}", "+[1]",
        "{'properties':{'a':{}},'additionalProperties':{'type':'boolean'}}", "+{'a':1,'b':true}",
        "-{'b':1}", "{'patternProperties':{'f.*o':{'type':'integer'},'^.$':{'maximum':5}}}",
        "+{'foo':1}", "-{'foo':'x'}", "+{'x':'s'}", "-{'x':6}", "+{'foooooo':2,'y':5}",
        "-{'foooooo':2,'y':5.1}", "{'propertyNames':{'maxLength':3,'pattern':'^[a-z]*$'}}",
        "+{'ab':1}", "-{'abcd':1}", "-{'A':1}", "+{}", "+{'':1}",
        "{'minProperties':1,'maxProperties':2}", "-{}", "+{'a':1}", "-{'a':1,'b':2,'c':3}", "+[]",
        "{'dependentRequired':{'card':['address','zip']}}", "+{}", "-{'card':1}",
        "-{'card':1,'zip':1}", "+{'card':1,'zip':1,'address':1}", "+{'zip':1}",
        "{'dependentSchemas':{'bar':{'properties':{'foo':{'type':'integer'}}}},"
        "'dependentRequired':{'x':['y']}}",
        "+{'foo':'q'}", "+{'foo':1,'bar':2}", "-{'foo':'q','bar':2}", "-{'x':1}", "+{'x':1,'y':2}",
        /* Of duplicates both count: neither can hide the other. */
        "{'properties':{'a':{'type':'integer'}}}", "-{'a':1,'a':'x'}", "-{'a':'x','a':1}", NULL};
    table(rows);
}

static void combinations(void **state)
{
    (void)state;
    const char *const rows[] = {
        "{'allOf':[{'minimum':2},{'maximum':4}]}",
        "+3",
        "-1",
        "-5",
        "{'anyOf':[{'type':'integer'},{'minimum':2}]}",
        "+1",
        "+2.5",
        "+3",
        "-1.5",
        "{'anyOf':[{'minimum':2}]}",
        "+2",
        "-1",
        "{'oneOf':[{'type':'integer'},{'minimum':2}]}",
        "+1",
        "+2.5",
        "-3",
        "-1.5",
        "{'oneOf':[{'required':['a']},{'required':['b']}]}",
        "+{'a':1}",
        "-{'a':1,'b':2}",
        "-{}",
        "{'not':{'type':'integer'}}",
        "+'x'",
        "-1",
        "{'not':{'not':{'type':'integer'}}}",
        "+1",
        "-'x'",
        "{'not':true}",
        "-1",
        "{'not':false}",
        "+1",
        "{'if':{'properties':{'t':{'const':1}},'required':['t']},'then':{'required':['a']},"
        "'else':{'required':['b']}}",
        "+{'t':1,'a':1}",
        "-{'t':1,'b':1}",
        "+{'t':2,'b':1}",
        "-{'t':2,'a':1}",
        "-{}",
        "{'if':{'const':1}}",
        "+1",
        "+2",
        "{'if':true,'then':{'const':1}}",
        "+1",
        "-2",
        "{'allOf':[{'anyOf':[{'multipleOf':3},{'multipleOf':5}]},{'not':{'const':15}}]}",
        "+3",
        "+5",
        "-15",
        "-4",
        NULL};
    table(rows);
}

static void references(void **state)
{
    (void)state;
    const char *const rows[] = {
        "{'$ref':'#/$defs/pos','maximum':5,'$defs':{'pos':{'minimum':1}}}",
        "+3",
        "-0",
        "-6",
        "{'properties':{'foo':{'$ref':'#'}},'additionalProperties':false}",
        "+{'foo':{'foo':{}}}",
        "-{'foo':{'bar':1}}",
        "-{'bar':1}",
        "{'$defs':{'a/b':{'type':'integer'},'t~f':{'type':'string'},'p%c':{'type':'null'}},"
        "'prefixItems':[{'$ref':'#/$defs/a~1b'},{'$ref':'#/$defs/t~0f'},{'$ref':'#/$defs/p%25c'}]}",
        "+[1,'x',null]",
        "-['x']",
        "-[1,2]",
        "-[1,'x',2]",
        "{'prefixItems':[{'type':'integer'},{'$ref':'#/prefixItems/0'}]}",
        "+[1,2]",
        "-[1,'x']",
        "{'definitions':{'n':{'$ref':'#/definitions/m'},'m':{'type':'null'}},'items':"
        "{'$ref':'#/definitions/n'}}",
        "+[null]",
        "-[1]",
        "{'type':'object','properties':{'value':{'type':'number'},'left':{'$ref':'#'},"
        "'right':{'$ref':'#'}},'required':['value']}",
        "+{'value':1,'left':{'value':2,'right':{'value':3}}}",
        "-{'value':1,'left':{'right':{}}}",
        "{'properties':{'$ref':{'type':'string'}}}",
        "+{'$ref':'x'}",
        "-{'$ref':2}",
        "{'$defs':{'':{'type':'integer'}},'items':{'$ref':'#/$defs/'}}",
        "+[1]",
        "-['x']",
        NULL};
    table(rows);
}

/* ---- Patterns ---- */

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
    struct timespec begin, end;
    memset(text, 'a', n);
    clock_gettime(CLOCK_MONOTONIC, &begin);
    for (size_t i = 0; i < sizeof(schemas) / sizeof(schemas[0]); i++) {
        use(schemas[i]);
        memset(text, i == 2 ? 'x' : 'a', n);
        text[n - 1] = '!';
        if (rig_apply(&rig, rig.host.make_str(rig.arena, weir_str_n(text, n))))
            fail_msg("%s: passed", schemas[i]);
        if (strcmp(rig.code, "too_complex") != 0 || strstr(rig.message, "the pattern ") == NULL)
            fail_msg("%s: %s: %s", schemas[i], rig.code, rig.message);
    }
    clock_gettime(CLOCK_MONOTONIC, &end);
    assert_true(end.tv_sec - begin.tv_sec < 60);
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

/* ---- What does not compile ---- */

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

/* n times `open`, {}, n times `close`. */
static char *nest(uint32_t n, const char *open, const char *close)
{
    size_t room = n * (strlen(open) + strlen(close)) + 3;
    char *text = malloc(room), *p = text;
    for (uint32_t i = 0; i < n; i++)
        p = stpcpy(p, open);
    p = stpcpy(p, "{}");
    for (uint32_t i = 0; i < n; i++)
        p = stpcpy(p, close);
    assert_true(p < text + room);
    return text;
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
                 "/a/b: expected 1.5, found 1 (#/properties/a/b/const)");
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

/* ---- Hostile values ---- */

static void deep_values(void **state)
{
    (void)state;
    char *text = nest(127, "[", "]");
    use("{'anyOf':[{'type':'string'},{'items':{'$ref':'#'}},{'type':'object'}]}");
    assert_true(rig_apply(&rig, rig_json(&rig, text)));
    struct weir_value *v = rig.host.make_array(rig.arena);
    for (int i = 0; i < 5000; i++) {
        struct weir_value *outer = rig.host.make_array(rig.arena);
        assert_true(rig.host.array_append(rig.arena, outer, v));
        v = outer;
    }
    assert_false(rig_apply(&rig, v));
    assert_string_equal(rig.code, "too_deep");
    use("{'uniqueItems':true}");
    assert_true(rig_apply(&rig, v));
    free(text);
}

/* Two ways at each level: 2^60 without a limit. */
static void too_many_steps(void **state)
{
    (void)state;
    char *text = nest(60, "[", "]");
    use("{'anyOf':[{'items':{'$ref':'#'},'type':'array'},{'items':{'$ref':'#'},'type':'array'}]}");
    assert_false(rig_apply(&rig, rig_json(&rig, text)));
    assert_string_equal(rig.code, "too_complex");
    use("{'not':{'anyOf':[{'items':{'$ref':'#/not'},'type':'array'},"
        "{'items':{'$ref':'#/not'},'type':'array'}]}}");
    assert_false(rig_apply(&rig, rig_json(&rig, text)));
    assert_string_equal(rig.code, "too_complex");
    free(text);
}

/* Many items, and objects with many members in two orders. */
static void unique_at_scale(void **state)
{
    (void)state;
    const uint32_t n = 50000;
    struct weir_value *array = rig.host.make_array(rig.arena);
    for (uint32_t i = 0; i < n; i++)
        assert_true(rig.host.array_append(rig.arena, array, rig.host.make_int(rig.arena, i)));
    use("{'uniqueItems':true}");
    assert_true(rig_apply(&rig, array));
    assert_true(rig.host.array_append(rig.arena, array, rig.host.make_real(rig.arena, n - 1)));
    assert_false(rig_apply(&rig, array));
    char *text = malloc(n * 40 + 100), *p = text;
    p = stpcpy(p, "[{'x':0");
    for (uint32_t i = 0; i < n; i++)
        p += sprintf(p, ",'k%u':%u", i, i);
    p = stpcpy(p, "},{'x':0.0");
    for (uint32_t i = n; i-- > 0;)
        p += sprintf(p, ",'k%u':%u", i, i);
    stpcpy(p, "}]");
    assert_false(rig_apply(&rig, rig_json(&rig, text)));
    assert_string_equal(rig.code, "invalid");
    free(text);
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(types),
        T(choices),
        T(numbers),
        T(strings),
        T(formats),
        T(arrays),
        T(objects),
        T(combinations),
        T(references),
        T(patterns),
        T(patterns_that_look_around),
        T(patterns_and_unicode),
        T(patterns_that_explode),
        T(patterns_of_long_texts),
        T(mistakes),
        T(many_mistakes),
        T(neither_or_both),
        T(nesting),
        T(long_chain),
        T(words),
        T(words_of_long_values),
        T(deep_values),
        T(too_many_steps),
        T(unique_at_scale),
    };
    return cmocka_run_group_tests_name("validate_schema", tests, NULL, NULL);
}
