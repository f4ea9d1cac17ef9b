/* SPDX-License-Identifier: Apache-2.0
 *
 * The transform validate: hostile values under schemas that ask for much end in a failure of their
 * event, after a bounded time. Without the bounds none of these would ever end.
 */
#include "validate_rig.h"

/* `leaf` inside n arrays, as a value that may be changed. */
static struct weir_value *nested(int n, struct weir_value *leaf)
{
    struct weir_value *v = leaf;
    for (int i = 0; i < n; i++) {
        struct weir_value *outer = rig.host.make_array(rig.arena);
        assert_true(rig.host.array_append(rig.arena, outer, v));
        v = outer;
    }
    return v;
}

static struct weir_value *wide_object(uint32_t n)
{
    struct weir_value *v = rig.host.make_object(rig.arena);
    for (uint32_t i = 0; i < n; i++) {
        struct weir_str key = rig.host.arena_printf(rig.arena, "k%u", i);
        assert_true(rig.host.object_set(rig.arena, v, key, rig.host.make_null(rig.arena)));
    }
    return v;
}

static struct weir_value *long_text(size_t n)
{
    char *text = malloc(n);
    memset(text, 'x', n);
    struct weir_value *v = rig.host.make_str(rig.arena, weir_str_n(text, n));
    free(text);
    assert_non_null(v);
    return v;
}

/* Looks at the leaf below 18 arrays 2^18 times, each time in vain; each look costs much. */
static void look_often(const char *leaf_schema, struct weir_value *leaf)
{
    char schema[3000];
    snprintf(
        schema, sizeof(schema),
        "{'if':{'type':'array'},'then':{'anyOf':[{'items':{'$ref':'#'}},{'items':{'$ref':'#'}}]},"
        "'else':{'allOf':[%s,false]}}",
        leaf_schema);
    use(schema);
    assert_false(rig_apply(&rig, nested(18, leaf)));
    assert_string_equal(rig.code, "too_complex");
}

static void objects_with_many_members(void **state)
{
    (void)state;
    look_often("{'properties':{'none':true}}", wide_object(20000));
}

static void objects_with_many_required_names(void **state)
{
    (void)state;
    look_often("{'not':{'required':['a1','a2','a3','a4','a5','a6','a7','a8']}}",
               wide_object(20000));
}

static void long_texts(void **state)
{
    (void)state;
    look_often("{'maxLength':2000000,'minLength':1}", long_text(1 << 20));
}

static void long_numbers(void **state)
{
    (void)state;
    char *digits = malloc(200001);
    memset(digits, '7', 200000);
    digits[200000] = '\0';
    const struct weir_value *v = rig_json(&rig, digits);
    look_often("{'multipleOf':7}", rig.host.make_copy(rig.arena, v));
    free(digits);
}

static void long_lists_of_choices(void **state)
{
    (void)state;
    char schema[2600] = "{'not':{'enum':[0";
    size_t n = strlen(schema);
    for (int i = 1; i < 600; i++)
        n += (size_t)snprintf(schema + n, sizeof(schema) - n, ",%d", i);
    snprintf(schema + n, sizeof(schema) - n, "]}}");
    look_often(schema, rig.host.make_int(rig.arena, -1));
}

static void unevaluated_members(void **state)
{
    (void)state;
    look_often("{'anyOf':[true,{'properties':{'a':true}}],'unevaluatedProperties':{'type':'null'}}",
               wide_object(20000));
}

static void long_texts_among_items(void **state)
{
    (void)state;
    struct weir_value *items = rig.host.make_array(rig.arena);
    assert_true(rig.host.array_append(rig.arena, items, long_text(1 << 20)));
    assert_true(rig.host.array_append(rig.arena, items, long_text(1 << 19)));
    use("{'if':{'uniqueItems':true,'minItems':2},'then':false,"
        "'else':{'anyOf':[{'items':{'$ref':'#'}},{'items':{'$ref':'#'}}]}}");
    assert_false(rig_apply(&rig, nested(18, items)));
    assert_string_equal(rig.code, "too_complex");
}

/* The table of the items is made once, not at each look. */
static void memory_of_many_items(void **state)
{
    (void)state;
    struct weir_value *items = rig.host.make_array(rig.arena);
    for (uint32_t i = 0; i < 300000; i++)
        assert_true(rig.host.array_append(rig.arena, items, rig.host.make_int(rig.arena, i)));
    use("{'if':{'maxItems':1},'then':{'anyOf':[{'items':{'$ref':'#'}},{'items':{'$ref':'#'}}]},"
        "'else':{'allOf':[{'uniqueItems':true},false]}}");
    assert_false(rig_apply(&rig, nested(18, items)));
    assert_string_equal(rig.code, "too_complex");
    assert_true(rig.scratch->footprint < 40u << 20);
}

/* An object whose only member has a name of 1 MiB. */
static struct weir_value *long_name(void)
{
    struct weir_value *v = rig.host.make_object(rig.arena);
    struct weir_str name = rig.host.value_str(long_text(1 << 20));
    assert_true(rig.host.object_set(rig.arena, v, name, rig.host.make_null(rig.arena)));
    return v;
}

