/* SPDX-License-Identifier: Apache-2.0
 *
 * model/conf.c: builds the located tree from libyaml's events.
 *
 * libyaml counts characters, we also want bytes: a cursor follows its marks, which hardly ever step
 * back. What breaks a rule of ours (duplicate keys, tags, merge keys) is reported and read on;
 * syntax errors and limits end the reading.
 */
#include <base/mem.h>
#include <base/str.h>
#include <model/conf.h>
#include <stdlib.h>
#include <yaml.h>

struct anchor {
    struct anchor *next;
    struct weir_str name;
    struct wr_node *node;
    bool open; /* its node is still being read */
};

struct reader {
    yaml_parser_t yaml;
    struct weir_arena *a;
    struct wr_diags *d;
    const struct wr_text *text;
    struct wr_conf *conf;
    struct anchor *anchors;
    size_t index, byte; /* the cursor: character and byte of the same place */
    uint32_t n_nodes;
    bool ok;
    bool stopped;
};

static struct weir_str yaml_str(const yaml_char_t *p)
{
    return weir_cstr((const char *)p);
}

static size_t byte_at(struct reader *r, size_t index)
{
    struct weir_str s = r->text->text;

    while (r->index < index && r->byte < s.len) {
        do
            r->byte++;
        while (r->byte < s.len && (s.ptr[r->byte] & 0xc0) == 0x80);
        r->index++;
    }
    while (r->index > index && r->byte > 0) {
        do
            r->byte--;
        while (r->byte > 0 && (s.ptr[r->byte] & 0xc0) == 0x80);
        r->index--;
    }
    return r->byte;
}

static struct wr_pos pos_of(const struct reader *r, yaml_mark_t from, yaml_mark_t to)
{
    struct wr_pos pos = {r->text, (uint32_t)from.line + 1, (uint32_t)from.column + 1, 1};

    if (to.line == from.line && to.column > from.column)
        pos.width = (uint32_t)(to.column - from.column);
    return pos;
}

static void complain(struct reader *r, const char *code, struct wr_pos pos, struct weir_str message,
                     const char *hint)
{
    r->ok = false;
    wr_diags_add(r->d, &(struct wr_diag){
                           .code = code, .pos = pos, .message = message, .hint = weir_cstr(hint)});
}

/* Does "${" stand on the line of that byte, before it? */
static bool behind_interpolation(struct weir_str s, size_t byte)
{
    for (size_t i = byte < s.len ? byte : s.len; i > 0 && s.ptr[i - 1] != '\n'; i--) {
        if (s.ptr[i - 1] == '$' && i < s.len && s.ptr[i] == '{')
            return true;
    }
    return false;
}

static const char *syntax_hint(const struct reader *r, size_t byte)
{
    struct weir_str s = r->text->text;
    const char *problem = r->yaml.problem ? r->yaml.problem : "";
    char c = byte < s.len ? s.ptr[byte] : '\0';

    if (c == '\t')
        return "indent with spaces: YAML does not allow tabs there";
    if (behind_interpolation(s, byte))
        return "inside [ ] and { } put quotes round a text with ${...}";
    if (strstr(problem, "cannot start any token"))
        return "put quotes round a text that begins with this character";
    if (strstr(problem, "mapping values are not allowed"))
        return "put quotes round a text that holds \": \", or check the indentation";
    if (strstr(problem, "did not find expected key") || strstr(problem, "block end"))
        return "check the indentation (keys of one map begin in one column) and the quotes";
    return NULL;
}

static void syntax_error(struct reader *r)
{
    const yaml_parser_t *y = &r->yaml;
    yaml_mark_t mark = y->problem_mark;
    struct weir_str message;

    if (y->context != NULL && strstr(y->context, "the next token") == NULL)
        message = wr_arena_xprintf(r->a, "not well-formed YAML: %s %s that begins on line %zu",
                                   y->problem ? y->problem : "error", y->context,
                                   y->context_mark.line + 1);
    else
        message =
            wr_arena_xprintf(r->a, "not well-formed YAML: %s", y->problem ? y->problem : "error");
    complain(r, "yaml-syntax", pos_of(r, mark, mark), message,
             syntax_hint(r, byte_at(r, mark.index)));
    wr_diags_mask_guess(r->d, r->text);
    r->stopped = true;
}

