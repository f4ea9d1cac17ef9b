/* SPDX-License-Identifier: Apache-2.0
 *
 * model/options_text.c: how options, values and places are called in messages.
 */
#include <base/str.h>
#include <model/options.h>
#include <model/units.h>
#include <stdlib.h>

#define QUOTED_MAX 60

static void add_path(struct wr_buf *out, const struct wr_path *path)
{
    if (path == NULL)
        return;
    add_path(out, path->up);
    if (path->index >= 0) {
        wr_buf_printf(out, "[%lld]", (long long)path->index);
        return;
    }
    if (out->len > 0)
        wr_buf_text(out, ".");
    wr_buf_str(out, path->key);
}

struct weir_str wr_path_text(struct weir_arena *a, const struct wr_path *path)
{
    struct wr_buf b = {0};
    struct weir_str s;

    add_path(&b, path);
    s = wr_arena_xcopy(a, wr_buf_view(&b));
    wr_buf_done(&b);
    return s;
}

static void add_quoted(struct wr_buf *b, struct weir_str s)
{
    uint32_t n = 0;
    size_t at = 0;

    wr_buf_text(b, "\"");
    while (at < s.len && n++ < QUOTED_MAX) {
        size_t from = at;
        uint32_t cp = wr_utf8_next(s, &at);
        if (cp == '\n')
            wr_buf_text(b, "\\n");
        else if (cp < 0x20 || cp == 0x7f)
            wr_buf_printf(b, "\\x%02x", (unsigned)cp);
        else
            wr_buf_add(b, s.ptr + from, at - from);
    }
    wr_buf_text(b, at < s.len ? "...\"" : "\"");
}

struct weir_str wr_quote(struct weir_arena *a, struct weir_str s)
{
    struct wr_buf b = {0};
    struct weir_str quoted;

    add_quoted(&b, s);
    quoted = wr_arena_xcopy(a, wr_buf_view(&b));
    wr_buf_done(&b);
    return quoted;
}

struct weir_str wr_node_found(struct weir_arena *a, const struct wr_node *n, bool secret)
{
    struct weir_str quoted;

    if (n->kind != WR_NODE_SCALAR)
        return weir_cstr(n->kind == WR_NODE_MAP ? (n->n ? "a map" : "an empty map")
                                                : (n->n ? "a list" : "an empty list"));
    if (wr_scalar_type(n) == WR_SCALAR_NULL)
        return weir_cstr("nothing (null)");
    if (secret || n->secret)
        return weir_cstr("a secret text");
    quoted = wr_quote(a, n->text);
    switch (wr_scalar_type(n)) {
    case WR_SCALAR_BOOL:
        return wr_arena_xprintf(a, "the boolean %.*s", WR_STR(n->text));
    case WR_SCALAR_INT:
    case WR_SCALAR_FLOAT:
        return wr_arena_xprintf(a, "the number %.*s", (int)quoted.len - 2, quoted.ptr + 1);
    default:
        return wr_arena_xprintf(a, "the text %.*s", WR_STR(quoted));
    }
}

static void add_limit(struct wr_buf *out, enum weir_option_type type, int64_t v)
{
    if (type == WEIR_OPT_DURATION)
        wr_write_duration(out, v);
    else if (type == WEIR_OPT_SIZE)
        wr_write_size(out, v);
    else
        wr_buf_printf(out, "%lld", (long long)v);
}

void wr_option_range(struct wr_buf *out, const struct weir_option *o)
{
    enum weir_option_type type = o->of != 0 ? o->of : o->type;

    if (o->min == 0 && o->max == 0)
        return;
    if (o->max < o->min || o->max == INT64_MAX) {
        wr_buf_text(out, "at least ");
        add_limit(out, type, o->min);
    } else if (o->min == INT64_MIN) {
        wr_buf_text(out, "at most ");
        add_limit(out, type, o->max);
    } else {
        add_limit(out, type, o->min);
        wr_buf_text(out, " to ");
        add_limit(out, type, o->max);
    }
}

static void add_choices(struct wr_buf *out, const struct weir_option *o)
{
    if (o->choices != NULL && o->choices[0] != NULL && o->choices[1] != NULL)
        wr_buf_text(out, "one of ");
    for (uint32_t i = 0; o->choices != NULL && o->choices[i] != NULL; i++)
        wr_buf_printf(out, "%s%s", i ? ", " : "", o->choices[i]);
}

static void add_fields(struct wr_buf *out, const struct weir_option *o)
{
    wr_buf_text(out, "a map");
    if (o->fields == NULL)
        return;
    wr_buf_text(out, " of options");
}

