/* SPDX-License-Identifier: Apache-2.0
 *
 * Small parts of the plugin redis: addresses, the meaning of error replies, the cache.
 */
#include <engine/host.h>
#include <stdio.h>
#include <stdlib.h>

#include "../../../plugins/redis/address.c"
#include "../../../plugins/redis/cache.c"
#include "../../../plugins/redis/errors.c"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

/* ---- Addresses ---- */

static void good(const char *url, const char *want)
{
    struct address a;
    char got[4096];
    size_t offset;
    const char *wrong = address_parse(weir_cstr(url), &a, &offset);
    if (wrong != NULL)
        fail_msg("%s: %s", url, wrong);
    snprintf(got, sizeof(got), "%s|%s|%s|%s%s|%s%s|%lld", a.host, a.port, a.path,
             a.has_user ? "u:" : "", a.user, a.has_password ? "p:" : "", a.password,
             (long long)a.database);
    assert_string_equal(got, want);
}

static void bad(const char *url, const char *word)
{
    struct address a;
    size_t offset;
    const char *wrong = address_parse(weir_cstr(url), &a, &offset);
    if (wrong == NULL || strstr(wrong, word) == NULL)
        fail_msg("%s: %s", url, wrong == NULL ? "taken" : wrong);
    assert_true(offset <= strlen(url));
}

static void test_addresses(void **state)
{
    (void)state;
    good("redis://h", "h|6379||||0");
    good("redis://h:1234/", "h|1234||||0");
    good("redis://h:000006379", "h|6379||||0");
    good("redis://127.0.0.1:1/15", "127.0.0.1|1||||15");
    good("redis://[::1]:7000/2", "::1|7000||||2");
    good("redis://[fe80::1]", "fe80::1|6379||||0");
    good("redis://:pw@h", "h|6379|||p:pw|0");
    good("redis://me:p%40%3A%2F%25@h:1/0", "h|1||u:me|p:p@:/%|0");
    good("redis://me:a@b@h", "h|6379||u:me|p:a@b|0");
    good("redis://me:@h", "h|6379||u:me|p:|0");
    good("unix:///run/redis.sock", "||/run/redis.sock|||0");
    good("unix:///a%20b", "||/a b|||0");
}

static void test_tls_addresses(void **state)
{
    (void)state;
    struct address a;
    size_t offset;
    good("rediss://me:pw@h:1/2", "h|1||u:me|p:pw|2");
    assert_null(address_parse(weir_cstr("rediss://h"), &a, &offset));
    assert_true(a.tls);
    assert_null(address_parse(weir_cstr("redis://h"), &a, &offset));
    assert_false(a.tls);
}

static void node(const char *text, const char *host, const char *port)
{
    struct address a = {0};
    assert_null(address_parse_node(weir_cstr(text), &a));
    assert_string_equal(a.host, host);
    assert_string_equal(a.port, port);
}

static void test_nodes(void **state)
{
    (void)state;
    struct address a = {0};
    node("h", "h", "6379");
    node("h:1", "h", "1");
    node("[::1]:2", "::1", "2");
    assert_non_null(address_parse_node(weir_cstr(""), &a));
    assert_non_null(address_parse_node(weir_cstr("redis://h"), &a));
    assert_non_null(address_parse_node(weir_cstr("me:pw@h"), &a));
    assert_non_null(address_parse_node(weir_cstr("h:0"), &a));
    assert_non_null(address_parse_node(weir_cstr("::1"), &a));
}

static void test_wrong_addresses(void **state)
{
    (void)state;
    bad("", "begins with");
    bad("h:6379", "begins with");
    bad("redis://", "host");
    bad("redis://:1", "host");
    bad("redis://h:", "port");
    bad("redis://h:0", "port");
    bad("redis://h:65536", "port");
    bad("redis://h:1x", "port");
    bad("redis://h:1:2", "port");
    bad("redis://::1", "port");
    bad("redis://[::1", "]");
    bad("redis://[::1]x", "]");
    bad("redis://h/x", "database");
    bad("redis://h/-1", "database");
    bad("redis://h/1000001", "database");
    bad("redis://h/0?tls=1", "?");
    bad("redis://pw@h", "user:password");
    bad("redis://:%4@h", "hexadecimal");
    bad("redis://:%zz@h", "hexadecimal");
    bad("redis://:%00@h", "NUL");
    bad("unix://relative", "absolute");
    char long_path[200] = "unix:///";
    memset(long_path + 8, 'x', 150);
    bad(long_path, "too long");
}

