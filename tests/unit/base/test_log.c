/* SPDX-License-Identifier: Apache-2.0
 *
 * The log: both formats, what is escaped, what is cut, repeats, threads. The clock is turned by
 * hand; lines go into a pipe.
 */
#include <base/log.h>
#include <base/check.h>
#include <base/mem.h>
#include <fcntl.h>
#include <pty.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

/* 2024-02-29T23:59:58.007Z */
#define WALL (INT64_C(1709251198007) * WEIR_NS_PER_MS)
#define HEAD_JSON "{\"ts\":\"2024-02-29T23:59:58.007Z\",\"level\":\"info\",\"msg\":"
#define HEAD_LOGFMT "ts=2024-02-29T23:59:58.007Z level=info msg="

struct fixture {
    struct wr_clock clock;
    int64_t now;
    int out[2];
    struct wr_log *log;
    char text[1 << 20];
};

static int64_t fake_now(struct wr_clock *c)
{
    return __atomic_load_n(&((struct fixture *)(void *)c)->now, __ATOMIC_RELAXED);
}

static int64_t fake_wall(struct wr_clock *c)
{
    (void)c;
    return WALL;
}

static struct fixture *open_log(enum wr_log_format format, enum weir_log_level level)
{
    struct fixture *f = calloc(1, sizeof(*f));
    assert_non_null(f);
    f->clock.now = fake_now;
    f->clock.wall = fake_wall;
    f->now = 1000 * WEIR_NS_PER_S;
    assert_int_equal(pipe2(f->out, O_CLOEXEC), 0);
    fcntl(f->out[0], F_SETFL, O_NONBLOCK);
    fcntl(f->out[1], F_SETPIPE_SZ, 1 << 20);
    f->log = wr_log_new(f->out[1], format, level, &f->clock);
    return f;
}

/* What was written since the last call. */
static const char *read_out(struct fixture *f)
{
    size_t len = 0;
    for (;;) {
        ssize_t n = read(f->out[0], f->text + len, sizeof(f->text) - 1 - len);
        if (n <= 0)
            break;
        len += (size_t)n;
    }
    f->text[len] = '\0';
    return f->text;
}

static void close_log(struct fixture *f)
{
    wr_log_free(f->log);
    close(f->out[0]);
    close(f->out[1]);
    free(f);
}

static uint32_t count_lines(const char *text)
{
    uint32_t n = 0;
    for (; *text != '\0'; text++)
        n += *text == '\n';
    return n;
}

static void json_line(void **state)
{
    (void)state;
    struct fixture *f = open_log(WR_LOG_JSON, WEIR_LOG_INFO);
    const struct weir_kv fields[] = {weir_kv_text("pipeline", "p"), weir_kv_i64("lane", 3)};
    struct wr_log_scope *scope = wr_log_scope_new(f->log, fields, 2);
    WR_LOG(scope, WEIR_LOG_INFO, "it works", weir_kv_text("path", "a b"),
           weir_kv_i64("i", INT64_MIN), weir_kv_u64("u", UINT64_MAX), weir_kv_f64("f", 0.1),
           weir_kv_bool("yes", true), weir_kv_bool("no", false),
           weir_kv_str("none", weir_str_n(NULL, 0)));
    assert_string_equal(read_out(f),
                        HEAD_JSON "\"it works\",\"pipeline\":\"p\",\"lane\":3,\"path\":\"a b\","
                                  "\"i\":-9223372036854775808,\"u\":18446744073709551615,\"f\":0.1,"
                                  "\"yes\":true,\"no\":false,\"none\":\"\"}\n");
    WR_LOG(scope, WEIR_LOG_INFO, "no fields");
    assert_string_equal(read_out(f), HEAD_JSON "\"no fields\",\"pipeline\":\"p\",\"lane\":3}\n");
    wr_log_scope_free(scope);
    close_log(f);
}

static void logfmt_line(void **state)
{
    (void)state;
    struct fixture *f = open_log(WR_LOG_LOGFMT, WEIR_LOG_INFO);
    const struct weir_kv fields[] = {weir_kv_text("pipeline", "p")};
    struct wr_log_scope *scope = wr_log_scope_new(f->log, fields, 1);
    WR_LOG(scope, WEIR_LOG_INFO, "it works", weir_kv_text("bare", "a/b-c.d:1"),
           weir_kv_text("eq", "a=b"), weir_kv_text("empty", ""), weir_kv_text("umlaut", "\xc3\xa4"),
           weir_kv_i64("n", -1));
    assert_string_equal(read_out(f),
                        HEAD_LOGFMT "\"it works\" pipeline=p bare=a/b-c.d:1 eq=\"a=b\" "
                                    "empty=\"\" umlaut=\"\xc3\xa4\" n=-1\n");
    wr_log_scope_free(scope);
    close_log(f);
}

