/* SPDX-License-Identifier: Apache-2.0
 *
 * Commands and replies of the plugin redis: commands are encoded exactly; hiredis finds replies
 * however the bytes are cut up; what is too large, too deep or no Redis is told so.
 */
#include <engine/host.h>
#include <stdlib.h>

#include "../../../plugins/redis/bytes.c"
#include "../../../plugins/redis/reply.c"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static const struct weir_host *host(void)
{
    return wr_host_control();
}

/* Receives a piece; false where there is no room. */
static bool receive(struct replies *r, const char *in, size_t len)
{
    size_t room;
    char *space = replies_space(r, &room);
    assert_non_null(space);
    if (room < len)
        return false;
    memcpy(space, in, len);
    replies_filled(r, len);
    return true;
}

/* Reads `in` in pieces of `step` bytes. Gives a letter a reply: its type, L and D where it is too
 * large or too deep; a final ? where the input is malformed. */
static void read_all(const char *in, size_t len, size_t step, size_t limit, char *out)
{
    struct replies r;
    struct reply reply;
    replies_init(&r, host(), limit, step % 2 == 0);
    for (size_t at = 0;;) {
        enum reply_result result = replies_next(&r, &reply);
        if (result == REPLY_READ) {
            *out++ = "+-:$n*LD"[reply.type];
            continue;
        }
        if (result == REPLY_MALFORMED)
            *out++ = '?';
        if (result == REPLY_MALFORMED || at == len)
            break;
        size_t n = len - at < step ? len - at : step;
        if (!receive(&r, in + at, n))
            break; /* it has ended: nothing more is taken */
        at += n;
    }
    *out = '\0';
    replies_done(&r);
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
#define ARRAYS7 "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n"

static void test_replies_in_any_pieces(void **state)
{
    (void)state;
    EXPECT("+OK\r\n:-42\r\n$-1\r\n$5\r\nab\0cd\r\n*-1\r\n*0\r\n", 1024, "+:n$n*");
    EXPECT("*2\r\n$1\r\na\r\n*2\r\n:1\r\n$0\r\n\r\n-ERR bad\r\n", 1024, "*-");
    EXPECT("*1\r\n*1\r\n*1\r\n*1\r\n*0\r\n+\r\n", 1024, "*+");
    EXPECT("$2\r\n\r\n\r\n+a\r\n", 1024, "$+");
    EXPECT(":9223372036854775807\r\n:-9223372036854775808\r\n", 1024, "::");
    EXPECT("+unfinished", 1024, "");
    EXPECT("*3\r\n:1\r\n:2\r\n", 1024, "");
}

static void test_too_large_and_too_deep(void **state)
{
    (void)state;
    char got[16];
    static const char large[] = "+OK\r\n$100\r\n" HUNDRED "\r\n+OK\r\n";
    for (size_t step = 1; step < 20; step++) {
        read_all(large, sizeof(large) - 1, step, 64, got);
        assert_string_equal(got, "+L");
    }
    static const char wide[] =
        "*50\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n";
    read_all(wide, sizeof(wide) - 1, 5, 32, got);
    assert_string_equal(got, "L");
    EXPECT("$20\r\n" TEN TEN "\r\n+OK\r\n", 64, "$+");
    EXPECT(ARRAYS7 ":1\r\n+OK\r\n", 1024, "*+");
    EXPECT("+OK\r\n" ARRAYS7 "*1\r\n:1\r\n+OK\r\n", 1024, "+D");
}

static void test_what_is_no_redis(void **state)
{
    (void)state;
    EXPECT("HTTP/1.1 400\r\n", 1024, "?");
    EXPECT("\r\n", 1024, "?");
    EXPECT("+OK\r\n$-2\r\n", 1024, "+?");
    EXPECT("$3\r\nabcde\r\n", 1024, "?");
    EXPECT("$99999999999999999999\r\n", 1024, "?");
    EXPECT("$\r\n", 1024, "?");
    EXPECT("$-\r\n", 1024, "?");
    EXPECT("$1x\r\n", 1024, "?");
    EXPECT("*9999999999999999999\r\n", 1024, "?");
    EXPECT(":9223372036854775808\r\n", 1024, "?");
    EXPECT("%1\r\n+a\r\n:1\r\n", 1024, "?");
    EXPECT("*2\r\n+a\r\n,1.5\r\n", 1024, "?");
    EXPECT("#t\r\n", 1024, "?");
}

static void test_a_line_has_a_limit(void **state)
{
    (void)state;
    char *in = malloc(200000);
    char got[16];
    memset(in, 'x', 200000);
    in[0] = '+';
    read_all(in, 200000, 1000, 1 << 20, got);
    assert_string_equal(got, "?");
    free(in);
}

static void test_what_replies_hold(void **state)
{
    (void)state;
    struct replies r;
    struct reply reply;
    static const char in[] = "*3\r\n$3\r\na\0b\r\n:-7\r\n*1\r\n$-1\r\n-WRONGTYPE no\r\n";
    replies_init(&r, host(), 1024, true);
    assert_true(receive(&r, in, sizeof(in) - 1));
    assert_int_equal(replies_next(&r, &reply), REPLY_READ);
    assert_int_equal(reply.type, REPLY_ARRAY);
    assert_int_equal(reply.number, 3);
    const char *p = reply.record.ptr;
    const char *end = p + reply.record.len;
    struct reply e;
    assert_true(record_next(&p, end, &e) && e.type == REPLY_ARRAY && e.number == 3);
    assert_true(record_next(&p, end, &e) && e.type == REPLY_STRING && e.text.len == 3);
    assert_memory_equal(e.text.ptr, "a\0b", 3);
    assert_true(record_next(&p, end, &e) && e.type == REPLY_INTEGER && e.number == -7);
    assert_true(record_next(&p, end, &e) && e.type == REPLY_ARRAY && e.number == 1);
    assert_true(record_next(&p, end, &e) && e.type == REPLY_NIL);
    assert_false(record_next(&p, end, &e));
    assert_true(replies_pending(&r));
    assert_int_equal(replies_next(&r, &reply), REPLY_READ);
    assert_int_equal(reply.type, REPLY_ERROR);
    assert_memory_equal(reply.text.ptr, "WRONGTYPE no", 12);
    assert_false(replies_pending(&r));
    replies_done(&r);
}

/* However many small replies come in one piece, each is found, and the buffers stay small. */
static void test_many_replies(void **state)
{
    (void)state;
    struct replies r;
    struct reply reply;
    size_t n = 0;
    replies_init(&r, host(), 1024, false);
    for (int i = 0; i < 100; i++) {
        size_t room;
        char *p = replies_space(&r, &room);
        size_t fill = room - room % 4;
        assert_true(fill > 60000);
        for (size_t at = 0; at < fill; at += 4)
            memcpy(p + at, ":1\r\n", 4);
        replies_filled(&r, fill);
        for (; replies_next(&r, &reply) == REPLY_READ; n++)
            assert_int_equal(reply.number, 1);
        assert_false(replies_pending(&r));
    }
    assert_int_equal(n, 100 * 16384);
    replies_done(&r);
}

static void test_commands(void **state)
{
    (void)state;
    struct bytes b = {.h = host()};
    bytes_put_head(&b, 12);
    bytes_put_arg(&b, weir_cstr("SET"));
    bytes_put_arg(&b, weir_str_n("a\0\r\n", 4));
    bytes_put_arg(&b, weir_str_n(NULL, 0));
    static const char want[] = "*12\r\n$3\r\nSET\r\n$4\r\na\0\r\n\r\n$0\r\n\r\n";
    assert_int_equal(b.len, sizeof(want) - 1);
    assert_memory_equal(b.ptr, want, b.len);
    bytes_done(&b);
    assert_null(b.ptr);
}

/* Our commands are those of hiredis's formatter. */
static void test_commands_are_those_of_hiredis(void **state)
{
    (void)state;
    srandom(5);
    for (int round = 0; round < 1000; round++) {
        const char *ptrs[8];
        size_t lens[8];
        struct weir_str args[8];
        char bytes[2000];
        char *want = NULL;
        size_t n = 1 + (size_t)random() % 8;
        for (size_t i = 0; i < sizeof(bytes); i++)
            bytes[i] = (char)random();
        for (size_t i = 0; i < n; i++) {
            lens[i] = (size_t)random() % (random() % 2 ? 12 : 1200);
            ptrs[i] = bytes + random() % 800;
            args[i] = weir_str_n(ptrs[i], lens[i]);
        }
        struct bytes b = {.h = host()};
        bytes_put_command(&b, n, args);
        long long len = redisFormatCommandArgv(&want, (int)n, ptrs, lens);
        assert_int_equal(b.len, len);
        assert_memory_equal(b.ptr, want, b.len);
        redisFreeCommand(want);
        bytes_done(&b);
    }
}

static void test_noise(void **state)
{
    (void)state;
    char in[64];
    char got[256];
    srandom(1);
    for (int round = 0; round < 100000; round++) {
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
        cmocka_unit_test(test_too_large_and_too_deep),
        cmocka_unit_test(test_what_is_no_redis),
        cmocka_unit_test(test_a_line_has_a_limit),
        cmocka_unit_test(test_what_replies_hold),
        cmocka_unit_test(test_many_replies),
        cmocka_unit_test(test_commands),
        cmocka_unit_test(test_commands_are_those_of_hiredis),
        cmocka_unit_test(test_noise),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
