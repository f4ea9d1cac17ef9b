/* SPDX-License-Identifier: Apache-2.0
 *
 * Pattern text to a tree, tree to states. The tree is there because {n,m} repeats its part: each
 * repetition gets states of its own, up to REGEX_STATES_MAX in all.
 */
#include "regex_private.h"

#include <string.h>

#define NESTING_MAX 100

static struct node *parse_either(struct compiler *c);

void *regex_fail(struct compiler *c, const char *at, const char *why)
{
    if (c->why == NULL) {
        c->why = why;
        c->why_at = at;
    }
    return NULL;
}

static void *no_memory(struct compiler *c)
{
    return regex_fail(c, c->p, "no memory for the pattern");
}

struct node *regex_node(struct compiler *c, enum node_kind kind, struct node *a, struct node *b)
{
    if (c->why != NULL)
        return NULL;
    struct node *n = c->h->arena_alloc(c->arena, sizeof(*n));
    if (n == NULL)
        return no_memory(c);
    *n = (struct node){.kind = kind, .a = a, .b = b};
    return n;
}

struct node *regex_leaf(struct compiler *c, enum op op, uint32_t arg)
{
    struct node *n = regex_node(c, NODE_LEAF, NULL, NULL);
    if (n != NULL) {
        n->op = op;
        n->arg = arg;
    }
    return n;
}

/* ---- Structure ---- */

static struct node *parse_group(struct compiler *c, const char *open)
{
    if (regex_next_is(c, '?')) {
        bool lookbehind =
            c->end - c->p >= 2 && c->p[0] == '<' && (c->p[1] == '=' || c->p[1] == '!');
        if (c->p < c->end && (*c->p == '=' || *c->p == '!' || lookbehind))
            return regex_fail(c, open, "look-ahead and look-behind are not supported");
        if (regex_next_is(c, '<')) {
            while (c->p < c->end && *c->p != '>')
                c->p++;
            if (!regex_next_is(c, '>'))
                return regex_fail(c, open, "the group's name is never closed");
        } else if (!regex_next_is(c, ':')) {
            return regex_fail(c, open, "no such kind of group");
        }
    }
    if (++c->nesting > NESTING_MAX)
        return regex_fail(c, open, "groups are nested deeper than 100 levels");
    struct node *n = parse_either(c);
    c->nesting--;
    if (!regex_next_is(c, ')'))
        return regex_fail(c, open, "the parenthesis is never closed");
    return n;
}

static struct node *parse_escape(struct compiler *c, const char *at)
{
    if (c->p == c->end)
        return regex_fail(c, at, "a backslash at the end of the pattern");
    if (regex_next_is(c, 'b'))
        return regex_leaf(c, OP_WORD, 0);
    if (regex_next_is(c, 'B'))
        return regex_leaf(c, OP_NOT_WORD, 0);
    struct node *named = regex_named_class(c);
    if (named != NULL || c->why != NULL)
        return named;
    return regex_leaf(c, OP_CHAR, regex_take_escape(c, at));
}

static struct node *parse_atom(struct compiler *c)
{
    const char *at = c->p;
    if (regex_next_is(c, '('))
        return parse_group(c, at);
    if (regex_next_is(c, '['))
        return regex_class(c, at);
    if (regex_next_is(c, '\\'))
        return parse_escape(c, at);
    if (regex_next_is(c, '.'))
        return regex_leaf(c, OP_ANY, 0);
    if (regex_next_is(c, '^'))
        return regex_leaf(c, OP_BEGIN, 0);
    if (regex_next_is(c, '$'))
        return regex_leaf(c, OP_END, 0);
    if (*at == '*' || *at == '+' || *at == '?')
        return regex_fail(c, at, "there is nothing to repeat before it");
    if (*at == '{')
        return regex_fail(c, at, "write \\{ for the character itself");
    return regex_leaf(c, OP_CHAR, regex_take_char(c));
}

static bool take_number(struct compiler *c, uint32_t *ret)
{
    uint32_t v = 0;
    const char *first = c->p;
    for (; c->p < c->end && *c->p >= '0' && *c->p <= '9'; c->p++)
        v = v > REGEX_REPEAT_MAX ? v : v * 10 + (uint32_t)(*c->p - '0');
    *ret = v;
    return c->p > first;
}

static bool take_counts(struct compiler *c, const char *at, uint32_t *min, uint32_t *max)
{
    if (!take_number(c, min)) {
        (void)regex_fail(
            c, at, "expected a number of repetitions, as in {2,5}; write \\{ for the character");
        return false;
    }
    *max = *min;
    if (regex_next_is(c, ',') && !take_number(c, max))
        *max = REGEX_REPEAT_EVER;
    if (!regex_next_is(c, '}'))
        (void)regex_fail(c, at, "the brace is never closed");
    else if (*min > REGEX_REPEAT_MAX || (*max > REGEX_REPEAT_MAX && *max != REGEX_REPEAT_EVER))
        (void)regex_fail(c, at, "more than 1000 repetitions are not supported");
    else if (*max < *min)
        (void)regex_fail(c, at, "the numbers are the wrong way round");
    return c->why == NULL;
}

static struct node *parse_repeat(struct compiler *c)
{
    struct node *n = parse_atom(c);
    const char *at = c->p;
    uint32_t min = 0, max = REGEX_REPEAT_EVER;
    if (n == NULL)
        return NULL;
    if (regex_next_is(c, '+'))
        min = 1;
    else if (regex_next_is(c, '?'))
        max = 1;
    else if (regex_next_is(c, '{')) {
        if (!take_counts(c, at, &min, &max))
            return NULL;
    } else if (!regex_next_is(c, '*'))
        return n;
    if (n->kind == NODE_LEAF && n->op >= OP_BEGIN)
        return regex_fail(c, at, "^, $, \\b and \\B cannot be repeated");
    (void)regex_next_is(c, '?'); /* lazy or not is the same where only the match counts */
    struct node *repeat = regex_node(c, NODE_REPEAT, n, NULL);
    if (repeat != NULL) {
        repeat->min = min;
        repeat->max = max;
    }
    return repeat;
}