static void auto_is_json_in_a_pipe(void **state)
{
    (void)state;
    struct fixture *f = open_log(WR_LOG_AUTO, WEIR_LOG_INFO);
    struct wr_log_scope *scope = wr_log_scope_new(f->log, NULL, 0);
    WR_LOG(scope, WEIR_LOG_INFO, "m");
    assert_string_equal(read_out(f), HEAD_JSON "\"m\"}\n");
    wr_log_scope_free(scope);
    close_log(f);
}

/* One line on a terminal. */
static void terminal_line(const char *no_color, char *ret, size_t size)
{
    int master, slave;
    assert_int_equal(openpty(&master, &slave, NULL, NULL, NULL), 0);
    if (no_color != NULL)
        setenv("NO_COLOR", no_color, 1);
    else
        unsetenv("NO_COLOR");
    setenv("TERM", "xterm", 1);
    struct fixture clock = {.clock = {.now = fake_now, .wall = fake_wall}};
    struct wr_log *log = wr_log_new(slave, WR_LOG_AUTO, WEIR_LOG_INFO, &clock.clock);
    struct wr_log_scope *scope = wr_log_scope_new(log, NULL, 0);
    WR_LOG(scope, WEIR_LOG_ERROR, "m", weir_kv_text("k", "v"));
    ssize_t n = read(master, ret, size - 1);
    assert_true(n > 0);
    ret[n] = '\0';
    wr_log_scope_free(scope);
    wr_log_free(log);
    close(master);
    close(slave);
}

static void color_on_a_terminal_only(void **state)
{
    (void)state;
    static char line[4096];
    terminal_line(NULL, line, sizeof(line));
    assert_string_equal(line,
                        "ts=2024-02-29T23:59:58.007Z level=\033[31merror\033[0m msg=m k=v\r\n");
    terminal_line("1", line, sizeof(line));
    assert_string_equal(line, "ts=2024-02-29T23:59:58.007Z level=error msg=m k=v\r\n");
    terminal_line("", line, sizeof(line));
    assert_non_null(strstr(line, "\033[31m"));
}

