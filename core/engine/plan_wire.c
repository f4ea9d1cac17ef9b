/* SPDX-License-Identifier: Apache-2.0
 *
 * engine/plan_wire.c: who reads from whom: `inputs`, what goes without saying in a single line, and
 * what nobody reads.
 */
#include <base/str.h>
#include <engine/plan_private.h>

static struct wr_path inputs_path(const struct wr_draft *d)
{
    return (struct wr_path){&d->path, {"inputs", 6}, -1};
}

/* ---- words for messages ---------------------------------------------------------------------- */

/* Everything that can stand in `inputs`. */
static uint32_t input_words(struct wr_planner *p, const char ***ret)
{
    uint32_t n = 0, cap = 0;
    const char **words;

    for (uint32_t i = 0; i < p->n; i++)
        cap += 1 + p->drafts[i].c.n_ports;
    words = wr_arena_xalloc(p->arena, cap * sizeof(*words));
    for (uint32_t i = 0; i < p->n; i++) {
        const struct wr_draft *d = &p->drafts[i];
        if (d->kind == WEIR_SINK)
            continue;
        if (d->has_unnamed || !d->ports_known)
            words[n++] = d->field->key.ptr;
        for (uint32_t k = 0; k < d->c.n_ports; k++)
            words[n++] = wr_arena_xprintf(p->arena, "%.*s.%.*s", WR_STR(d->field->key),
                                          WR_STR(d->c.ports[k]))
                             .ptr;
    }
    *ret = words;
    return n;
}

static void add_words(struct wr_buf *out, const char *const *words, uint32_t n)
{
    wr_buf_text(out, n ? "one of " : "");
    for (uint32_t i = 0; i < n; i++)
        wr_buf_printf(out, "%s%s", i ? ", " : "", words[i]);
}

/* Reports about an input with all that could stand there. */
static void bad_input(struct wr_planner *p, const char *code, const struct wr_draft *reader,
                      const struct wr_node *node, struct weir_str message)
{
    struct wr_path path = inputs_path(reader);
    const char **words;
    uint32_t n = input_words(p, &words);
    struct wr_buf expected = {0};

    add_words(&expected, words, n);
    p->wiring_failed = true;
    wr_plan_error(p, code, node != NULL ? node->pos : reader->field->pos, &path,
                  &(struct wr_diag){.message = message,
                                    .expected = wr_buf_view(&expected),
                                    .hint = node != NULL
                                                ? wr_plan_did_you_mean(p, node->text, words, n)
                                                : weir_str_n(NULL, 0)});
    wr_buf_done(&expected);
}

/* ---- one input ------------------------------------------------------------------------------- */

static void mark_read(struct wr_draft *from, uint32_t port)
{
    if (port == 0)
        from->unnamed_read = true;
    else
        from->port_read[port - 1] = true;
}

static void add_input(struct wr_planner *p, struct wr_draft *reader, const struct wr_node *node,
                      uint32_t from, uint32_t port)
{
    struct wr_path path = inputs_path(reader);

    for (uint32_t i = 0; i < reader->n_inputs; i++) {
        if (reader->inputs[i].from != from || reader->inputs[i].port != port)
            continue;
        wr_plan_error(p, "duplicate-input", node->pos, &path,
                      &(struct wr_diag){
                          .message = wr_arena_xprintf(p->arena, "the input \"%.*s\" stands twice",
                                                      WR_STR(node->text))});
        return;
    }
    reader->inputs[reader->n_inputs++] = (struct wr_input){node, from, port};
    mark_read(&p->drafts[from], port);
}

/* Port number of that name, 0 = there is none. */
static uint32_t port_of(const struct wr_draft *d, struct weir_str name)
{
    for (uint32_t i = 0; i < d->c.n_ports; i++) {
        if (wr_str_eq(d->c.ports[i], name))
            return i + 1;
    }
    return 0;
}

