/* SPDX-License-Identifier: Apache-2.0
 *
 * Patterns by PCRE2, compiled to machine code where the system allows that.
 *
 * PCRE2's own limits count for each place of the text where a match may begin, so they do not bound
 * a search: \s+$ over a megabyte of blanks would run for minutes. Hence every item of a pattern has
 * a callout, and it counts how far the match has moved since the one before: the sum bounds the
 * time, and is the same on every machine.
 */
#include "pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdio.h>

#define PATTERN_BYTES_MAX 65536
#define NESTING_MAX 100
#define HEAP_KIB_MAX 16384u /* of the interpreter */
#define MATCH_LIMIT 100000000u
#define STACK_FIRST 32768u /* of compiled patterns */
#define STACK_MAX 4194304u
#define STEP_BYTES 16u /* that a back reference compares in the time of a step */

struct pattern {
    struct pattern *next;
    pcre2_code *code;
    struct weir_str text;
    bool refers_back;
};

/* The memory functions are the host's; they outlive each instance, unlike its host table. */
struct heap {
    void *(*alloc)(size_t size);
    void (*free)(void *p);
};

struct patterns {
    struct heap heap;
    const struct weir_host *h;
    pcre2_general_context *memory;
    pcre2_compile_context *compile;
    struct pattern *first;
};

struct matcher {
    struct heap heap;
    pcre2_general_context *memory;
    pcre2_match_context *match;
    pcre2_match_data *data;
    pcre2_jit_stack *stack;
    size_t at; /* of the last callout */
    uint64_t item_cost, left;
};

static void *heap_alloc(size_t size, void *heap)
{
    return ((struct heap *)heap)->alloc(size);
}

static void heap_free(void *p, void *heap)
{
    ((struct heap *)heap)->free(p);
}

/* ---- Compiling ---- */

struct patterns *patterns_new(const struct weir_host *h)
{
    struct patterns *p = h->alloc(sizeof(*p));
    if (p == NULL)
        return NULL;
    p->heap = (struct heap){h->alloc, h->free};
    p->h = h;
    p->memory = pcre2_general_context_create(heap_alloc, heap_free, &p->heap);
    p->compile = p->memory != NULL ? pcre2_compile_context_create(p->memory) : NULL;
    if (p->compile == NULL) {
        patterns_free(p);
        return NULL;
    }
    (void)pcre2_set_parens_nest_limit(p->compile, NESTING_MAX);
    (void)pcre2_set_newline(p->compile, PCRE2_NEWLINE_LF);
    return p;
}

void patterns_free(struct patterns *take_p)
{
    if (take_p == NULL)
        return;
    for (struct pattern *p = take_p->first; p != NULL;) {
        struct pattern *next = p->next;
        pcre2_code_free(p->code);
        take_p->heap.free(p);
        p = next;
    }
    pcre2_compile_context_free(take_p->compile);
    pcre2_general_context_free(take_p->memory);
    take_p->heap.free(take_p);
}

static pcre2_code *compile_ecma(const struct patterns *set, const struct ecma *e,
                                char why[PATTERN_WHY], size_t *ret_offset)
{
    const uint32_t options = PCRE2_UTF | PCRE2_DOLLAR_ENDONLY | PCRE2_ALLOW_EMPTY_CLASS |
                             PCRE2_MATCH_UNSET_BACKREF | PCRE2_NEVER_BACKSLASH_C |
                             PCRE2_AUTO_CALLOUT;
    PCRE2_SIZE offset = 0;
    PCRE2_UCHAR words[120];
    int error = 0;
    pcre2_code *code =
        pcre2_compile((PCRE2_SPTR)e->text, e->len, options, &error, &offset, set->compile);
    if (code == NULL) {
        (void)pcre2_get_error_message(error, words, sizeof(words));
        (void)snprintf(why, PATTERN_WHY, "%s", (const char *)words);
        /* PCRE2 stops behind what it cannot take, but for look-behinds, before which it goes back.
         */
        if (offset > 0 && error != PCRE2_ERROR_LOOKBEHIND_NOT_FIXED_LENGTH)
            offset--;
        *ret_offset = e->from[offset < e->len ? offset : e->len];
    }
    return code;
}