static void hostile_values(void **state)
{
    (void)state;
    static const struct {
        const char *in;
        size_t len;
        const char *out;
    } cases[] = {
        {"a\nlevel=error", 13, "\"a\\nlevel=error\""},
        {"\"}\\", 3, "\"\\\"}\\\\\""},
        {"\x1b[2J", 4, "\"\\u001b[2J\""},
        {"a\0b", 3, "\"a\\u0000b\""},
        {"\x7f\xc2\x85", 3, "\"\\u007f\\u0085\""},
        {"\xff\xc3(", 3, "\"\xef\xbf\xbd\xef\xbf\xbd(\""},
        {"\xe2\x80\xaeoib", 6, "\"\\u202eoib\""},
        {"\xe2\x80\xa8", 3, "\"\\u2028\""},
        {"\xed\xa0\x80", 3, "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""}, /* half a pair */
        {"\xf0\x9f\x98\x80", 4, "\"\xf0\x9f\x98\x80\""},
        {"\xf0\x9f", 2, "\"\xef\xbf\xbd\xef\xbf\xbd\""},
        {"\t\r", 2, "\"\\t\\r\""},
    };
    for (size_t i = 0; i < WR_COUNT(cases); i++) {
        char expected[256];
        struct fixture *f = open_log(i % 2 == 0 ? WR_LOG_JSON : WR_LOG_LOGFMT, WEIR_LOG_INFO);
        struct wr_log_scope *scope = wr_log_scope_new(f->log, NULL, 0);
        WR_LOG(scope, WEIR_LOG_INFO, "m", weir_kv_str("k", weir_str_n(cases[i].in, cases[i].len)));
        snprintf(expected, sizeof(expected), i % 2 == 0 ? "%s\"m\",\"k\":%s}\n" : "%sm k=%s\n",
                 i % 2 == 0 ? HEAD_JSON : HEAD_LOGFMT, cases[i].out);
        assert_string_equal(read_out(f), expected);
        wr_log_scope_free(scope);
        close_log(f);
    }
}

static void hostile_keys(void **state)
{
    (void)state;
    struct fixture *f = open_log(WR_LOG_LOGFMT, WEIR_LOG_INFO);
    const struct weir_kv field = weir_kv_text("pipeline", "p");
    struct wr_log_scope *scope = wr_log_scope_new(f->log, &field, 1);
    WR_LOG(scope, WEIR_LOG_INFO, "m", weir_kv_i64("a b=\n", 1), weir_kv_i64("", 2),
           weir_kv_i64("msg", 3), weir_kv_i64("pipeline", 4));
    assert_string_equal(read_out(f), HEAD_LOGFMT "m pipeline=p a_b__=1 _=2 msg_=3 pipeline_=4\n");
    wr_log_scope_free(scope);
    close_log(f);
}

static void secrets_are_starred(void **state)
{
    (void)state;
    static const struct wr_secret inner = {{"s3cr3t", 6}, NULL};
    static const struct wr_secret secrets = {{"user:s3cr3t\"", 12}, &inner};
    for (int json = 0; json < 2; json++) {
        struct fixture *f = open_log(json != 0 ? WR_LOG_JSON : WR_LOG_LOGFMT, WEIR_LOG_INFO);
        const struct weir_kv fields[] = {weir_kv_text("component", "s3cr3t")};
        struct wr_log_scope *scope = wr_log_scope_new(f->log, fields, 1);
        wr_log_scope_hide(scope, &secrets);
        WR_LOG(scope, WEIR_LOG_INFO, "a s3cr3t in it", weir_kv_text("bare", "xs3cr3ty"),
               weir_kv_text("quoted", "a user:s3cr3t\" b"), weir_kv_text("cut", "a s3cr"),
               weir_kv_text("short", "s3c"));
        assert_string_equal(
            read_out(f), json != 0
                             ? HEAD_JSON "\"a *** in it\",\"component\":\"s3cr3t\",\"bare\":\"x***y\","
                                         "\"quoted\":\"a *** b\",\"cut\":\"a ***\",\"short\":\"s3c\"}\n"
                             : HEAD_LOGFMT "\"a *** in it\" component=s3cr3t bare=x***y "
                                           "quoted=\"a *** b\" cut=\"a ***\" short=s3c\n");
        wr_log_scope_free(scope);
        close_log(f);
    }
}

static void odd_numbers(void **state)
{
    (void)state;
    struct fixture *f = open_log(WR_LOG_JSON, WEIR_LOG_INFO);
    struct wr_log_scope *scope = wr_log_scope_new(f->log, NULL, 0);
    WR_LOG(scope, WEIR_LOG_INFO, "m", weir_kv_f64("nan", __builtin_nan("")),
           weir_kv_f64("inf", -__builtin_inf()), weir_kv_f64("third", 1.0 / 3));
    assert_string_equal(read_out(f), HEAD_JSON
                        "\"m\",\"nan\":\"NaN\",\"inf\":\"-Inf\",\"third\":0.33333333333333331}\n");
    wr_log_scope_free(scope);
    close_log(f);
}

static void long_values_are_cut(void **state)
{
    (void)state;
    static char big[100000];
    memset(big, 'x', sizeof(big));
    struct fixture *f = open_log(WR_LOG_JSON, WEIR_LOG_INFO);
    struct wr_log_scope *scope = wr_log_scope_new(f->log, NULL, 0);
    WR_LOG(scope, WEIR_LOG_INFO, "m", weir_kv_str("k", weir_str_n(big, sizeof(big))),
           weir_kv_i64("after", 1));
    const char *line = read_out(f);
    assert_non_null(strstr(line, "x... (95904 bytes more)\",\"after\":1}\n"));
    assert_true(strlen(line) < 4500);
    memset(big, 1, sizeof(big)); /* six bytes each */
    WR_LOG(scope, WEIR_LOG_INFO, "m", weir_kv_str("k", weir_str_n(big, sizeof(big))));
    line = read_out(f);
    assert_non_null(strstr(line, "\\u0001... ("));
    assert_true(strlen(line) < 4500);
    wr_log_scope_free(scope);
    close_log(f);
}

static void full_lines_stay_well_formed(void **state)
{
    (void)state;
    static char big[4000];
    memset(big, 'y', sizeof(big));
    for (enum wr_log_format format = WR_LOG_LOGFMT; format <= WR_LOG_JSON; format++) {
        struct fixture *f = open_log(format, WEIR_LOG_INFO);
        struct wr_log_scope *scope = wr_log_scope_new(f->log, NULL, 0);
        struct weir_kv kv[6];
        for (size_t i = 0; i < WR_COUNT(kv); i++)
            kv[i] = weir_kv_str("k", weir_str_n(big, sizeof(big)));
        wr_log_write(scope, WEIR_LOG_INFO, "m", kv, WR_COUNT(kv));
        const char *line = read_out(f);
        const char *end =
            format == WR_LOG_JSON ? "y\",\"truncated\":true}\n" : "y truncated=true\n";
        assert_true(strlen(line) < 16384 && strlen(line) > 16000 - 4000);
        assert_string_equal(line + strlen(line) - strlen(end), end);
        assert_int_equal(count_lines(line), 1);
        wr_log_scope_free(scope);
        close_log(f);
    }
}

static void levels(void **state)
{
    (void)state;
    struct fixture *f = open_log(WR_LOG_JSON, WEIR_LOG_WARN);
    struct wr_log_scope *scope = wr_log_scope_new(f->log, NULL, 0);
    assert_true(wr_log_enabled(scope, WEIR_LOG_ERROR));
    assert_true(wr_log_enabled(scope, WEIR_LOG_WARN));
    assert_false(wr_log_enabled(scope, WEIR_LOG_INFO));
    assert_false(wr_log_enabled(scope, (enum weir_log_level)77));
    WR_LOG(scope, WEIR_LOG_INFO, "not this");
    WR_LOG(scope, WEIR_LOG_ERROR, "this");
    assert_non_null(strstr(read_out(f), "\"level\":\"error\",\"msg\":\"this\"}"));
    assert_int_equal(count_lines(f->text), 1);
    wr_log_scope_free(scope);
    close_log(f);
}

static void no_log_swallows(void **state)
{
    (void)state;
    const struct weir_kv field = weir_kv_text("a", "b");
    struct wr_log_scope *scope = wr_log_scope_new(NULL, &field, 1);
    assert_false(wr_log_enabled(scope, WEIR_LOG_ERROR));
    WR_LOG(scope, WEIR_LOG_ERROR, "nobody hears");
    wr_log_scope_free(scope);
    wr_log_scope_free(NULL);
    wr_log_write(NULL, WEIR_LOG_ERROR, "nobody", NULL, 0);
    wr_log_free(NULL);
}

static void repeats_are_counted(void **state)
{
    (void)state;
    struct fixture *f = open_log(WR_LOG_JSON, WEIR_LOG_INFO);
    const struct weir_kv field = weir_kv_text("component", "c");
    struct wr_log_scope *scope = wr_log_scope_new(f->log, &field, 1);
    struct wr_log_scope *other = wr_log_scope_new(f->log, NULL, 0);
    for (int i = 0; i < 1000; i++)
        WR_LOG(scope, WEIR_LOG_WARN, "again", weir_kv_i64("i", i));
    assert_int_equal(count_lines(read_out(f)), 5);
    assert_non_null(strstr(f->text, "\"i\":4}"));
    WR_LOG(other, WEIR_LOG_INFO, "again");
    WR_LOG(scope, WEIR_LOG_INFO, "another");
    assert_int_equal(count_lines(read_out(f)), 2); /* scopes and messages count by themselves */
    f->now += 10 * WEIR_NS_PER_S - 1;
    WR_LOG(other, WEIR_LOG_INFO, "later");
    assert_int_equal(count_lines(read_out(f)), 1);
    f->now += 1;
    WR_LOG(scope, WEIR_LOG_WARN, "again", weir_kv_i64("i", 1000));
    assert_string_equal(read_out(f),
                        "{\"ts\":\"2024-02-29T23:59:58.007Z\",\"level\":\"warn\",\"msg\":\"again\","
                        "\"component\":\"c\",\"suppressed\":995}\n"
                        "{\"ts\":\"2024-02-29T23:59:58.007Z\",\"level\":\"warn\",\"msg\":\"again\","
                        "\"component\":\"c\",\"i\":1000}\n");
    wr_log_scope_free(scope);
    wr_log_scope_free(other);
    assert_string_equal(read_out(f), "");
    close_log(f);
}

static void summaries_come_without_a_repeat(void **state)
{
    (void)state;
    struct fixture *f = open_log(WR_LOG_LOGFMT, WEIR_LOG_INFO);
    struct wr_log_scope *scope = wr_log_scope_new(f->log, NULL, 0);
    for (int i = 0; i < 8; i++)
        WR_LOG(scope, WEIR_LOG_INFO, "m");
    read_out(f);
    wr_log_flush(f->log);
    assert_string_equal(read_out(f), "");
    f->now += 10 * WEIR_NS_PER_S;
    wr_log_flush(f->log);
    assert_string_equal(read_out(f), HEAD_LOGFMT "m suppressed=3\n");
    wr_log_flush(f->log);
    assert_string_equal(read_out(f), "");
    for (int i = 0; i < 6; i++)
        WR_LOG(scope, WEIR_LOG_INFO, "m");
    read_out(f);
    wr_log_scope_free(scope); /* the end of a scope says the rest */
    assert_string_equal(read_out(f), HEAD_LOGFMT "m suppressed=1\n");
    close_log(f);
}

/* More messages than slots: every line still passes or is summed up. */
static void many_messages(void **state)
{
    (void)state;
    struct fixture *f = open_log(WR_LOG_LOGFMT, WEIR_LOG_INFO);
    struct wr_log_scope *scope = wr_log_scope_new(f->log, NULL, 0);
    uint64_t lines = 0;
    for (int i = 0; i < 100; i++) {
        char message[32];
        snprintf(message, sizeof(message), "message-%d", i);
        f->now += 1;
        for (int k = 0; k < 7; k++)
            WR_LOG(scope, WEIR_LOG_INFO, message);
    }
    wr_log_scope_free(scope);
    const char *at = read_out(f);
    while (*at != '\0') {
        const char *end = strchr(at, '\n');
        assert_non_null(end);
        const char *suppressed = memmem(at, (size_t)(end - at), " suppressed=", 12);
        lines += suppressed != NULL ? strtoull(suppressed + 12, NULL, 10) : 1;
        at = end + 1;
    }
    assert_int_equal(lines, 700);
    close_log(f);
}

struct worker {
    struct fixture *f;
    struct wr_log_scope *scope;
    int id;
};

static void *write_lines(void *arg)
{
    struct worker *w = arg;
    const struct weir_kv field = weir_kv_i64("own", w->id);
    struct wr_log_scope *own = wr_log_scope_new(w->f->log, &field, 1);
    for (int i = 0; i < 2000; i++) {
        char message[32];
        snprintf(message, sizeof(message), "m%d", i % 40);
        WR_LOG(w->scope, WEIR_LOG_INFO, message, weir_kv_i64("worker", w->id));
        WR_LOG(own, WEIR_LOG_INFO, "mine", weir_kv_text("k", "a value"));
        __atomic_fetch_add(&w->f->now, WEIR_NS_PER_S / 20, __ATOMIC_RELAXED);
        if (i % 100 == 0)
            wr_log_flush(w->f->log);
    }
    wr_log_scope_free(own);
    return NULL;
}

/* A reader, so that the pipe never fills. */
static void *read_lines(void *arg)
{
    struct fixture *f = arg;
    FILE *in = fdopen(dup(f->out[0]), "r");
    fcntl(f->out[0], F_SETFL, 0);
    char line[4096];
    uint64_t *lines = calloc(1, sizeof(*lines));
    while (fgets(line, sizeof(line), in) != NULL && strncmp(line, "end", 3) != 0) {
        assert_memory_equal(line, HEAD_LOGFMT, strlen(HEAD_LOGFMT));
        const char *s = strstr(line, " suppressed=");
        *lines += s != NULL ? strtoull(s + 12, NULL, 10) : 1;
    }
    fclose(in);
    return lines;
}

static void threads_share_a_log(void **state)
{
    (void)state;
    struct fixture *f = open_log(WR_LOG_LOGFMT, WEIR_LOG_INFO);
    fcntl(f->out[0], F_SETFL, 0);
    struct wr_log_scope *scope = wr_log_scope_new(f->log, NULL, 0);
    pthread_t reader, threads[4];
    struct worker workers[4];
    assert_int_equal(pthread_create(&reader, NULL, read_lines, f), 0);
    for (int i = 0; i < 4; i++) {
        workers[i] = (struct worker){f, scope, i};
        assert_int_equal(pthread_create(&threads[i], NULL, write_lines, &workers[i]), 0);
    }
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    wr_log_scope_free(scope);
    assert_int_equal(write(f->out[1], "end\n", 4), 4);
    void *lines;
    pthread_join(reader, &lines);
    assert_int_equal(*(uint64_t *)lines, 4 * 2000 * 2); /* each was written or counted */
    free(lines);
    close_log(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(json_line),
        cmocka_unit_test(logfmt_line),
        cmocka_unit_test(auto_is_json_in_a_pipe),
        cmocka_unit_test(color_on_a_terminal_only),
        cmocka_unit_test(hostile_values),
        cmocka_unit_test(hostile_keys),
        cmocka_unit_test(secrets_are_starred),
        cmocka_unit_test(odd_numbers),
        cmocka_unit_test(long_values_are_cut),
        cmocka_unit_test(full_lines_stay_well_formed),
        cmocka_unit_test(levels),
        cmocka_unit_test(no_log_swallows),
        cmocka_unit_test(repeats_are_counted),
        cmocka_unit_test(summaries_come_without_a_repeat),
        cmocka_unit_test(many_messages),
        cmocka_unit_test(threads_share_a_log),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
