/* SPDX-License-Identifier: Apache-2.0
 *
 * engine/describe.c: the reference of component types, from their tables. Names of nested options
 * are dotted: batch.events; `tls[].x` is one in a list, `routes.*.x` one in a map.
 */
#include <base/str.h>
#include <engine/describe.h>
#include <engine/plan_private.h>
#include <model/units.h>

struct printer {
    struct wr_buf *out;
    bool markdown;
    const struct weir_type *type; /* whose defaults hold for batch and in_flight; may be NULL */
};

/* ---- facts of one option --------------------------------------------------------------------- */

static const char *type_word(enum weir_option_type type)
{
    static const char *const words[] = {
        [WEIR_OPT_BOOL] = "bool",         [WEIR_OPT_INT] = "int",
        [WEIR_OPT_FLOAT] = "float",       [WEIR_OPT_STRING] = "text",
        [WEIR_OPT_DURATION] = "duration", [WEIR_OPT_SIZE] = "size",
        [WEIR_OPT_ENUM] = "one of",       [WEIR_OPT_PATH] = "path",
        [WEIR_OPT_TEMPLATE] = "template", [WEIR_OPT_CONDITION] = "condition",
        [WEIR_OPT_VALUE] = "any value",   [WEIR_OPT_TABLE] = "options"};

    return type >= WEIR_OPT_BOOL && type <= WEIR_OPT_TABLE ? words[type] : "map of components";
}

static void add_type(struct wr_buf *b, const struct weir_option *o)
{
    enum weir_option_type of = o->type;

    if (o->type == WEIR_OPT_LIST || o->type == WEIR_OPT_MAP) {
        wr_buf_text(b, o->type == WEIR_OPT_LIST ? "list of " : "map of ");
        of = o->of;
    }
    wr_buf_text(b, type_word(of));
    for (uint32_t i = 0; of == WEIR_OPT_ENUM && o->choices != NULL && o->choices[i] != NULL; i++)
        wr_buf_printf(b, "%s %s", i ? "," : "", o->choices[i]);
}

/* batch and in_flight have the type's defaults, which no table holds. */
static void add_type_default(struct wr_buf *b, const struct weir_type *type, const char *name)
{
    const struct weir_sink *sink = type != NULL ? type->sink : NULL;
    struct wr_sink_options o;

    if (sink == NULL)
        return;
    o = wr_sink_defaults(sink);
    if (strcmp(name, "batch.events") == 0)
        wr_buf_printf(b, "%lld", (long long)o.batch.events);
    else if (strcmp(name, "batch.bytes") == 0)
        wr_write_size(b, o.batch.bytes);
    else if (strcmp(name, "batch.timeout") == 0)
        wr_write_duration(b, o.batch.timeout);
    else if (strcmp(name, "in_flight") == 0)
        wr_buf_printf(b, "%lld", (long long)o.in_flight);
}

static void add_default(struct wr_buf *b, const struct printer *p, const struct weir_option *o,
                        const char *name)
{
    if (o->def != NULL && o->type != WEIR_OPT_TABLE)
        wr_buf_text(b, o->def[0] != '\0' ? o->def : "\"\"");
    else
        add_type_default(b, p->type, name);
}

static void add_flags(struct wr_buf *b, const struct weir_option *o)
{
    struct wr_buf range = {0};

    wr_option_range(&range, o);
    if (range.len > 0)
        wr_buf_printf(b, ", %s", range.ptr);
    wr_buf_done(&range);
    if (o->flags & WEIR_OPT_REQUIRED)
        wr_buf_text(b, ", required");
    if (o->flags & WEIR_OPT_SECRET)
        wr_buf_text(b, ", secret");
    if (o->flags & WEIR_OPT_NONEMPTY)
        wr_buf_text(b, ", not empty");
    if (o->flags & WEIR_OPT_PREFIXED)
        wr_buf_text(b, ", begins with literal text");
    if (o->flags & WEIR_OPT_TEMPLATES)
        wr_buf_text(b, ", texts are templates");
    if (o->deprecated_by != NULL)
        wr_buf_printf(b, ", deprecated: use %s", o->deprecated_by);
}

/* ---- one option ------------------------------------------------------------------------------ */

/* Text for a table's cell. */
static void add_cell(struct wr_buf *b, struct weir_str s)
{
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] == '|')
            wr_buf_text(b, "\\|");
        else
            wr_buf_add(b, s.ptr[i] == '\n' ? " " : s.ptr + i, 1);
    }
}

static void print_row(const struct printer *p, const struct weir_option *o, const char *name,
                      struct weir_str kind, struct weir_str def)
{
    wr_buf_printf(p->out, "| `%s` | ", name);
    add_cell(p->out, kind);
    wr_buf_text(p->out, def.len > 0 ? " | `" : " |");
    add_cell(p->out, def);
    wr_buf_text(p->out, def.len > 0 ? "` | " : " | ");
    add_cell(p->out, weir_cstr(o->doc));
    if (o->example != NULL) {
        wr_buf_text(p->out, " Example: `");
        add_cell(p->out, weir_cstr(o->example));
        wr_buf_text(p->out, "`");
    }
    wr_buf_text(p->out, " |\n");
}

