/* SPDX-License-Identifier: Apache-2.0
 *
 * The BSON writer of the sink mongodb: every type, exact numbers, dates, duplicate keys, and what
 * it refuses. A reader of the test's own takes the bytes apart again and checks every length.
 */
#include "mongodb_rig.h"

/* ---- Tests ---- */

static void every_type(void **state)
{
    struct fixture *f = *state;
    assert_doc(f, "{}", "{}");
    assert_doc(f, "{\"a\":null,\"b\":true,\"c\":false,\"d\":\"x\",\"e\":[],\"f\":{},\"g\":1.5}",
               "{a:null, b:true, c:false, d:'x', e:array{}, f:{}, g:double 1.5}");
    assert_doc(f, "{\"o\":{\"p\":{\"q\":[1,[2,{\"r\":[]}]]}},\"\":0}",
               "{o:{p:{q:array{0:int64 1, 1:array{0:int64 2, 1:{r:array{}}}}}}, :int64 0}");
    assert_doc(f, "{\"s\":\"\\u0000a\\u0000\",\"u\":\"\\u00e4\\ud83d\\ude00\"}",
               "{s:'<NUL>a<NUL>', u:'\xc3\xa4\xf0\x9f\x98\x80'}");
    assert_doc(f, "{\"a.b\":1,\"$c\":2}", "{a.b:int64 1, $c:int64 2}");
}

static void array_keys_count_up(void **state)
{
    struct fixture *f = *state;
    assert_doc(f, "{\"a\":[0,0,0,0,0,0,0,0,0,0,0,7]}",
               "{a:array{0:int64 0, 1:int64 0, 2:int64 0, 3:int64 0, 4:int64 0, 5:int64 0, "
               "6:int64 0, 7:int64 0, 8:int64 0, 9:int64 0, 10:int64 0, 11:int64 7}}");
}

static void numbers_are_exact(void **state)
{
    struct fixture *f = *state;
    assert_doc(
        f, "{\"a\":1,\"b\":-1,\"c\":9223372036854775807,\"d\":-9223372036854775808}",
        "{a:int64 1, b:int64 -1, c:int64 9223372036854775807, d:int64 -9223372036854775808}");
    assert_doc(f, "{\"a\":9223372036854775808,\"b\":18446744073709551615}",
               "{a:decimal 3040000000000000 8000000000000000, "
               "b:decimal 3040000000000000 ffffffffffffffff}");
    assert_doc(f, "{\"a\":18446744073709551616,\"b\":-9223372036854775809}",
               "{a:decimal 3040000000000001 0000000000000000, "
               "b:decimal b040000000000000 8000000000000001}");
    assert_doc(f, "{\"a\":1.0,\"b\":-0.0,\"c\":1e300,\"d\":0.1}",
               "{a:double 1, b:double -0, c:double 1.0000000000000001e+300, "
               "d:double 0.10000000000000001}");
    /* 1e400 = 1 x 10^400: exponent 400 + 6176 in bits 49 and up */
    assert_doc(f, "{\"a\":1e400}", "{a:decimal 3360000000000000 0000000000000001}");
    assert_doc(f, "{\"a\":9999999999999999999999999999999999}",
               "{a:decimal 3041ed09bead87c0 378d8e63ffffffff}");
}

static void decimals_at_their_limits(void **state)
{
    (void)state;
    struct decimal128 d;
    assert_true(decimal128_from_text("1e6111", 6, &d));
    assert_int_equal(d.high >> 49, 6111 + 6176);
    assert_true(decimal128_from_text("1e6144", 6, &d)); /* 10^33 x 10^6111 */
    assert_int_equal(d.high >> 49, 6111 + 6176);
    assert_false(decimal128_from_text("1e6145", 6, &d));
    assert_true(decimal128_from_text("1e-6176", 7, &d));
    assert_int_equal(d.high >> 49, 0);
    assert_false(decimal128_from_text("1e-6177", 7, &d));
    assert_true(decimal128_from_text("10e-6177", 8, &d));
    assert_false(decimal128_from_text("10000000000000000000000000000000001", 35, &d));
    assert_true(decimal128_from_text("100000000000000000000000000000000010", 36, &d) == false);
    assert_true(decimal128_from_text("99999999999999999999999999999999990", 35, &d));
    assert_int_equal(d.high >> 49, 1 + 6176);
    assert_true(decimal128_from_text("-0.00000", 8, &d));
    assert_true(d.high == (UINT64_C(1) << 63 | UINT64_C(6176) << 49) && d.low == 0);
    assert_true(decimal128_from_text("12.50", 5, &d));
    assert_true(d.low == 1250 && d.high >> 49 == 6176 - 2);
    assert_false(decimal128_from_text("1e99999999999999999999999", 25, &d));
    assert_false(decimal128_from_text("1e-99999999999999999999999", 26, &d));
    assert_false(decimal128_from_text("", 0, &d));
}

