/* SPDX-License-Identifier: Apache-2.0
 *
 * conf_rig.h: a YAML text on its way to a tree, with its diagnostics. For one .c file a program.
 */
#ifndef CONF_RIG_H
#define CONF_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include <base/check.h>
#include <base/str.h>
#include <model/conf.h>

struct conf_rig {
    struct weir_arena a;
    struct wr_diags *d;
    struct wr_conf conf;
    bool ok;
};

__attribute__((unused)) static void conf_read_n(struct conf_rig *r, struct weir_str text)
{
    *r = (struct conf_rig){0};
    r->d = wr_diags_new();
    r->ok = wr_conf_parse(&r->a, wr_diags_text(r->d, weir_cstr("f"), text), r->d, &r->conf);
}

__attribute__((unused)) static void conf_read(struct conf_rig *r, const char *text)
{
    conf_read_n(r, weir_cstr(text));
}

__attribute__((unused)) static void conf_done(struct conf_rig *r)
{
    wr_diags_free(r->d);
    wr_arena_done(&r->a);
}

/* The node at "a.b" (a number is an index of a list). */
__attribute__((unused)) static struct wr_node *conf_at(const struct conf_rig *r, const char *path)
{
    struct wr_node *n = r->conf.root;

    while (n != NULL && *path != '\0') {
        size_t len = strcspn(path, ".");
        if (n->kind == WR_NODE_LIST) {
            n = n->items[strtol(path, NULL, 10)];
        } else {
            const struct wr_field *f = wr_node_field(n, weir_str_n(path, len));
            n = f != NULL ? f->value : NULL;
        }
        path += len + (path[len] == '.');
    }
    assert_non_null(n);
    return n;
}

/* "code line:col" of every diagnostic, one a line. */
__attribute__((unused)) static void conf_says(struct conf_rig *r, const char *expected)
{
    struct wr_buf b = {0};
    uint32_t n = wr_diags_count(r->d, WR_ERROR) + wr_diags_count(r->d, WR_WARNING);

    for (uint32_t i = 0; i < n; i++) {
        const struct wr_diag *diag = wr_diags_at(r->d, i);
        wr_buf_printf(&b, "%s %u:%u\n", diag->code, diag->pos.line, diag->pos.col);
    }
    assert_string_equal(b.ptr ? b.ptr : "", expected);
    wr_buf_done(&b);
}

/* Reads, expects exactly these mistakes, frees. */
__attribute__((unused)) static void conf_fails(const char *text, const char *expected)
{
    struct conf_rig r;

    conf_read(&r, text);
    assert_false(r.ok);
    conf_says(&r, expected);
    conf_done(&r);
}

#endif
