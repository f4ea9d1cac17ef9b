/* SPDX-License-Identifier: Apache-2.0
 *
 * Checks the object `weir_plugin` of a shared object that was just opened, with all its types and
 * option tables, before anything is called or filled by them. The first mistake found is the one
 * that is told: it is the plugin's author who mends it, once.
 */
#include <base/check.h>
#include <base/str.h>
#include <engine/loader_check.h>
#include <model/options.h>
#include <stdarg.h>
#include <stdlib.h>

/* Sizes in ABI 1.0; they stay when the structs grow. */
#define PLUGIN_SIZE_MIN sizeof(struct weir_plugin)
#define TYPE_SIZE_MIN sizeof(struct weir_type)
#define SOURCE_SIZE_MIN sizeof(struct weir_source)
#define TRANSFORM_SIZE_MIN sizeof(struct weir_transform)
#define SINK_SIZE_MIN sizeof(struct weir_sink)
#define OPTION_STRIDE_MIN sizeof(struct weir_option)
#define CONDITION_SIZE_MIN sizeof(struct weir_condition_service)

#define NAME_MAX_BYTES 64
#define TEXT_MAX_BYTES ((size_t)64 << 10)
#define TYPES_MAX 256
#define OPTIONS_MAX 512
#define OPTIONS_IN_ALL_MAX 16384 /* of a type: each way to a table that several share counts */
#define NESTED_MAX 8
#define CONFIG_MAX ((size_t)16 << 20)

static const char *const kind_names[] = {"?", "source", "transform", "sink"};

/* Where the check is: for the front of its messages. */
struct place {
    struct wr_buf *why;
    const struct weir_type *type;
    const char *path[NESTED_MAX]; /* options, outermost first */
    uint32_t depth;
    uint32_t stride;
    uint32_t n_options; /* of the type so far */
    size_t align;       /* of the struct whose options are checked: the largest of its members' */
};

static bool __attribute__((format(printf, 2, 3))) bad(const struct place *at, const char *fmt, ...)
{
    if (at->type != NULL)
        wr_buf_printf(at->why, "%s \"%s\": ", kind_names[at->type->kind], at->type->name);
    for (uint32_t i = 0; i < at->depth; i++)
        wr_buf_printf(at->why, "%s%s%s", i == 0 ? "option \"" : ".", at->path[i],
                      i + 1 == at->depth ? "\": " : "");
    va_list ap;
    va_start(ap, fmt);
    wr_buf_vprintf(at->why, fmt, ap);
    va_end(ap);
    return false;
}

/* Lower-case words, as they stand in a pipeline file, and what else may be in them. */
static bool is_word(const char *name, char other)
{
    if (name == NULL || name[0] == '\0')
        return false;
    size_t i = 0;
    for (; i <= NAME_MAX_BYTES && name[i] != '\0'; i++) {
        char c = name[i];
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-' ||
              c == '.' || c == other))
            return false;
    }
    return i <= NAME_MAX_BYTES;
}

static bool is_name(const char *name)
{
    return is_word(name, '.');
}

/* A text that is not there is fine; one must have an end. */
static bool is_bounded(const char *text)
{
    return text == NULL || strnlen(text, TEXT_MAX_BYTES) < TEXT_MAX_BYTES;
}

static bool has_text(const char *text)
{
    return text != NULL && text[0] != '\0' && is_bounded(text);
}

static bool check_size(const struct place *at, const char *what, uint32_t size, size_t min,
                       size_t max)
{
    if (size >= min && size <= max)
        return true;
    if (min == max)
        return bad(at, "%s says that it has %u bytes, expected %zu", what, size, min);
    return bad(at, "%s says that it has %u bytes, expected %zu to %zu", what, size, min, max);
}

/* ---- Options ---- */

static bool check_options(struct place *at, const struct weir_option *items, uint32_t n,
                          size_t base, size_t room);

/* Size and alignment of the C type that an option fills; 0 for TABLE, whose fields have their own. */
static size_t value_size(const struct weir_option *o)
{
    if (o->type == WEIR_OPT_LIST || o->type == WEIR_OPT_MAP)
        return sizeof(struct weir_list);
    return o->type == WEIR_OPT_TABLE ? 0 : wr_option_size(o, o->type);
}

static const struct weir_option *option_at(const struct place *at, const struct weir_option *items,
                                           uint32_t i)
{
    return (const struct weir_option *)(const void *)((const char *)items + (size_t)i * at->stride);
}

