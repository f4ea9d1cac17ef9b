/* SPDX-License-Identifier: Apache-2.0
 *
 * Conditions that are evaluated without Lua say what Lua says, on every value.
 */
#include "plugin_rig.h"

#include "../../../plugins/lua/simple.c"

/* Terms of which expressions are made: fields that may be anything, and constants. */
static const char *const terms[] = {
    "event.a",    "event.b.c",  "event['b']['c']", "event.missing", "event.b",   "event.s.x",
    "event.s.len", "nil",       "true",            "false",         "weir.null", "0",
    "-1",         "2.5",        "9007199254740993", "\"x\"",        "''",        "event.a.b.c.d",
    "-0.0",       "9007199254740992"};
static const char *const ops[] = {"==", "~=", "<", "<=", ">", ">=", "and", "or", "== not", "and not"};
static const char *const events[] = {
    "{}",
    "{'a':null,'b':{'c':null},'s':''}",
    "{'a':0,'b':{'c':-1},'s':'x'}",
    "{'a':2.5,'b':{'c':2},'s':'len'}",
    "{'a':'x','b':'y','s':'y'}",
    "{'a':true,'b':{'c':false},'s':1}",
    "{'a':[1],'b':{'c':{}},'s':null}",
    "{'a':9007199254740993,'b':{'c':9007199254740992.0},'s':{'x':'x','len':0}}",
    "{'a':18446744073709551615,'b':{'c':1e300},'s':[]}",
    "{'a':{'b':{'c':{'d':1}}},'b':{'c':'x'}}",
    "{'a':123456789012345678901234567890,'b':{'c':-123456789012345678901234567890},'s':{'x':1e999}}",
    "{'a':-9223372036854775808,'b':{'c':9223372036854775807},'s':{'x':-9223372036854775808.0}}",
    "{'a':9007199254740992,'b':{'c':9007199254740993.0},'s':{'x':-0.0}}",
    "{'a':'x\\u0000','b':{'c':'x'},'s':{'x':'x\\u0000','len':'\\u0000'}}",
    "{'a':1,'a':2,'b':{'c':2,'c':1}}",
    "[1]",
    "'text'",
    "5",
    "null"};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

struct pair {
    void *state;
    struct weir_str texts[2]; /* as it is, and so that only Lua can */
};

static const struct weir_condition_service *service;
static struct rig rig;
static uint32_t n_without_lua;

static uint8_t ask(const struct pair *p, uint32_t which, const struct weir_value *v)
{
    struct weir_event ev = {.value = v};
    struct weir_batch b = {
        .size = sizeof(b), .stride = sizeof(ev), .n_events = 1, .events = &ev, .arena = rig.arena};
    uint8_t yes = 2;
    rig.failed = false;
    service->eval(p->state, which, &b, &yes);
    assert_int_equal(rig.failed, (ev.flags & WEIR_EVENT_GONE) != 0);
    return rig.failed ? 3 : yes;
}

static void compare(const char *text)
{
    struct pair p = {.texts = {weir_cstr(text)}};
    struct weir_error err = {0};
    char lua[512];
    snprintf(lua, sizeof(lua), "select(1, (%s))", text);
    p.texts[1] = weir_cstr(lua);
    if (service->open(&rig.host, p.texts, 2, &p.state, &err) != WEIR_OK)
        fail_msg("%s: %s", text, err.text);
    struct simple *s = simple_compile(&rig.host, p.texts[0]);
    n_without_lua += s != NULL;
    simple_free(&rig.host, s);
    assert_null(simple_compile(&rig.host, p.texts[1]));
    for (size_t i = 0; i < COUNT(events); i++) {
        const struct weir_value *v = rig_json(&rig, events[i]);
        uint8_t mine = ask(&p, 0, v), right = ask(&p, 1, v);
        if (mine != right)
            fail_msg("%s of %s is %u, not %u (3: an error)", text, events[i], mine, right);
    }
    service->close(p.state);
    rig.host.arena_clear(rig.arena);
}

static void test_every_operator_on_every_pair(void **state)
{
    char text[256];
    uint32_t n = 0;
    (void)state;
    for (size_t a = 0; a < COUNT(terms); a++)
        for (size_t b = 0; b < COUNT(terms); b++)
            for (size_t op = 0; op < COUNT(ops); op++, n++) {
                snprintf(text, sizeof(text), "%s %s %s", terms[a], ops[op], terms[b]);
                compare(text);
            }
    assert_int_equal(n_without_lua, n);
}

static void test_longer_ones(void **state)
{
    static const char *const texts[] = {
        "event.a",
        "not event.a",
        "not not event.b.c",
        "(event.a)",
        "event.a == 0 or event.a == 2.5 and event.b.c == 2",
        "(event.a == 0 or event.a == 2.5) and event.s == 'len'",
        "not event.a == false",
        "not (event.a == false)",
        "event.a == event.b.c == false",
        "1 < 2 == true",
        "event . a==0",
        "\tevent.a\n== 0\r\n",
        "event.a and event.b or event.s",
        "event.missing or weir.null",
        "event.a ~= nil and event.a > 1 and event.a < 3",
        "event [ \"a\" ] == \"x\"",
        "event.a==-1 or event.a==- 1",
    };
    (void)state;
    n_without_lua = 0;
    for (size_t i = 0; i < COUNT(texts); i++)
        compare(texts[i]);
    assert_int_equal(n_without_lua, COUNT(texts));
}

