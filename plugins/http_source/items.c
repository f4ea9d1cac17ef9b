/* SPDX-License-Identifier: Apache-2.0
 *
 * Cuts a body into items without parsing them: an array at its commas, NDJSON at its newlines. Only
 * strings and brackets are looked at; whether an item is JSON is the parser's matter, so that a wrong
 * cut can never pass: each item must be one whole JSON text.
 */
#include "http_source.h"

#include <string.h>

enum { PLAIN, QUOTE, OPEN, CLOSE, COMMA, ESCAPE };

static const uint8_t kinds[256] = {['"'] = QUOTE, ['['] = OPEN,  ['{'] = OPEN,   [']'] = CLOSE,
                                   ['}'] = CLOSE, [','] = COMMA, ['\\'] = ESCAPE};

static inline uint8_t kind_at(struct weir_str text, size_t at)
{
    return kinds[(unsigned char)text.ptr[at]];
}

/* Behind the quote that ends the string whose first byte is at `at`; text.len where none does. */
static size_t string_end(struct weir_str text, size_t at)
{
    for (; at < text.len; at++) {
        uint8_t kind = kind_at(text, at);
        if (kind == ESCAPE)
            at++;
        else if (kind == QUOTE)
            return at + 1;
    }
    return text.len;
}

/* At the comma or closing bracket that ends the value which begins at `at`; text.len where none
 * does. */
static size_t value_end(struct weir_str text, size_t at)
{
    uint32_t depth = 0;
    while (at < text.len) {
        switch (kind_at(text, at)) {
        case QUOTE:
            at = string_end(text, at + 1);
            continue;
        case OPEN:
            depth++;
            break;
        case CLOSE:
            if (depth == 0)
                return at;
            depth--;
            break;
        case COMMA:
            if (depth == 0)
                return at;
            break;
        default:
            break;
        }
        at++;
    }
    return text.len;
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static size_t skip_space(struct weir_str text, size_t at)
{
    while (at < text.len && is_space(text.ptr[at]))
        at++;
    return at;
}

/* text[from, to) without the space around it. */
static struct weir_str cut(struct weir_str text, size_t from, size_t to)
{
    while (from < to && is_space(text.ptr[from]))
        from++;
    while (to > from && is_space(text.ptr[to - 1]))
        to--;
    return weir_str_n(text.ptr + from, to - from);
}

void items_begin(struct items *it, struct weir_str text, enum media media, bool opaque)
{
    size_t at = opaque ? 0 : skip_space(text, 0);
    *it = (struct items){.text = text, .at = at, .opaque = opaque && media != MEDIA_WEIR};
    it->lines = media != MEDIA_JSON;
    it->single = !it->lines && (opaque || at == text.len || text.ptr[at] != '[');
}

static enum items_step bad(struct items *it, size_t at, const char *why, struct weir_str *ret_item,
                           const char **ret_why)
{
    *ret_item = weir_str_n(it->text.ptr + at, 0);
    *ret_why = why;
    it->done = true;
    return ITEMS_BAD;
}

static enum items_step next_line(struct items *it, struct weir_str *ret_item)
{
    while (it->at < it->text.len) {
        const char *end = memchr(it->text.ptr + it->at, '\n', it->text.len - it->at);
        size_t to = end != NULL ? (size_t)(end - it->text.ptr) : it->text.len;
        bool cr = to > it->at && it->text.ptr[to - 1] == '\r';
        *ret_item = it->opaque ? weir_str_n(it->text.ptr + it->at, to - it->at - cr)
                               : cut(it->text, it->at, to);
        it->at = to + 1;
        if (ret_item->len != 0)
            return ITEMS_ONE;
    }
    return ITEMS_END;
}

/* Behind the array's end: only space. */
static enum items_step array_end(struct items *it, struct weir_str *ret_item, const char **ret_why)
{
    size_t at = skip_space(it->text, it->at + 1);
    it->done = true;
    if (at < it->text.len)
        return bad(it, at, "something follows the array", ret_item, ret_why);
    return ITEMS_END;
}

static enum items_step next_element(struct items *it, struct weir_str *ret_item,
                                    const char **ret_why)
{
    if (!it->begun)
        it->at++; /* the opening bracket */
    size_t from = skip_space(it->text, it->at);
    size_t to = value_end(it->text, from);
    bool first = !it->begun;
    it->begun = true;
    it->at = to;
    if (to == it->text.len)
        return bad(it, to, "the array has no end", ret_item, ret_why);
    bool last = it->text.ptr[to] == ']';
    if (!last && it->text.ptr[to] != ',')
        return bad(it, to, "a bracket closes what it did not open", ret_item, ret_why);
    if (from == to && first && last)
        return array_end(it, ret_item, ret_why);
    if (from == to)
        return bad(it, to, "there is no value between two commas of the array, or behind the last",
                   ret_item, ret_why);
    *ret_item = cut(it->text, from, to);
    it->after_comma = !last;
    if (!last)
        it->at++;
    return ITEMS_ONE;
}

enum items_step items_next(struct items *it, struct weir_str *ret_item, const char **ret_why)
{
    if (it->done)
        return ITEMS_END;
    if (it->lines)
        return next_line(it, ret_item);
    if (it->single) {
        it->done = true;
        *ret_item = it->opaque ? it->text : cut(it->text, 0, it->text.len);
        return ret_item->len != 0 ? ITEMS_ONE : ITEMS_END;
    }
    if (it->begun && !it->after_comma)
        return array_end(it, ret_item, ret_why);
    return next_element(it, ret_item, ret_why);
}

bool member_next(struct weir_str text, size_t *at, struct weir_str *ret_key,
                 struct weir_str *ret_value, const char **ret_why)
{
    size_t p = skip_space(text, *at);
    bool first = *at == 0;
    *ret_why = "it is not an object";
    if (p == text.len || (first && text.ptr[p] != '{'))
        return false;
    if (first)
        p = skip_space(text, p + 1);
    bool over = p < text.len && text.ptr[p] == '}' && first;
    if (!first && text.ptr[p] == ',')
        p = skip_space(text, p + 1);
    else if (!first)
        over = text.ptr[p] == '}';
    if (over) {
        *ret_why = skip_space(text, p + 1) < text.len ? "something follows the object" : NULL;
        return false;
    }
    *ret_why = "a member is not \"name\": value";
    if (p == text.len || text.ptr[p] != '"')
        return false;
    size_t key_at = p + 1, key_end = string_end(text, key_at);
    p = skip_space(text, key_end);
    if (p == text.len || text.ptr[p] != ':')
        return false;
    *ret_key = weir_str_n(text.ptr + key_at, key_end - 1 - key_at);
    size_t end = value_end(text, p + 1);
    *ret_value = cut(text, p + 1, end);
    if (end == text.len || ret_value->len == 0)
        return false;
    *at = end;
    return true;
}