static void add_number(struct wr_buf *out, const struct weir_option *o, const char *what)
{
    struct wr_buf range = {0};

    wr_buf_text(out, what);
    wr_option_range(&range, o);
    if (range.len > 0)
        wr_buf_printf(out, ", %s", range.ptr);
    wr_buf_done(&range);
}

void wr_option_describe(struct wr_buf *out, const struct weir_option *o, enum weir_option_type type)
{
    switch (type) {
    case WEIR_OPT_BOOL:
        wr_buf_text(out, "true or false");
        break;
    case WEIR_OPT_INT:
        add_number(out, o, "a whole number");
        break;
    case WEIR_OPT_FLOAT:
        add_number(out, o, "a number");
        break;
    case WEIR_OPT_DURATION:
        add_number(out, o, "a duration such as 50ms, 1.5s, 2m");
        break;
    case WEIR_OPT_SIZE:
        add_number(out, o, "a size such as 512, 64KiB, 4MiB");
        break;
    case WEIR_OPT_STRING:
        wr_buf_text(out, "text");
        break;
    case WEIR_OPT_ENUM:
        add_choices(out, o);
        break;
    case WEIR_OPT_PATH:
        wr_buf_text(out, "a path");
        break;
    case WEIR_OPT_TEMPLATE:
        wr_buf_text(out, "a template: text, with {{ field }} where a field goes");
        break;
    case WEIR_OPT_CONDITION:
        wr_buf_text(out, "a condition such as event.type == \"login\"");
        break;
    case WEIR_OPT_TABLE:
        add_fields(out, o);
        break;
    case WEIR_OPT_LIST:
        wr_buf_text(out, "a list; each item ");
        wr_option_describe(out, o, o->of);
        break;
    case WEIR_OPT_MAP:
        wr_buf_text(out, "a map; each value ");
        wr_option_describe(out, o, o->of);
        break;
    default:
        wr_buf_text(out, "any value");
    }
}

/* ---- paths of a plugin's report -------------------------------------------------------------- */

/* The field whose key begins `path`, longest first, since keys may hold dots; *ret_used bytes. */
static const struct wr_field *longest_field(const struct wr_node *map, struct weir_str path,
                                            size_t *ret_used)
{
    const struct wr_field *best = NULL;

    for (uint32_t i = 0; i < map->n; i++) {
        struct weir_str key = map->fields[i].key;
        bool fits = key.len > 0 && key.len <= path.len && memcmp(key.ptr, path.ptr, key.len) == 0 &&
                    (key.len == path.len || path.ptr[key.len] == '.' || path.ptr[key.len] == '[');
        if (fits && (best == NULL || key.len > best->key.len))
            best = &map->fields[i];
    }
    *ret_used = best != NULL ? best->key.len : 0;
    return best;
}

static const struct wr_node *list_item(const struct wr_node *n, struct weir_str *io_path)
{
    size_t end = 1;
    uint32_t i = 0;

    while (end < io_path->len && io_path->ptr[end] >= '0' && io_path->ptr[end] <= '9' &&
           i < 1000000)
        i = i * 10 + (uint32_t)(io_path->ptr[end++] - '0');
    if (end == 1 || end == io_path->len || io_path->ptr[end] != ']')
        return NULL;
    *io_path = weir_str_n(io_path->ptr + end + 1, io_path->len - end - 1);
    if (n->kind == WR_NODE_LIST)
        return i < n->n ? n->items[i] : NULL;
    return i == 0 ? n : NULL; /* a single value stands for a list of one */
}

struct wr_pos wr_node_resolve(const struct wr_node *map, struct wr_pos fallback, const char *path,
                              int64_t offset)
{
    struct weir_str rest = weir_cstr(path);
    const struct wr_node *n = map;
    struct wr_pos pos = fallback;

    while (rest.len > 0 && n != NULL) {
        const struct wr_field *f;
        size_t used;
        if (rest.ptr[0] == '.') {
            rest = weir_str_n(rest.ptr + 1, rest.len - 1);
            continue;
        }
        if (rest.ptr[0] == '[') {
            n = list_item(n, &rest);
        } else {
            f = n->kind == WR_NODE_MAP ? longest_field(n, rest, &used) : NULL;
            n = f != NULL ? f->value : NULL;
            if (f != NULL)
                rest = weir_str_n(rest.ptr + used, rest.len - used);
        }
        if (n != NULL)
            pos = n->pos;
    }
    if (n != NULL && n != map && n->kind == WR_NODE_SCALAR && offset >= 0)
        return wr_node_pos_at(n, (size_t)offset);
    return pos;
}
