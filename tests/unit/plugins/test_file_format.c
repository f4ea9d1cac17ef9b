/* SPDX-License-Identifier: Apache-2.0
 *
 * An event's line in the sink `file`: what is no JSON, as against what could not be looked at.
 */
#include <engine/host.h>

#include "../../../plugins/file/format.c"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static struct weir_host host;
static unsigned n_parsed;

static struct weir_str payload_of(const struct weir_host *h, struct weir_batch *b,
                                  struct weir_event *ev)
{
    (void)h;
    (void)b;
    return ev->payload;
}

static struct weir_str id_of(const struct weir_host *h, struct weir_batch *b, struct weir_event *ev)
{
    (void)h;
    (void)b;
    return ev->id;
}

static const struct weir_value *no_room(struct weir_arena *a, struct weir_str text,
                                        struct weir_error *err)
{
    (void)a;
    (void)text;
    n_parsed++;
    (void)host.error(err, WEIR_E_NOMEM, "no_memory", "no memory");
    return NULL;
}

/* The result for an event with that payload, and its line. */
static enum format_result line_of(enum format format, struct weir_event *ev, const char *want)
{
    struct text t = {.h = &host};
    struct weir_arena *a = host.arena_new(&host);
    ev->id = weir_cstr("1");
    enum format_result result = format_event(&t, format, NULL, ev, a);
    assert_int_equal(t.len, strlen(want));
    assert_memory_equal(t.len > 0 ? t.ptr : "", want, t.len);
    text_done(&t);
    host.arena_free(a);
    return result;
}

static void test_json(void **state)
{
    (void)state;
    struct weir_event json = {.payload = weir_cstr("[1,\n2]")};
    struct weir_event text = {.payload = weir_cstr("a\nb")};
    struct weir_event raw = {.payload = weir_cstr("[1,\n2]"), .flags = WEIR_EVENT_RAW};
    assert_int_equal(line_of(FORMAT_PAYLOAD, &json, "[1, 2]\n"), FORMAT_OK);
    assert_int_equal(line_of(FORMAT_PAYLOAD, &text, ""), FORMAT_LINE_BREAK);
    assert_int_equal(line_of(FORMAT_PAYLOAD, &raw, ""), FORMAT_LINE_BREAK);
    assert_int_equal(line_of(FORMAT_FULL, &json, "{\"id\":\"1\",\"payload\":[1, 2]}\n"), FORMAT_OK);
    assert_int_equal(line_of(FORMAT_FULL, &text, "{\"id\":\"1\",\"payload_base64\":\"YQpi\"}\n"),
                     FORMAT_OK);
}

static void test_no_memory_to_parse(void **state)
{
    (void)state;
    struct weir_event ev = {.payload = weir_cstr("[1,\n2]")};
    host.value_parse = no_room;
    n_parsed = 0;
    assert_int_equal(line_of(FORMAT_PAYLOAD, &ev, ""), FORMAT_NO_MEMORY);
    assert_int_equal(line_of(FORMAT_FULL, &ev, ""), FORMAT_NO_MEMORY);
    assert_int_equal(n_parsed, 2);
    struct weir_arena *a = host.arena_new(&host);
    ev.value = host.make_int(a, 1); /* somebody has looked at it: not again */
    assert_int_equal(line_of(FORMAT_PAYLOAD, &ev, "[1, 2]\n"), FORMAT_OK);
    assert_int_equal(n_parsed, 2);
    host.arena_free(a);
}

static int set_up(void **state)
{
    (void)state;
    host = *wr_host_control();
    host.event_payload = payload_of;
    host.event_id = id_of;
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup(test_json, set_up),
                                       cmocka_unit_test_setup(test_no_memory_to_parse, set_up)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
