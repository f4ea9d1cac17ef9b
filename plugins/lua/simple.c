/* SPDX-License-Identifier: Apache-2.0
 *
 * Conditions that need no Lua; see simple.h. A text becomes a tree of at most NODES_MAX nodes:
 *
 *   or  := and {"or" and}          and   := compare {"and" compare}
 *   compare := unary {op unary}    unary := "not" unary | field | constant | "(" or ")"
 */
#include "simple.h"

#include <stdlib.h>
#include <string.h>

#define NODES_MAX 64
#define STEPS_MAX 8
#define DEPTH_MAX 32
#define EXACT (INT64_C(1) << 53) /* integers up to here are doubles, too */

enum kind { NIL, NULL_VALUE, BOOL, INTEGER, NUMBER, STRING, OTHER };

/* A value as Lua would see it. OTHER: an array or object. */
struct value {
    enum kind kind;
    union {
        bool yes;
        int64_t integer;
        double number;
        struct weir_str str;
    } as;
};

enum op { CONSTANT, FIELD, NOT, AND, OR, EQUAL, LESS, LESS_EQUAL };

struct node {
    enum op op;
    bool negate, swap; /* of EQUAL: ~=; of LESS and LESS_EQUAL: > and >= */
    uint8_t left, right;
    uint8_t n_steps;
    struct value constant;
    struct weir_str steps[STEPS_MAX]; /* of FIELD: views into the text */
};

struct simple {
    uint32_t n;
    uint8_t root;
    struct node nodes[NODES_MAX];
};

/* ---- Compiling ---- */

struct parser {
    const char *at, *end;
    struct simple *s;
    int depth;
    bool failed;
};

static bool is_name(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

static void skip_space(struct parser *p)
{
    while (p->at < p->end && (*p->at == ' ' || (*p->at >= '\t' && *p->at <= '\r')))
        p->at++;
}

static bool take(struct parser *p, const char *token)
{
    size_t len = strlen(token);
    skip_space(p);
    bool there = (size_t)(p->end - p->at) >= len && memcmp(p->at, token, len) == 0;
    bool word = is_name(token[0]);
    if (!there || (word && p->at + len < p->end && is_name(p->at[len])))
        return false;
    p->at += len;
    return true;
}

static uint8_t add(struct parser *p, enum op op)
{
    if (p->s->n == NODES_MAX) {
        p->failed = true;
        return 0;
    }
    p->s->nodes[p->s->n] = (struct node){.op = op};
    return (uint8_t)p->s->n++;
}

static uint8_t add_pair(struct parser *p, enum op op, uint8_t left, uint8_t right)
{
    uint8_t i = add(p, op);
    p->s->nodes[i].left = left;
    p->s->nodes[i].right = right;
    return i;
}

/* A quoted text without escapes. */
static bool take_string(struct parser *p, struct weir_str *ret)
{
    skip_space(p);
    if (p->at == p->end || (*p->at != '"' && *p->at != '\''))
        return false;
    const char *start = p->at + 1;
    const char *stop = memchr(start, *p->at, (size_t)(p->end - start));
    if (stop == NULL || memchr(start, '\\', (size_t)(stop - start)) != NULL) {
        p->failed = true;
        return false;
    }
    *ret = weir_str_n(start, (size_t)(stop - start));
    p->at = stop + 1;
    return true;
}

/* Digits, and a fraction of digits. Whatever else Lua reads as a number is not for here. */
static void take_number(struct parser *p, bool minus, struct value *ret)
{
    char text[32];
    size_t n = 0, dots = 0;
    skip_space(p);
    for (; p->at < p->end && n < 17 && ((*p->at >= '0' && *p->at <= '9') || *p->at == '.'); n++) {
        dots += *p->at == '.';
        text[n] = *p->at++;
    }
    text[n] = '\0';
    if (n == 0 || n == 17 || dots > 1 || text[0] == '.' || text[n - 1] == '.' ||
        (p->at < p->end && (is_name(*p->at) || *p->at == '.'))) {
        p->failed = true;
        return;
    }
    if (dots == 0) {
        int64_t integer = strtoll(text, NULL, 10);
        *ret = (struct value){.kind = INTEGER, .as.integer = minus ? -integer : integer};
    } else {
        double number = strtod(text, NULL);
        *ret = (struct value){.kind = NUMBER, .as.number = minus ? -number : number};
    }
}

static bool take_constant(struct parser *p, struct value *ret)
{
    struct weir_str text;
    *ret = (struct value){.kind = NIL};
    if (take(p, "nil"))
        return true;
    if (take(p, "true") || take(p, "false")) {
        *ret = (struct value){.kind = BOOL, .as.yes = p->at[-2] == 'u'};
        return true;
    }
    if (take_string(p, &text)) {
        *ret = (struct value){.kind = STRING, .as.str = text};
        return true;
    }
    skip_space(p);
    bool minus = take(p, "-");
    if (p->failed || p->at == p->end || (!minus && (*p->at < '0' || *p->at > '9')))
        return false;
    take_number(p, minus, ret);
    return !p->failed;
}

/* event.a.b or event["a"].b, behind the word. */
static uint8_t take_field(struct parser *p)
{
    uint8_t i = add(p, FIELD);
    struct node *node = &p->s->nodes[i];
    for (;;) {
        struct weir_str step = {NULL, 0};
        if (take(p, ".")) {
            skip_space(p);
            step.ptr = p->at;
            while (p->at < p->end && is_name(*p->at))
                p->at++;
            step.len = (size_t)(p->at - step.ptr);
        } else if (take(p, "[")) {
            p->failed |= !take_string(p, &step) || !take(p, "]");
        } else {
            break;
        }
        if (p->failed || node->n_steps == STEPS_MAX || (step.len == 0 && step.ptr == p->at)) {
            p->failed = true;
            return i;
        }
        node->steps[node->n_steps++] = step;
    }
    p->failed |= node->n_steps == 0; /* the event itself */
    return i;
}

static uint8_t take_or(struct parser *p);

static uint8_t take_unary(struct parser *p)
{
    struct value constant;
    uint8_t i = 0;
    if (p->failed || ++p->depth > DEPTH_MAX) {
        p->failed = true;
        return 0;
    }
    if (take(p, "not")) {
        uint8_t of = take_unary(p);
        i = add_pair(p, NOT, of, of);
    } else if (take(p, "event")) {
        i = take_field(p);
    } else if (take(p, "(")) {
        i = take_or(p);
        p->failed |= !take(p, ")");
    } else if (take(p, "weir.null")) {
        i = add(p, CONSTANT);
        p->s->nodes[i].constant.kind = NULL_VALUE;
    } else if (take_constant(p, &constant)) {
        i = add(p, CONSTANT);
        p->s->nodes[i].constant = constant;
    } else {
        p->failed = true;
    }
    p->depth--;
    return i;
}

static uint8_t take_compare(struct parser *p)
{
    static const struct {
        const char *token;
        enum op op;
        bool negate, swap;
    } ops[] = {{"==", EQUAL, false, false}, {"~=", EQUAL, true, false},
               {"<=", LESS_EQUAL, false, false}, {">=", LESS_EQUAL, false, true},
               {"<", LESS, false, false}, {">", LESS, false, true}};
    uint8_t left = take_unary(p);
    for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]) && !p->failed; i++) {
        if (!take(p, ops[i].token))
            continue;
        uint8_t right = take_unary(p);
        left = add_pair(p, ops[i].op, left, right);
        p->s->nodes[left].negate = ops[i].negate;
        p->s->nodes[left].swap = ops[i].swap;
        i = SIZE_MAX; /* another one may follow: they go from left to right */
    }
    return left;
}

