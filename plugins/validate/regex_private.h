/* SPDX-License-Identifier: Apache-2.0
 *
 * validate/regex_private.h: the compiled form, between its compiler and its matcher.
 */
#ifndef VALIDATE_REGEX_PRIVATE_H
#define VALIDATE_REGEX_PRIVATE_H

#include "regex.h"

#define CODE_POINT_MAX 0x10FFFFu

struct range {
    uint32_t lo, hi;
};

/* Code points: bits for ASCII, sorted ranges for the rest. */
struct char_class {
    uint64_t ascii[2];
    struct range *ranges;
    uint32_t n;
    bool negated;
};

enum op {
    OP_CHAR,     /* arg: code point */
    OP_ANY,      /* all but line ends */
    OP_CLASS,    /* arg: index of the class */
    OP_SPLIT,    /* x and y */
    OP_JUMP,     /* x */
    OP_BEGIN,    /* ^ */
    OP_END,      /* $ */
    OP_WORD,     /* \b */
    OP_NOT_WORD, /* \B */
    OP_MATCH
};

struct state {
    uint8_t op;
    uint16_t x, y; /* next states; x of OP_CHAR and others too */
    uint32_t arg;
};

struct regex {
    struct state *states;
    uint32_t n_states;
    struct char_class *classes;
    bool anchored; /* begins with ^: only the start of the text can match */
};

static inline bool class_has(const struct char_class *c, uint32_t cp)
{
    bool in = false;
    if (cp < 128) {
        in = (c->ascii[cp >> 6] >> (cp & 63) & 1) != 0;
    } else {
        uint32_t low = 0, high = c->n;
        while (low < high) {
            uint32_t mid = (low + high) / 2;
            if (cp > c->ranges[mid].hi)
                low = mid + 1;
            else
                high = mid;
        }
        in = low < c->n && cp >= c->ranges[low].lo;
    }
    return in != c->negated;
}

#define REGEX_REPEAT_MAX 1000
#define REGEX_REPEAT_EVER UINT32_MAX

/* ---- While it is compiled ---- */

enum node_kind { NODE_EMPTY, NODE_LEAF, NODE_JOIN, NODE_EITHER, NODE_REPEAT };

struct node {
    enum node_kind kind;
    enum op op;        /* LEAF */
    uint32_t arg;      /* LEAF */
    uint32_t min, max; /* REPEAT */
    struct node *a, *b;
};

struct compiler {
    const struct weir_host *h;
    struct weir_arena *arena;
    const char *begin, *p, *end;
    const char *why;
    const char *why_at;
    uint32_t nesting;
    struct char_class *classes;
    uint32_t n_classes, cap_classes;
    struct state *states;
    uint32_t n_states;
};

/* The first mistake counts. Returns NULL. */
void *regex_fail(struct compiler *c, const char *at, const char *why);
struct node *regex_node(struct compiler *c, enum node_kind kind, struct node *a, struct node *b);
struct node *regex_leaf(struct compiler *c, enum op op, uint32_t arg);

static inline bool regex_next_is(struct compiler *c, char ch)
{
    if (c->p == c->end || *c->p != ch)
        return false;
    c->p++;
    return true;
}

/* One character, and what stands behind a backslash (at `at`) for one. */
uint32_t regex_take_char(struct compiler *c);
uint32_t regex_take_escape(struct compiler *c, const char *at);
/* \d and its like at c->p: a leaf, or NULL where none is there. */
struct node *regex_named_class(struct compiler *c);
/* [...], behind the opening bracket. */
struct node *regex_class(struct compiler *c, const char *open);

#endif
