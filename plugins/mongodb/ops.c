/* SPDX-License-Identifier: Apache-2.0
 *
 * From a batch to operations: each event's database, collection and _id, and chains of events that
 * have one _id, since an unordered bulk promises no order between two operations on one document.
 */
#include "sink.h"
#include "../common/hash.h"

#include <stdarg.h>
#include <stdio.h>

#define DATABASE_MAX 63
#define NAMESPACE_MAX 255

static const char *const type_words[] = {"null",       "a boolean", "an integer",
                                         "an integer", "a float",   "a number",
                                         "a string",   "an array",  "an object"};

void result_set(struct job *j, struct weir_result *r, enum weir_verdict verdict, const char *code,
                const char *fmt, ...)
{
    char text[600];
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    size_t len = n < 0 ? 0 : (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1;
    r->verdict = verdict;
    r->code = code;
    r->message = j->s->h->arena_copy(j->a, weir_str_n(text, len));
}

static bool has_any(struct weir_str s, const char *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (s.len > 0 && memchr(s.ptr, bytes[i], s.len) != NULL)
            return true;
    return false;
}

const char *name_wrong(struct weir_str database, struct weir_str collection)
{
    static const char never[] = "/\\. \"$*<>:|?"; /* with its NUL */
    if (database.len == 0)
        return "the name of the database is empty";
    if (database.len > DATABASE_MAX)
        return "the name of the database is longer than 63 bytes";
    if (has_any(database, never, sizeof(never)))
        return "the name of the database holds one of / \\ . \" $ * < > : | ?, a space or NUL";
    if (collection.len == 0)
        return "the name of the collection is empty";
    if (has_any(collection, "$", sizeof("$")))
        return "the name of the collection holds $ or NUL";
    if (collection.ptr[0] == '.' || collection.ptr[collection.len - 1] == '.')
        return "the name of the collection begins or ends with a dot";
    if (collection.len >= 7 && memcmp(collection.ptr, "system.", 7) == 0)
        return "collections named system.* belong to the server";
    if (database.len + 1 + collection.len > NAMESPACE_MAX)
        return "the names of database and collection are longer than 255 bytes together";
    return NULL;
}

/* ---- Where ---- */

static bool render(struct job *j, struct weir_batch *b, struct weir_event *ev,
                   const struct weir_template *t, const char *literal, struct weir_result *r,
                   struct weir_str *ret)
{
    const struct weir_host *h = j->s->h;
    struct weir_error err = {0};
    if (literal != NULL) {
        *ret = weir_cstr(literal);
        return true;
    }
    *ret = h->template_render(h, t, b, ev, j->a, &err);
    if (ret->ptr != NULL)
        return true;
    result_set(j, r, WEIR_VERDICT_REJECTED, "no_field", "%s", err.text);
    return false;
}

static const char *text_of(struct job *j, struct weir_str s)
{
    return j->s->h->arena_printf(j->a, "%.*s", (int)s.len, s.ptr).ptr;
}

static bool same_text(const char *text, struct weir_str s)
{
    return strncmp(text, s.ptr, s.len) == 0 && text[s.len] == '\0';
}

/* The index of that target, OP_NONE where memory is used up. There are few, mostly one. */
static uint32_t target_index(struct job *j, struct weir_str database, struct weir_str collection)
{
    for (uint32_t i = j->n_targets; i-- > 0;)
        if (same_text(j->targets[i].collection, collection) &&
            same_text(j->targets[i].database, database))
            return i;
    struct target *t = &j->targets[j->n_targets];
    t->database = text_of(j, database);
    t->collection = text_of(j, collection);
    if (t->database == NULL || t->collection == NULL)
        return OP_NONE;
    return j->n_targets++;
}

static bool find_target(struct job *j, struct weir_batch *b, struct weir_event *ev, struct op *op)
{
    const struct sink *s = j->s;
    struct weir_str database, collection;
    if (s->database != NULL && s->collection != NULL && j->n_targets > 0) {
        op->target = 0;
        return true;
    }
    if (!render(j, b, ev, s->config->database, s->database, op->result, &database) ||
        !render(j, b, ev, s->config->collection, s->collection, op->result, &collection))
        return false;
    const char *wrong = name_wrong(database, collection);
    if (wrong != NULL) {
        result_set(j, op->result, WEIR_VERDICT_REJECTED, "bad_namespace", "%s", wrong);
        return false;
    }
    op->target = target_index(j, database, collection);
    if (op->target != OP_NONE)
        return true;
    result_set(j, op->result, WEIR_VERDICT_UNAVAILABLE, "no_memory", "no memory for a name");
    return false;
}

/* ---- By which _id ---- */

static bool set_bytes(struct job *j, struct op *op)
{
    struct doc_writer *w = &j->s->selector;
    if (op->id.type == WEIR_STRING) {
        op->id_bytes = op->id.str;
        return true;
    }
    if (op->id.type != WEIR_OBJECT) {
        op->id_bytes = weir_str_n((const char *)&op->id.num, sizeof(op->id.num));
        return true;
    }
    bool done = doc_write_id(w, &op->id);
    if (done)
        op->id_bytes =
            j->s->h->arena_copy(j->a, weir_str_n((const char *)(const void *)w->data, w->len));
    if (!done)
        result_set(j, op->result, WEIR_VERDICT_REJECTED, w->code, "%s: %s", w->path, w->why);
    else if (op->id_bytes.ptr == NULL)
        result_set(j, op->result, WEIR_VERDICT_UNAVAILABLE, "no_memory", "no memory for an _id");
    return op->id_bytes.ptr != NULL;
}

static bool id_from_value(struct job *j, struct op *op, const struct weir_value *v)
{
    const struct weir_host *h = j->s->h;
    enum weir_value_type type = h->value_type(v);
    op->id.type = type;
    if (type == WEIR_STRING)
        op->id.str = h->value_str(v);
    else if (type == WEIR_INT)
        op->id.num = h->value_int(v);
    else if (type == WEIR_UINT)
        op->id.num = (int64_t)h->value_uint(v);
    else if (type == WEIR_OBJECT)
        op->id.object = v;
    else {
        result_set(j, op->result, WEIR_VERDICT_REJECTED, "bad_id",
                   "an _id must be a string, an integer or an object, found %s", type_words[type]);
        return false;
    }
    return true;
}

static bool id_from_template(struct job *j, struct weir_batch *b, struct weir_event *ev,
                             struct op *op)
{
    const struct weir_host *h = j->s->h;
    const struct weir_value *v = h->template_value(h, j->s->config->id, b, ev);
    struct weir_error err = {0};
    if (v != NULL)
        return id_from_value(j, op, v);
    op->id.type = WEIR_STRING;
    op->id.str = h->template_render(h, j->s->config->id, b, ev, j->a, &err);
    if (op->id.str.ptr != NULL)
        return true;
    result_set(j, op->result, WEIR_VERDICT_REJECTED, "no_id", "id: %s", err.text);
    return false;
}

static bool find_id(struct job *j, struct weir_batch *b, struct weir_event *ev, struct op *op)
{
    const struct weir_host *h = j->s->h;
    const struct weir_value *own = h->value_get(op->value, weir_str_n("_id", 3));
    if (j->s->config->id != NULL) {
        if (!id_from_template(j, b, ev, op))
            return false;
    } else if (own != NULL && h->value_type(own) != WEIR_NULL) {
        if (!id_from_value(j, op, own))
            return false;
    } else if (j->s->config->object_ids) {
        return true;
    } else {
        op->id.type = WEIR_STRING;
        op->id.str = h->event_id(h, b, ev);
    }
    if (op->id.type == WEIR_STRING && op->id.str.len == 0) {
        result_set(j, op->result, WEIR_VERDICT_REJECTED, "bad_id", "the _id is an empty string");
        return false;
    }
    return set_bytes(j, op);
}

/* ---- The plan ---- */

static bool find_value(struct job *j, struct weir_batch *b, struct weir_event *ev, struct op *op)
{
    const struct weir_host *h = j->s->h;
    op->value = h->event_value(h, b, ev);
    if (op->value != NULL && h->value_type(op->value) == WEIR_OBJECT)
        return true;
    result_set(j, op->result, WEIR_VERDICT_REJECTED, "not_object",
               "a document must be a JSON object, found %s",
               op->value != NULL ? type_words[h->value_type(op->value)]
                                 : "a payload without a value");
    return false;
}

bool job_plan(struct job *j, struct weir_batch *b, struct weir_results *results)
{
    const struct weir_host *h = j->s->h;
    j->ops = h->arena_alloc(j->a, (b->n_events + 1) * sizeof(*j->ops));
    j->targets = h->arena_alloc(j->a, (b->n_events + 1) * sizeof(*j->targets));
    if (j->ops == NULL || j->targets == NULL)
        return false;
    for (uint32_t i = 0; i < b->n_events; i++) {
        struct weir_event *ev = weir_event_at(b, i);
        struct op *op = &j->ops[j->n_ops];
        *op = (struct op){.result = weir_result_at(results, i), .next = OP_NONE};
        if (find_value(j, b, ev, op) && find_target(j, b, ev, op) && find_id(j, b, ev, op))
            j->n_ops++;
    }
    return true;
}

/* ---- Chains ---- */

struct slot {
    uint32_t head, tail; /* head OP_NONE: free */
};

static bool same_id(const struct op *a, const struct op *b)
{
    return a->id.type == b->id.type && a->target == b->target &&
           a->id_bytes.len == b->id_bytes.len &&
           memcmp(a->id_bytes.ptr, b->id_bytes.ptr, a->id_bytes.len) == 0;
}

/* True where the op is the first of its id. */
static bool chain_add(struct job *j, struct slot *slots, uint32_t mask, uint32_t which)
{
    const struct op *op = &j->ops[which];
    uint64_t hash = hash_bytes(op->id_bytes.ptr, op->id_bytes.len, j->s->seed + op->target);
    for (uint32_t i = (uint32_t)hash & mask;; i = (i + 1) & mask) {
        struct slot *slot = &slots[i];
        if (slot->head == OP_NONE) {
            *slot = (struct slot){which, which};
            return true;
        }
        if (same_id(&j->ops[slot->head], op)) {
            j->ops[slot->tail].next = which;
            slot->tail = which;
            return false;
        }
    }
}

bool job_chain(struct job *j, uint32_t **ret_heads, uint32_t *ret_n)
{
    const struct weir_host *h = j->s->h;
    uint32_t size = 16;
    while (size < j->n_ops * 2)
        size *= 2;
    struct slot *slots = h->arena_alloc(j->a, size * sizeof(*slots));
    uint32_t *heads = h->arena_alloc(j->a, (j->n_ops + 1) * sizeof(*heads));
    if (slots == NULL || heads == NULL)
        return false;
    memset(slots, 0xFF, size * sizeof(*slots));
    uint32_t n = 0;
    for (uint32_t k = 0; k < j->n_ops; k++) {
        uint32_t which = j->s->mode->last_wins ? j->n_ops - 1 - k : k;
        if (j->ops[which].id.type == WEIR_NULL || chain_add(j, slots, size - 1, which))
            heads[n++] = which;
    }
    *ret_heads = heads;
    *ret_n = n;
    return true;
}
