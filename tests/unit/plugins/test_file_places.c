/* SPDX-License-Identifier: Apache-2.0
 *
 * Which file is which, for the source file: inodes used again, heads that grow, copies of truncated
 * files, packed ones, and the state file from one run to the next.
 */
#include <engine/host.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "../../../plugins/file/places.c"
#include "../../../plugins/file/state.c"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static uint64_t chance(const struct weir_host *h)
{
    static uint64_t last = 100;
    (void)h;
    return ++last;
}

static void no_log(const struct weir_host *h, enum weir_log_level level, const char *message,
                   const struct weir_kv *kv, uint32_t n_kv)
{
    (void)h;
    (void)level;
    (void)message;
    (void)kv;
    (void)n_kv;
}

static struct weir_host host;

static struct places *begin(const char *state)
{
    struct weir_error err = {0};
    host = *wr_host_control();
    host.random = chance;
    host.log = no_log;
    struct places *p = places_open(&host, weir_cstr(state), &err);
    if (p == NULL)
        fail_msg("%s", err.text);
    return p;
}

static struct looks look(uint64_t ino, int64_t born_ns, const char *head, int64_t size)
{
    struct looks l = {.dev = 1, .ino = ino, .born_ns = born_ns, .size = size};
    l.head_len = (uint32_t)strlen(head);
    memcpy(l.head, head, l.head_len);
    return l;
}

static char other_tail, tail_later;

static enum tail tail_is(void *arg, const struct place *at)
{
    (void)at;
    return arg == &other_tail ? TAIL_OTHER : arg == &tail_later ? TAIL_LATER : TAIL_SAME;
}

#define LONG "a head that is long enough to tell one file from another: 64 bytes.."

/* As a scan that began at scan_ns does. */
static enum take find(struct places *p, const struct looks *looks, int64_t scan_ns, bool wait,
                      void *tail, struct place **ret)
{
    struct find f = {.path = "x",
                     .looks = looks,
                     .scan_ns = scan_ns,
                     .wait = wait,
                     .tail = tail_is,
                     .arg = tail};
    *ret = NULL;
    return places_take(p, &host, &f, ret);
}

static void test_inodes(void **state)
{
    (void)state;
    struct places *p = begin("");
    struct place *a, *b;
    struct looks l = look(7, 50, "", 0);
    assert_int_equal(find(p, &l, 1, false, NULL, &a), TAKE_NEW);
    assert_int_equal(find(p, &l, 2, false, NULL, &b), TAKE_BUSY);
    l = look(7, 50, LONG, 100); /* the head has grown */
    assert_true(places_same(p, a, &l));
    places_commit(p, a, 80);
    places_commit(p, a, 60); /* never back */
    places_release(p, a);
    assert_int_equal(find(p, &l, 3, false, NULL, &b), TAKE_KNOWN);
    assert_ptr_equal(a, b);
    assert_int_equal(b->offset, 80);
    places_release(p, b);
    l = look(7, 51, LONG, 100); /* that inode again, for another file */
    assert_int_equal(find(p, &l, 4, false, NULL, &b), TAKE_NEW);
    assert_ptr_not_equal(a, b);
    assert_true(a->tag != b->tag);
    assert_int_equal(b->offset, 0);
    places_release(p, b);
    l = look(7, 51, "another head", 100);
    assert_int_equal(find(p, &l, 5, false, NULL, &a), TAKE_NEW);
    places_commit(p, a, 90);
    places_release(p, a);
    l = look(7, 51, "another head", 89); /* shorter than what was read */
    assert_int_equal(find(p, &l, 6, false, NULL, &b), TAKE_NEW);
    places_release(p, b);
    l = look(7, 0, "another head", 89); /* a file system that knows no birth */
    assert_int_equal(find(p, &l, 7, false, NULL, &a), TAKE_KNOWN);
    places_done(p, a, 89);
    places_release(p, a);
    assert_int_equal(find(p, &l, 8, false, NULL, &a), TAKE_DONE);
    assert_false(places_found(p, &host, &l, 9));
    l.size = 95;
    assert_true(places_found(p, &host, &l, 9));
    places_close(p);
}

/* copytruncate: the copy waits for the truncation, then goes on where the original was. */
static void test_copies(void **state)
{
    (void)state;
    struct places *p = begin("");
    struct place *original, *copy, *again;
    struct looks a = look(1, 10, LONG, 500), b = look(2, 20, LONG, 500);
    int64_t now_ns = host.now(&host);
    assert_int_equal(find(p, &a, now_ns, false, NULL, &original), TAKE_NEW);
    places_commit(p, original, 400);
    assert_int_equal(find(p, &b, now_ns + 1, true, NULL, &copy), TAKE_LATER);
    places_tail(p, original, 400, (const unsigned char *)"tail", 4);
    assert_true(places_is_tail(original, (const unsigned char *)"tail", 4));
    assert_false(places_is_tail(original, (const unsigned char *)"tale", 4));
    places_gone(p, &host, original);
    assert_int_equal(find(p, &b, now_ns + 2, true, NULL, &copy), TAKE_LATER); /* not settled yet */
    places_release(p, original);
    assert_int_equal(find(p, &a, now_ns + 3, false, NULL, &again), TAKE_NEW); /* truncated */
    places_release(p, again);
    assert_int_equal(find(p, &b, host.now(&host) + COPY_NS + 1, false, NULL, &copy), TAKE_NEW);
    places_gone(p, &host, copy);
    places_release(p, copy);
    struct looks c = look(3, 30, LONG, 500);
    assert_int_equal(find(p, &c, host.now(&host), false, &other_tail, &copy), TAKE_NEW);
    places_release(p, copy);
    struct looks d = look(4, 40, LONG, 399); /* shorter than what was delivered */
    assert_int_equal(find(p, &d, host.now(&host), false, NULL, &copy), TAKE_NEW);
    places_release(p, copy);
    struct looks e = look(5, 50, LONG, 500);
    assert_int_equal(find(p, &e, host.now(&host), false, NULL, &copy), TAKE_KNOWN);
    assert_ptr_equal(copy, original);
    assert_int_equal(copy->offset, 400);
    places_release(p, copy);
    places_close(p);
}