static void named_input(struct wr_planner *p, struct wr_draft *reader, const struct wr_node *node)
{
    const char *dot = memchr(node->text.ptr, '.', node->text.len);
    size_t n = dot != NULL ? (size_t)(dot - node->text.ptr) : node->text.len;
    struct weir_str id = weir_str_n(node->text.ptr, n), port = {0},
                    shown = wr_quote(p->arena, node->text);
    int32_t from = wr_plan_find(p, id);
    struct wr_draft *d = from >= 0 ? &p->drafts[from] : NULL;
    uint32_t number;

    if (dot != NULL)
        port = weir_str_n(dot + 1, node->text.len - n - 1);
    if (d == NULL) {
        bad_input(
            p, "unknown-input", reader, node,
            wr_arena_xprintf(p->arena, "there is no component %.*s to read from", WR_STR(shown)));
        return;
    }
    if (d->kind == WEIR_SINK) {
        bad_input(p, "sink-input", reader, node,
                  wr_arena_xprintf(p->arena, "%.*s is a sink and has no output", WR_STR(shown)));
        return;
    }
    if (!d->ports_known) {
        d->unnamed_read = true; /* its own mistakes come first */
        if (dot == NULL)
            reader->inputs[reader->n_inputs++] = (struct wr_input){node, (uint32_t)from, 0};
        return;
    }
    number = port_of(d, port);
    if (dot != NULL && number == 0)
        bad_input(p, "unknown-port", reader, node,
                  wr_arena_xprintf(p->arena, "%.*s \"%.*s\" has no port of the name \"%.*s\"",
                                   WR_STR(weir_cstr(wr_kind_word(d->kind))), WR_STR(id),
                                   WR_STR(port)));
    else if (dot == NULL && !d->has_unnamed)
        bad_input(p, "missing-port", reader, node,
                  wr_arena_xprintf(p->arena, "\"%.*s\" has several ports: say which one to read",
                                   WR_STR(id)));
    else
        add_input(p, reader, node, (uint32_t)from, number);
}

static void read_inputs(struct wr_planner *p, struct wr_draft *d)
{
    const struct wr_field *f = wr_node_field(d->field->value, weir_cstr("inputs"));
    const struct wr_node *n = f->value;

    d->inputs = wr_arena_xalloc(p->arena, (n->n + 1) * sizeof(*d->inputs));
    if (n->kind == WR_NODE_SCALAR && n->text.len > 0 && !n->broken)
        named_input(p, d, n);
    else if (n->kind != WR_NODE_LIST || n->broken)
        p->wiring_failed = true; /* the binder has said so */
    for (uint32_t i = 0; n->kind == WR_NODE_LIST && i < n->n; i++) {
        if (n->items[i]->kind == WR_NODE_SCALAR && !n->items[i]->broken)
            named_input(p, d, n->items[i]);
        else
            p->wiring_failed = true;
    }
}

/* ---- no inputs given ------------------------------------------------------------------------- */

/* One source and one sink that is more than a dead letter. */
static bool is_line(const struct wr_planner *p)
{
    uint32_t sinks = 0;

    for (uint32_t i = 0; i < p->n; i++) {
        const struct wr_draft *d = &p->drafts[i];
        sinks += d->kind == WEIR_SINK && (d->has_inputs || !d->c.is_dead_letter);
    }
    return p->n_kind[WEIR_SOURCE] == 1 && sinks == 1;
}

/* A transform at the beginning of the file: one source, and only such transforms between. What
 * comes behind may branch. */
static bool is_line_so_far(const struct wr_planner *p, uint32_t i)
{
    if (p->n_kind[WEIR_SOURCE] != 1 || p->drafts[i].kind != WEIR_TRANSFORM)
        return false;
    for (uint32_t k = 1; k < i; k++) {
        if (p->drafts[k].has_inputs)
            return false;
    }
    return true;
}

/* The component before d in the line: transforms follow the source, drafts are in that order. */
static uint32_t previous(const struct wr_planner *p, uint32_t i)
{
    uint32_t transforms_end = p->n_kind[WEIR_SOURCE] + p->n_kind[WEIR_TRANSFORM];

    return p->drafts[i].kind == WEIR_SINK ? transforms_end - 1 : i - 1;
}

static void default_input(struct wr_planner *p, uint32_t i)
{
    struct wr_draft *d = &p->drafts[i], *from;

    if (p->partial || p->n_kind[WEIR_SOURCE] == 0) {
        p->wiring_failed = true; /* a greater lack has been reported */
        return;
    }
    if (!is_line(p) && !is_line_so_far(p, i)) {
        bad_input(p, "missing-inputs", d, NULL,
                  wr_arena_xprintf(p->arena,
                                   "%s \"%.*s\" does not say what it reads: give it inputs",
                                   wr_kind_word(d->kind), WR_STR(d->field->key)));
        return;
    }
    from = &p->drafts[previous(p, i)];
    if (from->ports_known && !from->has_unnamed) {
        bad_input(p, "missing-inputs", d, NULL,
                  wr_arena_xprintf(
                      p->arena, "\"%.*s\" must say which port of \"%.*s\" it reads: give it inputs",
                      WR_STR(d->field->key), WR_STR(from->field->key)));
        return;
    }
    from->unnamed_read = true;
    d->inputs = wr_arena_xalloc(p->arena, sizeof(*d->inputs));
    d->inputs[d->n_inputs++] = (struct wr_input){NULL, previous(p, i), 0};
}

