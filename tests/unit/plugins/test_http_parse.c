/* SPDX-License-Identifier: Apache-2.0
 *
 * How the http source reads heads, chunks and targets: what is right, what a proxy may read in
 * another way, and bytes of every kind, whole and in every cut. The files are compiled in, as they
 * are part of a plugin that exports nothing.
 */
#include "../../../plugins/http_source/parse.c"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "../../../plugins/http_source/target.c"
#include "../../../plugins/http_source/text.c"

const char *const method_words[] = {"POST", "PUT", "PATCH", NULL};

static struct weir_str view(const char *text)
{
    return weir_cstr(text);
}

/* ---- Heads ---- */

/* The status that a head is refused with, 0 where it is taken, -1 where it has no end. */
static int head_status(const char *text, struct head *ret)
{
    struct refusal why = {0};
    size_t at = 0, len = 0;
    enum found found = head_find(view(text), &at, &len);
    if (found != FOUND_HEAD)
        return found == FOUND_BAD ? 400 : -1;
    return head_parse(weir_str_n(text, len), ret, &why) ? 0 : (int)why.status;
}

static void takes_heads(void **state)
{
    struct head h;
    (void)state;
    assert_int_equal(head_status("POST /a?b=c HTTP/1.1\r\nHost: x\r\nX:\r\nHOST2: y \t\r\n"
                                 "content-length:7\r\n\r\nbody",
                                 &h),
                     0);
    assert_true(str_is(h.method, "POST") && str_is(h.target, "/a?b=c") && str_is(h.host, "x"));
    assert_true(str_is(h.content_length, "7") && h.repeated == NULL && !h.http_1_0);
    assert_int_equal(head_status("GET / HTTP/1.0\r\n\r\n", &h), 0);
    assert_true(h.http_1_0 && h.lines.len == 0);
    assert_int_equal(head_status("GET / HTTP/1.1\r\nHost: a\r\nhost: b\r\n\r\n", &h), 0);
    assert_string_equal(h.repeated, "Host");
}

/* Connection is one list, in however many headers it comes. */
static void joins_connections(void **state)
{
    static const struct {
        const char *lines;
        bool close, keep_alive;
    } cases[] = {
        {"", false, false},
        {"Connection:\r\n", false, false},
        {"Connection: Upgrade, closed\r\n", false, false},
        {"Connection: a\r\nconnection: CLOSE\r\n", true, false},
        {"Connection: close , a\r\nConnection: b\r\n", true, false},
        {"Connection: Keep-Alive\r\nConnection: TE\r\n", false, true},
        {"Connection: close\r\nConnection: ,keep-alive,\r\n", true, true},
    };
    struct head h;
    char text[200];
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        snprintf(text, sizeof(text), "GET / HTTP/1.1\r\n%s\r\n", cases[i].lines);
        assert_int_equal(head_status(text, &h), 0);
        assert_null(h.repeated);
        assert_true(h.close == cases[i].close && h.keep_alive == cases[i].keep_alive);
    }
}

static void compares_methods_byte_for_byte(void **state)
{
    struct head h;
    (void)state;
    assert_int_equal(head_status("HEAD / HTTP/1.1\r\n\r\n", &h), 0);
    assert_true(method_is(&h, "HEAD") && !method_is(&h, "HEA") && !method_is(&h, "HEADS"));
    assert_int_equal(head_status("head / HTTP/1.1\r\n\r\n", &h), 0);
    assert_false(method_is(&h, "HEAD"));
    h.method = weir_str_n(NULL, 0); /* of a head that never came */
    assert_false(method_is(&h, "HEAD"));
}

static void refuses_heads(void **state)
{
    static const struct {
        const char *text;
        int status;
    } cases[] = {
        {"GET / HTTP/1.1\r\nHost: x\r\n", -1},
        {"GET / HTTP/1.1\nHost: x\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: x\n\r\n", 400},
        {"GET / HTTP/1.1\r\n\n", 400},
        {"GET / HTTP/2.0\r\n\r\n", 505},
        {"GET / HTTP/0.9\r\n\r\n", 505},
        {"GET / HTTP/1.1 \r\n\r\n", 400},
        {"GET / http/1.1\r\n\r\n", 400},
        {"GET /\r\n\r\n", 400},
        {"GET  / HTTP/1.1\r\n\r\n", 400},
        {"GET / x HTTP/1.1\r\n\r\n", 400},
        {" GET / HTTP/1.1\r\n\r\n", 400},
        {"G@T / HTTP/1.1\r\n\r\n", 400},
        {"GET /\x80 HTTP/1.1\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost : x\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\n Host: x\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nA: b\rc\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nA: \x01\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nA: \x7f\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nA\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\n: b\r\n\r\n", 400},
    };
    struct head h;
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_int_equal(head_status(cases[i].text, &h), cases[i].status);
}