static bool check_choices(const struct place *at, const struct weir_option *o)
{
    if (o->choices == NULL || o->choices[0] == NULL)
        return bad(at, "an ENUM needs `choices`");
    for (uint32_t i = 0; o->choices[i] != NULL; i++) {
        if (i == OPTIONS_MAX || !has_text(o->choices[i]))
            return bad(at, "choice %u is empty, or the list has no NULL at its end", i);
    }
    return true;
}

/* A table on its own fills the config struct from the option's offset on, one inside a list or map
 * a struct of fields_size. */
static bool check_fields(struct place *at, const struct weir_option *o, size_t base, size_t room)
{
    if (o->fields == NULL || o->n_fields == 0)
        return bad(at, "a TABLE needs `fields`");
    if (at->depth == NESTED_MAX)
        return bad(at, "tables are nested more than %d deep", NESTED_MAX);
    if (o->type == WEIR_OPT_TABLE)
        return check_options(at, o->fields, o->n_fields, base + o->offset, room);
    if (o->fields_size == 0 || o->fields_size > CONFIG_MAX)
        return bad(at, "`fields_size` is %zu, expected sizeof the nested struct", o->fields_size);
    size_t outer = at->align;
    at->align = 1;
    if (!check_options(at, o->fields, o->n_fields, 0, o->fields_size))
        return false;
    if (o->fields_size % at->align != 0)
        return bad(at, "`fields_size` is %zu, expected sizeof the nested struct, a multiple of %zu",
                   o->fields_size, at->align);
    at->align = outer;
    return true;
}

static bool check_place(struct place *at, const struct weir_option *o, size_t base, size_t room)
{
    size_t size = value_size(o);
    size_t align = size < sizeof(void *) && size > 0 ? size : size == 0 ? 1 : sizeof(void *);
    if (o->offset > room || base > room - o->offset || size > room - o->offset - base)
        return bad(at, "its offset %zu with %zu bytes lies outside the config struct of %zu bytes",
                   o->offset, size, room - base);
    if ((base + o->offset) % align != 0)
        return bad(at, "its offset %zu does not fit its C type, which is aligned to %zu", o->offset,
                   align);
    at->align = align > at->align ? align : at->align;
    return true;
}

static bool check_type_of(const struct place *at, const struct weir_option *o)
{
    if (o->type < WEIR_OPT_BOOL || o->type > WEIR_OPT_MAP)
        return bad(at, "its type %d is unknown", (int)o->type);
    bool many = o->type == WEIR_OPT_LIST || o->type == WEIR_OPT_MAP;
    if (!many && o->of != 0)
        return bad(at, "`of` is for lists and maps");
    if (many && (o->of < WEIR_OPT_BOOL || o->of > WEIR_OPT_TABLE))
        return bad(at, "`of` is %d, expected the type of one element, no list or map", (int)o->of);
    if (o->fields != NULL && (many ? o->of : o->type) != WEIR_OPT_TABLE)
        return bad(at, "`fields` are for a TABLE");
    return true;
}

static bool check_texts(const struct place *at, const struct weir_option *o)
{
    if (!has_text(o->doc))
        return bad(at, "it has no `doc`, which `weir plugins` shows");
    if (strchr(o->doc, '\n') != NULL)
        return bad(at, "its `doc` has more than one line");
    if (!is_bounded(o->def) || !is_bounded(o->example))
        return bad(at, "its `%s` has no end within %zu bytes",
                   is_bounded(o->def) ? "example" : "def", TEXT_MAX_BYTES);
    if (o->min > o->max)
        return bad(at, "`min` %lld is above `max` %lld", (long long)o->min, (long long)o->max);
    if ((o->flags & WEIR_OPT_REQUIRED) != 0 && o->def != NULL)
        return bad(at, "it is required and has a default");
    return true;
}

static bool check_option(struct place *at, const struct weir_option *o, size_t base, size_t room)
{
    if (!check_type_of(at, o) || !check_place(at, o, base, room) || !check_texts(at, o))
        return false;
    enum weir_option_type element = o->of != 0 ? o->of : o->type;
    if (element == WEIR_OPT_ENUM && !check_choices(at, o))
        return false;
    return element != WEIR_OPT_TABLE || check_fields(at, o, base, room);
}

static const struct weir_option *
find_option(const struct place *at, const struct weir_option *items, uint32_t n, const char *name)
{
    for (uint32_t i = 0; i < n; i++) {
        if (strcmp(option_at(at, items, i)->name, name) == 0)
            return option_at(at, items, i);
    }
    return NULL;
}

