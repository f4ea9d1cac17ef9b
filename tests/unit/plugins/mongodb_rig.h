/* SPDX-License-Identifier: Apache-2.0
 *
 * The writer of the sink mongodb for its unit tests: the sources, a reader of the test's own that
 * takes the bytes apart again and checks every length, and a fixture round the writer.
 */
#ifndef TESTS_MONGODB_RIG_H
#define TESTS_MONGODB_RIG_H

#include <engine/host.h>
#include <model/template.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../../plugins/common/rfc3339.c"
#include "../../../plugins/mongodb/decimal.c"
#include "../../../plugins/mongodb/doc.c"
#include "../../../plugins/mongodb/put.c"
#include "../../../plugins/mongodb/shape.c"
#include "../../../plugins/mongodb/typed.c"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

/* ---- A reader that trusts nothing ---- */

struct text {
    char s[4096];
    size_t n;
};

static void __attribute__((format(printf, 2, 3))) add(struct text *t, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(t->s + t->n, sizeof(t->s) - t->n, fmt, args);
    va_end(args);
    assert_true(n >= 0 && (size_t)n < sizeof(t->s) - t->n);
    t->n += (size_t)n;
}

static uint64_t load(const uint8_t *p, int n)
{
    uint64_t v = 0;
    for (int i = n; i-- > 0;)
        v = v << 8 | p[i];
    return v;
}

static const uint8_t *dump_doc(struct text *t, const uint8_t *p, const uint8_t *limit);

static const uint8_t *dump_value(struct text *t, uint8_t type, const uint8_t *p,
                                 const uint8_t *limit)
{
    double real;
    size_t len;
    switch (type) {
    case BSON_DOUBLE:
        memcpy(&real, p, 8);
        add(t, "double %.17g", real);
        return p + 8;
    case BSON_STRING:
        len = load(p, 4);
        assert_true(len >= 1 && p + 4 + len <= limit && p[4 + len - 1] == 0);
        add(t, "'");
        for (size_t i = 0; i + 1 < len; i++)
            p[4 + i] == 0 ? add(t, "<NUL>") : add(t, "%c", p[4 + i]);
        add(t, "'");
        return p + 4 + len;
    case BSON_OBJECT:
        return dump_doc(t, p, limit);
    case BSON_ARRAY:
        add(t, "array");
        return dump_doc(t, p, limit);
    case BSON_BOOL:
        assert_true(*p <= 1);
        add(t, *p ? "true" : "false");
        return p + 1;
    case BSON_DATE:
        add(t, "date %lld", (long long)load(p, 8));
        return p + 8;
    case BSON_OBJECT_ID:
        add(t, "oid ");
        for (int i = 0; i < 12; i++)
            add(t, "%02x", p[i]);
        return p + 12;
    case BSON_BINARY:
        len = load(p, 4);
        assert_true(p + 5 + len <= limit);
        add(t, "bin %d ", p[4]);
        for (size_t i = 0; i < len; i++)
            add(t, "%02x", p[5 + i]);
        return p + 5 + len;
    case BSON_NULL:
        add(t, "null");
        return p;
    case BSON_INT64:
        add(t, "int64 %lld", (long long)load(p, 8));
        return p + 8;
    case BSON_DECIMAL128:
        add(t, "decimal %016llx %016llx", (unsigned long long)load(p + 8, 8),
            (unsigned long long)load(p, 8));
        return p + 16;
    default:
        fail_msg("type 0x%02x", type);
        return NULL;
    }
}

static const uint8_t *dump_doc(struct text *t, const uint8_t *p, const uint8_t *limit)
{
    size_t len = load(p, 4);
    const uint8_t *end = p + len;
    assert_true(len >= 5 && end <= limit && end[-1] == 0);
    add(t, "{");
    for (p += 4; p < end - 1;) {
        uint8_t type = *p++;
        const uint8_t *nul = memchr(p, 0, (size_t)(end - p));
        assert_non_null(nul);
        add(t, "%s%s:", t->s[t->n - 1] == '{' ? "" : ", ", (const char *)p);
        p = dump_value(t, type, nul + 1, end - 1);
    }
    assert_ptr_equal(p, end - 1);
    add(t, "}");
    return end;
}

/* ---- Around the writer ---- */

struct fixture {
    const struct weir_host *h;
    struct weir_arena *a;
    struct type_node types;
    struct doc_writer w;
};

static inline int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    f->h = wr_host_control();
    f->a = f->h->arena_new(f->h);
    doc_writer_init(&f->w, f->h, &f->types);
    f->w.scratch = f->a;
    *state = f;
    return 0;
}

static inline int teardown(void **state)
{
    struct fixture *f = *state;
    doc_writer_done(&f->w);
    f->h->arena_free(f->a);
    free(f);
    return 0;
}

static const struct weir_value *parse(struct fixture *f, const char *json, size_t len)
{
    struct weir_error err = {0};
    const struct weir_value *v = f->h->value_parse(f->a, weir_str_n(json, len), &err);
    if (v == NULL)
        fail_msg("%s", err.text);
    return v;
}

static inline void assert_doc_n(struct fixture *f, const char *json, size_t len,
                                const char *expected)
{
    const struct doc_id none = {0};
    struct text t = {.n = 0};
    if (!doc_write(&f->w, parse(f, json, len), &none))
        fail_msg("%s: %s: %s", f->w.code, f->w.path, f->w.why);
    assert_ptr_equal(dump_doc(&t, f->w.data, f->w.data + f->w.len), f->w.data + f->w.len);
    assert_string_equal(t.s, expected);
}

static inline void assert_doc(struct fixture *f, const char *json, const char *expected)
{
    assert_doc_n(f, json, strlen(json), expected);
}

static inline void assert_refused(struct fixture *f, const char *json, const char *code,
                                  const char *path)
{
    const struct doc_id none = {0};
    assert_false(doc_write(&f->w, parse(f, json, strlen(json)), &none));
    assert_string_equal(f->w.code, code);
    assert_string_equal(f->w.path, path);
    assert_true(strlen(f->w.why) > 10);
    assert_doc(f, "{\"next\":1}", "{next:int64 1}");
}

static inline const struct weir_value *with_string(struct fixture *f, size_t len)
{
    struct weir_value *v = f->h->make_object(f->a);
    char *text = malloc(len);
    memset(text, 'x', len);
    assert_true(
        f->h->object_set(f->a, v, weir_str_n("s", 1), f->h->make_str(f->a, weir_str_n(text, len))));
    free(text);
    return v;
}

#endif