static uint8_t take_and(struct parser *p)
{
    uint8_t left = take_compare(p);
    while (!p->failed && take(p, "and")) {
        uint8_t right = take_compare(p);
        left = add_pair(p, AND, left, right);
    }
    return left;
}

static uint8_t take_or(struct parser *p)
{
    uint8_t left = take_and(p);
    while (!p->failed && take(p, "or")) {
        uint8_t right = take_and(p);
        left = add_pair(p, OR, left, right);
    }
    return left;
}

struct simple *simple_compile(const struct weir_host *h, struct weir_str text)
{
    struct parser p = {.at = text.ptr, .end = text.ptr + text.len, .s = h->alloc(sizeof(struct simple))};
    if (p.s == NULL)
        return NULL;
    p.s->root = take_or(&p);
    skip_space(&p);
    if (!p.failed && p.at == p.end)
        return p.s;
    h->free(p.s);
    return NULL;
}

void simple_free(const struct weir_host *h, struct simple *take_s)
{
    h->free(take_s);
}

/* ---- Evaluating ---- */

struct evaluation {
    const struct simple *s;
    const struct weir_host *h;
    struct weir_batch *b;
    struct weir_event *ev;
    enum simple_result stopped; /* SIMPLE_ASK_LUA or SIMPLE_GONE: there is no value */
};

