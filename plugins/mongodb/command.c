/* SPDX-License-Identifier: Apache-2.0
 *
 * Commands, made as BSON in one piece: {insert: "c", ordered: false, documents: [...]}, and the
 * same with update and updates, delete and deletes. Unordered, since no two operations in one are
 * about the same document.
 */
#include "bulk.h"
#include "put.h"

/* A server takes 16 KiB more than a document for what is round it; the client adds some to this. */
#define COMMAND_MAX (DOC_SIZE_MAX + ((size_t)12 << 10))
#define ENDS ((size_t)2) /* of the array and of the command */
#define OPERATIONS_MAX 50000u

static const struct {
    const char *name, *array;
} commands[] = {
    [MODE_INSERT] = {"insert", "documents"},
    [MODE_REPLACE] = {"update", "updates"},
    [MODE_UPDATE] = {"update", "updates"},
    [MODE_DELETE] = {"delete", "deletes"},
};

static struct weir_str name(const char *text)
{
    return weir_cstr(text);
}

static bool put_hint(struct sink *s)
{
    return s->config->hint == NULL || doc_put_value(&s->doc, name("hint"), s->config->hint);
}

static bool put_filter(struct sink *s, const struct op *op)
{
    return put_raw(&s->doc, BSON_OBJECT, name("q"), op->key.ptr, op->key.len);
}

/* {$set: the event}, where the file gives no update. */
static bool put_whole_event(struct sink *s, const struct op *op)
{
    struct doc_writer *w = &s->doc;
    size_t at;
    return put_head(w, BSON_OBJECT, name("u"), 0) != NULL && put_open(w, &at) &&
           put_head(w, BSON_OBJECT, name("$set"), 0) != NULL && doc_put_fields(w, op->value) &&
           put_close(w, at);
}

static bool put_replace(struct sink *s, const struct op *op)
{
    struct doc_writer *w = &s->doc;
    return put_filter(s, op) && put_head(w, BSON_OBJECT, name("u"), 0) != NULL &&
           doc_put(w, op->value, &op->id) && put_bool(w, name("upsert"), true);
}

static bool put_update(struct sink *s, const struct op *op, const struct shape_event *e)
{
    const struct config *cf = s->config;
    struct doc_writer *w = &s->doc;
    bool done = put_filter(s, op) && (s->update != NULL ? shape_put(w, s->update, name("u"), e)
                                                        : put_whole_event(s, op));
    if (done && cf->upsert)
        done = put_bool(w, name("upsert"), true);
    if (done && cf->many)
        done = put_bool(w, name("multi"), true);
    if (done && s->array_filters != NULL)
        done = shape_put(w, s->array_filters, name("arrayFilters"), e);
    return done && put_hint(s);
}

static bool put_delete(struct sink *s, const struct op *op)
{
    return put_filter(s, op) && put_int32(&s->doc, "limit", s->config->many ? 0 : 1) && put_hint(s);
}

/* The operation as element i of the command's array. */
static bool put_operation(struct job *j, const struct op *op, uint32_t i)
{
    struct sink *s = j->s;
    const struct shape_event e = {j->b, op->ev};
    char text[12];
    size_t at;
    if (put_head(&s->doc, BSON_OBJECT, put_index(text, i), 0) == NULL)
        return false;
    if (s->config->mode == MODE_INSERT)
        return doc_put(&s->doc, op->value, &op->id);
    if (!put_open(&s->doc, &at))
        return false;
    bool done = s->config->mode == MODE_REPLACE  ? put_replace(s, op)
                : s->config->mode == MODE_UPDATE ? put_update(s, op, &e)
                                                 : put_delete(s, op);
    return done && put_close(&s->doc, at);
}

static bool begin(struct sink *s, const struct target *t, size_t *ret_command, size_t *ret_array)
{
    struct doc_writer *w = &s->doc;
    doc_writer_start(w, COMMAND_MAX);
    return put_open(w, ret_command) &&
           put_string(w, name(commands[s->config->mode].name), name(t->collection)) &&
           put_bool(w, name("ordered"), false) &&
           put_head(w, BSON_ARRAY, name(commands[s->config->mode].array), 0) != NULL &&
           put_open(w, ret_array);
}

/* Takes back what was begun, so that the writer goes on behind the last operation. */
static void take_back(struct doc_writer *w, size_t len)
{
    w->len = len;
    w->code = NULL;
}

uint32_t command_fill(struct job *j, const struct target *t, const uint32_t *ops, uint32_t n,
                      uint32_t *members, uint32_t *ret_members)
{
    struct doc_writer *w = &j->s->doc;
    size_t command = 0, array = 0;
    uint32_t taken = 0, n_members = 0;
    bool begun = begin(j->s, t, &command, &array);
    w->limit = COMMAND_MAX - ENDS;
    for (; begun && taken < n && n_members < OPERATIONS_MAX; taken++) {
        struct op *op = &j->ops[ops[taken]];
        size_t before = w->len;
        if (put_operation(j, op, n_members)) {
            members[n_members++] = ops[taken];
            continue;
        }
        if (n_members > 0 && strcmp(w->code, "too_large") == 0) {
            take_back(w, before);
            break; /* it may go into a command of its own */
        }
        result_of_writer(j, op->result, w);
        take_back(w, before);
    }
    w->limit = COMMAND_MAX;
    if (!begun || !put_close(w, array) || !put_close(w, command)) {
        for (uint32_t i = 0; i < n; i++)
            result_set(j, j->ops[ops[i]].result, WEIR_VERDICT_UNAVAILABLE, "no_memory",
                       "no memory for a command");
        n_members = 0;
        taken = n;
    }
    *ret_members = n_members;
    return taken;
}