/* The end is found at the same place however the head comes. */
static void finds_the_end_in_pieces(void **state)
{
    const char *text = "POST / HTTP/1.1\r\nHost: x\r\nA: b\r\n\r\nGET / HTTP/1.1\r\n\r\n";
    size_t at = 0, len = 0;
    (void)state;
    for (size_t n = 0; n < 34; n++)
        assert_int_equal(head_find(weir_str_n(text, n), &at, &len), FOUND_NONE);
    assert_int_equal(head_find(view(text), &at, &len), FOUND_HEAD);
    assert_int_equal(len, 34);
}

/* ---- Chunks ---- */

/* The body out of `text` that comes in pieces of n bytes; NULL where it is broken or has no end. */
static const char *unchunk(const char *text, size_t n, size_t *ret_rest)
{
    static char out[4096];
    struct chunks c = {0};
    size_t len = strlen(text), used = 0;
    struct weir_str data;
    out[0] = '\0';
    for (size_t at = 0; at < len && c.state < CHUNK_OVER; at += n) {
        struct weir_str in = weir_str_n(text + at, len - at < n ? len - at : n);
        while (chunk_next(&c, &in, &data)) {
            memcpy(out + used, data.ptr, data.len);
            out[used += data.len] = '\0';
        }
        *ret_rest = len - (size_t)(in.ptr - text);
    }
    return c.state == CHUNK_OVER ? out : NULL;
}

static void reads_chunks(void **state)
{
    static const char *const good[] = {"3\r\nabc\r\n0\r\n\r\n", "1\r\na\r\n2\r\nbc\r\n00\r\n\r\n",
                                       "3;x=\"y\"\r\nabc\r\n0;z\r\nA: b\r\nC: d\r\n\r\n",
                                       "3\r\nabc\r\n0\r\nA:\r\nB-1:: \x80 :\r\n\r\n",
                                       "000003\r\nabc\r\n0\r\n\r\n"};
    static const char *const bad[] = {"3\r\nabc0\r\n\r\n",
                                      "3\nabc\r\n0\r\n\r\n",
                                      "3\r\nabc\n0\r\n\r\n",
                                      "3 \r\nabc\r\n0\r\n\r\n",
                                      "\r\nabc\r\n0\r\n\r\n",
                                      "-3\r\nabc\r\n0\r\n\r\n",
                                      "0x3\r\nabc\r\n0\r\n\r\n",
                                      "g\r\n",
                                      "fffffffffffffffff\r\n",
                                      ";x\r\n",
                                      "3\r\rabc",
                                      "0\r\nA: b\n\r\n",
                                      "3\r\nabc\r\n0\r\nGET / HTTP/1.1\r\n\r\n",
                                      "3\r\nabc\r\n0\r\nA\r\n\r\n",
                                      "3\r\nabc\r\n0\r\n: b\r\n\r\n",
                                      "3\r\nabc\r\n0\r\nA : b\r\n\r\n",
                                      "3\r\nabc\r\n0\r\nA: b\r\n c\r\n\r\n",
                                      "3\r\nabc\r\n0\r\nA: b\r\nc\r\n\r\n",
                                      "3\r\nabc\r\n0\r\n\rx",
                                      "3\r\nabc\r\n",
                                      "3;a\x01\r\nabc\r\n0\r\n\r\n"};
    size_t rest = 0;
    (void)state;
    for (size_t n = 1; n < 30; n++) {
        for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
            assert_string_equal(unchunk(good[i], n, &rest), "abc");
            assert_int_equal(rest, 0);
        }
        for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
            assert_null(unchunk(bad[i], n, &rest));
    }
    assert_string_equal(unchunk("1\r\na\r\n0\r\n\r\nGET", 100, &rest), "a");
    assert_int_equal(rest, 3);
}

/* Extensions and trailers cannot go on for ever. */
static void bounds_what_is_of_no_use(void **state)
{
    struct chunks extension = {0}, trailer = {0};
    struct weir_str start = view("1;"), data, end = view("0\r\n"), in;
    (void)state;
    (void)chunk_next(&extension, &start, &data);
    (void)chunk_next(&trailer, &end, &data);
    for (int i = 0; i < 20000; i++) {
        in = view("x");
        (void)chunk_next(&extension, &in, &data);
        in = view("a:b\r\n");
        (void)chunk_next(&trailer, &in, &data);
    }
    assert_int_equal(extension.state, CHUNK_BROKEN);
    assert_int_equal(trailer.state, CHUNK_BROKEN);
}

/* ---- Bytes of every kind ---- */

static uint64_t random_state = 88172645463325252u;

static uint32_t random_below(uint32_t n)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)(random_state >> 33) % n;
}

