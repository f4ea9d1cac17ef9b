/* SPDX-License-Identifier: Apache-2.0
 *
 * The sink mongodb: types that JSON lacks, and documents with placeholders, of which hostile events
 * can make no operators and no other fields.
 */
#include "mongodb_rig.h"

/* ---- Types that JSON lacks ---- */

static void typed(struct fixture *f, const char *word, const char *json, const char *expected)
{
    struct text t = {.n = 0};
    char whole[600];
    int i = 0;
    while (strcmp(typed_words[i], word) != 0)
        i++;
    snprintf(whole, sizeof(whole), "[%s]", json);
    const struct weir_value *v = f->h->value_at(parse(f, whole, strlen(whole)), 0);
    size_t at;
    doc_writer_start(&f->w, DOC_SIZE_MAX);
    assert_true(put_open(&f->w, &at));
    bool done = typed_put(&f->w, (enum doc_type)(i + TYPE_DATE), weir_str_n("v", 1), v);
    if (expected[0] == '!') {
        assert_false(done);
        assert_string_equal(f->w.code, expected + 1);
        assert_non_null(strstr(f->w.why, "expected "));
        return;
    }
    if (!done)
        fail_msg("%s: %s", json, f->w.why);
    assert_true(put_close(&f->w, at));
    dump_doc(&t, f->w.data, f->w.data + f->w.len);
    snprintf(whole, sizeof(whole), "{v:%s}", expected);
    assert_string_equal(t.s, whole);
}

