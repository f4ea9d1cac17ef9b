/* SPDX-License-Identifier: Apache-2.0
 *
 * The envelope of a dead letter: what goes in comes out, whatever bytes it is made of, and what is
 * none is refused with the member's name.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include <base/check.h>
#include <base/mem.h>
#include <base/str.h>
#include <engine/envelope.h>

/* ---- Comparing ---- */

static void same_text(const char *what, struct weir_str a, struct weir_str b)
{
    if ((a.ptr == NULL) != (b.ptr == NULL) || !wr_str_eq(a, b))
        fail_msg("%s: %zu bytes at %p became %zu at %p", what, a.len, (const void *)a.ptr, b.len,
                 (const void *)b.ptr);
}

static void same_headers(const struct wr_envelope *a, const struct wr_envelope *b)
{
    assert_int_equal(a->n_headers, b->n_headers);
    for (uint32_t i = 0; i < a->n_headers; i++) {
        same_text("header name", a->headers[i].name, b->headers[i].name);
        same_text("header value", a->headers[i].value, b->headers[i].value);
    }
}

static void same(const struct wr_envelope *a, const struct wr_envelope *b)
{
    same_text("payload", a->payload, b->payload);
    same_text("entered", a->entered, b->entered);
    same_text("reason", a->reason, b->reason);
    same_text("code", a->code, b->code);
    same_text("pipeline", a->pipeline, b->pipeline);
    same_text("component", a->component, b->component);
    same_text("type", a->type, b->type);
    same_text("source", a->source, b->source);
    same_text("id", a->id, b->id);
    same_text("key", a->key, b->key);
    same_text("origin", a->origin.name, b->origin.name);
    assert_int_equal(a->tombstone, b->tombstone);
    assert_int_equal(a->raw, b->raw);
    assert_int_equal(a->number, b->number);
    assert_int_equal(a->attempts, b->attempts);
    assert_int_equal(a->replays, b->replays);
    assert_int_equal(a->first_ns, b->first_ns);
    assert_int_equal(a->last_ns, b->last_ns);
    assert_int_equal(a->time_ns, b->time_ns);
    assert_int_equal(a->has_origin, b->has_origin);
    assert_int_equal(a->is_item, b->is_item);
    assert_int_equal(a->origin.partition, b->origin.partition);
    assert_int_equal(a->position, b->position);
    same_headers(a, b);
}

static void round_trip(const struct wr_envelope *e)
{
    struct weir_arena a = {0};
    struct weir_error err = {0};
    struct wr_buf text = {0}, again = {0};
    struct wr_envelope back;
    wr_envelope_write(e, &text);
    assert_int_equal(wr_utf8_check(wr_buf_view(&text)), text.len);
    assert_null(memchr(text.ptr, '\n', text.len));
    if (!wr_envelope_read(&a, wr_buf_view(&text), &back, &err))
        fail_msg("%s: %.*s", err.text, text.len > 2000 ? 2000 : (int)text.len, text.ptr);
    same(e, &back);
    wr_envelope_write(&back, &again);
    same_text("the text", wr_buf_view(&text), wr_buf_view(&again));
    wr_buf_done(&text);
    wr_buf_done(&again);
    wr_arena_done(&a);
}

static struct wr_envelope small(void)
{
    return (struct wr_envelope){.payload = weir_cstr("{\"n\":1}"),
                                .code = weir_cstr("rejected"),
                                .pipeline = weir_cstr("orders"),
                                .component = weir_cstr("store"),
                                .id = weir_cstr("a"),
                                .origin.partition = -1};
}

static void payloads_of_all_kinds(void **state)
{
    static const struct weir_str rows[] = {{"", 0},
                                           {"{\"n\":1}", 7},
                                           {"a\0b", 3},
                                           {"\0", 1},
                                           {"\xff\xfe\0\x80", 4},
                                           {"\xed\xa0\x80", 3},
                                           {"\r\n\t\b\f\"\\/\x7f\x1f", 10},
                                           {"\xe2\x80\xa8\xf4\x8f\xbf\xbf", 7},
                                           {"\xef\xbb\xbf{}", 5},
                                           {"xy\xff", 3}};
    (void)state;
    for (size_t i = 0; i < WR_COUNT(rows); i++)
        for (size_t k = 0; k <= WR_COUNT(rows); k++) {
            struct wr_envelope e = small();
            e.payload = rows[i];
            e.key = e.id = rows[i].len != 0 ? rows[i] : e.id;
            e.entered = k < WR_COUNT(rows) ? rows[k] : weir_str_n(NULL, 0);
            e.raw = k % 2 == 1;
            round_trip(&e);
        }
}

