/* SPDX-License-Identifier: Apache-2.0
 *
 * JSON values as text; see value_impl.h.
 *
 * An event that was parsed, changed at its top level and written again is mostly what it was: its members
 * that nobody changed are copied from the text they were read from, in runs, and only the others are
 * written. A member is as it was when its nodes are those of the copy that wr_make_edit made and no
 * container in it says that it was changed.
 *
 *      text   {"id":"x1","type":"click","user_id":"u7","props":{...}}
 *      out    {"id":"x1","type":"click","user":"u7","props":{...},"seen":1}
 *              '------- a run -------' '-written-' '--a run---' written
 */
#include <model/value_impl.h>

#include <base/str.h>

struct weir_str wr_value_write(struct weir_arena *a, const struct weir_value *v)
{
    if (v == NULL)
        return weir_str_n(NULL, 0);
    yyjson_alc alc = wr_arena_alc(a);
    size_t len = 0;
    char *text = is_mut(v)
                     ? yyjson_mut_val_write_opts(mut_of(v), YYJSON_WRITE_NOFLAG, &alc, &len, NULL)
                     : yyjson_val_write_opts(val_of(v), YYJSON_WRITE_NOFLAG, &alc, &len, NULL);
    return weir_str_n(text, text != NULL ? len : 0);
}

/* ---- Output ---- */

struct out {
    struct weir_arena *a;
    char *ptr;
    size_t len, cap;
    bool failed;
};

static void put(struct out *o, const char *ptr, size_t len)
{
    if (o->cap - o->len < len) {
        size_t cap = o->cap + o->cap / 2 + len;
        char *grown = o->failed ? NULL : wr_arena_realloc(o->a, o->ptr, o->cap, cap);
        if (grown == NULL) {
            o->failed = true;
            return;
        }
        o->ptr = grown;
        o->cap = cap;
    }
    memcpy(o->ptr + o->len, ptr, len);
    o->len += len;
}

/* Not zero where one of the eight bytes is below n, which is at most 128. */
static uint64_t any_below(uint64_t bytes, uint64_t n)
{
    const uint64_t ones = UINT64_C(0x0101010101010101);
    return (bytes - ones * n) & ~bytes & ones * 0x80;
}

static bool is_plain(const char *ptr, size_t len)
{
    const uint64_t ones = UINT64_C(0x0101010101010101);
    for (; len >= 8; ptr += 8, len -= 8) {
        uint64_t bytes;
        memcpy(&bytes, ptr, 8);
        if ((any_below(bytes, ' ') | any_below(bytes ^ ones * '"', 1) |
             any_below(bytes ^ ones * '\\', 1)) != 0)
            return false;
    }
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)ptr[i] < ' ' || ptr[i] == '"' || ptr[i] == '\\')
            return false;
    return true;
}

static void put_any(struct out *o, yyjson_mut_val *val)
{
    struct weir_str text = wr_value_write(o->a, from_mut(val));
    if (text.ptr == NULL)
        o->failed = true;
    else
        put(o, text.ptr, text.len);
}

static void put_integer(struct out *o, uint64_t n, bool minus)
{
    char digits[21];
    size_t at = sizeof(digits);
    do
        digits[--at] = (char)('0' + n % 10);
    while ((n /= 10) != 0);
    if (minus)
        digits[--at] = '-';
    put(o, digits + at, sizeof(digits) - at);
}

/* Plain strings and integers; the library writes the rest. */
static void put_value(struct out *o, yyjson_mut_val *val)
{
    size_t len = unsafe_yyjson_get_len(val);
    switch (unsafe_yyjson_get_type(val)) {
    case YYJSON_TYPE_STR:
        if (!is_plain(val->uni.str, len))
            break;
        put(o, "\"", 1);
        put(o, val->uni.str, len);
        put(o, "\"", 1);
        return;
    case YYJSON_TYPE_NUM:
        if (unsafe_yyjson_get_subtype(val) == YYJSON_SUBTYPE_REAL)
            break;
        bool minus = unsafe_yyjson_get_subtype(val) == YYJSON_SUBTYPE_SINT && val->uni.i64 < 0;
        put_integer(o, minus ? -val->uni.u64 : val->uni.u64, minus);
        return;
    default:
        break;
    }
    put_any(o, val);
}

/* ---- Members as they were ---- */