static void types_that_json_lacks(void **state)
{
    struct fixture *f = *state;
    static const char *const rows[][3] = {
        {"date", "\"1970-01-01T00:00:01.5Z\"", "date 1500"},
        {"date", "null", "null"},
        {"date", "5", "!bad_date"},
        {"date_ms", "-1", "date -1"},
        {"date_ms", "9223372036854775807", "date 9223372036854775807"},
        {"date_ms", "1.0", "!bad_date"},
        {"date_ms", "18446744073709551615", "!bad_date"},
        {"date_s", "1", "date 1000"},
        {"date_s", "-0.0005", "date -1"},
        {"date_s", "1.9999", "date 1999"},
        {"date_s", "9223372036854775", "date 9223372036854775000"},
        {"date_s", "9223372036854776", "!bad_date"},
        {"date_s", "-1e17", "!bad_date"},
        {"object_id", "\"000102030405060708090aFf\"", "oid 000102030405060708090aff"},
        {"object_id", "\"000102030405060708090af\"", "!bad_object_id"},
        {"object_id", "\"000102030405060708090ag0\"", "!bad_object_id"},
        {"object_id", "[]", "!bad_object_id"},
        {"decimal128", "7", "decimal 3040000000000000 0000000000000007"},
        {"decimal128", "\"0.1\"", "decimal 303e000000000000 0000000000000001"},
        {"decimal128", "0.1", "decimal 303e000000000000 0000000000000001"},
        {"decimal128", "\"-12.50E+1\"", "decimal b03e000000000000 00000000000004e2"},
        {"decimal128", "\"1.\"", "!bad_number"},
        {"decimal128", "\".5\"", "!bad_number"},
        {"decimal128", "\"1e+\"", "!bad_number"},
        {"decimal128", "\"+1\"", "!bad_number"},
        {"decimal128", "\"1 \"", "!bad_number"},
        {"decimal128", "\"1e9999\"", "!bad_number"},
        {"binary", "\"\"", "bin 0 "},
        {"binary", "\"AQI=\"", "bin 0 0102"},
        {"binary", "\"AQI\"", "bin 0 0102"},
        {"binary", "\"AQ==\"", "bin 0 01"},
        {"binary", "\"-_+/\"", "bin 0 fbffbf"},
        {"binary", "\"AQ=\"", "!bad_binary"},
        {"binary", "\"A\"", "!bad_binary"},
        {"binary", "\"AAA=AAA=\"", "!bad_binary"},
        {"uuid", "\"00010203-0405-0607-0809-0A0B0C0D0E0F\"",
         "bin 4 000102030405060708090a0b0c0d0e0f"},
        {"uuid", "\"000102030405060708090a0b0c0d0e0f\"", "bin 4 000102030405060708090a0b0c0d0e0f"},
        {"uuid", "\"00010203-0405-0607-0809-0A0B0C0D0E0\"", "!bad_uuid"},
        {"uuid", "\"00010203-0405-0607-08090A-0B0C0D0E0F\"", "!bad_uuid"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        typed(f, rows[i][0], rows[i][1], rows[i][2]);
}

static void typed_paths(void **state)
{
    struct fixture *f = *state;
    const struct weir_host *h = f->h;
    assert_null(type_tree_add(h, f->a, &f->types, weir_cstr("r.id"), TYPE_OBJECT_ID));
    assert_null(type_tree_add(h, f->a, &f->types, weir_cstr("_id"), TYPE_UUID));
    assert_null(type_tree_add(h, f->a, &f->types, weir_cstr("r.id"), TYPE_OBJECT_ID));
    assert_non_null(type_tree_add(h, f->a, &f->types, weir_cstr("r.id"), TYPE_DATE));
    assert_doc(f, "{\"r\":[{\"id\":\"000102030405060708090a0b\"},{\"id\":null}]}",
               "{r:array{0:{id:oid 000102030405060708090a0b}, 1:{id:null}}}");
    assert_refused(f, "{\"r\":[{},{\"id\":\"x\"}]}", "bad_object_id", "r.1.id");
    doc_writer_start(&f->w, DOC_SIZE_MAX);
    const char *json = "{\"a\":1,\"_id\":2,\"r\":{\"id\":null}}";
    assert_true(doc_put_fields(&f->w, parse(f, json, strlen(json))));
    struct text t = {.n = 0};
    dump_doc(&t, f->w.data, f->w.data + f->w.len);
    assert_string_equal(t.s, "{a:int64 1, r:{id:null}}");
    for (int i = 0; i < 3; i++) {
        static const char *const bad[] = {"{\"a.b\":1}", "{\"a\":1,\"$b\":1}", "{\"\":1}"};
        assert_false(doc_put_fields(&f->w, parse(f, bad[i], strlen(bad[i]))));
        assert_string_equal(f->w.code, "bad_key");
    }
}

/* A document that does not fit takes itself back and leaves what is before it. */
static void documents_behind_each_other(void **state)
{
    struct fixture *f = *state;
    const struct doc_id none = {0};
    doc_writer_start(&f->w, 64);
    assert_true(doc_put(&f->w, parse(f, "{\"a\":1}", 7), &none));
    size_t len = f->w.len;
    assert_false(doc_put(&f->w, with_string(f, 100), &none));
    assert_string_equal(f->w.code, "too_large");
    assert_int_equal(f->w.len, len);
    assert_true(doc_put(&f->w, parse(f, "{\"b\":1}", 7), &none));
    assert_int_equal(f->w.len, 2 * len);
}

/* ---- Documents with placeholders ---- */

static struct weir_event event_now;

static struct weir_str render(const struct weir_host *h, const struct weir_template *t,
                              struct weir_batch *b, struct weir_event *ev, struct weir_arena *a,
                              struct weir_error *err)
{
    (void)h;
    (void)b;
    return wr_template_render(t, ev, a, err);
}

static const struct weir_value *bare(const struct weir_host *h, const struct weir_template *t,
                                     struct weir_batch *b, struct weir_event *ev)
{
    (void)h;
    (void)b;
    return wr_template_value(t, ev);
}

/* What the shape gives for the event: the document, or "!code path". */
static void shaped(struct fixture *f, bool pipeline, const char *shape, const char *event,
                   const char *expected)
{
    struct shape_mistake wrong;
    struct weir_host host = *f->h;
    struct text t = {.n = 0};
    char failure[300];
    host.template_render = render;
    host.template_value = bare;
    f->w.h = &host;
    struct shape *s = shape_compile(&host, f->a, parse(f, shape, strlen(shape)), pipeline, &wrong);
    if (s == NULL) {
        f->w.h = f->h;
        snprintf(failure, sizeof(failure), "?%s", wrong.path);
        assert_string_equal(failure, expected);
        return;
    }
    event_now = (struct weir_event){.value = parse(f, event, strlen(event)), .key = {"k", 1}};
    const struct shape_event e = {NULL, &event_now};
    doc_writer_start(&f->w, DOC_SIZE_MAX);
    bool done = shape_put_document(&f->w, s, &e);
    f->w.h = f->h;
    if (!done) {
        snprintf(failure, sizeof(failure), "!%s %s", f->w.code, f->w.path);
        assert_string_equal(failure, expected);
        return;
    }
    dump_doc(&t, f->w.data, f->w.data + f->w.len);
    assert_string_equal(t.s, expected);
}

static void documents_with_placeholders(void **state)
{
    struct fixture *f = *state;
    const char *ev =
        "{\"a\":1,\"s\":\"$x\",\"o\":{\"p\":[1]},\"op\":{\"$gt\":1},\"deep\":[{\"$in\":[]}],"
        "\"n\":null,\"dot\":\"x.y\",\"e\":\"\",\"oid\":\"000102030405060708090a0b\"}";
    static const char *const rows[][2] = {
        {"{\"a\":\"{{ a }}\",\"b\":\"<{{ a }}>\",\"c\":\"{{ o }}\",\"k\":\"{{ @key }}\"}",
         "{a:int64 1, b:'<1>', c:{p:array{0:int64 1}}, k:'k'}"},
        {"{\"l\":[1,\"{{ a }}\",{\"x\":null}],\"t\":\"plain\",\"q\":\"{{ '{{' }}\"}",
         "{l:array{0:int64 1, 1:int64 1, 2:{x:null}}, t:'plain', q:'{{'}"},
        {"{\"f\":{\"$lt\":\"{{ a }}\"},\"$or\":[{\"g\":\"{{ s }}\"}]}",
         "{f:{$lt:int64 1}, $or:array{0:{g:'$x'}}}"},
        {"{\"f\":\"{{ op }}\"}", "!operator f"},
        {"{\"$or\":[{\"f\":\"{{ deep }}\"}]}", "!operator $or.0.f"},
        {"{\"f\":\"{{ n }}\"}", "!no_field f"},
        {"{\"f\":\"{{ n | none }}\"}", "{f:'none'}"},
        {"{\"f\":\"{{ missing }}\"}", "!no_field f"},
        {"{\"c.{{ a }}\":1}", "{c.1:int64 1}"},
        {"{\"c.{{ dot }}\":1}", "!bad_key c.{{ dot }}"},
        {"{\"c.{{ s }}\":1}", "!bad_key c.{{ s }}"},
        {"{\"c.{{ e }}\":1}", "!bad_key c.{{ e }}"},
        {"{\"c_{{ s }}\":1}", "{c_$x:int64 1}"},
        {"{\"c.{{ missing }}\":1}", "!no_field c.{{ missing }}"},
        {"{\"r\":{\"$oid\":\"{{ oid }}\"},\"d\":{\"$date\":\"1970-01-01T00:00:00Z\"}}",
         "{r:oid 000102030405060708090a0b, d:date 0}"},
        {"{\"r\":{\"$oid\":\"{{ a }}\"}}", "!bad_object_id r"},
        {"{\"r\":{\"$numberDecimal\":\"{{ a }}.5\"}}",
         "{r:decimal 303e000000000000 000000000000000f}"},
        {"{\"x\":{\"y\":[\"{{ a\"]}}", "?.x.y[0]"},
        {"{\"x\":{\"{{ a }}\":1}}", "?.x.{{ a }}"},
        {"{\"${{ a }}\":1}", "?.${{ a }}"},
        {"{\"r\":{\"$oid\":[1]}}", "?.r"},
        {"{\"c.{{ e }}.d\":1}", "!bad_key c.{{ e }}.d"},
        {"{\"$expr\":{\"$gt\":[\"$n\",\"{{ s }}\"]},\"x\":\"{{ s }}\"}",
         "{$expr:{$gt:array{0:'$n', 1:{$literal:'$x'}}}, x:'$x'}"},
        {"{\"$expr\":{\"$eq\":[{\"$literal\":\"{{ s }}\"},{\"$literal\":[\"{{ s }}\"]},\"{{ s "
         "}}\"]}}",
         "{$expr:{$eq:array{0:{$literal:'$x'}, 1:{$literal:array{0:'$x'}}, 2:{$literal:'$x'}}}}"},
        {"{\"$where\":{\"$literal\":\"{{ s }}\"}}", "?.$where.$literal"},
        {"{\"$where\":\"this.a == {{ a }}\"}", "?.$where"},
        {"{\"$where\":\"this.a == 1\"}", "{$where:'this.a == 1'}"},
        {"{\"$expr\":{\"$function\":{\"body\":\"f({{ a }})\",\"args\":[]}}}",
         "?.$expr.$function.body"},
        {"{\"$expr\":{\"$function\":{\"body\":\"f\",\"args\":[\"{{ s }}\"]}}}",
         "{$expr:{$function:{body:'f', args:array{0:{$literal:'$x'}}}}}"},
        {"{\"$rename\":{\"a\":\"{{ s }}\"},\"$set\":{\"b\":\"{{ s }}\"}}", "?.$rename.a"},
        {"{\"$rename\":{\"a\":\"b\"},\"$set\":{\"b\":\"{{ s }}\"}}",
         "{$rename:{a:'b'}, $set:{b:'$x'}}"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        shaped(f, false, rows[i][0], ev, rows[i][1]);
    shaped(f, true, "{\"$set\":{\"a\":\"{{ s }}\",\"b\":\"$own\",\"c\":\"_{{ s }}\"}}", ev,
           "{$set:{a:{$literal:'$x'}, b:'$own', c:{$literal:'_$x'}}}");
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(types_that_json_lacks),
        T(typed_paths),
        T(documents_behind_each_other),
        T(documents_with_placeholders),
    };
    return cmocka_run_group_tests_name("mongodb_shape", tests, NULL, NULL);
}