static void survives_bytes_of_every_kind(void **state)
{
    static const char alphabet[] = "\r\n\r\n :;=%?#/&{}GETabc01fHTTP/1.1\t";
    (void)state;
    for (int round = 0; round < 200000; round++) {
        uint32_t len = random_below(60);
        char *text = malloc(len + 1); /* its end is watched by ASan */
        for (uint32_t i = 0; i < len; i++)
            text[i] = random_below(20) == 0 ? (char)random_below(256)
                                            : alphabet[random_below(sizeof(alphabet) - 1)];
        struct head h;
        struct refusal why;
        struct chunks c = {0};
        struct weir_str in = weir_str_n(text, len), data, found;
        size_t at = 0, n = 0;
        char out[64];
        if (head_find(in, &at, &n) == FOUND_HEAD)
            (void)head_parse(weir_str_n(text, n), &h, &why);
        assert_true(!percent_decode(in, true, out, &n) || n <= len);
        (void)query_find(in, view("a"), &found);
        while (chunk_next(&c, &in, &data))
            assert_true(data.len != 0 && data.ptr >= text && data.ptr + data.len <= text + len);
        free(text);
    }
}

/* ---- Targets ---- */

static void finds_paths_and_parameters(void **state)
{
    struct weir_str paths[] = {view("/plain"), view("/v1/{a}/x/{b}"), view("/{any}")};
    struct config cf = {.paths = {paths, 3}};
    struct params p;
    struct weir_str query, found;
    (void)state;
    assert_int_equal(target_find(&cf, view("/plain?q=1&r=a+b&q=2"), &p, &query), 0);
    assert_true(query_find(query, view("q"), &found) && str_is(found, "1"));
    assert_true(query_find(query, view("r"), &found) && str_is(found, "a+b"));
    assert_false(query_find(query, view("s"), &found));
    assert_int_equal(target_find(&cf, view("/v1/1/x/2%20"), &p, &query), 1);
    assert_true(p.n == 2 && str_is(p.value[0], "1") && str_is(p.value[1], "2%20"));
    assert_null(query.ptr);
    assert_int_equal(target_find(&cf, view("/other#x?y"), &p, &query), 2);
    assert_true(str_is(p.value[0], "other") && query.ptr == NULL);
    assert_int_equal(target_find(&cf, view("/v1/1/x/"), &p, &query), -1);
    assert_int_equal(target_find(&cf, view("/v1//x/2"), &p, &query), -1);
    assert_int_equal(target_find(&cf, view("/"), &p, &query), -1);
    assert_int_equal(target_find(&cf, view("*"), &p, &query), -1);
    assert_int_equal(target_find(&cf, view("http://h/plain"), &p, &query), 0);
    assert_int_equal(target_find(&cf, view("http://"), &p, &query), -1);
}

static void undoes_percent_encoding(void **state)
{
    char out[32];
    size_t n = 0;
    (void)state;
    assert_true(percent_decode(view("a%2Fb+%c3%BC"), true, out, &n));
    assert_true(n == 6 && memcmp(out, "a/b \xc3\xbc", 6) == 0);
    assert_true(percent_decode(view("a+b"), false, out, &n) && memcmp(out, "a+b", 3) == 0);
    assert_false(percent_decode(view("%"), false, out, &n));
    assert_false(percent_decode(view("%1"), false, out, &n));
    assert_false(percent_decode(view("%1g"), false, out, &n));
    assert_false(percent_decode(view("%00"), false, out, &n));
    assert_false(percent_decode(view("%%41"), false, out, &n));
}

static void undoes_base64(void **state)
{
    static const struct {
        const char *in, *out; /* NULL: it is none */
    } cases[] = {{"", ""},        {"QQ==", "A"},        {"QUI=", "AB"},
                 {"QUJD", "ABC"}, {"QUJDRA==", "ABCD"}, {"+/+/", "\xfb\xff\xbf"},
                 {"QQ", NULL},    {"QUI", NULL},        {"Q", NULL},
                 {"=", NULL},     {"====", NULL},       {"Q===", NULL},
                 {"QQ=A", NULL},  {"Q*==", NULL},       {"QUI=QUI=", NULL},
                 {"QU I", NULL},  {"-_-_", NULL}};
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char out[16];
        size_t n = 99;
        if (cases[i].out == NULL) {
            assert_false(base64_decode(view(cases[i].in), out, &n));
            continue;
        }
        assert_true(base64_decode(view(cases[i].in), out, &n));
        assert_int_equal(n, strlen(cases[i].out));
        assert_memory_equal(out, cases[i].out, n);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_heads),
        cmocka_unit_test(joins_connections),
        cmocka_unit_test(compares_methods_byte_for_byte),
        cmocka_unit_test(refuses_heads),
        cmocka_unit_test(finds_the_end_in_pieces),
        cmocka_unit_test(reads_chunks),
        cmocka_unit_test(bounds_what_is_of_no_use),
        cmocka_unit_test(survives_bytes_of_every_kind),
        cmocka_unit_test(finds_paths_and_parameters),
        cmocka_unit_test(undoes_percent_encoding),
        cmocka_unit_test(undoes_base64),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