static void limit(struct reader *r, const char *code, struct wr_pos pos, const char *what)
{
    if (!r->stopped)
        complain(r, code, pos, weir_cstr(what), NULL);
    r->stopped = true;
}

static bool next_event(struct reader *r, yaml_event_t *ret)
{
    if (r->stopped)
        return false;
    if (yaml_parser_parse(&r->yaml, ret))
        return true;
    syntax_error(r);
    return false;
}

static bool is_break(char c)
{
    return c == '\n' || c == '\r';
}

/* libyaml begins a node at its anchor and tag; we begin behind them. */
static void skip_properties(const struct reader *r, struct wr_node *n, yaml_mark_t end)
{
    struct weir_str s = r->text->text;
    char inside = 0; /* '&', '!' or '#': until a blank, or the end of the line */

    while (n->start < n->end) {
        char c = s.ptr[n->start];
        if (inside == '#' ? is_break(c) : c == ' ' || c == '\t' || is_break(c))
            inside = 0;
        else if (inside == 0 && (c == '&' || c == '!' || c == '#'))
            inside = c;
        else if (inside == 0)
            break;
        n->start++;
        n->pos.col += (c & 0xc0) != 0x80;
        if (c == '\n' || (c == '\r' && n->start < n->end && s.ptr[n->start] != '\n')) {
            n->pos.line++;
            n->pos.col = 1;
        }
    }
    n->pos.width = 1;
    if (n->pos.line == end.line + 1 && end.column + 1 > n->pos.col)
        n->pos.width = (uint32_t)end.column + 1 - n->pos.col;
}

static struct wr_node *new_node(struct reader *r, enum wr_node_kind kind, const yaml_event_t *ev)
{
    struct wr_node *n = wr_arena_xalloc(r->a, sizeof(*n));

    n->kind = kind;
    n->pos = pos_of(r, ev->start_mark, ev->end_mark);
    n->start = byte_at(r, ev->start_mark.index);
    n->end = byte_at(r, ev->end_mark.index);
    n->weight = 1;
    if (n->start < n->end && strchr("&!", r->text->text.ptr[n->start]) != NULL)
        skip_properties(r, n, ev->end_mark);
    if (++r->n_nodes > WR_CONF_NODES_MAX)
        limit(r, "yaml-nodes", n->pos, "the file has more than 100,000 values");
    return n;
}

static struct anchor *open_anchor(struct reader *r, const yaml_char_t *name, struct wr_node *node)
{
    struct anchor *an;

    if (name == NULL)
        return NULL;
    an = wr_arena_xalloc(r->a, sizeof(*an));
    an->name = wr_arena_xcopy(r->a, yaml_str(name));
    an->node = node;
    an->open = true;
    an->next = r->anchors;
    r->anchors = an;
    return an;
}

/* Tags that say what is so anyway are let pass; !!str makes a scalar text. */
static void take_tag(struct reader *r, struct wr_node *n, const yaml_event_t *ev,
                     const yaml_char_t *tag)
{
    struct weir_str t = yaml_str(tag);
    static const char *const own[] = {[WR_NODE_SCALAR] = "tag:yaml.org,2002:str",
                                      [WR_NODE_LIST] = "tag:yaml.org,2002:seq",
                                      [WR_NODE_MAP] = "tag:yaml.org,2002:map"};

    if (tag == NULL)
        return;
    if (!wr_str_is(t, "!") && !wr_str_is(t, own[n->kind])) {
        complain(r, "yaml-tag", pos_of(r, ev->start_mark, ev->start_mark),
                 wr_arena_xprintf(r->a, "the tag %.*s is not supported", WR_STR(t)),
                 "leave the tag out");
        return;
    }
    if (n->kind == WR_NODE_SCALAR && n->style == WR_STYLE_PLAIN)
        n->style = WR_STYLE_SINGLE; /* in all but its quotes: text */
}

static enum wr_node_style style_of(const yaml_event_t *ev)
{
    switch (ev->data.scalar.style) {
    case YAML_SINGLE_QUOTED_SCALAR_STYLE:
        return WR_STYLE_SINGLE;
    case YAML_DOUBLE_QUOTED_SCALAR_STYLE:
        return WR_STYLE_DOUBLE;
    case YAML_LITERAL_SCALAR_STYLE:
        return WR_STYLE_LITERAL;
    case YAML_FOLDED_SCALAR_STYLE:
        return WR_STYLE_FOLDED;
    default:
        return WR_STYLE_PLAIN;
    }
}