static void ids(void **state)
{
    struct fixture *f = *state;
    const char *json = "{\"_id\":\"own\",\"a\":{\"_id\":1}}";
    const struct weir_value *v = parse(f, json, strlen(json));
    const struct doc_id id[] = {
        {.type = WEIR_STRING, .str = {"x\0y", 3}},
        {.type = WEIR_INT, .num = -5},
        {.type = WEIR_UINT, .num = -1},
        {.type = WEIR_OBJECT, .object = parse(f, "{\"d\":\"2026-01-01\",\"n\":2}", 24)},
    };
    const char *expected[] = {"_id:'x<NUL>y'", "_id:int64 -5",
                              "_id:decimal 3040000000000000 ffffffffffffffff",
                              "_id:{d:'2026-01-01', n:int64 2}"};
    for (size_t i = 0; i < 4; i++) {
        struct text t = {.n = 0}, only = {.n = 0};
        char whole[200];
        assert_true(doc_write(&f->w, v, &id[i]));
        dump_doc(&t, f->w.data, f->w.data + f->w.len);
        snprintf(whole, sizeof(whole), "{%s, a:{_id:int64 1}}", expected[i]);
        assert_string_equal(t.s, whole);
        assert_true(doc_write_id(&f->w, &id[i]));
        dump_doc(&only, f->w.data, f->w.data + f->w.len);
        snprintf(whole, sizeof(whole), "{%s}", expected[i]);
        assert_string_equal(only.s, whole);
    }
}

static void add_date(struct fixture *f, const char *path)
{
    assert_null(type_tree_add(f->h, f->a, &f->types, weir_cstr(path), TYPE_DATE));
}

static void dates(void **state)
{
    struct fixture *f = *state;
    add_date(f, "ts");
    add_date(f, "p.at");
    add_date(f, "items.bought.at");
    add_date(f, "all");
    assert_doc(f,
               "{\"ts\":\"2026-01-31T12:00:00.5Z\",\"p\":{\"at\":\"1969-12-31T23:59:59.9999Z\"}}",
               "{ts:date 1769860800500, p:{at:date -1}}");
    assert_doc(f, "{\"ts\":null,\"p\":{\"at\":\"2026-01-31T13:30:00+01:30\",\"ts\":\"x\"}}",
               "{ts:null, p:{at:date 1769860800000, ts:'x'}}");
    assert_doc(f, "{\"items\":[{\"bought\":{\"at\":\"1970-01-01T00:00:00Z\"}},7,{\"bought\":1}]}",
               "{items:array{0:{bought:{at:date 0}}, 1:int64 7, 2:{bought:int64 1}}}");
    assert_doc(f, "{\"all\":[\"1970-01-01T00:00:01Z\",[\"1970-01-01T00:00:02Z\"],null]}",
               "{all:array{0:date 1000, 1:array{0:date 2000}, 2:null}}");
    assert_doc(f, "{\"at\":\"1970-01-01T00:00:00Z\"}", "{at:'1970-01-01T00:00:00Z'}");
    assert_refused(f, "{\"ts\":\"yesterday\"}", "bad_date", "ts");
    assert_refused(f, "{\"ts\":1769860800}", "bad_date", "ts");
    assert_refused(f, "{\"ts\":{}}", "bad_date", "ts");
    assert_refused(f, "{\"items\":[1,{\"bought\":{\"at\":\"2026-02-30T00:00:00Z\"}}]}", "bad_date",
                   "items.1.bought.at");
}

static void bad_date_paths(void **state)
{
    struct fixture *f = *state;
    const char *paths[] = {"", ".", "a.", ".a", "a..b", "_id.x"};
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
        assert_non_null(type_tree_add(f->h, f->a, &f->types, weir_cstr(paths[i]), TYPE_DATE));
    assert_null(type_tree_add(f->h, f->a, &f->types, weir_cstr("a._id"), TYPE_DATE));
}

