/* SPDX-License-Identifier: Apache-2.0
 *
 * One file of the sink `file` by a clock of the test's own: when it is rotated, what it is called
 * then, which ones are deleted, and what is left alone.
 */
#include <engine/host.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "../../../plugins/file/target.c"

#include <setjmp.h>
#include <cmocka.h>

#define HOUR (3600 * WEIR_NS_PER_S)
#define DAY0 (INT64_C(20454) * 24 * HOUR) /* 2026-01-01T00:00:00Z */

/* Packed files are the flow tests' part. */
struct unzip *unzip_new(const struct weir_host *h, int fd)
{
    (void)h;
    (void)fd;
    return NULL;
}

void unzip_free(struct unzip *take_u)
{
    (void)take_u;
}

ssize_t unzip_read(void *arg, char *ptr, size_t len)
{
    (void)arg;
    (void)ptr;
    (void)len;
    return -1;
}

int64_t unzip_good(const struct unzip *u)
{
    (void)u;
    return 0;
}

bool unzip_begun(const struct unzip *u)
{
    (void)u;
    return false;
}

static int64_t now_wall;
static unsigned n_logs;

static int64_t wall(const struct weir_host *h)
{
    (void)h;
    return now_wall;
}

static void count_log(const struct weir_host *h, enum weir_log_level level, const char *message,
                      const struct weir_kv *kv, uint32_t n_kv)
{
    (void)h;
    (void)level;
    (void)message;
    (void)kv;
    (void)n_kv;
    n_logs++;
}

static struct weir_host host;
static char folder[64];
static char was[256]; /* the folder to go back to */

static int set_up_folder(void **state)
{
    (void)state;
    host = *wr_host_control();
    host.wall = wall;
    host.log = count_log;
    n_logs = 0;
    (void)snprintf(folder, sizeof(folder), "/tmp/weir-target-XXXXXX");
    assert_non_null(mkdtemp(folder));
    assert_non_null(getcwd(was, sizeof(was)));
    return chdir(folder);
}

static int remove_one(const char *path, const struct stat *st, int what, struct FTW *at)
{
    (void)st;
    (void)what;
    (void)at;
    return remove(path);
}

