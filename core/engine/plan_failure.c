/* SPDX-License-Identifier: Apache-2.0
 *
 * engine/plan_failure.c: dead letters: who is one, who has one, and what on_error, on_reject and
 * on_unavailable come to.
 */
#include <base/str.h>
#include <engine/plan_private.h>

/* The sink that `dead_letter` names at `node`, or -1 with a diagnostic. */
static int32_t named_sink(struct wr_planner *p, const struct wr_node *node,
                          const struct wr_path *up)
{
    struct wr_path path = {up, weir_cstr("dead_letter"), -1};
    struct wr_buf expected = {0};
    int32_t i = wr_plan_find(p, node->text);
    const char **words;
    uint32_t n = 0;

    if (i >= 0 && p->drafts[i].kind == WEIR_SINK)
        return i;
    words = wr_arena_xalloc(p->arena, (p->n + 1) * sizeof(*words));
    for (uint32_t k = 0; k < p->n; k++) {
        if (p->drafts[k].kind != WEIR_SINK)
            continue;
        wr_buf_printf(&expected, "%s%.*s", n ? ", " : "one of the sinks ",
                      WR_STR(p->drafts[k].field->key));
        words[n++] = p->drafts[k].field->key.ptr;
    }
    wr_plan_error(p, "unknown-dead-letter", node->pos, &path,
                  &(struct wr_diag){
                      .message = wr_arena_xprintf(
                          p->arena, i >= 0 ? "\"%.*s\" is no sink" : "there is no sink \"%.*s\"",
                          WR_STR(node->text)),
                      .expected = wr_buf_view(&expected),
                      .hint = wr_plan_did_you_mean(p, node->text, words, n)});
    wr_buf_done(&expected);
    return -1;
}

static const struct wr_node *dead_letter_node(const struct wr_node *map)
{
    const struct wr_field *f = wr_node_field(map, weir_cstr("dead_letter"));
    bool usable = f != NULL && f->value->kind == WR_NODE_SCALAR && !f->value->broken &&
                  f->value->text.len > 0 && wr_scalar_type(f->value) != WR_SCALAR_NULL;

    return usable ? f->value : NULL;
}

void wr_plan_dead_letters(struct wr_planner *p)
{
    const struct wr_node *node = dead_letter_node(p->root);

    p->dead_letter = node != NULL ? named_sink(p, node, NULL) : -1;
    for (uint32_t i = 0; i < p->n; i++) {
        struct wr_draft *d = &p->drafts[i];
        d->c.dead_letter = -1;
        node = d->kind != WEIR_SOURCE ? dead_letter_node(d->field->value) : NULL;
        if (node != NULL)
            d->c.dead_letter = named_sink(p, node, &d->path);
        if (d->c.dead_letter >= 0)
            p->drafts[d->c.dead_letter].c.is_dead_letter = true;
    }
    if (p->dead_letter >= 0)
        p->drafts[p->dead_letter].c.is_dead_letter = true;
    for (uint32_t i = 0; i < p->n; i++) {
        struct wr_draft *d = &p->drafts[i];
        bool own = d->kind != WEIR_SOURCE && dead_letter_node(d->field->value) != NULL;
        if (!d->c.is_dead_letter && d->c.dead_letter < 0 && !own)
            d->c.dead_letter = p->dead_letter;
    }
}

/* A component's failure option: on_error or on_reject. */
static const char *failure_name(const struct wr_draft *d)
{
    return d->kind == WEIR_SINK ? "on_reject" : "on_error";
}

static int *failure_value(struct wr_draft *d)
{
    return d->kind == WEIR_SINK ? &d->common.opt.sink.on_reject : &d->common.opt.transform.on_error;
}

static void contradiction(struct wr_planner *p, const char *code, const struct wr_draft *d,
                          const char *option, const char *message, const char *hint)
{
    const struct wr_field *f = wr_node_field(d->field->value, weir_cstr(option));
    struct wr_path path = {&d->path, weir_cstr(option), -1};

    wr_plan_error(p, code, f != NULL ? f->value->pos : d->field->pos, &path,
                  &(struct wr_diag){.message = weir_cstr(message), .hint = weir_cstr(hint)});
}