static bool check_options(struct place *at, const struct weir_option *items, uint32_t n,
                          size_t base, size_t room)
{
    if (n > OPTIONS_MAX)
        return bad(at, "its option table has %u entries, expected at most %d", n, OPTIONS_MAX);
    at->n_options += n;
    if (at->n_options > OPTIONS_IN_ALL_MAX)
        return bad(at, "with all tables in each other there are more than %d options",
                   OPTIONS_IN_ALL_MAX);
    for (uint32_t i = 0; i < n; i++) {
        const struct weir_option *o = option_at(at, items, i);
        if (!is_name(o->name))
            return bad(at, "option %u has a bad name, expected a-z, 0-9, _, - and .", i);
        if (find_option(at, items, i, o->name) != NULL)
            return bad(at, "option \"%s\" is twice in its table", o->name);
    }
    for (uint32_t i = 0; i < n; i++) {
        const struct weir_option *o = option_at(at, items, i);
        at->path[at->depth++] = o->name;
        if (!check_option(at, o, base, room))
            return false;
        if (o->deprecated_by != NULL && !is_name(o->deprecated_by))
            return bad(at, "`deprecated_by` is no name of an option");
        if (o->deprecated_by != NULL && find_option(at, items, n, o->deprecated_by) == NULL)
            return bad(at, "`deprecated_by` names \"%s\", which is not in the table",
                       o->deprecated_by);
        at->depth--;
    }
    return true;
}

static bool check_table(struct place *at, const struct weir_options *t)
{
    if (t->n == 0)
        return true;
    if (t->items == NULL)
        return bad(at, "its option table is NULL and has %u entries", t->n);
    if (t->stride < OPTION_STRIDE_MIN || t->stride > sizeof(struct weir_option))
        return bad(at, "its option table has a stride of %u bytes, expected %zu: use WEIR_OPTIONS",
                   t->stride, sizeof(struct weir_option));
    if (t->config_size == 0 || t->config_size > CONFIG_MAX)
        return bad(at, "its config struct has %zu bytes, expected 1 to %zu: use WEIR_OPTIONS",
                   t->config_size, CONFIG_MAX);
    at->stride = t->stride;
    return check_options(at, t->items, t->n, 0, t->config_size);
}

/* ---- Types ---- */

static bool check_source(const struct place *at, const struct weir_source *s)
{
    if (s == NULL)
        return bad(at, "it has no `source` calls");
    if (!check_size(at, "struct weir_source", s->size, SOURCE_SIZE_MIN, sizeof(*s)))
        return false;
    if (s->poll == NULL)
        return bad(at, "it has no `poll`");
    if (s->stop == NULL)
        return bad(at, "it has no `stop`");
    if (s->commit == NULL && s->answer == NULL)
        return bad(at,
                   "it has neither `commit` nor `answer`: nothing would tell it that events ended");
    return true;
}

static bool check_transform(const struct place *at, const struct weir_transform *t)
{
    if (t == NULL)
        return bad(at, "it has no `transform` calls");
    if (!check_size(at, "struct weir_transform", t->size, TRANSFORM_SIZE_MIN, sizeof(*t)))
        return false;
    return t->apply != NULL || bad(at, "it has no `apply`");
}

static bool check_sink(const struct place *at, const struct weir_sink *s)
{
    if (s == NULL)
        return bad(at, "it has no `sink` calls");
    if (!check_size(at, "struct weir_sink", s->size, SINK_SIZE_MIN, sizeof(*s)))
        return false;
    if (s->write == NULL)
        return bad(at, "it has no `write`");
    if ((s->progress == NULL) != (s->wake == NULL))
        return bad(at, "it has `%s` without `%s`: both or none",
                   s->wake != NULL ? "wake" : "progress", s->wake != NULL ? "progress" : "wake");
    if (s->batch_bytes < 0 || s->batch_timeout_ns < 0)
        return bad(at, "its default batch has a negative limit");
    return true;
}

static bool check_calls(const struct place *at, const struct weir_type *t)
{
    bool others = (t->kind != WEIR_SOURCE && t->source != NULL) ||
                  (t->kind != WEIR_TRANSFORM && t->transform != NULL) ||
                  (t->kind != WEIR_SINK && t->sink != NULL);
    if (others)
        return bad(at, "it has the calls of another kind too: write one type a kind");
    if (t->open == NULL || t->close == NULL)
        return bad(at, "it has no `%s`", t->open == NULL ? "open" : "close");
    return t->kind == WEIR_SOURCE      ? check_source(at, t->source)
           : t->kind == WEIR_TRANSFORM ? check_transform(at, t->transform)
                                       : check_sink(at, t->sink);
}