static struct wr_node *read_scalar(struct reader *r, const yaml_event_t *ev)
{
    struct wr_node *n = new_node(r, WR_NODE_SCALAR, ev);
    struct anchor *an = open_anchor(r, ev->data.scalar.anchor, n);

    n->style = style_of(ev);
    n->text = wr_arena_xcopy(
        r->a, weir_str_n((const char *)ev->data.scalar.value, ev->data.scalar.length));
    n->raw = n->text;
    take_tag(r, n, ev, ev->data.scalar.tag);
    n->next_scalar = r->conf->scalars;
    r->conf->scalars = n;
    if (an != NULL)
        an->open = false;
    return n;
}

static struct wr_node *read_alias(struct reader *r, const yaml_event_t *ev, uint32_t depth)
{
    struct weir_str name = yaml_str(ev->data.alias.anchor);
    struct wr_pos pos = pos_of(r, ev->start_mark, ev->end_mark);
    struct anchor *an = r->anchors;

    while (an != NULL && !wr_str_eq(an->name, name))
        an = an->next;
    if (an == NULL || an->open) {
        complain(r, "yaml-alias", pos,
                 wr_arena_xprintf(r->a,
                                  an == NULL ? "there is no anchor &%.*s before this alias"
                                             : "the anchor &%.*s holds this alias itself",
                                  WR_STR(name)),
                 NULL);
        return NULL;
    }
    if (an->node->weight >
        WR_CONF_NODES_MAX - (r->n_nodes < WR_CONF_NODES_MAX ? r->n_nodes : WR_CONF_NODES_MAX))
        limit(r, "yaml-nodes", pos, "the file has more than 100,000 values");
    else
        r->n_nodes += an->node->weight;
    if (depth + an->node->height > WR_CONF_DEPTH_MAX)
        limit(r, "yaml-depth", pos, "the file is nested more than 64 deep");
    return an->node;
}

static struct wr_node *read_node(struct reader *r, yaml_event_t *take_ev, uint32_t depth);

/* Reads the next node, which `ret` is NULL for where it could not be had. False at the end. */
static bool read_next(struct reader *r, yaml_event_type_t end, uint32_t depth, struct wr_node **ret)
{
    yaml_event_t ev;

    if (!next_event(r, &ev))
        return false;
    if (ev.type == end) {
        yaml_event_delete(&ev);
        return false;
    }
    *ret = read_node(r, &ev, depth);
    return !r->stopped;
}

static void adopt(struct wr_node *n, const struct wr_node *child)
{
    n->weight += child->weight;
    if (child->height + 1 > n->height)
        n->height = child->height + 1;
}

static void read_list(struct reader *r, struct wr_node *n, uint32_t depth)
{
    struct wr_node **items = NULL, *item = NULL;
    uint32_t cap = 0;

    n->height = 1;
    while (read_next(r, YAML_SEQUENCE_END_EVENT, depth, &item)) {
        if (item == NULL) {
            n->broken = true;
            continue;
        }
        if (n->n == cap) {
            cap = cap ? cap * 2 : 8;
            items = wr_xrealloc(items, cap * sizeof(struct wr_node *));
        }
        items[n->n++] = item;
        adopt(n, item);
    }
    n->items = wr_arena_xalloc(r->a, n->n * sizeof(struct wr_node *));
    if (n->n > 0)
        memcpy(n->items, items, n->n * sizeof(struct wr_node *));
    wr_free(items);
}

