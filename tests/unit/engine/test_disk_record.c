/* SPDX-License-Identifier: Apache-2.0 */
#include "disk_rig.h"

#include <base/crc32c.h>

static uint8_t *record_of(const struct weir_event *ev, bool keep_source, size_t *ret_size)
{
    *ret_size = wr_record_size(ev, keep_source);
    assert_true(*ret_size >= WR_RECORD_HEAD && *ret_size % WR_RECORD_ALIGN == 0);
    uint8_t *bytes = wr_xalloc(*ret_size); /* no byte more: the sanitizer looks at its end */
    assert_int_equal(wr_record_write(bytes, ev, keep_source, 77, 12345, 99), *ret_size);
    return bytes;
}

static void what_goes_in_comes_out(void **state)
{
    (void)state;
    disk.next = 500;
    for (uint64_t number = 0; number < 500; number++) {
        struct weir_arena a = {0};
        struct weir_event ev = event_of(number, &a), back;
        struct wr_record r;
        size_t size, need;
        uint8_t *bytes = record_of(&ev, true, &size);
        assert_int_equal(wr_record_read(bytes, size, 77, &r, &need), WR_RECORD_OK);
        assert_int_equal(r.seq, 12345);
        assert_int_equal(r.entered_ns, 99);
        assert_int_equal(r.length, size);
        assert_true(wr_record_event(&r, &a, NULL, &back));
        assert_int_equal(check_event(&back), number);
        wr_free(bytes);
        wr_arena_done(&a);
    }
}

static void nothing_and_empty_are_two_things(void **state)
{
    (void)state;
    struct weir_header headers[] = {{weir_cstr("a"), {NULL, 0}}, {weir_cstr("b"), weir_cstr("")}};
    struct weir_event tomb = {.flags = WEIR_EVENT_TOMB, .key = weir_cstr(""), .headers = headers,
                              .n_headers = 2},
                      back;
    struct weir_arena a = {0};
    struct wr_record r;
    size_t size, need;
    uint8_t *bytes = record_of(&tomb, true, &size);
    assert_int_equal(wr_record_read(bytes, size, 77, &r, &need), WR_RECORD_OK);
    assert_true(wr_record_event(&r, &a, NULL, &back));
    assert_null(back.payload.ptr);
    assert_non_null(back.key.ptr);
    assert_int_equal(back.key.len, 0);
    assert_int_equal(back.flags, WEIR_EVENT_TOMB);
    assert_null(back.headers[0].value.ptr);
    assert_non_null(back.headers[1].value.ptr);
    assert_null(back.origin);
    assert_null(back.id.ptr);
    wr_free(bytes);
    wr_arena_done(&a);
}

static void an_item_of_a_request_stays_one(void **state)
{
    (void)state;
    struct weir_event ev = {.payload = weir_cstr("x"), .position = 3, .request = (void *)&disk}, back;
    struct weir_arena a = {0};
    struct wr_record r;
    size_t size, need;
    uint8_t *bytes = record_of(&ev, true, &size);
    assert_int_equal(wr_record_read(bytes, size, 77, &r, &need), WR_RECORD_OK);
    assert_true(wr_record_event(&r, &a, NULL, &back));
    assert_null(back.request);
    assert_true(wr_event_is_item(&back));
    wr_free(bytes);
    wr_arena_done(&a);
}

static void the_source_payload_is_left_out_where_the_user_wants_it(void **state)
{
    (void)state;
    struct wr_trace trace = {.source = weir_cstr("as it came, with many more words than are left of it")};
    struct weir_event ev = {.payload = weir_cstr("now"), .host_trace = &trace}, back;
    struct weir_arena a = {0};
    struct wr_record r;
    size_t with, without, need;
    uint8_t *bytes = record_of(&ev, true, &with);
    assert_int_equal(wr_record_read(bytes, with, 77, &r, &need), WR_RECORD_OK);
    assert_true(wr_record_event(&r, &a, NULL, &back));
    assert_true(wr_str_eq(wr_event_source_payload(&back), trace.source));
    wr_free(bytes);
    bytes = record_of(&ev, false, &without);
    assert_true(without < with);
    assert_int_equal(wr_record_read(bytes, without, 77, &r, &need), WR_RECORD_OK);
    assert_true(wr_record_event(&r, &a, NULL, &back));
    assert_true(wr_str_is(wr_event_source_payload(&back), "now"));
    wr_free(bytes);
    wr_arena_done(&a);
}

/* A tombstone of which a hook made a payload; an empty one is another thing. */
static void a_source_that_gave_a_tombstone_is_kept(void **state)
{
    (void)state;
    static const struct weir_str payloads[] = {{"made", 4}, {"", 0}};
    for (int i = 0; i < 2; i++) {
        struct wr_trace trace = {.source = {NULL, 0}};
        struct weir_event ev = {.payload = payloads[i], .host_trace = &trace}, back;
        struct weir_arena a = {0};
        struct wr_record r;
        size_t size, need;
        uint8_t *bytes = record_of(&ev, true, &size);
        assert_int_equal(wr_record_read(bytes, size, 77, &r, &need), WR_RECORD_OK);
        assert_true(wr_record_event(&r, &a, NULL, &back));
        assert_same_str(back.payload, ev.payload);
        assert_null(wr_event_source_payload(&back).ptr);
        wr_free(bytes);
        bytes = record_of(&ev, false, &size);
        assert_int_equal(wr_record_read(bytes, size, 77, &r, &need), WR_RECORD_OK);
        assert_true(wr_record_event(&r, &a, NULL, &back));
        assert_same_str(wr_event_source_payload(&back), ev.payload);
        wr_free(bytes);
        wr_arena_done(&a);
    }
}