static int tear_down_folder(void **state)
{
    (void)state;
    assert_int_equal(chdir(was), 0);
    return nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

/* An event as the sink writes it. */
static void put(struct target *t, const char *line)
{
    struct weir_error err = {0};
    size_t len = strlen(line);
    if (target_ready(t, len, &err) != WEIR_OK)
        fail_msg("%s", err.text);
    assert_int_equal(write(t->fd, line, len), len);
    t->size += (int64_t)len;
}

static void holds(const char *path, const char *want)
{
    char got[1000] = "";
    FILE *f = fopen(path, "r");
    if (f == NULL)
        fail_msg("%s is not there", path);
    got[fread(got, 1, sizeof(got) - 1, f)] = '\0';
    assert_int_equal(fclose(f), 0);
    assert_string_equal(got, want);
}

static unsigned count_files(void)
{
    glob_t found = {0};
    (void)glob("*", GLOB_PERIOD, NULL, &found);
    unsigned n = (unsigned)found.gl_pathc - 2;
    globfree(&found);
    return n;
}

static void test_hours(void **state)
{
    (void)state;
    const struct target_options opt = {.permissions = 0600, .rotate_ns = HOUR};
    struct target *t = target_new(&host, &opt, "a.x.y");
    struct weir_error err = {0};
    now_wall = DAY0 + HOUR - 1;
    assert_int_equal(target_open(t, false, &err), WEIR_OK);
    now_wall = DAY0 + HOUR + 60 * WEIR_NS_PER_S;
    put(t, "1\n"); /* the first event's hour counts, not that of the start */
    target_tick(t);
    assert_int_equal(count_files(), 1);
    now_wall = DAY0 + 2 * HOUR - 1;
    put(t, "2\n");
    target_tick(t);
    assert_int_equal(count_files(), 1);
    now_wall = DAY0 + 2 * HOUR;
    put(t, "3\n");
    holds("a.20260101T020000Z.x.y", "1\n2\n");
    holds("a.x.y", "3\n");
    now_wall = DAY0 + 3 * HOUR + 1;
    target_tick(t); /* nothing comes */
    target_tick(t);
    holds("a.20260101T030000Z.x.y", "3\n");
    assert_int_equal(count_files(), 2);
    now_wall = DAY0 + 5 * HOUR;
    put(t, "4\n");
    now_wall = DAY0 + 3 * HOUR + 2; /* the clock is set back: another hour, and no name twice */
    put(t, "5\n");
    holds("a.20260101T030000Z.1.x.y", "4\n");
    holds("a.20260101T030000Z.x.y", "3\n");
    holds("a.x.y", "5\n");
    target_free(t);
}

static void test_a_file_of_an_earlier_run(void **state)
{
    (void)state;
    const struct target_options opt = {.permissions = 0600, .rotate_ns = HOUR};
    struct timespec times[2] = {{.tv_sec = (DAY0 + HOUR) / WEIR_NS_PER_S}};
    times[1] = times[0];
    FILE *f = fopen("a.x", "w");
    assert_true(fputs("old\nhal", f) >= 0);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(utimensat(AT_FDCWD, "a.x", times, 0), 0);
    struct target *t = target_new(&host, &opt, "a.x");
    struct weir_error err = {0};
    now_wall = DAY0 + HOUR + 1;
    assert_int_equal(target_open(t, false, &err), WEIR_OK);
    assert_true(t->torn);
    target_tick(t);
    assert_int_equal(count_files(), 1); /* it goes on */
    now_wall = DAY0 + 2 * HOUR;
    target_tick(t);
    holds("a.20260101T020000Z.x", "old\nhal");
    assert_int_equal(count_files(), 1);
    target_free(t);
}

static void test_sizes(void **state)
{
    (void)state;
    const struct target_options opt = {.permissions = 0600, .rotate_bytes = 10};
    struct target *t = target_new(&host, &opt, ".h[*]");
    now_wall = DAY0;
    put(t, "1234\n");
    put(t, "5678\n"); /* it fits */
    assert_int_equal(count_files(), 1);
    put(t, "9\n");
    put(t, "more than ten in one\n"); /* never split */
    put(t, "a\n");
    holds(".h[*].20260101T000000Z", "1234\n5678\n");
    holds(".h[*].20260101T000000Z.1", "9\n");
    holds(".h[*].20260101T000000Z.2", "more than ten in one\n");
    holds(".h[*]", "a\n");
    target_free(t);
}

static void test_keep(void **state)
{
    (void)state;
    const struct target_options opt = {.permissions = 0600, .rotate_bytes = 1, .keep = 3};
    struct target *t = target_new(&host, &opt, "b[1].x");
    FILE *f = fopen("b1.20200101T000000Z.x", "w"); /* what the name would mean as a pattern */
    assert_int_equal(fclose(f), 0);
    assert_int_equal(mkdir("b[1].20200101T000000Z.x", 0700), 0); /* cannot be deleted: it is told */
    now_wall = DAY0;
    for (int i = 0; i < 13; i++) {
        char line[16];
        (void)snprintf(line, sizeof(line), "%d\n", i);
        put(t, line);
    }
    holds("b[1].x", "12\n");
    holds("b[1].20260101T000000Z.11.x", "11\n"); /* the newest by number, not by letters */
    holds("b[1].20260101T000000Z.10.x", "10\n");
    holds("b[1].20260101T000000Z.9.x", "9\n");
    assert_int_equal(count_files(), 6);
    assert_true(n_logs > 0);
    target_free(t);
}

/* A file that somebody put in the place of ours is none of ours. */
static void test_moved(void **state)
{
    (void)state;
    const struct target_options opt = {.permissions = 0600, .rotate_ns = HOUR};
    struct target *t = target_new(&host, &opt, "a.x");
    now_wall = DAY0;
    put(t, "1\n");
    assert_int_equal(rename("a.x", "a.x.1"), 0);
    FILE *f = fopen("a.x", "w");
    assert_true(fputs("theirs\n", f) >= 0);
    assert_int_equal(fclose(f), 0);
    now_wall = DAY0 + HOUR;
    target_tick(t);
    holds("a.x", "theirs\n");
    assert_int_equal(count_files(), 2);
    assert_int_equal(unlink("a.x"), 0);
    put(t, "2\n");
    holds("a.x.1", "1\n");
    holds("a.x", "2\n");
    target_free(t);
}

static void test_part(void **state)
{
    (void)state;
    const struct target_options opt = {.permissions = 0600, .part = true, .rotate_bytes = 4};
    FILE *f = fopen("a.x.part", "w");
    assert_true(fputs("1\nhalf", f) >= 0);
    assert_int_equal(fclose(f), 0);
    struct target *t = target_new(&host, &opt, "a.x");
    now_wall = DAY0;
    put(t, "2\n"); /* half a line of a killed run is cut off */
    holds("a.x.part", "1\n2\n");
    put(t, "3\n");
    holds("a.20260101T000000Z.x", "1\n2\n");
    target_finish(t);
    holds("a.x", "3\n");
    put(t, "4\n");
    target_finish(t);
    holds("a.20260101T000000Z.1.x", "4\n");
    holds("a.x", "3\n");
    assert_int_equal(count_files(), 3);
    target_free(t);
    f = fopen("b.x.part", "w");
    for (int i = 0; i < 5000; i++)
        assert_true(fputc('x', f) != EOF);
    assert_int_equal(fclose(f), 0);
    t = target_new(&host, &opt, "b.x"); /* nothing but half a line */
    put(t, "5\n");
    target_finish(t);
    holds("b.x", "5\n");
    target_free(t);
}

static void test_an_entry_that_is_not_durable(void **state)
{
    (void)state;
    struct rlimit before, few;
    assert_int_equal(sync_entry(&host, "x"), 0);
    assert_int_equal(sync_entry(&host, "nowhere/x"), ENOENT);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    few = before;
    few.rlim_cur = 3;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    int error = sync_entry(&host, "x");
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(error, EMFILE);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up_folder, tear_down_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_hours),
        TEST(test_a_file_of_an_earlier_run),
        TEST(test_sizes),
        TEST(test_keep),
        TEST(test_moved),
        TEST(test_part),
        TEST(test_an_entry_that_is_not_durable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