/* A dead-letter sink has nobody behind it. */
static void check_last_resort(struct wr_planner *p, struct wr_draft *d)
{
    const struct wr_node *map = d->field->value;
    const struct wr_field *f = wr_node_field(map, weir_cstr("on_reject"));

    if (wr_node_field(map, weir_cstr("dead_letter")) != NULL)
        contradiction(p, "dead-letter-loop", d, "dead_letter",
                      "a dead-letter sink cannot have a dead letter of its own",
                      "take the option out");
    if (f != NULL && f->value->kind == WR_NODE_SCALAR &&
        (wr_str_is(f->value->text, "dead_letter") || wr_str_is(f->value->text, "drop")))
        contradiction(
            p, "dead-letter-loop", d, "on_reject",
            "what a dead-letter sink cannot take must stop the pipeline, or it would be lost",
            "write stop, or take the option out");
    if (d->common.opt.sink.on_unavailable != WR_UNAVAILABLE_WAIT)
        contradiction(p, "dead-letter-loop", d, "on_unavailable",
                      "a dead-letter sink can only wait for its server", "take the option out");
    d->common.opt.sink.on_reject = WR_ON_STOP;
    d->common.opt.sink.on_unavailable = WR_UNAVAILABLE_WAIT;
    d->c.dead_letter = -1;
}

/* True where the component's events end in a stop because nobody named a dead letter. */
static bool check_failure(struct wr_planner *p, struct wr_draft *d)
{
    static const char *const hint = "name a sink: `dead_letter: ID` at the top of the file or here";
    const struct wr_field *f = wr_node_field(d->field->value, weir_cstr(failure_name(d)));
    bool given = f != NULL, stops = false;

    if (d->c.dead_letter >= 0 || dead_letter_node(d->field->value) != NULL ||
        dead_letter_node(p->root) != NULL)
        return false; /* there is one, or a wrong name that has been reported */
    if (*failure_value(d) == WR_ON_DEAD_LETTER) {
        if (given && f->value->kind == WR_NODE_SCALAR && wr_str_is(f->value->text, "dead_letter"))
            contradiction(p, "dead-letter-missing", d, failure_name(d),
                          "there is no dead-letter sink", hint);
        stops = !given;
        *failure_value(d) = WR_ON_STOP;
    }
    if (d->kind == WEIR_SINK && d->common.opt.sink.on_unavailable == WR_UNAVAILABLE_DEAD_LETTER)
        contradiction(p, "dead-letter-missing", d, "on_unavailable", "there is no dead-letter sink",
                      hint);
    return stops;
}

void wr_plan_failures(struct wr_planner *p)
{
    const struct wr_draft *first = NULL;
    struct wr_buf ids = {0};

    for (uint32_t i = 0; i < p->n; i++) {
        struct wr_draft *d = &p->drafts[i];
        if (d->kind == WEIR_SOURCE || !d->bound)
            continue;
        if (d->c.is_dead_letter) {
            check_last_resort(p, d);
        } else if (check_failure(p, d)) {
            wr_buf_printf(&ids, "%s%.*s", first ? ", " : "", WR_STR(d->field->key));
            first = first != NULL ? first : d;
        }
    }
    if (first != NULL)
        wr_plan_warning(
            p, "no-dead-letter", first->field->pos, &first->path,
            &(struct wr_diag){
                .message = wr_arena_xprintf(
                    p->arena,
                    "no dead letter is named: an event that cannot be handled stops "
                    "the pipeline (%.*s)",
                    WR_STR(wr_buf_view(&ids))),
                .hint = weir_cstr("name a sink at the top of the file: `dead_letter: ID`, or say "
                                  "drop or stop")});
    wr_buf_done(&ids);
}