static void long_names(void **state)
{
    (void)state;
    look_often("{'properties':{'none':true}}", long_name());
    look_often("{'unevaluatedProperties':{'type':'null'},'anyOf':[{'properties':{'none':true}}]}",
               long_name());
}

static void long_names_among_items(void **state)
{
    (void)state;
    struct weir_value *items = rig.host.make_array(rig.arena);
    assert_true(rig.host.array_append(rig.arena, items, long_name()));
    assert_true(rig.host.array_append(rig.arena, items, rig.host.make_null(rig.arena)));
    use("{'if':{'uniqueItems':true,'minItems':2},'then':false,"
        "'else':{'anyOf':[{'items':{'$ref':'#'}},{'items':{'$ref':'#'}}]}}");
    assert_false(rig_apply(&rig, nested(18, items)));
    assert_string_equal(rig.code, "too_complex");
}

/* 40 schemas on each of 127 levels: the deepest calls that there can be. */
static void the_deepest_calls(void **state)
{
    (void)state;
    char schema[4000] = "";
    size_t n = 0;
    for (int i = 0; i < 19; i++)
        n += (size_t)snprintf(schema + n, sizeof(schema) - n, "{'allOf':[{'if':{},'then':");
    n += (size_t)snprintf(schema + n, sizeof(schema) - n,
                          "{'items':{'$ref':'#'},'properties':{'a':{'$ref':'#'}},'pattern':'^a'}");
    for (int i = 0; i < 19; i++)
        n += (size_t)snprintf(schema + n, sizeof(schema) - n, "}]}");
    use(schema);
    assert_true(rig_apply(&rig, nested(126, rig.host.make_object(rig.arena))));
    assert_false(rig_apply(&rig, nested(126, long_text(10))));
    assert_string_equal(rig.code, "invalid");
    assert_false(rig_apply(&rig, nested(200, long_text(10))));
    assert_string_equal(rig.code, "too_deep");
}

static uint32_t n_failed;

static void count_failure(const struct weir_host *h, struct weir_batch *b, struct weir_event *ev,
                          const struct weir_result *result)
{
    (void)h;
    (void)b;
    ev->flags |= WEIR_EVENT_GONE;
    n_failed += strcmp(result->code, "invalid") == 0;
}

/* What is needed to put one failure into words does not grow with the batch. */
static void memory_of_a_batch(void **state)
{
    (void)state;
    enum { N_EVENTS = 500, ENUM_BYTES = 100000 };
    char *schema = malloc(ENUM_BYTES + 20);
    size_t n = (size_t)sprintf(schema, "{'enum':[1");
    while (n < ENUM_BYTES)
        n += (size_t)sprintf(schema + n, ",1");
    sprintf(schema + n, "]}");
    use(schema);
    rig.host.event_fail = count_failure;
    struct weir_event events[N_EVENTS] = {{.value = NULL}};
    for (uint32_t i = 0; i < N_EVENTS; i++)
        events[i].value = rig.host.make_int(rig.arena, i + 2);
    struct weir_batch b = {.size = sizeof(b),
                           .stride = sizeof(events[0]),
                           .n_events = N_EVENTS,
                           .cap_events = N_EVENTS,
                           .events = events,
                           .arena = rig.arena};
    struct weir_error err = {0};
    int64_t again = 0;
    n_failed = 0;
    assert_int_equal(rig.type->transform->apply(rig.self, &b, &again, &err), WEIR_OK);
    assert_int_equal(n_failed, N_EVENTS);
    assert_true(rig.scratch->footprint < 100 * ENUM_BYTES);
    free(schema);
}

/* What is usual stays far below the bounds. */
static void large_and_plain(void **state)
{
    (void)state;
    struct weir_value *list = rig.host.make_array(rig.arena);
    for (uint32_t i = 0; i < 100000; i++) {
        struct weir_value *o = rig.host.make_object(rig.arena);
        assert_true(
            rig.host.object_set(rig.arena, o, weir_cstr("id"), rig.host.make_int(rig.arena, i)));
        assert_true(rig.host.object_set(rig.arena, o, weir_cstr("kind"),
                                        rig.host.make_str(rig.arena, weir_cstr("click"))));
        assert_true(rig.host.array_append(rig.arena, list, o));
    }
    use("{'type':'array','items':{'type':'object','required':['id','kind'],'properties':{'id':"
        "{'type':'integer','minimum':0},'kind':{'enum':['view','click','login']}},"
        "'unevaluatedProperties':false},'uniqueItems':true}");
    if (!rig_apply(&rig, list))
        fail_msg("%s: %s", rig.code, rig.message);
    use("{'type':'string','minLength':1,'pattern':'x$'}");
    assert_true(rig_apply(&rig, long_text(4 << 20)));
}

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
        T(objects_with_many_members),
        T(objects_with_many_required_names),
        T(long_texts),
        T(long_numbers),
        T(long_lists_of_choices),
        T(unevaluated_members),
        T(long_texts_among_items),
        T(memory_of_many_items),
        T(long_names),
        T(long_names_among_items),
        T(the_deepest_calls),
        T(memory_of_a_batch),
        T(large_and_plain),
        T(deep_values),
        T(too_many_steps),
        T(unique_at_scale),
    };
    return cmocka_run_group_tests_name("validate_limits", tests, NULL, NULL);
}