/* The key's text and place; false where the pair cannot be used. */
static bool read_key(struct reader *r, yaml_event_t *take_ev, uint32_t depth, struct wr_field *ret)
{
    struct wr_pos pos = pos_of(r, take_ev->start_mark, take_ev->end_mark);
    bool scalar = take_ev->type == YAML_SCALAR_EVENT, ok = false;

    ret->pos = pos;
    if (!scalar) {
        complain(r, "yaml-key", pos, weir_cstr("a key must be plain or quoted text"),
                 take_ev->type == YAML_MAPPING_START_EVENT
                     ? "put quotes round a template: \"{{ field }}\""
                     : NULL);
        if (take_ev->type == YAML_ALIAS_EVENT)
            yaml_event_delete(take_ev);
        else
            (void)read_node(r, take_ev, depth);
        return false;
    }
    ret->key = wr_arena_xcopy(
        r->a, weir_str_n((const char *)take_ev->data.scalar.value, take_ev->data.scalar.length));
    if (take_ev->data.scalar.anchor != NULL || take_ev->data.scalar.tag != NULL)
        complain(r, "yaml-key", pos, weir_cstr("a key cannot have an anchor or a tag"), NULL);
    else if (wr_str_is(ret->key, "<<") && take_ev->data.scalar.style == YAML_PLAIN_SCALAR_STYLE)
        complain(r, "yaml-merge", pos, weir_cstr("the merge key << is not supported"),
                 "name the options in each place; an alias may stand for a whole value");
    else
        ok = true;
    yaml_event_delete(take_ev);
    return ok;
}

struct ranked {
    uint64_t hash;
    uint32_t i;
};

static int by_hash(const void *va, const void *vb)
{
    const struct ranked *a = va, *b = vb;

    if (a->hash != b->hash)
        return a->hash < b->hash ? -1 : 1;
    return a->i < b->i ? -1 : a->i > b->i;
}

static void check_duplicates(struct reader *r, const struct wr_node *n)
{
    struct ranked *order;

    if (n->n < 2)
        return;
    order = wr_xalloc(n->n * sizeof(*order));
    for (uint32_t i = 0; i < n->n; i++)
        order[i] = (struct ranked){wr_str_hash(n->fields[i].key, 0), i};
    qsort(order, n->n, sizeof(*order), by_hash);
    for (uint32_t i = 1, first = 0; i < n->n; i++) {
        const struct wr_field *f = &n->fields[order[i].i], *g = &n->fields[order[first].i];
        if (order[i].hash != order[first].hash || !wr_str_eq(f->key, g->key)) {
            first = i;
            continue;
        }
        complain(r, "duplicate-key", f->pos,
                 wr_arena_xprintf(r->a,
                                  "the key \"%.*s\" stands twice in this map; first on line %u",
                                  WR_STR(f->key), g->pos.line),
                 NULL);
    }
    wr_free(order);
}

static void read_map(struct reader *r, struct wr_node *n, uint32_t depth)
{
    struct wr_field *fields = NULL;
    uint32_t cap = 0;
    yaml_event_t ev;

    n->height = 1;
    while (next_event(r, &ev)) {
        struct wr_field f = {0};
        bool usable;
        if (ev.type == YAML_MAPPING_END_EVENT) {
            yaml_event_delete(&ev);
            break;
        }
        usable = read_key(r, &ev, depth, &f);
        if (!read_next(r, YAML_NO_EVENT, depth, &f.value))
            break;
        if (!usable || f.value == NULL) {
            n->broken = true;
            continue;
        }
        if (n->n == cap) {
            cap = cap ? cap * 2 : 8;
            fields = wr_xrealloc(fields, cap * sizeof(*fields));
        }
        fields[n->n++] = f;
        adopt(n, f.value);
    }
    n->fields = wr_arena_xalloc(r->a, n->n * sizeof(*fields));
    if (n->n > 0)
        memcpy(n->fields, fields, n->n * sizeof(*fields));
    wr_free(fields);
    if (!r->stopped)
        check_duplicates(r, n);
}

static struct wr_node *read_container(struct reader *r, const yaml_event_t *ev, uint32_t depth)
{
    bool map = ev->type == YAML_MAPPING_START_EVENT;
    struct wr_node *n = new_node(r, map ? WR_NODE_MAP : WR_NODE_LIST, ev);
    struct anchor *an =
        open_anchor(r, map ? ev->data.mapping_start.anchor : ev->data.sequence_start.anchor, n);

    take_tag(r, n, ev, map ? ev->data.mapping_start.tag : ev->data.sequence_start.tag);
    if (depth >= WR_CONF_DEPTH_MAX)
        limit(r, "yaml-depth", n->pos, "the file is nested more than 64 deep");
    else if (map)
        read_map(r, n, depth + 1);
    else
        read_list(r, n, depth + 1);
    if (an != NULL)
        an->open = false;
    return n;
}