static void wire_one(struct wr_planner *p, uint32_t i)
{
    struct wr_draft *d = &p->drafts[i];

    if (d->has_inputs && d->kind == WEIR_SOURCE) {
        struct wr_path path = inputs_path(d);
        wr_plan_error(
            p, "source-inputs", wr_node_field(d->field->value, path.key)->pos, &path,
            &(struct wr_diag){.message = weir_cstr("a source reads from outside and has no inputs"),
                              .hint = weir_cstr("take the option out")});
    } else if (d->has_inputs) {
        read_inputs(p, d);
    } else if (d->kind != WEIR_SOURCE && !(d->kind == WEIR_SINK && d->c.is_dead_letter)) {
        default_input(p, i);
    }
}

/* ---- what nobody reads ----------------------------------------------------------------------- */

static bool names_port(struct wr_planner *p, struct wr_draft *d, const struct wr_node *node)
{
    struct wr_path path = {&d->path, weir_cstr("drop"), -1};
    const char **words;
    uint32_t port;

    if (node->kind != WR_NODE_SCALAR || node->broken)
        return false;
    port = port_of(d, node->text);
    if (port != 0 && d->port_read[port - 1]) {
        wr_plan_error(
            p, "dropped-port-read", node->pos, &path,
            &(struct wr_diag){.message = wr_arena_xprintf(
                                  p->arena, "the port \"%.*s\" is dropped here and read elsewhere",
                                  WR_STR(node->text))});
        return true;
    }
    if (port != 0) {
        d->port_read[port - 1] = true;
        return true;
    }
    words = wr_arena_xalloc(p->arena, (d->c.n_ports + 1) * sizeof(*words));
    struct wr_buf expected = {0};
    for (uint32_t i = 0; i < d->c.n_ports; i++)
        words[i] = d->c.ports[i].ptr;
    add_words(&expected, words, d->c.n_ports);
    wr_plan_error(
        p, "unknown-port", node->pos, &path,
        &(struct wr_diag){.message = wr_arena_xprintf(p->arena,
                                                      "\"%.*s\" has no port of the name \"%.*s\"",
                                                      WR_STR(d->field->key), WR_STR(node->text)),
                          .expected = wr_buf_view(&expected),
                          .hint = wr_plan_did_you_mean(p, node->text, words, d->c.n_ports)});
    wr_buf_done(&expected);
    return false;
}

static void take_drops(struct wr_planner *p, struct wr_draft *d)
{
    const struct wr_field *f = wr_node_field(d->field->value, weir_cstr("drop"));

    if (f == NULL || d->c.type->ports == NULL)
        return;
    if (f->value->kind == WR_NODE_SCALAR)
        (void)names_port(p, d, f->value);
    for (uint32_t i = 0; f->value->kind == WR_NODE_LIST && i < f->value->n; i++)
        (void)names_port(p, d, f->value->items[i]);
}

static void check_read(struct wr_planner *p, struct wr_draft *d)
{
    if (d->kind == WEIR_SINK || !d->ports_known)
        return;
    take_drops(p, d);
    if (p->wiring_failed || p->partial || p->n_kind[WEIR_SINK] == 0)
        return;
    if (d->c.n_ports == 0 && !d->unnamed_read)
        wr_plan_error(p, "unread-component", d->field->pos, &d->path,
                      &(struct wr_diag){
                          .message = wr_arena_xprintf(p->arena, "nobody reads %s \"%.*s\"",
                                                      wr_kind_word(d->kind), WR_STR(d->field->key)),
                          .hint = wr_arena_xprintf(
                              p->arena, "name it in the inputs of a transform or sink, or "
                                        "take it out")});
    for (uint32_t i = 0; i < d->c.n_ports; i++) {
        if (d->port_read[i])
            continue;
        wr_plan_error(
            p, "unread-port", wr_plan_port_pos(d, d->c.ports[i]), &d->path,
            &(struct wr_diag){
                .message = wr_arena_xprintf(p->arena, "nobody reads the port \"%.*s.%.*s\"",
                                            WR_STR(d->field->key), WR_STR(d->c.ports[i])),
                .hint = wr_arena_xprintf(p->arena, "read it, or let its events go: drop: [%.*s]",
                                         WR_STR(d->c.ports[i]))});
    }
}

void wr_plan_wire(struct wr_planner *p)
{
    for (uint32_t i = 0; i < p->n; i++) {
        if (!p->drafts[i].skip)
            wire_one(p, i);
    }
    for (uint32_t i = 0; i < p->n; i++) {
        if (!p->drafts[i].skip)
            check_read(p, &p->drafts[i]);
    }
}