const struct pattern *pattern_compile(struct patterns *set, struct weir_str text,
                                      char why[PATTERN_WHY], size_t *ret_offset)
{
    struct ecma e = {0};
    *ret_offset = 0;
    if (text.len > PATTERN_BYTES_MAX) {
        (void)snprintf(why, PATTERN_WHY, "the pattern has %zu bytes, more than %d", text.len,
                       PATTERN_BYTES_MAX);
        return NULL;
    }
    if (!ecma_translate(set->h, text, &e, why, ret_offset))
        return NULL;
    struct pattern *p = set->heap.alloc(sizeof(*p));
    if (p == NULL) {
        (void)snprintf(why, PATTERN_WHY, "no memory for the pattern");
    } else if ((p->code = compile_ecma(set, &e, why, ret_offset)) == NULL) {
        set->heap.free(p);
        p = NULL;
    } else {
        /* Where the system forbids it, PCRE2 interprets: slower, the same answers. */
        (void)pcre2_jit_compile(p->code, PCRE2_JIT_COMPLETE);
        p->text = text;
        p->refers_back = e.refers_back;
        p->next = set->first;
        set->first = p;
    }
    set->heap.free(e.text);
    set->heap.free(e.from);
    return p;
}

struct weir_str pattern_text(const struct pattern *p)
{
    return p->text;
}

/* ---- Matching ---- */

static int count_steps(pcre2_callout_block *block, void *arg)
{
    struct matcher *m = arg;
    size_t at = block->current_position;
    uint64_t cost = m->item_cost + (at > m->at ? at - m->at : m->at - at);
    m->at = at;
    if (cost > m->left) {
        m->left = 0;
        return PCRE2_ERROR_MATCHLIMIT;
    }
    m->left -= cost;
    return 0;
}

struct matcher *matcher_new(const struct weir_host *h)
{
    struct matcher *m = h->alloc(sizeof(*m));
    if (m == NULL)
        return NULL;
    m->heap = (struct heap){h->alloc, h->free};
    m->memory = pcre2_general_context_create(heap_alloc, heap_free, &m->heap);
    m->match = pcre2_match_context_create(m->memory);
    m->data = pcre2_match_data_create(1, m->memory);
    m->stack = pcre2_jit_stack_create(STACK_FIRST, STACK_MAX, m->memory);
    if (m->memory == NULL || m->match == NULL || m->data == NULL) {
        matcher_free(m);
        return NULL;
    }
    (void)pcre2_set_callout(m->match, count_steps, m);
    (void)pcre2_set_heap_limit(m->match, HEAP_KIB_MAX);
    (void)pcre2_set_match_limit(m->match, MATCH_LIMIT);
    (void)pcre2_set_depth_limit(m->match, MATCH_LIMIT);
    if (m->stack != NULL)
        pcre2_jit_stack_assign(m->match, NULL, m->stack);
    return m;
}

void matcher_free(struct matcher *take_m)
{
    if (take_m == NULL)
        return;
    pcre2_jit_stack_free(take_m->stack);
    pcre2_match_data_free(take_m->data);
    pcre2_match_context_free(take_m->match);
    pcre2_general_context_free(take_m->memory);
    take_m->heap.free(take_m);
}

enum pattern_result pattern_match(const struct pattern *p, struct matcher *m, struct weir_str text,
                                  uint64_t *steps_left)
{
    m->at = 0;
    m->item_cost = 1 + (p->refers_back ? text.len / STEP_BYTES : 0);
    m->left = *steps_left + text.len * PATTERN_STEPS_BYTE;
    int rc = pcre2_match(p->code, (PCRE2_SPTR)(text.ptr != NULL ? text.ptr : ""), text.len, 0,
                         PCRE2_NO_UTF_CHECK, m->data, m->match);
    *steps_left = m->left;
    if (rc == PCRE2_ERROR_NOMATCH)
        return PATTERN_NO;
    return rc >= 0 ? PATTERN_YES : PATTERN_TOO_MUCH;
}