static void print_lines(const struct printer *p, const struct weir_option *o, const char *name,
                        struct weir_str kind, struct weir_str def, int depth)
{
    wr_buf_printf(p->out, "%*s%-*s  %.*s", 2 + 2 * depth, "", 22 - 2 * depth, name, WR_STR(kind));
    if (def.len > 0)
        wr_buf_printf(p->out, ", default %.*s", WR_STR(def));
    wr_buf_printf(p->out, "\n%26s%s\n", "", o->doc);
    if (o->example != NULL)
        wr_buf_printf(p->out, "%26sexample: %s\n", "", o->example);
}

static void print_table(const struct printer *p, const struct weir_options *table, const char *up,
                        int depth);

static void print_option(const struct printer *p, const struct weir_option *o, uint32_t stride,
                         const char *up, int depth)
{
    struct wr_buf name = {0}, kind = {0}, def = {0};

    wr_buf_printf(&name, "%s%s", up, o->name);
    add_type(&kind, o);
    add_flags(&kind, o);
    add_default(&def, p, o, name.ptr);
    if (p->markdown)
        print_row(p, o, name.ptr, wr_buf_view(&kind), wr_buf_view(&def));
    else
        print_lines(p, o, name.ptr, wr_buf_view(&kind), wr_buf_view(&def), depth);
    if (o->fields != NULL) {
        struct weir_options fields = wr_option_fields(o, stride);
        wr_buf_text(&name, o->type == WEIR_OPT_LIST  ? "[]."
                           : o->type == WEIR_OPT_MAP ? ".*."
                                                     : ".");
        print_table(p, &fields, name.ptr, depth + 1);
    }
    wr_buf_done(&name);
    wr_buf_done(&kind);
    wr_buf_done(&def);
}

static void print_table(const struct printer *p, const struct weir_options *table, const char *up,
                        int depth)
{
    for (int advanced = 0; advanced < 2; advanced++) {
        for (uint32_t i = 0; i < table->n; i++) {
            struct weir_option o = wr_option_at(table, i);
            if (o.doc != NULL && ((o.flags & WEIR_OPT_ADVANCED) != 0) == (advanced != 0))
                print_option(p, &o, table->stride, up, depth);
        }
    }
}

static void print_section(const struct printer *p, const char *title,
                          const struct weir_options *tables, uint32_t n)
{
    if (p->markdown)
        wr_buf_printf(p->out,
                      "\n### %s\n\n| option | type | default | what it does |\n"
                      "| --- | --- | --- | --- |\n",
                      title);
    else
        wr_buf_printf(p->out, "\n%s\n", title);
    for (uint32_t i = 0; i < n; i++)
        print_table(p, &tables[i], "", 0);
}

/* ---- types ----------------------------------------------------------------------------------- */

static bool has_drop(const struct weir_options *table)
{
    for (uint32_t i = 0; i < table->n; i++) {
        struct weir_option o = wr_option_at(table, i);
        if (strcmp(o.name, "drop") == 0)
            return true;
    }
    return false;
}

bool wr_describe_type(const struct weir_type *type, struct wr_buf *out, bool markdown)
{
    struct printer p = {out, markdown, type};
    struct weir_options common[2];

    if (type == NULL)
        return false;
    wr_buf_printf(out, markdown ? "## `%s` (%s)\n\n%s\n" : "%s (%s)\n%s\n", type->name,
                  wr_kind_word(type->kind), type->summary);
    if (type->doc != NULL)
        wr_buf_printf(out, "\n%s\n", type->doc);
    if (type->options.n > 0)
        print_section(&p, "Options", &type->options, 1);
    common[0] = wr_common_options(type->kind);
    common[1] = wr_drop_option();
    print_section(&p,
                  type->kind == WEIR_SOURCE      ? "Options of every source"
                  : type->kind == WEIR_TRANSFORM ? "Options of every transform"
                                                 : "Options of every sink",
                  common, type->ports != NULL && !has_drop(&type->options) ? 2 : 1);
    return true;
}

void wr_describe_top(struct wr_buf *out, bool markdown)
{
    struct printer p = {out, markdown, NULL};
    struct weir_options top = wr_top_options();

    wr_buf_text(out, markdown ? "## Top of a pipeline file\n" : "Top of a pipeline file\n");
    print_section(&p, "Options", &top, 1);
}

static void list_plugin(struct wr_loader *l, const struct wr_plugin *plugin, enum weir_kind kind,
                        struct wr_buf *out)
{
    const struct weir_type *const *types = plugin->plugin->types;

    for (; types != NULL && *types != NULL; types++) {
        if ((*types)->kind != kind ||
            wr_loader_type(l, kind, weir_cstr((*types)->name), NULL) != *types)
            continue;
        wr_buf_printf(out, "  %-14s  %s\n%18splugin %s %s, %.*s\n", (*types)->name,
                      (*types)->summary, "", plugin->plugin->name, plugin->plugin->version,
                      WR_STR(plugin->path));
    }
}

void wr_describe_list(struct wr_loader *l, struct wr_buf *out)
{
    wr_loader_all(l);
    for (enum weir_kind kind = WEIR_SOURCE; kind <= WEIR_SINK; kind++) {
        wr_buf_printf(out, "%s%s\n", kind == WEIR_SOURCE ? "" : "\n", wr_kind_words(kind));
        for (uint32_t i = 0; i < wr_loader_count(l); i++)
            list_plugin(l, wr_loader_at(l, i), kind, out);
    }
}
