/* SPDX-License-Identifier: Apache-2.0
 *
 * model/diag.c: keeps diagnostics and the texts that they point into. Showing them is
 * model/diag_print.c.
 */
#include <base/check.h>
#include <base/mem.h>
#include <base/str.h>
#include <model/diag_codes.h>
#include <model/diag_private.h>
#include <stdlib.h>

#define KEPT_MAX 500

struct code {
    const char *name;
    const char *text;
};

static const struct code codes[] = {
#define ROW(name, text) {name, text},
    WR_DIAG_CODES(ROW)
#undef ROW
};

const char *wr_diag_explain(struct weir_str code)
{
    for (size_t i = 0; i < WR_COUNT(codes); i++) {
        if (wr_str_is(code, codes[i].name))
            return codes[i].text;
    }
    return NULL;
}

const char *wr_diag_code(uint32_t i)
{
    return i < WR_COUNT(codes) ? codes[i].name : NULL;
}

struct wr_diags *wr_diags_new(void)
{
    struct wr_diags *d = wr_xalloc(sizeof(*d));

    wr_arena_init(&d->arena, 4096);
    return d;
}

void wr_diags_free(struct wr_diags *d)
{
    if (d == NULL)
        return;
    for (struct wr_tracked *t = d->texts; t != NULL; t = t->next) {
        wr_free(t->masks);
        wr_free(t->lines);
    }
    wr_free(d->entries);
    wr_arena_done(&d->arena);
    wr_free(d);
}

static struct wr_tracked *track(struct wr_diags *d, const struct wr_text *text)
{
    struct wr_tracked *t;

    if (text == NULL)
        return NULL;
    for (t = d->texts; t != NULL; t = t->next) {
        if (t->text == text)
            return t;
    }
    t = wr_arena_xalloc(&d->arena, sizeof(*t));
    t->text = text;
    t->rank = d->n_texts++;
    t->next = d->texts;
    d->texts = t;
    return t;
}

const struct wr_text *wr_diags_text(struct wr_diags *d, struct weir_str name, struct weir_str text)
{
    struct wr_tracked *t = wr_arena_xalloc(&d->arena, sizeof(*t));

    t->own.name = wr_arena_xcopy(&d->arena, name);
    t->own.text = wr_arena_xcopy(&d->arena, text);
    t->text = &t->own;
    t->rank = d->n_texts++;
    t->next = d->texts;
    d->texts = t;
    return t->text;
}

void wr_diags_mask(struct wr_diags *d, const struct wr_text *text, size_t start, size_t end)
{
    struct wr_tracked *t = track(d, text);

    if (t == NULL || start >= end)
        return;
    if (t->n_masks == t->cap_masks) {
        t->cap_masks = t->cap_masks ? t->cap_masks * 2 : 8;
        t->masks = wr_xrealloc(t->masks, t->cap_masks * sizeof(*t->masks));
    }
    t->masks[t->n_masks++] = (struct wr_mask){start, end};
}

void wr_diags_mask_guess(struct wr_diags *d, const struct wr_text *text)
{
    struct wr_tracked *t = track(d, text);

    if (t != NULL)
        t->guess = true;
}

static struct weir_str keep(struct wr_diags *d, struct weir_str s)
{
    return s.len ? wr_arena_xcopy(&d->arena, s) : weir_str_n(NULL, 0);
}

static void put(struct wr_diags *d, const struct wr_diag *diag)
{
    struct wr_diag_entry *e;

    if (d->n == d->cap) {
        d->cap = d->cap ? d->cap * 2 : 16;
        d->entries = wr_xrealloc(d->entries, d->cap * sizeof(*d->entries));
    }
    e = &d->entries[d->n];
    *e = (struct wr_diag_entry){.diag = *diag, .tracked = track(d, diag->pos.text), .seq = d->n};
    e->diag.path = keep(d, diag->path);
    e->diag.message = keep(d, diag->message);
    e->diag.expected = keep(d, diag->expected);
    e->diag.found = keep(d, diag->found);
    e->diag.hint = keep(d, diag->hint);
    d->n++;
    d->counts[diag->severity]++;
    d->sorted = false;
}

/* The one entry that stands for all that are not kept. */
static void put_overflow(struct wr_diags *d, enum wr_severity severity)
{
    for (uint32_t i = d->n; i-- > 0 && d->n > KEPT_MAX;) {
        struct wr_diag *last = &d->entries[i].diag;
        if (strcmp(last->code, "too-many-problems") != 0)
            continue;
        if (severity == WR_ERROR && last->severity == WR_WARNING) {
            last->severity = WR_ERROR;
            d->counts[WR_WARNING]--;
            d->counts[WR_ERROR]++;
        }
        return;
    }
    put(d, &(struct wr_diag){.code = "too-many-problems",
                             .severity = severity,
                             .message = weir_cstr("there are more problems than can be shown")});
}

void wr_diags_add(struct wr_diags *d, const struct wr_diag *diag)
{
    WR_BUG_ON(diag->code == NULL || wr_diag_explain(weir_cstr(diag->code)) == NULL);
    if (diag->severity == WR_ERROR)
        d->errors_seen++;
    if (d->n < KEPT_MAX)
        put(d, diag);
    else
        put_overflow(d, diag->severity);
}

uint32_t wr_diags_count(const struct wr_diags *d, enum wr_severity severity)
{
    return d->counts[severity];
}

uint64_t wr_diags_errors_seen(const struct wr_diags *d)
{
    return d->errors_seen;
}

static int less(uint32_t a, uint32_t b)
{
    return a < b ? -1 : a > b;
}

static int compare(const void *va, const void *vb)
{
    const struct wr_diag_entry *a = va, *b = vb;
    int c = less(a->tracked ? a->tracked->rank : UINT32_MAX,
                 b->tracked ? b->tracked->rank : UINT32_MAX);

    if (c == 0)
        c = less(a->diag.pos.line, b->diag.pos.line);
    if (c == 0)
        c = less(a->diag.pos.col, b->diag.pos.col);
    return c != 0 ? c : less(a->seq, b->seq);
}

void wr_diags_sort(struct wr_diags *d)
{
    if (!d->sorted && d->n > 0)
        qsort(d->entries, d->n, sizeof(*d->entries), compare);
    d->sorted = true;
}

const struct wr_diag *wr_diags_at(struct wr_diags *d, uint32_t i)
{
    WR_BUG_ON(i >= d->n);
    wr_diags_sort(d);
    return &d->entries[i].diag;
}
