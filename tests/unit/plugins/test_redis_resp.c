/* SPDX-License-Identifier: Apache-2.0
 *
 * RESP of the plugin redis: commands are encoded exactly; replies are found however the bytes are
 * cut up, are cut themselves where they are too large, and whatever is no RESP is told so.
 */
#include <engine/host.h>
#include <stdlib.h>

#include "../../../plugins/redis/resp.c"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static const struct weir_host *host(void)
{
    return wr_host_control();
}

/* Reads `in` in pieces of `step` bytes. Gives a letter a reply: its type, and ! where it was cut;
 * a final ? where the input is malformed. */
static void read_all(const char *in, size_t len, size_t step, size_t limit, char *out)
{
    struct resp_reader r;
    struct resp_reply reply;
    resp_init(&r, host(), limit);
    for (size_t at = 0;;) {
        enum resp_result result = resp_next(&r, &reply);
        if (result == RESP_REPLY) {
            *out++ = "+-:$n*"[reply.type];
            if (reply.cut)
                *out++ = '!';
            continue;
        }
        if (result == RESP_MALFORMED)
            *out++ = '?';
        if (result == RESP_MALFORMED || at == len)
            break;
        size_t room;
        char *space = resp_space(&r, &room);
        assert_non_null(space);
        size_t n = len - at < step ? len - at : step;
        memcpy(space, in + at, n);
        resp_filled(&r, n);
        at += n;
    }
    *out = '\0';
    resp_done(&r);
}

static void expect(const char *in, size_t len, size_t limit, const char *want)
{
    char got[256];
    for (size_t step = 1; step <= len; step++) {
        read_all(in, len, step, limit, got);
        assert_string_equal(got, want);
    }
}

#define EXPECT(in, limit, want) expect(in, sizeof(in) - 1, limit, want)

#define TEN "0123456789"
#define HUNDRED TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN

static void test_replies_in_any_pieces(void **state)
{
    (void)state;
    EXPECT("+OK\r\n:-42\r\n$-1\r\n$5\r\nab\0cd\r\n*-1\r\n*0\r\n", 1024, "+:n$n*");
    EXPECT("*2\r\n$1\r\na\r\n*2\r\n:1\r\n$0\r\n\r\n-ERR bad\r\n", 1024, "*-");
    EXPECT("*1\r\n*1\r\n*1\r\n*1\r\n*0\r\n+\r\n", 1024, "*+");
    EXPECT("$2\r\n\r\n\r\n+a\r\n", 1024, "$+");
    EXPECT("+unfinished", 1024, "");
    EXPECT("*3\r\n:1\r\n:2\r\n", 1024, "");
}

static void test_large_replies_are_read_past(void **state)
{
    (void)state;
    EXPECT("$100\r\n" HUNDRED "\r\n+OK\r\n", 64, "$!+");
    EXPECT("$100\r\n" HUNDRED "\r\n$100\r\n" HUNDRED "\r\n", 64, "$!$!");
    EXPECT("*3\r\n$100\r\n" HUNDRED "\r\n:5\r\n$3\r\nxyz\r\n:1\r\n", 64, "*!:");
    EXPECT("*2\r\n:5\r\n$100\r\n" HUNDRED "\r\n:1\r\n", 64, "*!:");
    EXPECT("*20\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n"
           ":1\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n+OK\r\n",
           32, "*!+");
    EXPECT("$20\r\n" TEN TEN "\r\n+OK\r\n", 64, "$+");
}

static void test_what_is_no_resp(void **state)
{
    (void)state;
    EXPECT("HTTP/1.1 400\r\n", 1024, "?");
    EXPECT("+OK\n", 1024, "?");
    EXPECT("\r\n", 1024, "?");
    EXPECT("+OK\r\n$-2\r\n", 1024, "+?");
    EXPECT("$3\r\nabcd\r\n", 1024, "?");
    EXPECT("$536870913\r\n", 1024, "?");
    EXPECT("$99999999999999999999\r\n", 1024, "?");
    EXPECT("$\r\n", 1024, "?");
    EXPECT("$-\r\n", 1024, "?");
    EXPECT("$1x\r\n", 1024, "?");
    EXPECT("*4294967297\r\n", 1024, "?");
    EXPECT(":9223372036854775808\r\n", 1024, "?");
    EXPECT(":9223372036854775807\r\n:-9223372036854775808\r\n", 1024, "::");
    EXPECT("%1\r\n+a\r\n:1\r\n", 1024, "?");
}

