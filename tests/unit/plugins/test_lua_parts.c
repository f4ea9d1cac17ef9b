/* SPDX-License-Identifier: Apache-2.0
 *
 * Parts of the plugin lua that need no Lua: hashes, places in texts, the cache that lanes share.
 */
#include <engine/host.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../../plugins/common/hash.h"
#include "../../../plugins/lua/cache.c"
#include "../../../plugins/lua/sha256.c"
#include "../../../plugins/lua/syntax.c"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

/* ---- SHA-256: the examples of FIPS 180-4 and its edges ---- */

static void digest_is(const char *text, size_t len, const char *want)
{
    uint8_t digest[32];
    char got[65];
    sha256(text, len, digest);
    for (size_t i = 0; i < 32; i++)
        snprintf(got + 2 * i, 3, "%02x", digest[i]);
    assert_string_equal(got, want);
}

static void test_sha256(void **state)
{
    (void)state;
    digest_is("", 0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    digest_is("abc", 3, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    digest_is("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56,
              "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    char *million = malloc(1000000);
    memset(million, 'a', 1000000);
    digest_is(million, 1000000, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    free(million);
}

/* ---- Places ---- */

static void test_places(void **state)
{
    (void)state;
    struct weir_str text = weir_cstr("a == 1\nb == == 2\n");
    assert_int_equal(syntax_offset(text, "x:2: unexpected symbol near '=='", 15), 12);
    assert_int_equal(syntax_offset(text, "x:2: unexpected symbol near <eof>", 17), 17);
    assert_int_equal(syntax_offset(text, "x:1: unexpected symbol near 'none'", 99), 17);
    assert_int_equal(syntax_offset(weir_str_n("", 0), "near 'x'", 0), 0);
    assert_int_equal(syntax_line_offset(text, 1), 0);
    assert_int_equal(syntax_line_offset(text, 2), 7);
    assert_int_equal(syntax_line_offset(text, 99), 17);
    unsigned line;
    assert_string_equal(syntax_strip("code:12: boom", "code", &line), "boom");
    assert_int_equal(line, 12);
    assert_string_equal(syntax_strip("code: boom", "code", &line), "code: boom");
    assert_string_equal(syntax_strip("other:1: boom", "code", &line), "other:1: boom");
    assert_int_equal(line, 0);
}

static void name_is(const char *text, const char *want)
{
    static const char *const names[] = {"event", "meta", "string", NULL};
    struct weir_str name = {NULL, 0};
    char got[64] = "";
    if (syntax_unknown_name(weir_cstr(text), names, &name))
        snprintf(got, sizeof(got), "%.*s", (int)name.len, name.ptr);
    assert_string_equal(got, want);
}

static void test_names(void **state)
{
    (void)state;
    name_is("event.type == 'x' and not meta.key", "");
    name_is("evnt.type", "evnt");
    name_is("event . a : b (event)", "");
    name_is("event.a .. x", "x");
    name_is("'x y' .. \"z \\\" w\" .. [[long x]] .. [==[ ]] x ]==] == event", "");
    name_is("event -- x y\n == 1 --[[ x\n y ]] and z", "z");
    name_is("{a = 1, [event.b] = event, c = d}", "d");
    name_is("{a == 1}", "a");
    name_is("0x1F + 1e5 + 3.14", "");
    name_is("(function(x) return x end)(y)", "");
    name_is("string.find(event.a, 'x') ~= nil or true", "");
    name_is("'unfinished", "");
    name_is("[[unfinished", "");
    name_is("event--", "");
}

/* ---- The cache ---- */

static struct cache *new_cache(int64_t bytes)
{
    struct cache *c = cache_new(wr_host_control(), bytes);
    assert_non_null(c);
    return c;
}

static bool set_int(struct cache *c, const char *key, int64_t n, int64_t until)
{
    const struct cache_value v = {.type = CACHE_INT, .u.num = n};
    return cache_set(c, weir_cstr(key), &v, until);
}

static int64_t get_int(struct cache *c, const char *key, int64_t when)
{
    struct cache_value v;
    return cache_get(c, weir_cstr(key), when, NULL, 0, &v) ? v.u.num : -1;
}

static void test_cache_times(void **state)
{
    (void)state;
    struct cache *c = new_cache(1 << 20);
    assert_true(set_int(c, "a", 1, 100));
    assert_true(set_int(c, "b", 2, WEIR_NEVER));
    assert_int_equal(get_int(c, "a", 99), 1);
    assert_int_equal(get_int(c, "a", 100), -1);
    assert_int_equal(get_int(c, "a", 99), -1); /* it has gone */
    assert_int_equal(get_int(c, "b", INT64_MAX - 1), 2);
    int64_t sum = 0;
    assert_true(cache_add(c, weir_cstr("n"), 5, 0, 50, &sum) && sum == 5);
    assert_true(cache_add(c, weir_cstr("n"), INT64_MAX, 49, 500, &sum));
    assert_int_equal(sum, INT64_MIN + 4); /* wraps as Lua's integers do */
    assert_true(cache_add(c, weir_cstr("n"), 7, 50, 500, &sum) && sum == 7);
    assert_true(cache_remove(c, weir_cstr("n")));
    assert_false(cache_remove(c, weir_cstr("n")));
    cache_free(c);
}

static void test_cache_bound(void **state)
{
    (void)state;
    struct cache *c = new_cache(100 * (ENTRY_COST + 6));
    char key[16];
    for (int i = 0; i < 1000; i++) {
        snprintf(key, sizeof(key), "k%05d", i);
        assert_true(set_int(c, key, i, WEIR_NEVER));
        assert_int_equal(get_int(c, "k00000", 0), 0); /* in use: it stays */
        assert_true(c->used <= c->max);
    }
    assert_int_equal(c->n_entries, 100);
    assert_int_equal(get_int(c, "k00001", 0), -1);
    assert_int_equal(get_int(c, "k00999", 0), 999);
    char large[20000];
    memset(large, 'x', sizeof(large));
    const struct cache_value v = {.type = CACHE_STRING, .text = {large, sizeof(large)}};
    assert_false(cache_set(c, weir_cstr("large"), &v, WEIR_NEVER));
    assert_int_equal(c->n_entries, 100);
    cache_free(c);
}

static void test_cache_copies_no_more_than_it_may(void **state)
{
    (void)state;
    struct cache *c = new_cache(1 << 20);
    struct weir_arena *a = wr_host_control()->arena_new(wr_host_control());
    const struct cache_value text = {.type = CACHE_STRING, .text = weir_cstr("12345")};
    struct cache_value v;
    assert_true(cache_set(c, weir_cstr("k"), &text, WEIR_NEVER));
    assert_true(cache_get(c, weir_cstr("k"), 0, a, 5, &v) && v.text.len == 5);
    assert_memory_equal(v.text.ptr, "12345", 5);
    assert_true(cache_get(c, weir_cstr("k"), 0, a, 4, &v) && v.text.len == 5);
    assert_null(v.text.ptr);
    wr_host_control()->arena_free(a);
    cache_free(c);
}

#define ROUNDS 20000

static void *work_on(void *arg)
{
    struct cache *c = arg;
    struct weir_arena *a = wr_host_control()->arena_new(wr_host_control());
    struct cache_value v;
    char key[16];
    int64_t sum;
    for (int i = 0; i < ROUNDS; i++) {
        assert_true(cache_add(c, weir_cstr("shared"), 1, 0, WEIR_NEVER, &sum));
        snprintf(key, sizeof(key), "k%d", i % 500);
        const struct cache_value text = {.type = CACHE_STRING, .text = weir_cstr(key)};
        assert_true(cache_set(c, weir_cstr(key), &text, WEIR_NEVER));
        if (cache_get(c, weir_cstr(key), 0, a, sizeof(key), &v))
            assert_string_equal(v.text.ptr, key);
        if (i % 100 == 0)
            wr_host_control()->arena_clear(a);
        if (i % 7 == 0)
            (void)cache_remove(c, weir_cstr(key));
    }
    wr_host_control()->arena_free(a);
    return NULL;
}

static void test_cache_threads(void **state)
{
    (void)state;
    struct cache *c = new_cache(300 * (ENTRY_COST + 8));
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, work_on, c), 0);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(get_int(c, "shared", 0), 4 * ROUNDS);
    cache_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sha256),      cmocka_unit_test(test_places),
        cmocka_unit_test(test_names),       cmocka_unit_test(test_cache_times),
        cmocka_unit_test(test_cache_bound), cmocka_unit_test(test_cache_threads),
        cmocka_unit_test(test_cache_copies_no_more_than_it_may)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