static bool check_type(struct wr_buf *why, const struct weir_plugin *p, uint32_t i)
{
    const struct weir_type *t = p->types[i];
    struct place at = {.why = why};
    if (t->size < TYPE_SIZE_MIN || t->size > sizeof(*t))
        return bad(&at, "type %u: struct weir_type says that it has %u bytes, expected %zu", i,
                   t->size, sizeof(*t));
    if (t->kind < WEIR_SOURCE || t->kind > WEIR_SINK)
        return bad(&at, "type %u: its kind %d is unknown, expected a source, transform or sink", i,
                   (int)t->kind);
    if (!is_name(t->name))
        return bad(&at, "type %u: its name is empty or no word of a-z, 0-9, _, - and .", i);
    for (uint32_t k = 0; k < i; k++) {
        if (p->types[k]->kind == t->kind && strcmp(p->types[k]->name, t->name) == 0)
            return bad(&at, "%s \"%s\" is twice in its types", kind_names[t->kind], t->name);
    }
    at.type = t;
    if (!has_text(t->summary))
        return bad(&at, "it has no `summary`");
    if (!is_bounded(t->doc))
        return bad(&at, "its `doc` has no end within %zu bytes", TEXT_MAX_BYTES);
    return check_calls(&at, t) && check_table(&at, &t->options);
}

/* ---- The plugin ---- */

static bool check_abi(const struct place *at, const struct weir_plugin *p)
{
    if (p->abi_major == WEIR_ABI_MAJOR && p->abi_minor <= WEIR_ABI_MINOR)
        return true;
    bool newer = p->abi_major > WEIR_ABI_MAJOR ||
                 (p->abi_major == WEIR_ABI_MAJOR && p->abi_minor > WEIR_ABI_MINOR);
    return bad(at, "built for plugin ABI %u.%u, this weir has %d.%d: the plugin is %s, %s",
               p->abi_major, p->abi_minor, WEIR_ABI_MAJOR, WEIR_ABI_MINOR,
               newer ? "newer" : "older",
               newer ? "so update weir" : "so build it again with this weir's headers");
}

static bool check_service(const struct place *at, const struct weir_service *s)
{
    if (!is_word(s->name, '/'))
        return bad(at, "the name of a service is empty or no word of a-z, 0-9, _, -, . and /");
    if (s->table == NULL)
        return bad(at, "service \"%s\" has no table", s->name);
    if (strcmp(s->name, WEIR_CONDITION_SERVICE) != 0)
        return true;
    const struct weir_condition_service *c = s->table;
    if (!check_size(at, "struct weir_condition_service", c->size, CONDITION_SIZE_MIN, sizeof(*c)))
        return false;
    if (c->check == NULL || c->open == NULL || c->eval == NULL || c->close == NULL)
        return bad(at, "service \"%s\" lacks one of check, open, eval and close", s->name);
    return true;
}

static bool check_offers(const struct place *at, const struct weir_plugin *p)
{
    uint32_t n = 0;
    for (; p->types != NULL && p->types[n] != NULL; n++) {
        if (n == TYPES_MAX)
            return bad(at, "it has more than %d types, or no NULL behind the last", TYPES_MAX);
        if (!check_type(at->why, p, n))
            return false;
    }
    for (uint32_t i = 0; p->services != NULL && p->services[i].name != NULL; i++, n++) {
        if (i == TYPES_MAX)
            return bad(at, "it has more than %d services, or none without a name at the end",
                       TYPES_MAX);
        if (!check_service(at, &p->services[i]))
            return false;
    }
    return n > 0 || bad(at, "it offers nothing: no types and no services");
}

bool wr_plugin_check(const struct weir_plugin *p, size_t symbol_size, struct wr_buf *why)
{
    struct place at = {.why = why};
    if (symbol_size < offsetof(struct weir_plugin, name))
        return bad(&at, "its symbol weir_plugin has %zu bytes and is no struct weir_plugin",
                   symbol_size);
    if (!check_abi(&at, p) ||
        !check_size(&at, "struct weir_plugin", p->size, PLUGIN_SIZE_MIN, sizeof(*p)))
        return false;
    if (symbol_size < p->size)
        return bad(&at, "its symbol weir_plugin has %zu bytes, and says that it has %u",
                   symbol_size, p->size);
    if (!is_name(p->name))
        return bad(&at, "its plugin name is empty or no word of a-z, 0-9, _, - and .");
    bool summary = p->summary != NULL && is_bounded(p->summary);
    if (!has_text(p->version) || !summary || !has_text(p->license))
        return bad(&at, "plugin \"%s\" lacks its version, summary or license", p->name);
    return check_offers(&at, p);
}