static void tombstones(void **state)
{
    struct wr_envelope e = small();
    (void)state;
    e.payload.ptr = NULL; /* it came as one and entered as one */
    e.payload.len = 0;
    e.tombstone = true;
    round_trip(&e);
    assert_null(wr_envelope_entered(&e).ptr);
    e.tombstone = false; /* a hook gave it a payload */
    e.entered = weir_cstr("{}");
    round_trip(&e);
    assert_string_equal(wr_envelope_entered(&e).ptr, "{}");
    e = small(); /* a hook took its payload */
    e.tombstone = true;
    round_trip(&e);
    assert_null(wr_envelope_entered(&e).ptr);
}

static void origins(void **state)
{
    struct wr_envelope e = small();
    (void)state;
    e.has_origin = true;
    e.origin = (struct weir_origin){weir_cstr("topic"), 0};
    e.position = 0;
    round_trip(&e);
    e.origin = (struct weir_origin){{"/a/\xff", 4}, INT32_MAX};
    e.position = INT64_MAX;
    round_trip(&e);
    e.origin = (struct weir_origin){{NULL, 0}, -1};
    e.position = INT64_MIN;
    round_trip(&e);
    e.is_item = true;
    e.position = 7;
    round_trip(&e);
}

static void headers_keep_order_and_duplicates(void **state)
{
    static const struct weir_header headers[] = {
        {{"h", 1}, {"1", 1}},  {{"h", 1}, {"2", 1}},         {{"", 0}, {"", 0}},
        {{"h", 1}, {NULL, 0}}, {{"\xff", 1}, {"\0\xfe", 2}}, {{"h", 1}, {"1", 1}}};
    struct wr_envelope e = small();
    (void)state;
    e.headers = headers;
    e.n_headers = WR_COUNT(headers);
    round_trip(&e);
}

static void huge(void **state)
{
    static char bytes[3 << 20];
    struct wr_envelope e = small();
    (void)state;
    memset(bytes, 'x', sizeof(bytes));
    e.payload = weir_str_n(bytes, sizeof(bytes));
    e.entered = weir_str_n(bytes + 1, sizeof(bytes) - 1);
    round_trip(&e);
    memset(bytes, 1, sizeof(bytes)); /* six bytes of JSON each */
    round_trip(&e);
    bytes[5] = (char)0xff;
    round_trip(&e);
}

/* ---- Any envelope ---- */

static uint64_t seed;

static uint32_t chance(uint32_t below)
{
    seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(seed >> 33) % below;
}

/* NULL, empty, text, or bytes. */
static struct weir_str any_bytes(struct weir_arena *a, bool may_be_null)
{
    if (may_be_null && chance(4) == 0)
        return weir_str_n(NULL, 0);
    size_t n = chance(3) == 0 ? chance(3) : chance(60);
    char *text = wr_arena_alloc(a, n + 1);
    bool wild = chance(2) == 0;
    for (size_t i = 0; i < n; i++)
        text[i] = (char)(wild ? chance(256) : 32 + chance(95));
    return weir_str_n(text, n);
}

/* UTF-8 of at least one character, with what JSON escapes. */
static struct weir_str any_text(struct weir_arena *a)
{
    static const char *const parts[] = {
        "a", "\"", "\\", "\n", "\x01", "\xc3\xa4", "\xf0\x9f\x98\x80", "-"};
    char *text = wr_arena_alloc(a, 100);
    size_t n = 0;
    for (uint32_t i = 1 + chance(12); i > 0; i--) {
        const char *part = parts[chance(WR_COUNT(parts))];
        memcpy(text + n, part, strlen(part));
        n += strlen(part);
    }
    return weir_str_n(text, n);
}

static int64_t any_int(void)
{
    int64_t n = (int64_t)(((uint64_t)chance(UINT32_MAX) << 33) ^ chance(UINT32_MAX));
    return n >> chance(63);
}