static void test_nested_arrays_cannot_overflow_the_count(void **state)
{
    (void)state;
    EXPECT("*2147483648\r\n*2147483648\r\n*2147483648\r\n", 1024, "?");
}

static void test_a_line_has_a_limit(void **state)
{
    (void)state;
    char *in = malloc(70000);
    char got[16];
    memset(in, 'x', 70000);
    in[0] = '+';
    read_all(in, 70000, 1000, 1 << 20, got);
    assert_string_equal(got, "?");
    free(in);
}

static void test_what_replies_hold(void **state)
{
    (void)state;
    struct resp_reader r;
    struct resp_reply reply;
    static const char in[] = "*3\r\n$3\r\na\0b\r\n:-7\r\n*1\r\n$-1\r\n-WRONGTYPE no\r\n";
    size_t room;
    resp_init(&r, host(), 1024);
    memcpy(resp_space(&r, &room), in, sizeof(in) - 1);
    resp_filled(&r, sizeof(in) - 1);
    assert_int_equal(resp_next(&r, &reply), RESP_REPLY);
    assert_int_equal(reply.type, RESP_ARRAY);
    assert_int_equal(reply.number, 3);
    const char *p = reply.raw.ptr;
    const char *end = p + reply.raw.len;
    struct resp_reply e;
    assert_true(resp_element(&p, end, &e) && e.type == RESP_ARRAY && e.number == 3);
    assert_true(resp_element(&p, end, &e) && e.type == RESP_STRING && e.text.len == 3);
    assert_memory_equal(e.text.ptr, "a\0b", 3);
    assert_true(resp_element(&p, end, &e) && e.type == RESP_INTEGER && e.number == -7);
    assert_true(resp_element(&p, end, &e) && e.type == RESP_ARRAY && e.number == 1);
    assert_true(resp_element(&p, end, &e) && e.type == RESP_NIL);
    assert_false(resp_element(&p, end, &e));
    assert_true(resp_pending(&r));
    assert_int_equal(resp_next(&r, &reply), RESP_REPLY);
    assert_int_equal(reply.type, RESP_ERROR);
    assert_memory_equal(reply.text.ptr, "WRONGTYPE no", 12);
    assert_false(resp_pending(&r));
    resp_done(&r);
}

static void test_commands(void **state)
{
    (void)state;
    struct bytes b = {.h = host()};
    resp_put_head(&b, 12);
    resp_put_arg(&b, weir_cstr("SET"));
    resp_put_arg(&b, weir_str_n("a\0\r\n", 4));
    resp_put_arg(&b, weir_str_n(NULL, 0));
    static const char want[] = "*12\r\n$3\r\nSET\r\n$4\r\na\0\r\n\r\n$0\r\n\r\n";
    assert_int_equal(b.len, sizeof(want) - 1);
    assert_memory_equal(b.ptr, want, b.len);
    bytes_done(&b);
    assert_null(b.ptr);
}

static void test_noise(void **state)
{
    (void)state;
    char in[64];
    char got[256];
    srandom(1);
    for (int round = 0; round < 200000; round++) {
        size_t len = (size_t)random() % sizeof(in);
        for (size_t i = 0; i < len; i++)
            in[i] = "+-:$*0123456789\r\n\r\nab"[random() % 21];
        read_all(in, len, 1 + (size_t)random() % 20, 32, got);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_replies_in_any_pieces),
        cmocka_unit_test(test_large_replies_are_read_past),
        cmocka_unit_test(test_what_is_no_resp),
        cmocka_unit_test(test_nested_arrays_cannot_overflow_the_count),
        cmocka_unit_test(test_a_line_has_a_limit),
        cmocka_unit_test(test_what_replies_hold),
        cmocka_unit_test(test_commands),
        cmocka_unit_test(test_noise),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