static void refusals(void **state)
{
    struct fixture *f = *state;
    assert_refused(f, "{\"a\":{\"b\\u0000c\":1}}", "bad_key", "a.b");
    assert_refused(f, "{\"a\":[0,{\"n\":12345678901234567890123456789012345678901}]}", "bad_number",
                   "a.1.n");
    assert_refused(f, "{\"n\":1e7000}", "bad_number", "n");
    assert_refused(f, "{\"n\":18446744073709551616.5e400,\"m\":1e6145}", "bad_number", "m");
}

/* Of duplicates the first stays: in small objects by comparing, in large ones by a table. */
static void duplicate_keys(void **state)
{
    struct fixture *f = *state;
    assert_doc(f, "{\"a\":1,\"b\":2,\"a\":3,\"\":4,\"\":5}", "{a:int64 1, b:int64 2, :int64 4}");
    char json[3000] = "{", expected[4000] = "{";
    for (int i = 0; i < 40; i++) {
        snprintf(json + strlen(json), 60, "\"k%d\":%d,\"k%d\":-1,", i, i, i);
        snprintf(expected + strlen(expected), 40, "%sk%d:int64 %d", i > 0 ? ", " : "", i, i);
    }
    snprintf(json + strlen(json), 40, "\"\":0,\"\":1}");
    snprintf(expected + strlen(expected), 40, ", :int64 0}");
    assert_doc(f, json, expected);
}

/* {"a":{"a":...{}...}}: `levels` objects, built by the host since the parser stops at 128. */
static const struct weir_value *nested(struct fixture *f, int levels)
{
    struct weir_value *v = f->h->make_object(f->a);
    for (int i = 1; i < levels; i++) {
        struct weir_value *outer = f->h->make_object(f->a);
        assert_true(f->h->object_set(f->a, outer, weir_str_n("a", 1), v));
        v = outer;
    }
    return v;
}

static void depth(void **state)
{
    struct fixture *f = *state;
    const struct doc_id none = {0};
    struct text t = {.n = 0};
    assert_true(doc_write(&f->w, nested(f, DOC_DEPTH_MAX), &none));
    dump_doc(&t, f->w.data, f->w.data + f->w.len);
    assert_false(doc_write(&f->w, nested(f, DOC_DEPTH_MAX + 2), &none));
    assert_string_equal(f->w.code, "too_deep");
    assert_true(strncmp(f->w.path, "...", 3) == 0);
    assert_false(doc_write(&f->w, nested(f, 5000), &none));
    assert_string_equal(f->w.code, "too_deep");
}

/* A document of one string: 4 + (1 + 2 + 4 + len + 1) + 1 bytes. */
static void size(void **state)
{
    struct fixture *f = *state;
    const struct doc_id none = {0};
    assert_true(doc_write(&f->w, with_string(f, DOC_SIZE_MAX - 13), &none));
    assert_int_equal(f->w.len, DOC_SIZE_MAX);
    assert_false(doc_write(&f->w, with_string(f, DOC_SIZE_MAX - 12), &none));
    assert_string_equal(f->w.code, "too_large");
    assert_false(doc_write(&f->w, with_string(f, DOC_SIZE_MAX + 1000), &none));
    assert_string_equal(f->w.code, "too_large");
    doc_writer_trim(&f->w);
    assert_int_equal(f->w.cap, 0);
    assert_doc(f, "{\"next\":1}", "{next:int64 1}");
}

/* What JSON says in two bytes takes eleven and more in BSON: the size counts, not the text's. */
static void small_text_large_document(void **state)
{
    struct fixture *f = *state;
    const struct doc_id none = {0};
    size_t n = 1200000;
    char *json = malloc(n * 2 + 20), *p = json;
    memcpy(p, "{\"a\":[1", 7);
    p += 7;
    for (size_t i = 1; i < n; i++) {
        *p++ = ',';
        *p++ = '1';
    }
    memcpy(p, "]}", 2);
    assert_false(doc_write(&f->w, parse(f, json, (size_t)(p + 2 - json)), &none));
    assert_string_equal(f->w.code, "too_large");
    free(json);
}