static void any_rest(struct weir_arena *a, struct wr_envelope *e)
{
    e->has_origin = chance(2) == 0;
    e->origin.partition = -1;
    if (e->has_origin) {
        e->origin.name = any_bytes(a, true);
        e->origin.partition = chance(2) == 0 ? -1 : (int32_t)chance(INT32_MAX);
        e->position = any_int();
        e->is_item = e->position >= 0 && chance(2) == 0;
    }
    e->n_headers = chance(3) == 0 ? chance(6) : 0;
    struct weir_header *headers = wr_arena_alloc(a, 6 * sizeof(*headers));
    for (uint32_t i = 0; i < e->n_headers; i++)
        headers[i] = (struct weir_header){any_bytes(a, false), any_bytes(a, true)};
    e->headers = headers;
}

static struct wr_envelope any_envelope(struct weir_arena *a)
{
    struct wr_envelope e = {.payload = any_bytes(a, true)};
    e.tombstone = chance(5) == 0;
    e.raw = chance(3) == 0;
    if (!e.tombstone)
        e.entered = any_bytes(a, e.payload.ptr != NULL);
    e.reason = chance(3) == 0 ? weir_str_n(NULL, 0) : any_text(a);
    e.code = any_text(a);
    e.number = (int32_t)any_int();
    e.attempts = chance(UINT32_MAX);
    e.replays = chance(3) == 0 ? chance(UINT32_MAX) : 0;
    e.first_ns = any_int();
    e.last_ns = any_int();
    e.time_ns = any_int();
    e.pipeline = any_text(a);
    e.component = any_text(a);
    e.type = chance(4) == 0 ? weir_str_n(NULL, 0) : any_text(a);
    e.source = chance(4) == 0 ? weir_str_n(NULL, 0) : any_text(a);
    e.id = any_text(a);
    e.key = any_bytes(a, true);
    any_rest(a, &e);
    return e;
}

static void any_envelope_comes_back(void **state)
{
    (void)state;
    for (uint64_t i = 1; i <= 20000; i++) {
        struct weir_arena a = {0};
        seed = i;
        struct wr_envelope e = any_envelope(&a);
        round_trip(&e);
        wr_arena_done(&a);
    }
}

/* A text that was damaged anywhere is refused, or is still a whole envelope: never half of one. */
static void damage_is_never_half_an_envelope(void **state)
{
    (void)state;
    for (uint64_t i = 1; i <= 5000; i++) {
        struct weir_arena a = {0};
        struct weir_error err = {0};
        struct wr_buf text = {0};
        struct wr_envelope back;
        seed = i;
        struct wr_envelope e = any_envelope(&a);
        wr_envelope_write(&e, &text);
        if (chance(2) == 0)
            text.len = chance((uint32_t)text.len);
        else
            text.ptr[chance((uint32_t)text.len)] = (char)chance(256);
        if (wr_envelope_read(&a, wr_buf_view(&text), &back, &err))
            round_trip(&back);
        else
            assert_true(err.text[0] != '\0');
        wr_buf_done(&text);
        wr_arena_done(&a);
    }
}

/* ---- What is none ---- */

#define HEAD                                                                                       \
    "{\"version\":1,\"payload\":\"x\",\"code\":\"c\",\"pipeline\":\"p\",\"component\":\"k\","      \
    "\"id\":\"i\""

static void refused(const char *text, const char *why)
{
    struct weir_arena a = {0};
    struct weir_error err = {0};
    struct wr_envelope e;
    memset(&e, 0x5a, sizeof(e));
    struct wr_envelope before = e;
    if (wr_envelope_read(&a, weir_cstr(text), &e, &err))
        fail_msg("taken: %s", text);
    if (strstr(err.text, why) == NULL)
        fail_msg("%s\n  says: %s\n  expected: %s", text, err.text, why);
    assert_memory_equal(&e, &before, sizeof(e));
    wr_arena_done(&a);
}