/* An object, the text it was read from, and the copy of it that was changed. */
struct patch {
    yyjson_val *from, *from_end; /* values in preorder: the first member's key is from + 1 */
    yyjson_mut_val *copy;        /* node i is the copy of from + i */
    const char *text;
    uintptr_t base;              /* a string of `from` that is at p was read at text + (p - base) */
    size_t close;                /* of the closing brace */
};

static bool is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

/* Strings are unescaped where they stand in the reader's copy of the text, so each begins as far behind
 * the first one as it does in the text. */
static bool find_text(struct patch *p, struct weir_str text)
{
    size_t at = 0, end = text.len;
    while (at < end && is_space(text.ptr[at]))
        at++;
    at++; /* the opening brace */
    while (at < end && is_space(text.ptr[at]))
        at++;
    while (end > at && is_space(text.ptr[end - 1]))
        end--;
    if (end <= at || text.ptr[at] != '"' || text.ptr[end - 1] != '}')
        return false;
    p->text = text.ptr;
    p->base = (uintptr_t)p->from[1].uni.str - (at + 1);
    p->close = end - 1;
    return true;
}

/* Of the quote. */
static size_t start_of(const struct patch *p, const yyjson_val *key)
{
    return (uintptr_t)key->uni.str - p->base - 1;
}

/* The key that this one was copied from, where the member is still as it was; else NULL. */
static yyjson_val *as_it_was(const struct patch *p, const yyjson_mut_val *key)
{
    size_t i = ((uintptr_t)key - (uintptr_t)p->copy) / sizeof(*key);
    if (i >= (size_t)(p->from_end - p->from)) /* of a key below the copy, too */
        return NULL;
    yyjson_val *was = p->from + i;
    if (key->next != key + 1 || key->uni.str != was->uni.str)
        return NULL; /* another value, another name */
    const yyjson_val *end = unsafe_yyjson_get_next(was + 1);
    for (const yyjson_mut_val *v = key + 1; v < p->copy + (end - p->from); v++)
        if ((v->tag & TAG_CHANGED) != 0)
            return NULL;
    return was;
}

/* Writes the members from *io_key on, `left` at most, that still follow each other as they did. Returns
 * how many, and sets the key behind them. */
static size_t put_run(struct out *o, const struct patch *p, yyjson_mut_val **io_key, size_t left)
{
    yyjson_val *first = as_it_was(p, *io_key), *end = first;
    size_t n = 0;
    if (first == NULL)
        return 0;
    do {
        end = unsafe_yyjson_get_next(end + 1);
        *io_key = (*io_key)->next->next;
    } while (++n < left && end < p->from_end && as_it_was(p, *io_key) == end);
    size_t stop = end < p->from_end ? start_of(p, end) : p->close;
    while (is_space(p->text[stop - 1]))
        stop--;
    if (end < p->from_end) {
        stop--; /* the comma */
        while (is_space(p->text[stop - 1]))
            stop--;
    }
    put(o, p->text + start_of(p, first), stop - start_of(p, first));
    return n;
}

static void put_members(struct out *o, const struct patch *p)
{
    size_t left = unsafe_yyjson_get_len(p->copy), n;
    yyjson_mut_val *key = left != 0 ? ((yyjson_mut_val *)p->copy->uni.ptr)->next->next : NULL;
    put(o, "{", 1);
    for (; left != 0; left -= n) {
        n = put_run(o, p, &key, left);
        if (n == 0) {
            put_value(o, key);
            put(o, ":", 1);
            put_value(o, key->next);
            key = key->next->next;
            n = 1;
        }
        if (left != n)
            put(o, ",", 1);
    }
    put(o, "}", 2); /* and the NUL */
}

struct weir_str wr_value_write_edited(struct weir_arena *a, const struct weir_value *v,
                                      const struct weir_value *from, struct weir_str text)
{
    struct patch p = {.from = val_of(from), .copy = mut_of(v)};
    bool can = is_mut(v) && !is_mut(from) && unsafe_yyjson_is_obj(p.from) &&
               unsafe_yyjson_get_len(p.from) != 0 && find_text(&p, text);
    struct out o = {.a = a, .cap = text.len + 64};
    if (!can)
        return wr_value_write(a, v);
    p.from_end = unsafe_yyjson_get_next(p.from);
    o.ptr = wr_arena_alloc(a, o.cap);
    o.failed = o.ptr == NULL;
    if (o.failed)
        return weir_str_n(NULL, 0);
    put_members(&o, &p);
    if (o.failed)
        return weir_str_n(NULL, 0);
    (void)wr_arena_realloc(a, o.ptr, o.cap, o.len);
    return weir_str_n(o.ptr, o.len - 1);
}
