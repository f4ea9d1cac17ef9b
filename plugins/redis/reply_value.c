/* SPDX-License-Identifier: Apache-2.0
 *
 * Strings become text or JSON, integers integers, nil null, arrays arrays or (HGETALL) objects.
 */
#include "reply_value.h"

#include "reply.h"

#define PAIRS_MAX 4096 /* setting a field looks at those before it */

static struct weir_value *none(struct reply_reader *r, const char *code, const char *message)
{
    r->code = code;
    r->message = message;
    return NULL;
}

static struct weir_value *text_value(struct reply_reader *r, struct weir_str text)
{
    struct weir_value *v = r->h->make_str(r->arena, text);
    if (v == NULL)
        return none(r, "not_utf8", "the answer of redis is not UTF-8");
    return v;
}

static struct weir_value *string_value(struct reply_reader *r, struct weir_str text)
{
    if (r->parse == PARSE_STRING)
        return text_value(r, text);
    const struct weir_value *parsed = r->h->value_parse(r->arena, text, NULL);
    if (parsed != NULL)
        return r->h->make_copy(r->arena, parsed);
    if (r->parse == PARSE_AUTO)
        return text_value(r, text);
    return none(r, "bad_json", "the answer of redis is not JSON, as `parse: json` says");
}

static struct weir_value *next_value(struct reply_reader *r, const char **p, const char *end);

static struct weir_value *array_value(struct reply_reader *r, const char **p, const char *end,
                                      int64_t n)
{
    struct weir_value *array = r->h->make_array(r->arena);
    for (int64_t i = 0; i < n; i++) {
        struct weir_value *v = next_value(r, p, end);
        if (v == NULL)
            return NULL;
        if (!r->h->array_append(r->arena, array, v))
            return none(r, "no_memory", "no memory for the answer of redis");
    }
    return array;
}

static struct weir_value *next_value(struct reply_reader *r, const char **p, const char *end)
{
    struct reply e;
    if (!record_next(p, end, &e))
        return none(r, "protocol", "the answer of redis cannot be read");
    switch (e.type) {
    case REPLY_STRING:
        return string_value(r, e.text);
    case REPLY_STATUS:
        return text_value(r, e.text);
    case REPLY_INTEGER:
        return r->h->make_int(r->arena, e.number);
    case REPLY_NIL:
        return r->h->make_null(r->arena);
    case REPLY_ARRAY:
        return array_value(r, p, end, e.number);
    default:
        break;
    }
    return none(r, "error_inside", "the answer of redis holds an error");
}

static struct weir_value *pairs_value(struct reply_reader *r, const char **p, const char *end)
{
    struct reply e;
    struct weir_value *obj = r->h->make_object(r->arena);
    if (!record_next(p, end, &e) || e.type != REPLY_ARRAY || e.number % 2 != 0)
        return none(r, "not_pairs", "the answer of redis is no list of names and values");
    if (e.number / 2 > PAIRS_MAX)
        return none(r, "too_many_fields", "the hash has more than 4096 fields");
    for (int64_t i = 0; i < e.number / 2; i++) {
        struct reply name;
        if (!record_next(p, end, &name) || name.type != REPLY_STRING)
            return none(r, "not_pairs", "the answer of redis is no list of names and values");
        if (r->h->make_str(r->arena, name.text) == NULL)
            return none(r, "not_utf8", "the name of a hash's field is not UTF-8");
        struct weir_value *v = next_value(r, p, end);
        if (v == NULL)
            return NULL;
        if (!r->h->object_set(r->arena, obj, name.text, v))
            return none(r, "no_memory", "no memory for the answer of redis");
    }
    return obj;
}

struct weir_value *reply_value(struct reply_reader *r, struct weir_str record, bool pairs)
{
    const char *p = record.ptr;
    const char *end = record.ptr + record.len;
    struct weir_value *v = pairs ? pairs_value(r, &p, end) : next_value(r, &p, end);
    if (v == NULL && r->code == NULL)
        return none(r, "no_memory", "no memory for the answer of redis");
    return v;
}