/* ---- Error replies ---- */

static void means(const char *text, enum weir_verdict verdict, const char *code, bool reconnect)
{
    bool again;
    struct weir_result r = redis_error_result(weir_cstr(text), &again);
    assert_int_equal(r.verdict, verdict);
    assert_string_equal(r.code, code);
    assert_int_equal(again, reconnect);
    assert_memory_equal(r.message.ptr, text, r.message.len);
}

static void test_errors(void **state)
{
    (void)state;
    means("WRONGTYPE Operation", WEIR_VERDICT_REJECTED, "wrongtype", false);
    means("ERR value is not an integer", WEIR_VERDICT_REJECTED, "err", false);
    means("ERR max number of clients reached", WEIR_VERDICT_UNAVAILABLE, "max_clients", true);
    means("LOADING Redis is loading", WEIR_VERDICT_UNAVAILABLE, "loading", false);
    means("OOM command not allowed", WEIR_VERDICT_UNAVAILABLE, "oom", false);
    means("READONLY You can't write", WEIR_VERDICT_UNAVAILABLE, "readonly", true);
    means("MOVED 1 127.0.0.1:1", WEIR_VERDICT_UNAVAILABLE, "moved", true);
    means("TRYAGAIN Multiple keys", WEIR_VERDICT_RETRY, "tryagain", false);
    means("NOAUTH Authentication required.", WEIR_VERDICT_UNAVAILABLE, "noauth", true);
    means("WRONGPASS invalid", WEIR_VERDICT_UNAVAILABLE, "wrongpass", true);
    means("NOPERM User x has no permissions to run the 'set' command", WEIR_VERDICT_UNAVAILABLE,
          "noperm", false);
    means("NOPERM No permissions to access a key", WEIR_VERDICT_REJECTED, "noperm_key", false);
    means("NOPERM this user has no permissions to access one of the keys used as arguments",
          WEIR_VERDICT_REJECTED, "noperm_key", false);
    means("ERR The user executing the script can't run this command or subcommand",
          WEIR_VERDICT_UNAVAILABLE, "noperm", false);
    means("ERR The user executing the script can't access at least one of the keys mentioned",
          WEIR_VERDICT_REJECTED, "noperm_key", false);
    means("ERR ACL failure in script: User x has no permissions to run the 'incr' command",
          WEIR_VERDICT_UNAVAILABLE, "noperm", false);
    means("MYMODULE says no", WEIR_VERDICT_REJECTED, "error", false);
    means("WRONGTYPES are others", WEIR_VERDICT_REJECTED, "error", false);
    means("", WEIR_VERDICT_REJECTED, "error", false);
    bool again;
    char text[600];
    memset(text, 'x', sizeof(text));
    assert_true(redis_error_result(weir_str_n(text, sizeof(text)), &again).message.len <= 300);
}

/* ---- Cache ---- */

static struct weir_str key_of(int i, char *text)
{
    snprintf(text, 32, "key-%d", i);
    return weir_cstr(text);
}

static void put(struct cache *c, int i, size_t len, int64_t end_ns)
{
    char text[32];
    char bytes[4096] = {0};
    struct blob *blob = blob_new(wr_host_control(), weir_str_n(bytes, len));
    cache_put(c, key_of(i, text), blob, end_ns);
    blob_unref(blob);
}

static enum cache_result get(struct cache *c, int i, int64_t now_ns)
{
    char text[32];
    struct blob *blob = NULL;
    enum cache_result r = cache_get(c, key_of(i, text), now_ns, &blob);
    assert_true((blob != NULL) == (r == CACHE_FOUND));
    blob_unref(blob);
    return r;
}