/* What is left of a payload lies where the whole of it lay. */
static void a_part_of_the_source_payload_is_another_payload(void **state)
{
    (void)state;
    struct wr_trace trace = {.source = weir_cstr("head and tail")};
    struct weir_event ev = {.payload = {trace.source.ptr, 4}, .host_trace = &trace}, back;
    struct weir_arena a = {0};
    struct wr_record r;
    size_t size, need;
    uint8_t *bytes = record_of(&ev, true, &size);
    assert_int_equal(wr_record_read(bytes, size, 77, &r, &need), WR_RECORD_OK);
    assert_true(wr_record_event(&r, &a, NULL, &back));
    assert_true(wr_str_is(back.payload, "head"));
    assert_true(wr_str_is(wr_event_source_payload(&back), "head and tail"));
    wr_free(bytes);
    wr_arena_done(&a);
}

static void events_of_one_origin_share_it(void **state)
{
    (void)state;
    struct weir_origin origin = {weir_cstr("topic"), 3};
    struct weir_event ev = {.payload = weir_cstr("x"), .origin = &origin}, first, second;
    struct weir_arena a = {0};
    struct wr_record r;
    size_t size, need;
    uint8_t *bytes = record_of(&ev, true, &size);
    assert_int_equal(wr_record_read(bytes, size, 77, &r, &need), WR_RECORD_OK);
    assert_true(wr_record_event(&r, &a, NULL, &first) && wr_record_event(&r, &a, &first, &second));
    assert_ptr_equal(first.origin, second.origin);
    assert_true(wr_str_is(second.origin->name, "topic"));
    assert_int_equal(second.origin->partition, 3);
    wr_free(bytes);
    wr_arena_done(&a);
}

static void every_flipped_bit_is_noticed(void **state)
{
    (void)state;
    struct weir_arena a = {0};
    struct weir_event ev = event_of(6, &a);
    struct wr_record r;
    size_t size, need;
    uint8_t *bytes = record_of(&ev, true, &size);
    for (size_t i = 0; i < size * 8; i++) {
        bytes[i / 8] ^= (uint8_t)(1u << i % 8);
        assert_int_not_equal(wr_record_read(bytes, size, 77, &r, &need), WR_RECORD_OK);
        bytes[i / 8] ^= (uint8_t)(1u << i % 8);
    }
    assert_int_equal(wr_record_read(bytes, size, 78, &r, &need), WR_RECORD_BAD); /* of another segment */
    for (size_t len = 0; len < size; len++) {
        assert_int_equal(wr_record_read(bytes, len, 77, &r, &need), WR_RECORD_SHORT);
        assert_int_equal(need, len < WR_RECORD_HEAD ? WR_RECORD_HEAD : size);
    }
    wr_free(bytes);
    wr_arena_done(&a);
}

/* Somebody who knows the marker can make the checksum right: lengths are looked at all the same. */
static void lengths_that_lie_are_refused(void **state)
{
    (void)state;
    struct weir_arena a = {0};
    struct weir_event ev = {0};
    struct wr_record r;
    size_t size, need;
    for (uint64_t number = 0; ev.n_headers == 0; number++)
        ev = event_of(number, &a);
    uint8_t *bytes = record_of(&ev, true, &size);
    for (int field = 0; field < 7; field++) {
        for (int k = 0; k < 6; k++) {
            static const uint32_t lies[] = {1, 9, 1000, INT32_MAX, UINT32_MAX, UINT32_MAX - 8};
            uint8_t *at = field == 6 ? bytes + size - 60 : bytes + 52 + 4 * field;
            uint32_t before = wr_get32(at);
            wr_put32(at, field == 6 ? lies[k] : before + lies[k]);
            uint32_t crc = wr_crc32c(wr_crc32c(77, bytes, 8), bytes + 12, size - 12), was = wr_get32(bytes + 8);
            wr_put32(bytes + 8, crc);
            if (wr_record_read(bytes, size, 77, &r, &need) == WR_RECORD_OK) {
                struct weir_event back;
                assert_true(wr_record_event(&r, &a, NULL, &back)); /* a lie that fits: it stays inside */
            } else if (field != 6) {
                assert_int_equal(wr_record_read(bytes, size, 77, &r, &need), WR_RECORD_BAD);
            }
            wr_put32(at, before);
            wr_put32(bytes + 8, was);
        }
    }
    wr_free(bytes);
    wr_arena_done(&a);
}

static void an_event_that_is_too_large_has_no_record(void **state)
{
    (void)state;
    static const char byte[1];
    struct weir_event ev = {.payload = {byte, WR_RECORD_MAX}};
    assert_int_equal(wr_record_size(&ev, false), 0);
    ev.payload.len = WR_RECORD_MAX - WR_RECORD_HEAD - 8;
    assert_int_not_equal(wr_record_size(&ev, false), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_goes_in_comes_out),
        cmocka_unit_test(nothing_and_empty_are_two_things),
        cmocka_unit_test(an_item_of_a_request_stays_one),
        cmocka_unit_test(the_source_payload_is_left_out_where_the_user_wants_it),
        cmocka_unit_test(a_source_that_gave_a_tombstone_is_kept),
        cmocka_unit_test(a_part_of_the_source_payload_is_another_payload),
        cmocka_unit_test(events_of_one_origin_share_it),
        cmocka_unit_test(every_flipped_bit_is_noticed),
        cmocka_unit_test(lengths_that_lie_are_refused),
        cmocka_unit_test(an_event_that_is_too_large_has_no_record),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