static void what_is_no_envelope_is_named(void **state)
{
    static const struct {
        const char *text, *why;
    } rows[] = {
        {"", "JSON"},
        {"{", "JSON"},
        {"{}{}", "JSON"},
        {"\xff", "JSON"},
        {"null", "no JSON object"},
        {"[]", "no JSON object"},
        {"\"x\"", "no JSON object"},
        {"{}", "member \"version\" is missing"},
        {"{\"version\":0}", "member \"version\" is out of range"},
        {"{\"version\":-1}", "member \"version\" is out of range"},
        {"{\"version\":2}", "member \"version\" is of a newer weir"},
        {"{\"version\":\"1\"}", "member \"version\" is no whole number"},
        {"{\"version\":1.0}", "member \"version\" is no whole number"},
        {"{\"version\":18446744073709551615}", "member \"version\" is no whole number"},
        {"{\"version\":1}", "member \"payload\" is missing"},
        {"{\"version\":1,\"payload\":1}", "member \"payload\" is no string"},
        {"{\"version\":1,\"payload\":{}}", "member \"payload\" is no string"},
        {"{\"version\":1,\"payload\":\"x\",\"payload_base64\":\"\"}", "\"payload\" is there twice"},
        {"{\"version\":1,\"payload_base64\":\"A\"}", "\"payload_base64\" is no base64"},
        {"{\"version\":1,\"payload_base64\":\"AAA\"}", "\"payload_base64\" is no base64"},
        {"{\"version\":1,\"payload_base64\":\"A===\"}", "\"payload_base64\" is no base64"},
        {"{\"version\":1,\"payload_base64\":\"====\"}", "\"payload_base64\" is no base64"},
        {"{\"version\":1,\"payload_base64\":\"AA=A\"}", "\"payload_base64\" is no base64"},
        {"{\"version\":1,\"payload_base64\":\"AA==AAAA\"}", "\"payload_base64\" is no base64"},
        {"{\"version\":1,\"payload_base64\":\"AA\\n=\"}", "\"payload_base64\" is no base64"},
        {"{\"version\":1,\"payload_base64\":\"AAA_\"}", "\"payload_base64\" is no base64"},
        {"{\"version\":1,\"payload\":\"x\",\"entered\":[]}", "member \"entered\" is no string"},
        {"{\"version\":1,\"payload\":\"x\",\"tombstone\":1}", "\"tombstone\" is neither true nor"},
        {"{\"version\":1,\"entered\":\"x\",\"tombstone\":true}",
         "\"tombstone\" is true, and there is"},
        {"{\"version\":1,\"payload\":\"x\",\"raw\":\"yes\"}", "member \"raw\" is neither true nor"},
        {"{\"version\":1,\"payload\":\"x\"}", "member \"code\" is missing"},
        {"{\"version\":1,\"payload\":\"x\",\"code\":\"\"}", "member \"code\" is empty"},
        {"{\"version\":1,\"payload\":\"x\",\"code\":7}", "member \"code\" is no string"},
        {"{\"version\":1,\"payload\":\"x\",\"code\":\"c\"}", "member \"pipeline\" is missing"},
        {"{\"version\":1,\"payload\":\"x\",\"code\":\"c\",\"pipeline\":\"p\"}",
         "\"component\" is missing"},
        {"{\"version\":1,\"payload\":\"x\",\"code\":\"c\",\"pipeline\":\"p\",\"component\":\"k\"}",
         "member \"id\" is missing or empty"},
        {HEAD ",\"reason\":{}}", "member \"reason\" is no string"},
        {HEAD ",\"number\":2147483648}", "member \"number\" is out of range"},
        {HEAD ",\"number\":1e3}", "member \"number\" is no whole number"},
        {HEAD ",\"attempts\":-1}", "member \"attempts\" is out of range"},
        {HEAD ",\"attempts\":4294967296}", "member \"attempts\" is out of range"},
        {HEAD ",\"replays\":\"1\"}", "member \"replays\" is no whole number"},
        {HEAD ",\"first_time\":1}", "member \"first_time\" is no string"},
        {HEAD ",\"first_time\":\"today\"}", "member \"first_time\" is no time"},
        {HEAD ",\"last_time\":\"2026-02-30T00:00:00Z\"}", "member \"last_time\" is no time"},
        {HEAD ",\"time\":null}", "member \"time\" is no string"},
        {HEAD ",\"type\":1}", "member \"type\" is no string"},
        {HEAD ",\"source\":1}", "member \"source\" is no string"},
        {HEAD ",\"key\":1}", "member \"key\" is no string"},
        {HEAD ",\"key_base64\":\"x\"}", "member \"key_base64\" is no base64"},
        {HEAD ",\"origin\":\"t\"}", "member \"origin\" is no object"},
        {HEAD ",\"origin\":{\"name\":1}}", "member \"name\" is no string"},
        {HEAD ",\"origin\":{\"partition\":-1}}", "member \"partition\" is out of range"},
        {HEAD ",\"origin\":{\"partition\":2147483648}}", "member \"partition\" is out of range"},
        {HEAD ",\"origin\":{\"item\":-1}}", "member \"item\" is out of range"},
        {HEAD ",\"origin\":{\"offset\":0.5}}", "member \"offset\" is no whole number"},
        {HEAD ",\"headers\":{}}", "member \"headers\" is no array"},
        {HEAD ",\"headers\":[1]}", "member \"headers\" holds what is no object"},
        {HEAD ",\"headers\":[{\"value\":\"v\"}]}", "member \"headers\" holds one without a name"},
        {HEAD ",\"headers\":[{\"name\":\"n\",\"value\":1}]}", "member \"value\" is no string"},
        {HEAD ",\"headers\":[{\"name\":\"n\",\"value\":\"v\",\"value_base64\":\"\"}]}",
         "\"value\" is there twice"},
    };
    (void)state;
    for (size_t i = 0; i < WR_COUNT(rows); i++)
        refused(rows[i].text, rows[i].why);
}