/* depth: containers round this node. */
static struct wr_node *read_node(struct reader *r, yaml_event_t *take_ev, uint32_t depth)
{
    struct wr_node *n = NULL;

    switch (take_ev->type) {
    case YAML_SCALAR_EVENT:
        n = read_scalar(r, take_ev);
        break;
    case YAML_ALIAS_EVENT:
        n = read_alias(r, take_ev, depth);
        break;
    case YAML_SEQUENCE_START_EVENT:
    case YAML_MAPPING_START_EVENT:
        n = read_container(r, take_ev, depth);
        break;
    default:
        break;
    }
    yaml_event_delete(take_ev);
    return n;
}

/* Everything of the stream; the first document is the one. */
static void read_stream(struct reader *r)
{
    uint32_t n_documents = 0;
    yaml_event_t ev;

    while (next_event(r, &ev)) {
        yaml_event_type_t type = ev.type;
        if (type == YAML_DOCUMENT_START_EVENT && ++n_documents > 1) {
            complain(r, "yaml-documents", pos_of(r, ev.start_mark, ev.end_mark),
                     weir_cstr("a second YAML document begins here"), "write one file a pipeline");
            r->stopped = true;
        }
        if (type == YAML_SCALAR_EVENT || type == YAML_ALIAS_EVENT ||
            type == YAML_SEQUENCE_START_EVENT || type == YAML_MAPPING_START_EVENT) {
            r->conf->root = read_node(r, &ev, 0);
            continue;
        }
        yaml_event_delete(&ev);
        if (type == YAML_STREAM_END_EVENT)
            return;
    }
}

/* libyaml's own rule for characters, asked beforehand so that the place is exact. */
static bool is_allowed(uint32_t cp)
{
    return cp == '\t' || cp == '\n' || cp == '\r' || (cp >= 0x20 && cp <= 0x7e) || cp == 0x85 ||
           (cp >= 0xa0 && cp <= 0xd7ff) || (cp >= 0xe000 && cp <= 0xfffd) ||
           (cp >= 0x10000 && cp <= 0x10ffff);
}

static bool check_characters(struct reader *r)
{
    struct weir_str s = r->text->text;
    struct wr_pos pos = {r->text, 1, 1, 1};

    for (size_t at = 0; at < s.len; pos.col++) {
        uint32_t cp = wr_utf8_next(s, &at);
        if (cp != WR_UTF8_BAD && is_allowed(cp)) {
            bool crlf = cp == '\r' && at < s.len && s.ptr[at] == '\n';
            if (!crlf && (cp == '\n' || cp == '\r' || cp == 0x85 || cp == 0x2028 || cp == 0x2029))
                pos = (struct wr_pos){r->text, pos.line + 1, 0, 1};
            continue;
        }
        complain(
            r, "file-encoding", pos,
            cp == WR_UTF8_BAD ? weir_cstr("the file is not UTF-8 text")
                              : wr_arena_xprintf(r->a, "control character U+%04X", (unsigned)cp),
            cp == WR_UTF8_BAD ? "save it as UTF-8"
                              : "in a double-quoted text write it as an escape, such as \\x1b");
        wr_diags_mask_guess(r->d, r->text);
        return false;
    }
    return true;
}

bool wr_conf_parse(struct weir_arena *a, const struct wr_text *text, struct wr_diags *d,
                   struct wr_conf *ret)
{
    struct wr_conf conf = {0};
    struct reader r = {.a = a, .d = d, .text = text, .conf = &conf, .ok = true};

    if (text->text.len > WR_CONF_BYTES_MAX) {
        complain(&r, "file-too-large", (struct wr_pos){.text = text},
                 weir_cstr("the file has more than 1 MiB"), NULL);
        return false;
    }
    if (!check_characters(&r))
        return false;
    if (!yaml_parser_initialize(&r.yaml)) {
        limit(&r, "file-unreadable", (struct wr_pos){.text = text}, "no memory to read the file");
        return false;
    }
    yaml_parser_set_encoding(&r.yaml, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(
        &r.yaml, (const unsigned char *)(text->text.ptr ? text->text.ptr : ""), text->text.len);
    read_stream(&r);
    yaml_parser_delete(&r.yaml);
    if (r.stopped)
        wr_diags_mask_guess(d, text);
    else
        *ret = conf;
    return r.ok;
}