static void test_cache_forgets_the_oldest(void **state)
{
    (void)state;
    struct cache *c = cache_new(wr_host_control(), (struct cache_limits){3, 1 << 20}, 1);
    for (int i = 0; i < 3; i++)
        put(c, i, 10, 100);
    assert_int_equal(get(c, 0, 1), CACHE_FOUND); /* 0 is the newest now, 1 the oldest */
    put(c, 3, 10, 100);
    assert_int_equal(get(c, 1, 1), CACHE_MISS);
    assert_int_equal(get(c, 0, 1), CACHE_FOUND);
    assert_int_equal(get(c, 2, 1), CACHE_FOUND);
    assert_int_equal(get(c, 3, 1), CACHE_FOUND);
    cache_free(c);
}

static void test_cache_entries_end(void **state)
{
    (void)state;
    char text[32];
    struct cache *c = cache_new(wr_host_control(), (struct cache_limits){10, 1 << 20}, 1);
    put(c, 1, 10, 100);
    cache_put(c, key_of(2, text), NULL, 50);
    assert_int_equal(get(c, 2, 49), CACHE_KNOWN_MISSING);
    assert_int_equal(get(c, 2, 50), CACHE_MISS);
    assert_int_equal(get(c, 1, 99), CACHE_FOUND);
    assert_int_equal(get(c, 1, 100), CACHE_MISS);
    put(c, 1, 10, 300);
    cache_put(c, key_of(1, text), NULL, 300); /* replaces */
    assert_int_equal(get(c, 1, 200), CACHE_KNOWN_MISSING);
    cache_free(c);
}

static void test_cache_is_bounded_in_bytes(void **state)
{
    (void)state;
    struct cache *c = cache_new(wr_host_control(), (struct cache_limits){1000, 10000}, 1);
    for (int i = 0; i < 100; i++)
        put(c, i, 1000, 100);
    int found = 0;
    for (int i = 0; i < 100; i++)
        found += get(c, i, 1) == CACHE_FOUND;
    assert_in_range(found, 7, 9);
    assert_true(c->n_bytes <= 10000);
    put(c, 200, 4000, 100);
    assert_int_equal(get(c, 200, 1), CACHE_FOUND);
    struct cache *small = cache_new(wr_host_control(), (struct cache_limits){1000, 1000}, 1);
    put(small, 1, 2000, 100); /* larger than all that there may be */
    assert_int_equal(get(small, 1, 1), CACHE_MISS);
    cache_free(small);
    cache_free(c);
}

static void test_cache_against_a_simple_one(void **state)
{
    (void)state;
    struct cache *c = cache_new(wr_host_control(), (struct cache_limits){50000, 1 << 30}, 7);
    int64_t ends[1000] = {0};
    srandom(3);
    for (int64_t now = 1; now < 200000; now++) {
        int i = (int)(random() % 1000);
        if (random() % 2 == 0) {
            ends[i] = now + random() % 2000;
            put(c, i, (size_t)(random() % 100), ends[i]);
        }
        assert_int_equal(get(c, i, now), ends[i] > now ? CACHE_FOUND : CACHE_MISS);
    }
    cache_free(c);
}

static void test_no_cache(void **state)
{
    (void)state;
    struct cache *c = cache_new(wr_host_control(), (struct cache_limits){0, 1 << 20}, 1);
    put(c, 1, 1, 100);
    assert_int_equal(get(c, 1, 1), CACHE_MISS);
    cache_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_tls_addresses),
        cmocka_unit_test(test_nodes),
        cmocka_unit_test(test_wrong_addresses),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_cache_forgets_the_oldest),
        cmocka_unit_test(test_cache_entries_end),
        cmocka_unit_test(test_cache_is_bounded_in_bytes),
        cmocka_unit_test(test_cache_against_a_simple_one),
        cmocka_unit_test(test_no_cache),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