static void test_packed(void **state)
{
    (void)state;
    struct places *p = begin("");
    struct place *plain, *packed;
    struct looks a = look(1, 10, LONG, 500), z = look(2, 20, LONG, 90);
    z.unpacked = true;
    assert_int_equal(find(p, &a, 10, false, NULL, &plain), TAKE_NEW);
    places_commit(p, plain, 400);
    places_tail(p, plain, 400, (const unsigned char *)"t", 1);
    assert_int_equal(find(p, &z, 11, true, NULL, &packed), TAKE_LATER);
    places_release(p, plain);
    assert_true(places_found(p, &host, &a, 12)); /* still there: two files */
    assert_int_equal(find(p, &z, 12, false, NULL, &packed), TAKE_NEW);
    places_release(p, packed);
    z.ino = 3; /* another one; the plain one is gone, but it ends otherwise */
    assert_int_equal(find(p, &z, 13, false, &other_tail, &packed), TAKE_NEW);
    places_release(p, packed);
    z.ino = 6; /* not all of it is written */
    assert_int_equal(find(p, &z, 13, true, &tail_later, &packed), TAKE_LATER);
    z.ino = 4;
    assert_int_equal(find(p, &z, 13, false, NULL, &packed), TAKE_KNOWN);
    assert_ptr_equal(packed, plain);
    places_release(p, packed);
    z.ino = 5; /* a packed one is never that of another packed one */
    assert_int_equal(find(p, &z, 14, false, NULL, &packed), TAKE_NEW);
    places_release(p, packed);
    places_close(p);
}

static void test_state(void **state)
{
    (void)state;
    char folder[] = "/tmp/weir-places-XXXXXX", path[64], name[80];
    assert_non_null(mkdtemp(folder));
    (void)snprintf(path, sizeof(path), "%s/state", folder);
    struct places *p = begin(path);
    struct weir_error err = {0};
    assert_null(places_open(&host, weir_cstr(path), &err)); /* it is locked */
    assert_string_equal(err.code, "state_locked");
    assert_int_equal(err.status, WEIR_E_RETRY);
    struct place *a, *b;
    struct looks l = look(UINT64_MAX, INT64_C(1) << 62, LONG, INT64_MAX);
    assert_int_equal(find(p, &l, 1, false, NULL, &a), TAKE_NEW);
    uint64_t tag = a->tag;
    places_commit(p, a, INT64_C(1) << 62);
    places_tail(p, a, INT64_C(1) << 62, (const unsigned char *)"t", 1);
    places_release(p, a);
    places_save(p, &host, true);
    places_close(p);
    p = begin(path);
    assert_int_equal(find(p, &l, 2, false, NULL, &b), TAKE_KNOWN);
    assert_true(b->tag == tag && b->offset == INT64_C(1) << 62 && b->born_ns == INT64_C(1) << 62);
    assert_true(places_is_tail(b, (const unsigned char *)"t", 1));
    places_release(p, b);
    b->seen_s = 1; /* long ago */
    p->changed = true;
    places_save(p, &host, true);
    assert_null(p->list);
    places_close(p);
    assert_int_equal(unlink(path), 0);
    (void)snprintf(name, sizeof(name), "%s.lock", path);
    assert_int_equal(unlink(name), 0);
    assert_int_equal(rmdir(folder), 0); /* nothing else was left */
}

static void test_held(void **state)
{
    (void)state;
    char folder[] = "/tmp/weir-places-XXXXXX", path[64], name[80];
    assert_non_null(mkdtemp(folder));
    (void)snprintf(path, sizeof(path), "%s/state", folder);
    struct place *a;
    struct looks l = look(1, 10, LONG, 500);
    for (int lanes_done = 0; lanes_done < 3; lanes_done++) {
        struct places *p = begin(path);
        assert_int_not_equal(access(path, F_OK), 0);
        assert_false(places_known(p));
        places_hold(p, 2);
        assert_int_equal(find(p, &l, 1, false, NULL, &a), TAKE_NEW);
        for (int i = 0; i < lanes_done; i++)
            places_scanned(p);
        places_release(p, a);
        places_save(p, &host, true);
        places_close(p);
    }
    struct places *p = begin(path);
    assert_true(places_known(p));
    places_hold(p, 2); /* of no effect then */
    assert_int_equal(find(p, &l, 1, false, NULL, &a), TAKE_KNOWN);
    places_commit(p, a, 7);
    places_release(p, a);
    places_save(p, &host, true);
    places_close(p);
    p = begin(path);
    assert_int_equal(p->list->offset, 7);
    places_close(p);
    assert_int_equal(unlink(path), 0);
    (void)snprintf(name, sizeof(name), "%s.lock", path);
    assert_int_equal(unlink(name), 0);
    assert_int_equal(rmdir(folder), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_inodes), cmocka_unit_test(test_copies),
                                       cmocka_unit_test(test_packed), cmocka_unit_test(test_state),
                                       cmocka_unit_test(test_held)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
