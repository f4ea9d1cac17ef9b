/* SPDX-License-Identifier: Apache-2.0
 *
 * Matching: all states that the text so far can have led to, carried along character by character.
 * No state is in a set twice, so a character costs at most one step a state.
 */
#include "regex_private.h"

struct set {
    uint16_t *dense;
    uint32_t n;
};

struct matcher {
    const struct regex *re;
    const struct regex_scratch *scratch;
    const char *begin, *at, *end;
};

uint32_t regex_states(const struct regex *re)
{
    return re->n_states;
}

bool regex_scratch_init(const struct weir_host *h, struct weir_arena *a, uint32_t n_states,
                        struct regex_scratch *ret)
{
    uint16_t *p = h->arena_alloc(a, (size_t)n_states * 5 * sizeof(*p) + sizeof(*p));
    if (p == NULL)
        return false;
    for (uint32_t i = 0; i < n_states * 5; i++)
        p[i] = 0;
    *ret = (struct regex_scratch){{p, p + n_states}, p + 2 * n_states, p + 3 * n_states};
    return true;
}

/* The code point at p, and its length. The text has been checked to be UTF-8. */
static uint32_t decode(const char *p, const char *end, uint32_t *ret_len)
{
    const unsigned char *s = (const unsigned char *)p;
    size_t left = (size_t)(end - p);
    uint32_t len = s[0] < 0x80 ? 1 : s[0] < 0xE0 ? 2 : s[0] < 0xF0 ? 3 : 4;
    if (len > left)
        len = 1;
    *ret_len = len;
    switch (len) {
    case 1:
        return s[0];
    case 2:
        return (s[0] & 0x1Fu) << 6 | (s[1] & 0x3Fu);
    case 3:
        return (s[0] & 0x0Fu) << 12 | (s[1] & 0x3Fu) << 6 | (s[2] & 0x3Fu);
    default:
        return (s[0] & 0x07u) << 18 | (s[1] & 0x3Fu) << 12 | (s[2] & 0x3Fu) << 6 | (s[3] & 0x3Fu);
    }
}

static bool is_word(unsigned char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

static bool at_word_edge(const struct matcher *m)
{
    bool before = m->at > m->begin && is_word((unsigned char)m->at[-1]);
    bool after = m->at < m->end && is_word((unsigned char)*m->at);
    return before != after;
}

/* Pushes a state that is not in the set yet. */
static void push(const struct matcher *m, struct set *set, uint16_t *stack, uint32_t *depth,
                 uint16_t s)
{
    uint16_t place = m->scratch->place[s];
    if (place < set->n && set->dense[place] == s)
        return;
    m->scratch->place[s] = (uint16_t)set->n;
    set->dense[set->n++] = s;
    stack[(*depth)++] = s;
}

/* Adds a state and all that it leads to without a character. True where that is a match. Every
 * state is pushed once, so the stack holds them all. */
static bool add(const struct matcher *m, struct set *set, uint16_t first)
{
    uint16_t *stack = m->scratch->stack;
    uint32_t depth = 0;
    push(m, set, stack, &depth, first);
    while (depth > 0) {
        const struct state *s = &m->re->states[stack[--depth]];
        switch (s->op) {
        case OP_SPLIT:
            push(m, set, stack, &depth, s->y);
            push(m, set, stack, &depth, s->x);
            break;
        case OP_JUMP:
            push(m, set, stack, &depth, s->x);
            break;
        case OP_BEGIN:
            if (m->at == m->begin)
                push(m, set, stack, &depth, s->x);
            break;
        case OP_END:
            if (m->at == m->end)
                push(m, set, stack, &depth, s->x);
            break;
        case OP_WORD:
        case OP_NOT_WORD:
            if (at_word_edge(m) == (s->op == OP_WORD))
                push(m, set, stack, &depth, s->x);
            break;
        case OP_MATCH:
            return true;
        default:
            break;
        }
    }
    return false;
}

static bool takes(const struct regex *re, const struct state *s, uint32_t cp)
{
    switch (s->op) {
    case OP_CHAR:
        return s->arg == cp;
    case OP_ANY:
        return cp != '\n' && cp != '\r' && cp != 0x2028 && cp != 0x2029;
    case OP_CLASS:
        return class_has(&re->classes[s->arg], cp);
    default:
        return false;
    }
}

bool regex_match(const struct regex *re, const struct regex_scratch *scratch, struct weir_str text)
{
    const char *begin = text.ptr != NULL ? text.ptr : "";
    struct matcher m = {re, scratch, begin, begin, begin + text.len};
    struct set now = {scratch->lists[0], 0}, next = {scratch->lists[1], 0};
    if (add(&m, &now, 0))
        return true;
    while (m.at < m.end && (now.n > 0 || !re->anchored)) {
        uint32_t len;
        uint32_t cp = decode(m.at, m.end, &len);
        m.at += len;
        next.n = 0;
        for (uint32_t i = 0; i < now.n; i++) {
            const struct state *s = &re->states[now.dense[i]];
            if (takes(re, s, cp) && add(&m, &next, s->x))
                return true;
        }
        if (!re->anchored && add(&m, &next, 0))
            return true;
        struct set swap = now;
        now = next;
        next = swap;
    }
    return false;
}