static void refuse_built(const char *head, const char *part, uint32_t n, const char *tail,
                         const char *why)
{
    struct wr_buf text = {0};
    wr_buf_text(&text, head);
    for (uint32_t i = 0; i < n; i++)
        wr_buf_text(&text, part);
    wr_buf_text(&text, tail);
    refused(text.ptr, why);
    wr_buf_done(&text);
}

static void sizes_are_bounded(void **state)
{
    (void)state;
    refuse_built(HEAD ",\"headers\":[{\"name\":\"\"}", ",{\"name\":\"\"}", 10000, "]}",
                 "\"headers\" has more");
    refuse_built(HEAD ",\"type\":\"", "x", 257, "\"}", "\"type\" is too long");
    refuse_built(HEAD ",\"source\":\"", "x", 257, "\"}", "\"source\" is too long");
    refuse_built(HEAD ",\"reason\":\"", "x", (1 << 20) + 1, "\"}", "\"reason\" is too long");
    refuse_built("{\"version\":1,\"payload\":\"x\",\"code\":\"c\",\"pipeline\":\"p\",\"component\":"
                 "\"k\",\"id\":\"",
                 "x", 8193, "\"}", "\"id\" is too long");
    char close[202];
    memset(close, ']', 200);
    memcpy(close + 200, "}", 2);
    refuse_built(HEAD ",\"x\":", "[", 200, close, "deep");
    struct weir_arena a = {0};
    struct weir_error err = {0};
    struct wr_envelope e;
    assert_false(wr_envelope_read(&a, weir_str_n("", WR_ENVELOPE_BYTES_MAX + 1), &e, &err));
    assert_string_equal(err.code, "too_large");
}

/* A store may have put members of its own beside ours, in any order. */
static void other_members_are_passed_over(void **state)
{
    struct weir_arena a = {0};
    struct weir_error err = {0};
    struct wr_envelope e;
    (void)state;
    assert_true(
        wr_envelope_read(&a,
                         weir_cstr("{\"_id\":{\"$oid\":\"65f0c0ffee0123456789abcd\"},\"x\":[1,{}],"
                                   "\"id\":\"i\",\"component\":\"k\","
                                   "\"pipeline\":\"p\",\"code\":\"c\",\"payload\":\"x\","
                                   "\"version\":1,\"tombstone\":false}"),
                         &e, &err));
    assert_string_equal(e.component.ptr, "k");
    assert_int_equal(e.origin.partition, -1);
    assert_null(e.reason.ptr);
    wr_arena_done(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(payloads_of_all_kinds),
        cmocka_unit_test(tombstones),
        cmocka_unit_test(origins),
        cmocka_unit_test(headers_keep_order_and_duplicates),
        cmocka_unit_test(huge),
        cmocka_unit_test(any_envelope_comes_back),
        cmocka_unit_test(damage_is_never_half_an_envelope),
        cmocka_unit_test(what_is_no_envelope_is_named),
        cmocka_unit_test(sizes_are_bounded),
        cmocka_unit_test(other_members_are_passed_over),
    };
    return cmocka_run_group_tests_name("envelope", tests, NULL, NULL);
}
