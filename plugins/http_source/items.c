/* SPDX-License-Identifier: Apache-2.0
 *
 * Cuts a body into items without parsing them: an array at its commas, NDJSON at its newlines. Only
 * strings and brackets are looked at; whether an item is JSON is the parser's matter, so that a
 * wrong cut can never pass: each item must be one whole JSON text.
 */
#include "http_source.h"

#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

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

/* Where a walk over a value is. Ends outside of every bracket, at a comma or a closing bracket. */
struct walk {
    size_t at;
    uint32_t depth;
    bool in_string;
};

/* Goes on to the value's end, or to `limit` or a little beyond it. True at the end. */
static bool walk_bytes(struct weir_str text, struct walk *w, size_t limit)
{
    while (w->at < limit) {
        if (w->in_string) {
            w->at = string_end(text, w->at);
            w->in_string = false;
            continue;
        }
        uint8_t kind = kind_at(text, w->at);
        if (w->depth == 0 && (kind == COMMA || kind == CLOSE))
            return true;
        if (kind == OPEN)
            w->depth++;
        else if (kind == CLOSE)
            w->depth--;
        w->in_string = kind == QUOTE;
        w->at++;
    }
    return false;
}

#ifdef __SSE2__

#define BLOCK 64

/* A bit for each of 64 bytes. */
struct bits {
    uint64_t quote, escape, open, close;
};

static inline uint64_t equal_bits(const __m128i *v, char c)
{
    uint64_t bits = 0;
    for (int i = 0; i < 4; i++) {
        __m128i equal = _mm_cmpeq_epi8(v[i], _mm_set1_epi8(c));
        bits |= (uint64_t)(uint32_t)_mm_movemask_epi8(equal) << (16 * i);
    }
    return bits;
}

/* '[' and '{' differ in one bit, as do ']' and '}'. */
static inline struct bits bits_of(const char *p)
{
    __m128i v[4], folded[4];
    for (int i = 0; i < 4; i++) {
        v[i] = _mm_loadu_si128((const __m128i *)(const void *)(p + 16 * i));
        folded[i] = _mm_or_si128(v[i], _mm_set1_epi8(0x20));
    }
    return (struct bits){equal_bits(v, '"'), equal_bits(v, '\\'), equal_bits(folded, '{'),
                         equal_bits(folded, '}')};
}

/* Bit i: the parity of bits 0 to i. Between two quotes all bits are set. */
static inline uint64_t parity(uint64_t x)
{
    for (int shift = 1; shift < BLOCK; shift *= 2)
        x ^= x << shift;
    return x;
}

/* One block, or the part of it up to where the outermost bracket closes. False at backslashes:
 * those are walked by bytes. */
static bool walk_block(struct weir_str text, struct walk *w)
{
    struct bits b = bits_of(text.ptr + w->at);
    if (b.escape != 0)
        return false;
    uint64_t inside = parity(b.quote) ^ (w->in_string ? ~UINT64_C(0) : 0);
    uint64_t close = b.close & ~inside, open = b.open & ~inside;
    uint32_t n_close = (uint32_t)__builtin_popcountll(close);
    if (n_close < w->depth) {
        w->depth += (uint32_t)__builtin_popcountll(open) - n_close;
        w->in_string = inside >> 63 != 0;
        w->at += BLOCK;
        return true;
    }
    for (uint64_t left = open | close; left != 0; left &= left - 1) {
        uint64_t bit = left & -left;
        w->depth += (bit & open) != 0 ? 1 : (uint32_t)-1;
        if (w->depth == 0) {
            w->in_string = false;
            w->at += (size_t)__builtin_ctzll(bit) + 1;
            return true;
        }
    }
    w->in_string = inside >> 63 != 0;
    w->at += BLOCK;
    return true;
}

static bool walk_on(struct weir_str text, struct walk *w)
{
    while (w->depth != 0 && text.len - w->at >= BLOCK && walk_block(text, w))
        ;
    /* Outside of brackets: to the end, or into the next one. */
    size_t step = w->depth == 0 ? 1 : BLOCK;
    return walk_bytes(text, w, text.len - w->at > step ? w->at + step : text.len);
}

#else

static bool walk_on(struct weir_str text, struct walk *w)
{
    return walk_bytes(text, w, text.len);
}

#endif

/* At the comma or closing bracket that ends the value which begins at `at`; text.len where none
 * does. */
static size_t value_end(struct weir_str text, size_t at)
{
    struct walk w = {.at = at};
    while (w.at < text.len)
        if (walk_on(text, &w))
            return w.at;
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