static struct node *parse_join(struct compiler *c)
{
    struct node *all = regex_node(c, NODE_EMPTY, NULL, NULL);
    while (c->why == NULL && c->p < c->end && *c->p != '|' && *c->p != ')') {
        struct node *n = parse_repeat(c);
        all = all == NULL || all->kind == NODE_EMPTY ? n : regex_node(c, NODE_JOIN, all, n);
    }
    return all;
}

static struct node *parse_either(struct compiler *c)
{
    struct node *n = parse_join(c);
    while (c->why == NULL && regex_next_is(c, '|'))
        n = regex_node(c, NODE_EITHER, n, parse_join(c));
    return n;
}

/* ---- States ---- */

static uint16_t emit(struct compiler *c, enum op op, uint32_t arg)
{
    if (c->n_states >= REGEX_STATES_MAX) {
        (void)regex_fail(c, c->begin, "the pattern is too large, mostly by {n,m} inside {n,m}");
        return 0;
    }
    uint16_t at = (uint16_t)c->n_states++;
    c->states[at] = (struct state){(uint8_t)op, (uint16_t)(at + 1), 0, arg};
    return at;
}

static void emit_node(struct compiler *c, const struct node *n);

static void emit_optional(struct compiler *c, const struct node *n, bool loop)
{
    uint16_t split = emit(c, OP_SPLIT, 0);
    emit_node(c, n);
    if (loop) {
        uint16_t jump = emit(c, OP_JUMP, 0);
        c->states[jump].x = split;
    }
    c->states[split].y = (uint16_t)c->n_states;
}

static void emit_either(struct compiler *c, const struct node *n)
{
    uint16_t split = emit(c, OP_SPLIT, 0);
    emit_node(c, n->a);
    uint16_t jump = emit(c, OP_JUMP, 0);
    c->states[split].y = (uint16_t)c->n_states;
    emit_node(c, n->b);
    c->states[jump].x = (uint16_t)c->n_states;
}

/* Joins lean to the left. Their parts are listed first, so that recursion goes as deep as groups
 * are nested and not as the pattern is long. */
static void emit_join(struct compiler *c, const struct node *n)
{
    uint32_t count = 1;
    for (const struct node *at = n; at->kind == NODE_JOIN; at = at->a)
        count++;
    const struct node **parts = c->h->arena_alloc(c->arena, count * sizeof(*parts));
    if (parts == NULL) {
        (void)no_memory(c);
        return;
    }
    uint32_t i = count;
    for (; n->kind == NODE_JOIN; n = n->a)
        parts[--i] = n->b;
    parts[--i] = n;
    for (; i < count && c->why == NULL; i++)
        emit_node(c, parts[i]);
}

static void emit_node(struct compiler *c, const struct node *n)
{
    if (c->why != NULL)
        return;
    switch (n->kind) {
    case NODE_EMPTY:
        (void)emit(c, OP_JUMP, 0);
        break;
    case NODE_LEAF:
        (void)emit(c, n->op, n->arg);
        break;
    case NODE_JOIN:
        emit_join(c, n);
        break;
    case NODE_EITHER:
        emit_either(c, n);
        break;
    case NODE_REPEAT:
        for (uint32_t i = 0; i < n->min && c->why == NULL; i++)
            emit_node(c, n->a);
        if (n->max == REGEX_REPEAT_EVER)
            emit_optional(c, n->a, true);
        else
            for (uint32_t i = n->min; i < n->max && c->why == NULL; i++)
                emit_optional(c, n->a, false);
        break;
    }
}

static bool begins_anchored(const struct node *n)
{
    while (n->kind == NODE_JOIN)
        n = n->a;
    return n->kind == NODE_LEAF && n->op == OP_BEGIN;
}

static struct regex *finish(struct compiler *c, const struct node *tree)
{
    struct regex *re = c->h->arena_alloc(c->arena, sizeof(*re));
    struct state *states = c->h->arena_alloc(c->arena, (c->n_states + 1) * sizeof(*states));
    if (re == NULL || states == NULL)
        return no_memory(c);
    memcpy(states, c->states, c->n_states * sizeof(*states));
    *re = (struct regex){states, c->n_states, c->classes, begins_anchored(tree)};
    return re;
}

struct regex *regex_compile(const struct weir_host *h, struct weir_arena *a,
                            struct weir_str pattern, const char **ret_why, size_t *ret_offset)
{
    const char *text = pattern.ptr != NULL ? pattern.ptr : "";
    struct compiler c = {.h = h, .arena = a, .begin = text, .p = text, .end = text + pattern.len};
    struct regex *re = NULL;
    c.states = h->alloc((REGEX_STATES_MAX + 1) * sizeof(*c.states));
    if (c.states == NULL) {
        (void)no_memory(&c);
    } else {
        const struct node *tree = parse_either(&c);
        if (c.why == NULL && c.p < c.end)
            (void)regex_fail(&c, c.p, "a closing parenthesis without an opening one");
        if (c.why == NULL)
            emit_node(&c, tree);
        if (c.why == NULL)
            (void)emit(&c, OP_MATCH, 0);
        if (c.why == NULL)
            re = finish(&c, tree);
    }
    h->free(c.states);
    if (re == NULL) {
        *ret_why = c.why;
        *ret_offset = (size_t)(c.why_at - c.begin);
    }
    return re;
}