/* Times count as RFC 3339 says, both ways. */
static void rfc3339(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t s;
        int32_t ns;
        const char *utc;
    } good[] = {
        {"1970-01-01T00:00:00Z", 0, 0, "1970-01-01T00:00:00Z"},
        {"1970-01-01t00:00:00.000000001z", 0, 1, "1970-01-01T00:00:00.000000001Z"},
        {"1969-12-31T23:59:59.25Z", -1, 250000000, "1969-12-31T23:59:59.250Z"},
        {"2000-02-29T23:59:59.123456-00:30", 951870599, 123456000, "2000-03-01T00:29:59.123456Z"},
        {"2016-12-31T23:59:60Z", 1483228800, 0, "2017-01-01T00:00:00Z"},
        {"2016-12-31T15:59:60.5-08:00", 1483228800, 500000000, "2017-01-01T00:00:00.500Z"},
        {"0000-01-01T00:00:00Z", RFC3339_S_MIN, 0, "0000-01-01T00:00:00Z"},
        {"9999-12-31T23:59:59.9999999999Z", RFC3339_S_MAX, 999999999,
         "9999-12-31T23:59:59.999999999Z"},
        {"2026-01-31T12:00:00+23:59", 1769774460, 0, "2026-01-30T12:01:00Z"},
    };
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        struct rfc3339 t;
        char out[RFC3339_MAX];
        if (!rfc3339_parse(good[i].text, strlen(good[i].text), &t))
            fail_msg("%s", good[i].text);
        assert_int_equal(t.s, good[i].s);
        assert_int_equal(t.ns, good[i].ns);
        assert_int_equal(rfc3339_format(t, out), strlen(good[i].utc));
        assert_string_equal(out, good[i].utc);
    }
    static const char *const bad[] = {
        "",
        "2026-01-31",
        "2026-01-31T12:00:00",
        "2026-01-31 12:00:00Z",
        "2026-1-31T12:00:00Z",
        "2026-13-01T12:00:00Z",
        "2026-00-01T12:00:00Z",
        "2026-02-29T12:00:00Z",
        "2026-01-32T12:00:00Z",
        "2026-01-00T12:00:00Z",
        "2026-01-31T24:00:00Z",
        "2026-01-31T12:60:00Z",
        "2026-01-31T12:00:61Z",
        "2026-01-31T12:00:60Z",
        "2026-01-31T12:00:00.Z",
        "2026-01-31T12:00:00+1",
        "2026-01-31T12:00:00+24:00",
        "2026-01-31T12:00:00+01:60",
        "2026-01-31T12:00:00Zx",
        "x2026-01-31T12:00:00Z",
        "2026-01-31T12:00:00+0100",
        "1900-02-29T00:00:00Z",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct rfc3339 t;
        if (rfc3339_parse(bad[i], strlen(bad[i]), &t))
            fail_msg("%s was taken", bad[i]);
    }
    struct rfc3339 t;
    char out[RFC3339_MAX];
    assert_false(rfc3339_parse("2026-01-31T12:00:00\0Z", 21, &t));
    assert_int_equal(rfc3339_format((struct rfc3339){RFC3339_S_MAX + 1, 0}, out), 0);
    assert_int_equal(rfc3339_format((struct rfc3339){INT64_MIN, 0}, out), 0);
    for (int64_t s = -100000000000; s < 250000000000; s += 86400 * 3 + 7777) {
        size_t n = rfc3339_format((struct rfc3339){s, 5}, out);
        assert_true(n > 0 && s >= RFC3339_S_MIN ? rfc3339_parse(out, n, &t) : n == 0);
        if (n > 0)
            assert_true(t.s == s && t.ns == 5);
    }
}

/* The same hash for the same bytes and seed only. */
static void hashes(void **state)
{
    (void)state;
    const char *text = "0123456789abcdefghij";
    for (size_t a = 0; a < 20; a++) {
        assert_true(hash_bytes(text, a, 1) == hash_bytes(text, a, 1));
        assert_true(hash_bytes(text, a, 1) != hash_bytes(text, a, 2));
        for (size_t b = 0; b < a; b++)
            assert_true(hash_bytes(text, a, 1) != hash_bytes(text, b, 1));
    }
    assert_true(hash_bytes("\0", 1, 1) != hash_bytes("\0\0", 2, 1));
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(every_type),
        T(array_keys_count_up),
        T(numbers_are_exact),
        T(decimals_at_their_limits),
        T(ids),
        T(dates),
        T(bad_date_paths),
        T(refusals),
        T(duplicate_keys),
        T(depth),
        T(size),
        T(small_text_large_document),
        T(rfc3339),
        T(hashes),
    };
    return cmocka_run_group_tests_name("mongodb_doc", tests, NULL, NULL);
}