static struct value of_json(const struct weir_host *h, const struct weir_value *v)
{
    if (v == NULL)
        return (struct value){.kind = NIL};
    switch (h->value_type(v)) {
    case WEIR_NULL:
        return (struct value){.kind = NULL_VALUE};
    case WEIR_BOOL:
        return (struct value){.kind = BOOL, .as.yes = h->value_bool(v)};
    case WEIR_INT:
        return (struct value){.kind = INTEGER, .as.integer = h->value_int(v)};
    case WEIR_UINT:
    case WEIR_REAL:
    case WEIR_BIGNUM:
        return (struct value){.kind = NUMBER, .as.number = h->value_real(v)};
    case WEIR_STRING:
        return (struct value){.kind = STRING, .as.str = h->value_str(v)};
    default:
        return (struct value){.kind = OTHER};
    }
}

/* Nothing has fields but an object; a string has functions, which are Lua's. */
static struct value field(struct evaluation *e, const struct node *node)
{
    const struct weir_value *v = e->h->event_value(e->h, e->b, e->ev);
    if (v == NULL) {
        e->stopped = SIMPLE_GONE;
        return (struct value){.kind = NIL};
    }
    for (uint8_t i = 0; i < node->n_steps && v != NULL; i++) {
        if (e->h->value_type(v) == WEIR_STRING)
            e->stopped = SIMPLE_ASK_LUA;
        v = e->h->value_get(v, node->steps[i]);
    }
    return of_json(e->h, v);
}

static bool is_true(struct value v)
{
    return v.kind != NIL && (v.kind != BOOL || v.as.yes);
}

static bool is_number(struct value v)
{
    return v.kind == INTEGER || v.kind == NUMBER;
}

/* Below, equal, above: -1, 0, 1. */
static int compare_numbers(struct evaluation *e, struct value a, struct value b)
{
    if (a.kind == INTEGER && b.kind == INTEGER)
        return (a.as.integer > b.as.integer) - (a.as.integer < b.as.integer);
    double x = a.kind == INTEGER ? (double)a.as.integer : a.as.number;
    double y = b.kind == INTEGER ? (double)b.as.integer : b.as.number;
    bool exact = (a.kind != INTEGER || (a.as.integer <= EXACT && a.as.integer >= -EXACT)) &&
                 (b.kind != INTEGER || (b.as.integer <= EXACT && b.as.integer >= -EXACT));
    if (!exact)
        e->stopped = SIMPLE_ASK_LUA;
    return (x > y) - (x < y);
}

static bool equal(struct evaluation *e, struct value a, struct value b)
{
    if (is_number(a) && is_number(b))
        return compare_numbers(e, a, b) == 0;
    if (a.kind != b.kind)
        return false;
    switch (a.kind) {
    case BOOL:
        return a.as.yes == b.as.yes;
    case STRING:
        return a.as.str.len == b.as.str.len &&
               (a.as.str.len == 0 || memcmp(a.as.str.ptr, b.as.str.ptr, a.as.str.len) == 0);
    case OTHER:
        e->stopped = SIMPLE_ASK_LUA; /* the same one? */
        return false;
    default:
        return true;
    }
}

static bool less(struct evaluation *e, struct value a, struct value b, bool or_equal)
{
    if (is_number(a) && is_number(b))
        return compare_numbers(e, a, b) < (or_equal ? 1 : 0);
    if ((a.kind <= NULL_VALUE || b.kind <= NULL_VALUE) && a.kind != OTHER && b.kind != OTHER)
        return false; /* with nothing */
    e->stopped = SIMPLE_ASK_LUA; /* strings by their locale, and errors */
    return false;
}

static struct value eval(struct evaluation *e, uint8_t i)
{
    const struct node *node = &e->s->nodes[i];
    if (node->op == CONSTANT)
        return node->constant;
    if (node->op == FIELD)
        return field(e, node);
    struct value left = eval(e, node->left);
    if (e->stopped != SIMPLE_FALSE)
        return left;
    if (node->op == NOT)
        return (struct value){.kind = BOOL, .as.yes = !is_true(left)};
    if (node->op == AND || node->op == OR)
        return is_true(left) == (node->op == AND) ? eval(e, node->right) : left;
    struct value right = eval(e, node->right);
    if (e->stopped != SIMPLE_FALSE)
        return left;
    bool yes = node->op == EQUAL ? equal(e, left, right) != node->negate
               : node->swap      ? less(e, right, left, node->op == LESS_EQUAL)
                                 : less(e, left, right, node->op == LESS_EQUAL);
    return (struct value){.kind = BOOL, .as.yes = yes};
}

/* At its end JSON null counts as nothing. */
enum simple_result simple_eval(const struct simple *s, const struct weir_host *h,
                               struct weir_batch *b, struct weir_event *ev)
{
    struct evaluation e = {.s = s, .h = h, .b = b, .ev = ev};
    struct value v = eval(&e, s->root);
    if (e.stopped != SIMPLE_FALSE)
        return e.stopped;
    return is_true(v) && v.kind != NULL_VALUE ? SIMPLE_TRUE : SIMPLE_FALSE;
}
