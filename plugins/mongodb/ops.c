/* SPDX-License-Identifier: Apache-2.0
 *
 * From a batch to operations: each event's database, collection and _id or filter, and chains of
 * events that have the same one, since an unordered command promises no order between two
 * operations on one document.
 */
#include "bulk.h"
#include "put.h"
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

void result_of_writer(struct job *j, struct weir_result *r, const struct doc_writer *w)
{
    bool memory = strcmp(w->code, "no_memory") == 0;
    result_set(j, r, memory ? WEIR_VERDICT_UNAVAILABLE : WEIR_VERDICT_REJECTED, w->code, "%s%s%s",
               w->path, w->path[0] != '\0' ? ": " : "", w->why);
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

static bool render(struct job *j, struct weir_event *ev, const struct weir_template *t,
                   const char *literal, struct weir_result *r, struct weir_str *ret)
{
    const struct weir_host *h = j->s->h;
    struct weir_error err = {0};
    if (literal != NULL) {
        *ret = weir_cstr(literal);
        return true;
    }
    *ret = h->template_render(h, t, j->b, ev, j->a, &err);
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

static bool find_target(struct job *j, struct op *op)
{
    const struct sink *s = j->s;
    struct weir_str database, collection;
    if (s->database != NULL && s->collection != NULL && j->n_targets > 0) {
        op->target = 0;
        return true;
    }
    if (!render(j, op->ev, s->config->database, s->database, op->result, &database) ||
        !render(j, op->ev, s->config->collection, s->collection, op->result, &collection))
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

static bool id_from_value(struct job *j, struct op *op, const struct weir_value *v)
{
    const struct weir_host *h = j->s->h;
    enum weir_value_type type = h->value_type(v);
    op->id.type = type;
    if (j->s->id_type != NULL) {
        op->id.as = j->s->id_type->type;
        op->id.value = v;
        return true;
    }
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

static bool id_from_text(struct job *j, struct op *op, struct weir_str text)
{
    op->id.type = WEIR_STRING;
    op->id.str = text;
    if (j->s->id_type == NULL)
        return true;
    const struct weir_value *v = j->s->h->make_str(j->a, text);
    if (v != NULL)
        return id_from_value(j, op, v);
    result_set(j, op->result, WEIR_VERDICT_UNAVAILABLE, "no_memory", "no memory for an _id");
    return false;
}

static bool id_from_template(struct job *j, struct op *op)
{
    const struct weir_host *h = j->s->h;
    const struct weir_value *v = h->template_value(h, j->s->config->id, j->b, op->ev);
    struct weir_error err = {0};
    if (v != NULL)
        return id_from_value(j, op, v);
    struct weir_str text = h->template_render(h, j->s->config->id, j->b, op->ev, j->a, &err);
    if (text.ptr != NULL)
        return id_from_text(j, op, text);
    result_set(j, op->result, WEIR_VERDICT_REJECTED, "no_id", "id: %s", err.text);
    return false;
}

static void own_id(struct op *op)
{
    bson_oid_t oid;
    bson_oid_init(&oid, NULL);
    op->id.type = WEIR_STRING;
    op->id.as = TYPE_OBJECT_ID;
    memcpy(op->id.own, oid.bytes, sizeof(op->id.own));
    op->key = weir_str_n(NULL, 0); /* found by nothing */
}

/* False: the op has its result. */
static bool find_id(struct job *j, struct op *op)
{
    const struct weir_host *h = j->s->h;
    const struct weir_value *own = h->value_get(op->value, weir_str_n("_id", 3));
    if (j->s->config->id != NULL) {
        if (!id_from_template(j, op))
            return false;
    } else if (own != NULL && h->value_type(own) != WEIR_NULL) {
        if (!id_from_value(j, op, own))
            return false;
    } else if (!id_from_text(j, op, h->event_id(h, j->b, op->ev))) {
        return false;
    }
    if (op->id.type != WEIR_STRING || op->id.str.len > 0 || op->id.as != TYPE_PLAIN)
        return true;
    result_set(j, op->result, WEIR_VERDICT_REJECTED, "bad_id", "the _id is an empty string");
    return false;
}

/* ---- What it is found by ---- */

static bool keep_key(struct job *j, struct op *op, bool written)
{
    struct doc_writer *w = &j->s->selector;
    if (!written) {
        result_of_writer(j, op->result, w);
        return false;
    }
    op->key = j->s->h->arena_copy(j->a, weir_str_n((const char *)(const void *)w->data, w->len));
    if (op->key.ptr == NULL)
        result_set(j, op->result, WEIR_VERDICT_UNAVAILABLE, "no_memory", "no memory for a filter");
    return op->key.ptr != NULL;
}

/* An insert needs the bytes of its _id only to find twins. */
static bool insert_key(struct job *j, struct op *op)
{
    if (op->id.as != TYPE_PLAIN || op->id.type == WEIR_OBJECT)
        return keep_key(j, op, doc_write_id(&j->s->selector, &op->id));
    op->key = op->id.type == WEIR_STRING
                  ? op->id.str
                  : weir_str_n((const char *)&op->id.num, sizeof(op->id.num));
    return true;
}

static bool find_key(struct job *j, struct op *op)
{
    struct sink *s = j->s;
    const struct shape_event e = {j->b, op->ev};
    if (s->filter != NULL) {
        doc_writer_start(&s->selector, DOC_SIZE_MAX);
        return keep_key(j, op, shape_put_document(&s->selector, s->filter, &e));
    }
    if (s->config->object_ids &&
        s->h->value_type(s->h->value_get(op->value, weir_str_n("_id", 3))) == WEIR_NULL) {
        own_id(op);
        return true;
    }
    if (!find_id(j, op))
        return false;
    return s->config->mode == MODE_INSERT ? insert_key(j, op)
                                          : keep_key(j, op, doc_write_id(&s->selector, &op->id));
}

/* ---- The plan ---- */

/* The event as a document, where it is to be one. */
static bool find_value(struct job *j, struct op *op)
{
    const struct weir_host *h = j->s->h;
    const struct config *cf = j->s->config;
    if (cf->mode == MODE_DELETE && (cf->filter != NULL || cf->id != NULL))
        return true;
    op->value = h->event_value(h, j->b, op->ev);
    if (op->value != NULL && h->value_type(op->value) == WEIR_OBJECT)
        return true;
    if (cf->mode == MODE_DELETE || (cf->mode == MODE_UPDATE && cf->update != NULL))
        return true;
    result_set(j, op->result, WEIR_VERDICT_REJECTED, "not_object",
               "a document must be a JSON object, found %s",
               op->value != NULL ? type_words[h->value_type(op->value)]
                                 : "a payload without a value");
    return false;
}

bool job_plan(struct job *j, struct weir_results *results)
{
    const struct weir_host *h = j->s->h;
    j->ops = h->arena_alloc(j->a, (j->b->n_events + 1) * sizeof(*j->ops));
    j->targets = h->arena_alloc(j->a, (j->b->n_events + 1) * sizeof(*j->targets));
    if (j->ops == NULL || j->targets == NULL)
        return false;
    for (uint32_t i = 0; i < j->b->n_events; i++) {
        struct op *op = &j->ops[j->n_ops];
        *op = (struct op){
            .ev = weir_event_at(j->b, i), .result = weir_result_at(results, i), .next = OP_NONE};
        if (find_value(j, op) && find_target(j, op) && find_key(j, op))
            j->n_ops++;
    }
    return true;
}

/* ---- Chains ---- */

struct slot {
    uint32_t head, tail; /* head OP_NONE: free */
};

static bool same_key(const struct op *a, const struct op *b)
{
    return a->id.type == b->id.type && a->target == b->target && a->key.len == b->key.len &&
           memcmp(a->key.ptr, b->key.ptr, a->key.len) == 0;
}

/* True where the op is the first of its key. */
static bool chain_add(struct job *j, struct slot *slots, uint32_t mask, uint32_t which)
{
    const struct op *op = &j->ops[which];
    uint64_t hash = hash_bytes(op->key.ptr, op->key.len, j->s->seed + op->target);
    for (uint32_t i = (uint32_t)hash & mask;; i = (i + 1) & mask) {
        struct slot *slot = &slots[i];
        if (slot->head == OP_NONE) {
            *slot = (struct slot){which, which};
            return true;
        }
        if (same_key(&j->ops[slot->head], op)) {
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
        uint32_t which = j->s->chain == CHAIN_LAST ? j->n_ops - 1 - k : k;
        if (j->ops[which].key.ptr == NULL || chain_add(j, slots, size - 1, which))
            heads[n++] = which;
    }
    *ret_heads = heads;
    *ret_n = n;
    return true;
}