static uint32_t seed = 1;

static uint32_t any(uint32_t n)
{
    seed = seed * 1664525 + 1013904223;
    return (seed >> 8) % n;
}

static void put(char *out, size_t size, const char *text)
{
    size_t at = strlen(out);
    assert_true(at + strlen(text) < size);
    snprintf(out + at, size - at, "%s", text);
}

/* An expression of up to `depth` levels. */
static void put_any(char *out, size_t size, int depth)
{
    uint32_t shape = depth == 0 ? 0 : any(5);
    if (shape == 0) {
        put(out, size, terms[any(COUNT(terms))]);
        return;
    }
    put(out, size, shape == 1 ? "not " : shape == 2 ? "(" : "");
    put_any(out, size, depth - 1);
    put(out, size, shape == 2 ? ")" : "");
    if (shape < 3)
        return;
    put(out, size, " ");
    put(out, size, ops[any(COUNT(ops))]);
    put(out, size, " ");
    put_any(out, size, depth - 1);
}

static void test_expressions_of_any_shape(void **state)
{
    (void)state;
    n_without_lua = 0;
    for (int i = 0; i < 500; i++) {
        char text[400] = "";
        put_any(text, sizeof(text), 3);
        compare(text);
    }
    assert_int_equal(n_without_lua, 500);
}

static void test_strings_may_hold_nul(void **state)
{
    static const char text[] = "event.a == 'x\0' or event.b.c == 'x\0y'";
    struct weir_str with_nul = weir_str_n(text, sizeof(text) - 1);
    struct weir_error err = {0};
    struct pair p = {0};
    (void)state;
    assert_int_equal(service->open(&rig.host, &with_nul, 1, &p.state, &err), WEIR_OK);
    assert_int_equal(ask(&p, 0, rig_json(&rig, "{'a':'x\\u0000'}")), 1);
    assert_int_equal(ask(&p, 0, rig_json(&rig, "{'a':'x'}")), 0);
    assert_int_equal(ask(&p, 0, rig_json(&rig, "{'a':'x\\u0000y'}")), 0);
    assert_int_equal(ask(&p, 0, rig_json(&rig, "{'b':{'c':'x\\u0000y'}}")), 1);
    service->close(p.state);
    struct simple *s = simple_compile(&rig.host, with_nul);
    assert_non_null(s);
    simple_free(&rig.host, s);
}

static void test_the_rest_is_for_lua(void **state)
{
    static const char *const texts[] = {
        "event",          "event == nil",     "meta.key == 'x'",     "event.a + 1 == 1",
        "#event.a == 1",  "event.s:len() > 1", "event.a .. 'x' == ''", "event.a == 'a\\n'",
        "event.a == 0x10", "event.a == 1e3",  "event.a == [[x]]",    "event.a == 1 -- why",
        "event.a == 2^2", "event.a << 1 == 2", "event.a // 1 == 0",  "event[1] == 1",
        "event.a == .5",  "event.a == 5.",    "-event.a == 1",       "event.a == 12345678901234567890",
        "math.pi > 3",    "event.a == weir.null.x", "event.a.b.c.d.e.f.g.h.i == 1", "\"x\" .. \"y\"",
        "('x').len == nil", "event.a == 1 and", ""};
    (void)state;
    for (size_t i = 0; i < COUNT(texts); i++) {
        struct simple *s = simple_compile(&rig.host, weir_cstr(texts[i]));
        if (s != NULL)
            fail_msg("%s was compiled", texts[i]);
    }
    char long_one[4096] = "event.a == 1";
    for (int i = 0; i < 100; i++)
        snprintf(long_one + strlen(long_one), sizeof(long_one) - strlen(long_one), " or event.a == 1");
    assert_null(simple_compile(&rig.host, weir_cstr(long_one)));
    memset(long_one, '(', 2000);
    assert_null(simple_compile(&rig.host, weir_cstr(long_one)));
    for (int i = 0; i < 1000; i++)
        snprintf(long_one + 4 * i, 5, "not ");
    assert_null(simple_compile(&rig.host, weir_cstr(long_one)));
}

static int begin(void **state)
{
    (void)state;
    rig_init(&rig, "lua", 0);
    char path[4096];
    snprintf(path, sizeof(path), "%s/lua.so", WEIR_PLUGIN_BUILD_DIR);
    const struct weir_plugin *plugin = dlsym(dlopen(path, RTLD_NOW | RTLD_LOCAL), "weir_plugin");
    for (const struct weir_service *s = plugin->services; s->name != NULL; s++)
        if (strcmp(s->name, WEIR_CONDITION_SERVICE) == 0)
            service = s->table;
    assert_non_null(service);
    return 0;
}

static int end(void **state)
{
    (void)state;
    rig_done(&rig);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_operator_on_every_pair),
        cmocka_unit_test(test_longer_ones),
        cmocka_unit_test(test_expressions_of_any_shape),
        cmocka_unit_test(test_strings_may_hold_nul),
        cmocka_unit_test(test_the_rest_is_for_lua),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
