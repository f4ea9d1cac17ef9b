/* SPDX-License-Identifier: Apache-2.0
 *
 * Plans: what a pipeline file comes to, and what is said where it comes to nothing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include <base/buf.h>
#include <base/check.h>
#include <engine/describe.h>
#include <engine/plan.h>
#include <model/template.h>

#include "../model/fake_loader.h"

struct plan_rig {
    struct wr_diags *d;
    struct wr_plan *p;
};

static void parse(struct plan_rig *r, const char *yaml)
{
    r->d = wr_diags_new();
    r->p = wr_plan_parse("dir/some.pipe.yaml", "/pipes", weir_cstr(yaml), NULL, r->d);
    assert_int_equal(r->p == NULL, wr_diags_count(r->d, WR_ERROR) > 0);
}

static void rig_done(struct plan_rig *r)
{
    wr_plan_free(r->p);
    wr_diags_free(r->d);
}

static void planned(struct plan_rig *r, const char *yaml)
{
    parse(r, yaml);
    if (r->p == NULL) {
        struct wr_buf b = {0};
        wr_diags_print(r->d, &b, false);
        fail_msg("%s", b.ptr);
    }
}

/* "code line:col path: message" of each. */
static void says(const char *yaml, const char *expected)
{
    struct plan_rig r;
    struct wr_buf b = {0};

    parse(&r, yaml);
    for (uint32_t i = 0; i < wr_diags_count(r.d, WR_ERROR) + wr_diags_count(r.d, WR_WARNING); i++) {
        const struct wr_diag *d = wr_diags_at(r.d, i);
        wr_buf_printf(&b, "%s %u:%u %.*s", d->code, d->pos.line, d->pos.col, WR_STR(d->path));
        if (d->hint.len > 0)
            wr_buf_printf(&b, "; %.*s", WR_STR(d->hint));
        wr_buf_text(&b, "\n");
    }
    assert_string_equal(b.ptr ? b.ptr : "", expected);
    wr_buf_done(&b);
    rig_done(&r);
}

static const struct wr_component *component(const struct plan_rig *r, uint32_t i, const char *id)
{
    assert_true(i < r->p->n_components);
    assert_string_equal(r->p->components[i].id.ptr, id);
    return &r->p->components[i];
}

/* The readers as "id:port id:port". */
static void outs(const struct plan_rig *r, uint32_t i, const char *expected)
{
    const struct wr_component *c = &r->p->components[i];
    struct wr_buf b = {0};

    wr_buf_text(&b, "");
    for (uint32_t k = 0; k < c->n_outs; k++)
        wr_buf_printf(&b, "%s%s:%u", k ? " " : "", r->p->components[c->outs[k].to].id.ptr,
                      c->outs[k].port);
    assert_string_equal(b.ptr, expected);
    wr_buf_done(&b);
}

static void a_line_needs_no_inputs(void **state)
{
    struct plan_rig r;
    const struct wr_component *c;
    (void)state;

    planned(&r, "sources: {in: {type: src}}\ntransforms: {b: {type: pass}, a: {type: pass}}\n"
                "sinks: {dead: {type: out}, out: {type: out}}\ndead_letter: dead\n");
    assert_string_equal(r.p->name.ptr, "some.pipe");
    assert_int_equal(r.p->n_components, 5);
    component(&r, 0, "in");
    component(&r, 1, "b");
    component(&r, 2, "a");
    c = component(&r, 3, "dead");
    assert_true(c->is_dead_letter);
    assert_int_equal(c->dead_letter, -1);
    assert_int_equal(c->opt.sink.on_reject, WR_ON_STOP);
    assert_int_equal(c->n_ins, 0);
    c = component(&r, 4, "out");
    assert_int_equal(c->dead_letter, 3);
    assert_int_equal(c->opt.sink.on_reject, WR_ON_DEAD_LETTER);
    assert_int_equal(c->n_ins, 1);
    assert_int_equal(component(&r, 1, "b")->dead_letter, 3);
    outs(&r, 0, "b:0");
    outs(&r, 1, "a:0");
    outs(&r, 2, "out:0");
    outs(&r, 4, "");
    assert_int_equal(r.p->shutdown_timeout, 30 * WEIR_NS_PER_S);
    assert_int_equal(r.p->drain_delay, 0);
    assert_null(r.p->condition_service);
    rig_done(&r);
}

static void a_graph_is_ordered(void **state)
{
    struct plan_rig r;
    (void)state;

    planned(&r, "name: graph\ndescription: words\nshutdown_timeout: 5s\ndrain_delay: 1s\n"
                "transforms:\n"
                "  last: {type: pass, inputs: [middle, kinds.other]}\n"
                "  middle: {type: pass, inputs: [kinds.a, two]}\n"
                "  kinds: {type: route, inputs: one, routes: {a: x, b: y}, drop: b}\n"
                "sinks:\n"
                "  s2: {type: out, inputs: [last]}\n"
                "  s1: {type: out, inputs: [last, kinds.a], on_reject: drop}\n"
                "sources: {one: {type: src}, two: {type: src, lanes: 2, codec: raw}}\n"
                "dead_letter: s2\n");
    assert_string_equal(r.p->name.ptr, "graph");
    assert_string_equal(r.p->description.ptr, "words");
    assert_int_equal(r.p->shutdown_timeout, 5 * WEIR_NS_PER_S);
    assert_int_equal(r.p->drain_delay, WEIR_NS_PER_S);
    component(&r, 0, "one");
    assert_int_equal(component(&r, 1, "two")->opt.source.lanes, 2);
    assert_int_equal(component(&r, 1, "two")->opt.source.codec, WR_CODEC_RAW);
    component(&r, 2, "kinds");
    component(&r, 3, "middle");
    component(&r, 4, "last");
    component(&r, 5, "s2");
    component(&r, 6, "s1");
    outs(&r, 0, "kinds:0");
    outs(&r, 2, "last:3 middle:1 s1:1"); /* readers in the order of the file; ports from 1 */
    outs(&r, 3, "last:0");
    outs(&r, 4, "s2:0 s1:0");
    assert_int_equal(r.p->components[2].n_ports, 3);
    assert_string_equal(r.p->components[2].ports[2].ptr, "other");
    assert_int_equal(r.p->components[4].n_ins, 2);
    rig_done(&r);
}

static void options_are_resolved(void **state)
{
    struct plan_rig r;
    const struct wr_component *c;
    struct weir_str s;
    (void)state;

    planned(&r, "sources: {in: {type: src}}\nsinks:\n"
                "  plain: {type: out, inputs: [in], on_reject: stop}\n"
                "  full:\n    type: out\n    inputs: [in]\n    ordered: true\n    key: k\n"
                "    batch: {events: 9, bytes: 1KiB, timeout: 0s}\n    buffer: {size: 1MiB}\n"
                "    concurrency: 4\n    shard_by: '{{ user }}'\n    retry: {attempts: 0, initial: "
                "1s, max: 2s}\n"
                "    timeout: 3s\n    on_reject: drop\n"
                "  ordered: {type: out, inputs: [in], ordered: true, on_reject: drop}\n");
    assert_int_equal(wr_diags_count(r.d, WR_WARNING), 0);
    c = component(&r, 1, "plain");
    assert_int_equal(c->opt.sink.batch.events, 250);
    assert_int_equal(c->opt.sink.batch.bytes, 65536);
    assert_int_equal(c->opt.sink.batch.timeout, 5 * WEIR_NS_PER_MS);
    assert_int_equal(c->opt.sink.buffer.size, 32 << 20);
    assert_int_equal(c->opt.sink.concurrency, 1);
    assert_int_equal(c->opt.sink.in_flight, 1);
    assert_null(c->opt.sink.shard_by);
    assert_int_equal(c->opt.sink.retry.attempts, 10);
    assert_int_equal(c->opt.sink.timeout, 30 * WEIR_NS_PER_S);
    assert_int_equal(c->opt.sink.on_reject, WR_ON_STOP);
    assert_int_equal(c->needs, WEIR_NEEDS_PAYLOAD);
    c = component(&r, 2, "full");
    assert_int_equal(c->opt.sink.batch.events, 9);
    assert_int_equal(c->opt.sink.batch.bytes, 1024);
    assert_int_equal(c->opt.sink.batch.timeout, 0);
    assert_int_equal(c->opt.sink.buffer.size, 1 << 20);
    assert_int_equal(c->opt.sink.concurrency, 4);
    assert_int_equal(c->opt.sink.in_flight, 3); /* the type's, since it is ordered */
    assert_false(wr_template_is_literal(c->opt.sink.shard_by, &s));
    assert_int_equal(c->opt.sink.retry.attempts, 0);
    assert_int_equal(c->opt.sink.retry.max, 2 * WEIR_NS_PER_S);
    assert_int_equal(c->opt.sink.timeout, 3 * WEIR_NS_PER_S);
    assert_int_equal(c->opt.sink.on_reject, WR_ON_DROP);
    assert_int_equal(c->needs, WEIR_NEEDS_PAYLOAD | WEIR_NEEDS_VALUE);
    assert_int_equal(c->traits, WEIR_TRAIT_ORDERED);
    assert_string_equal(((const struct fake_small_config *)c->config)->key != NULL ? "k" : "", "k");
    rig_done(&r);
}

static void positions_outlive_the_diagnostics(void **state)
{
    struct plan_rig r;
    (void)state;

    planned(&r, "sources: {in: {type: src}}\nsinks: {out: {type: out, on_reject: stop}}\n");
    wr_diags_free(r.d);
    r.d = NULL;
    assert_string_equal(r.p->components[1].pos.text->name.ptr, "dir/some.pipe.yaml");
    assert_int_equal(r.p->components[1].pos.line, 2);
    assert_int_equal(r.p->components[1].pos.col, 9);
    rig_done(&r);
}

static void conditions_are_listed(void **state)
{
    struct plan_rig r;
    const struct wr_component *c;
    const struct fake_route_config *route;
    const struct weir_pair *pairs;
    (void)state;

    planned(&r, "sources: {in: {type: src}}\ntransforms:\n"
                "  k: {type: route, inputs: in, routes: {a: event.x == 1, b: event.y}, drop: "
                "[other], on_error: stop}\n"
                "sinks:\n  a: {type: out, inputs: [k.a], on_reject: stop, when: event.z}\n"
                "  b: {type: out, inputs: [k.b], on_reject: stop}\n");
    assert_ptr_equal(r.p->condition_service, &fake_conditions);
    c = component(&r, 1, "k");
    route = c->config;
    pairs = route->routes.items;
    assert_int_equal(c->n_conditions, 2);
    assert_string_equal(c->conditions[1].ptr, "event.y");
    assert_int_equal(((const struct weir_condition *)pairs[1].value.ptr)->index, 1);
    assert_string_equal(((const struct weir_condition *)pairs[0].value.ptr)->text.ptr,
                        "event.x == 1");
    assert_int_equal(c->needs, 0);
    c = component(&r, 2, "a");
    assert_int_equal(c->needs,
                     WEIR_NEEDS_PAYLOAD | WEIR_NEEDS_VALUE); /* a sink's batch is frozen */
    rig_done(&r);
}

static void conditions_that_fail(void **state)
{
    (void)state;
    says("sources: {in: {type: src}}\ntransforms:\n  k:\n    type: route\n    routes:\n"
         "      a: |\n        x ==\n          !! y\n      b: 'it !!'\nsinks: {out: {type: out, "
         "inputs: [k.a]}}\n",
         "no-dead-letter 3:3 transforms.k; name a sink at the top of the file: `dead_letter: ID`, "
         "or say drop "
         "or stop\n"
         "bad-condition 8:11 transforms.k.routes.a\n"
         "bad-condition 9:14 transforms.k.routes.b\n");
    fake_no_conditions = true;
    says("sources: {in: {type: src}}\nsinks: {out: {type: out, on_reject: stop, when: x}}\n",
         "no-condition-service 2:49 sinks.out.when\n");
    fake_no_conditions = false;
}

static void the_types_own_check(void **state)
{
    (void)state;
    says("sources:\n  in:\n    type: src\n    text: |\n      yes\n      or no\n    count: 13\n"
         "    words: [good, bad]\n    settings: {a.b: 'bad'}\nsinks: {out: {type: out, on_reject: "
         "stop}}\n",
         "component-check 6:10 sources.in.text\n"
         "component-warning 7:12 sources.in.count\n"
         "component-check 8:19 sources.in.words[1]\n"
         "component-check 9:23 sources.in.settings.a.b\n");
}

static void a_check_cannot_tell_secrets(void **state)
{
    struct plan_rig r;
    (void)state;

    setenv("WT_SECRET", "hunter2", 1);
    parse(&r, "sources: {in: {type: src, text: leak, secret: 'x${env:WT_SECRET}'}}\n"
              "sinks: {out: {type: out, on_reject: stop}}\n");
    assert_int_equal(wr_diags_count(r.d, WR_ERROR), 1);
    assert_string_equal(wr_diags_at(r.d, 0)->message.ptr, "<***> and <***>");
    rig_done(&r);
}

static void the_top_of_the_file(void **state)
{
    (void)state;
    says("", "empty-file 0:0 \n");
    says("# nothing\n", "empty-file 0:0 \n");
    says("[a]\n", "wrong-type 1:1 \n");
    says("just words\n", "wrong-type 1:1 \n");
    says("nmae: x\nsource: {}\nsinks: []\ntransforms: x\nname: ''\nshutdown_timeout: 5\n",
         "no-sources 0:0 ; add a map \"sources\" of at least one source\n"
         "unknown-option 1:1 nmae; did you mean \"name\"?\n"
         "unknown-option 2:1 source; did you mean \"sources\"?\n"
         "wrong-type 3:8 sinks\n"
         "wrong-type 4:13 transforms\n"
         "empty-value 5:7 name\n"
         "bad-duration 6:19 shutdown_timeout; did you mean 5s?\n");
    says("sources:\nsinks: {}\n", "no-sources 1:1 ; add a map \"sources\" of at least one source\n"
                                  "no-sinks 2:1 ; add a map \"sinks\" of at least one sink\n");
}

static void ids(void **state)
{
    (void)state;
    says("sources: {in: {type: src}, In: {type: src}}\n"
         "sinks: {in: {type: out, inputs: [in]}, a.b: {type: out, inputs: [in, In], on_reject: "
         "stop}}\n",
         "bad-id 1:28 sources.In\n"
         "duplicate-id 2:9 sinks.in\n"
         "no-dead-letter 2:9 sinks.in; name a sink at the top of the file: `dead_letter: ID`, or "
         "say drop or "
         "stop\n"
         "bad-id 2:40 sinks.a.b\n");
    says("sources: {abcdefghijklmnopqrstuvwxyz-0123456789_abcdefghijklmnopqrstuvwxyz-x: {type: "
         "src}}\n"
         "sinks: {'': {type: out, on_reject: stop}}\n",
         "bad-id 1:11 sources.abcdefghijklmnopqrstuvwxyz-0123456789_abcdefghijklmnopqrstuvwxyz-x\n"
         "bad-id 2:9 sinks.\n");
}

static void types(void **state)
{
    (void)state;
    says("sources: {in: {type: scr, password: x}, b: {}, c: 5, d: {type: ~}, e: {type: out}}\n"
         "sinks: {out: {type: [out], inputs: [in, b, c, d, e], on_reject: stop}}\n",
         "unknown-type 1:22 sources.in.type; did you mean \"src\"? plugins were searched in "
         "/plugins\n"
         "missing-option 1:41 sources.b.type; for example: type: kafka\n"
         "wrong-type 1:51 sources.c\n"
         "wrong-type 1:64 sources.d.type; put quotes round the word if it is meant as text\n"
         "unknown-type 1:78 sources.e.type; there is a sink of that name; plugins were searched in "
         "/plugins\n"
         "wrong-type 2:21 sinks.out.type\n");
    says("sources: {in: {type: broken}}\nsinks: {out: {type: out, on_reject: stop}}\n",
         "unknown-type 1:22 sources.in.type; plugins were searched in /plugins; "
         "/plugins/broken.so: it is no "
         "ELF file\n");
}

static void inputs_that_are_wrong(void **state)
{
    (void)state;
    says("sources: {one: {type: src, inputs: [x]}, two: {type: src}}\n"
         "transforms:\n"
         "  k: {type: route, inputs: [onee], routes: {a: x}, drop: [othr, a], on_error: stop}\n"
         "  p: {type: pass, inputs: [k, one, one, k.b, q.x], on_error: stop}\n"
         "  q: {type: pass, on_error: stop}\n"
         "sinks:\n"
         "  s: {type: out, inputs: [t, 'one.', {a: b}], on_reject: stop}\n"
         "  t: {type: out, inputs: [], on_reject: stop}\n",
         "source-inputs 1:28 sources.one.inputs; take the option out\n"
         "unknown-input 3:29 transforms.k.inputs; did you mean \"one\"?\n"
         "unknown-port 3:59 transforms.k.drop; did you mean \"other\"?\n"
         "missing-port 4:28 transforms.p.inputs\n"
         "duplicate-input 4:36 transforms.p.inputs\n"
         "unknown-port 4:41 transforms.p.inputs; did you mean \"k.a\"?\n"
         "unknown-port 4:46 transforms.p.inputs\n"
         "missing-inputs 5:3 transforms.q.inputs\n"
         "sink-input 7:27 sinks.s.inputs\n"
         "unknown-port 7:30 sinks.s.inputs; did you mean \"one\"?\n"
         "wrong-type 7:38 sinks.s.inputs[2]\n"
         "empty-value 8:26 sinks.t.inputs\n");
}

static void what_nobody_reads(void **state)
{
    (void)state;
    says("sources: {one: {type: src}, two: {type: src}}\n"
         "transforms:\n"
         "  p: {type: pass, inputs: [one], on_error: stop}\n"
         "  k: {type: route, inputs: [one], routes: {a: x, b: y, c: z}, drop: [b, a], on_error: "
         "stop}\n"
         "sinks: {s: {type: out, inputs: [k.a], on_reject: stop}}\n",
         "unread-component 1:29 sources.two; name it in the inputs of a transform or sink, or take "
         "it out\n"
         "unread-component 3:3 transforms.p; name it in the inputs of a transform or sink, or take "
         "it out\n"
         "unread-port 4:3 transforms.k; read it, or let its events go: drop: [other]\n"
         "unread-port 4:56 transforms.k; read it, or let its events go: drop: [c]\n"
         "dropped-port-read 4:73 transforms.k.drop\n");
}

static void an_unnamed_way_beside_ports(void **state)
{
    struct plan_rig r;
    (void)state;

    planned(&r, "sources: {in: {type: src}}\ntransforms:\n"
                "  k: {type: route, inputs: in, routes: {a: x}, unnamed: true, drop: [other], "
                "on_error: stop}\n"
                "sinks:\n  s: {type: out, inputs: [k, k.a], on_reject: stop}\n");
    outs(&r, 1, "s:0 s:1");
    assert_int_equal(r.p->components[1].n_ports, 2);
    rig_done(&r);
}

static void a_line_may_branch_later(void **state)
{
    struct plan_rig r;
    (void)state;

    planned(&r, "sources: {in: {type: src}}\ntransforms:\n  a: {type: pass}\n  b: {type: pass}\n"
                "  c: {type: pass, inputs: [a]}\n"
                "sinks: {s: {type: out, inputs: [b]}, t: {type: out, inputs: [c]}}\n");
    outs(&r, 0, "a:0");
    outs(&r, 1, "b:0 c:0");
    rig_done(&r);
    says("sources: {in: {type: src}}\ntransforms:\n  a: {type: pass, on_error: stop}\n"
         "  c: {type: pass, inputs: [a], on_error: stop}\n  d: {type: pass, on_error: stop}\n"
         "sinks: {s: {type: out, on_reject: stop}, t: {type: out, inputs: [d, c], on_reject: "
         "stop}}\n",
         "missing-inputs 5:3 transforms.d.inputs\n"
         "missing-inputs 6:9 sinks.s.inputs\n");
}

static void a_line_with_ports_needs_inputs(void **state)
{
    (void)state;
    says("sources: {in: {type: src}}\ntransforms: {k: {type: route, routes: {a: x}, on_error: "
         "stop}}\n"
         "sinks: {s: {type: out, on_reject: stop}}\n",
         "missing-inputs 3:9 sinks.s.inputs\n");
    says("sources: {in: {type: src}}\ntransforms: {k: {type: route, routes: {A: x, other: y}, "
         "on_error: stop}}\n"
         "sinks: {s: {type: out, on_reject: stop}}\n",
         "bad-port 2:40 transforms.k\nbad-port 2:46 transforms.k\n");
}

static void cycles_are_named(void **state)
{
    struct plan_rig r;
    (void)state;

    parse(&r, "sources: {in: {type: src}}\ntransforms:\n"
              "  a: {type: pass, inputs: [in, c], on_error: stop}\n"
              "  b: {type: pass, inputs: [a], on_error: stop}\n"
              "  c: {type: pass, inputs: [b], on_error: stop}\n"
              "  d: {type: pass, inputs: [d, c], on_error: stop}\n"
              "sinks: {s: {type: out, inputs: [d], on_reject: stop}}\n");
    assert_null(r.p);
    assert_int_equal(wr_diags_count(r.d, WR_ERROR), 2);
    assert_string_equal(wr_diags_at(r.d, 0)->message.ptr,
                        "these transforms read from each other in a circle: a -> b -> c -> a");
    assert_string_equal(wr_diags_at(r.d, 1)->message.ptr,
                        "these transforms read from each other in a circle: d -> d");
    assert_string_equal(wr_diags_at(r.d, 1)->code, "cycle");
    rig_done(&r);
}

static void dead_letters(void **state)
{
    struct plan_rig r;
    (void)state;

    planned(&r,
            "dead_letter: dl\nsources: {in: {type: src}}\n"
            "transforms: {t: {type: pass, inputs: in, dead_letter: other}}\n"
            "sinks: {s: {type: out, inputs: [t], on_unavailable: dead_letter}, dl: {type: out},\n"
            "  other: {type: out, inputs: [in]}, q: {type: out, inputs: [in], on_reject: drop}}\n");
    assert_int_equal(wr_diags_count(r.d, WR_WARNING), 0);
    assert_int_equal(component(&r, 1, "t")->dead_letter, 4);
    assert_int_equal(component(&r, 1, "t")->opt.transform.on_error, WR_ON_DEAD_LETTER);
    assert_int_equal(component(&r, 2, "s")->dead_letter, 3);
    assert_int_equal(component(&r, 2, "s")->opt.sink.on_unavailable, WR_UNAVAILABLE_DEAD_LETTER);
    assert_int_equal(component(&r, 4, "other")->dead_letter, -1);
    assert_true(component(&r, 4, "other")->is_dead_letter);
    assert_int_equal(component(&r, 4, "other")->opt.sink.on_reject, WR_ON_STOP);
    assert_int_equal(component(&r, 5, "q")->opt.sink.on_reject, WR_ON_DROP);
    rig_done(&r);
}

static void dead_letters_that_are_wrong(void **state)
{
    (void)state;
    says("dead_letter: tt\nsources: {in: {type: src}}\ntransforms: {t: {type: pass, dead_letter: "
         "in}}\n"
         "sinks: {s: {type: out}}\n",
         "unknown-dead-letter 1:14 dead_letter\n"
         "unknown-dead-letter 3:43 transforms.t.dead_letter\n");
    says("dead_letter: sink2\nsources: {in: {type: src}}\nsinks: {sink1: {type: out}}\n",
         "unknown-dead-letter 1:14 dead_letter; did you mean \"sink1\"?\n");
    says("sources: {in: {type: src}}\ntransforms: {t: {type: pass, on_error: dead_letter}}\n"
         "sinks: {s: {type: out, on_reject: dead_letter, on_unavailable: dead_letter}}\n",
         "dead-letter-missing 2:40 transforms.t.on_error; name a sink: `dead_letter: ID` at the "
         "top of the file "
         "or here\n"
         "dead-letter-missing 3:35 sinks.s.on_reject; name a sink: `dead_letter: ID` at the top of "
         "the file or "
         "here\n"
         "dead-letter-missing 3:64 sinks.s.on_unavailable; name a sink: `dead_letter: ID` at the "
         "top of the "
         "file or here\n");
    says("dead_letter: d\nsources: {in: {type: src}}\nsinks: {s: {type: out, inputs: [in]},\n"
         "  d: {type: out, dead_letter: s, on_reject: drop, on_unavailable: dead_letter}}\n",
         "dead-letter-loop 4:31 sinks.d.dead_letter; take the option out\n"
         "dead-letter-loop 4:45 sinks.d.on_reject; write stop, or take the option out\n"
         "dead-letter-loop 4:67 sinks.d.on_unavailable; take the option out\n");
}

static void no_dead_letter_is_a_warning(void **state)
{
    struct plan_rig r;
    (void)state;

    planned(&r, "sources: {in: {type: src}}\ntransforms: {t: {type: pass}, u: {type: pass, "
                "on_error: drop}}\n"
                "sinks: {s: {type: out}}\n");
    assert_int_equal(wr_diags_count(r.d, WR_WARNING), 1);
    assert_string_equal(
        wr_diags_at(r.d, 0)->message.ptr,
        "no dead letter is named: an event that cannot be handled stops the pipeline (t, s)");
    assert_int_equal(component(&r, 1, "t")->opt.transform.on_error, WR_ON_STOP);
    assert_int_equal(component(&r, 2, "u")->opt.transform.on_error, WR_ON_DROP);
    assert_int_equal(component(&r, 3, "s")->opt.sink.on_reject, WR_ON_STOP);
    rig_done(&r);
}

static void sink_options_that_contradict(void **state)
{
    (void)state;
    says("sources: {in: {type: src}}\nsinks:\n"
         "  s: {type: out, on_reject: stop, in_flight: 4, retry: {initial: 1m, max: 1s}}\n",
         "in-flight 3:46 sinks.s.in_flight; raise concurrency instead\n"
         "bad-retry 3:56 sinks.s.retry\n");
}

static void a_table_with_the_cores_names(void **state)
{
    (void)state;
    says("sources: {in: {type: src}}\nsinks: {s: {type: clash, on_reject: stop}}\n",
         "bad-plugin 2:9 sinks.s\n");
}

static void everything_at_once(void **state)
{
    struct plan_rig r;
    (void)state;

    setenv("WT_GONE", "x", 1);
    unsetenv("WT_GONE");
    parse(&r, "sources:\n  in: {type: src, count: x, wait: '${env:WT_GONE}'}\n  in: {type: src}\n"
              "transforms: {t: {type: nope, inputs: [inn]}}\nsinks: {s: {type: out, inputs: [t], "
              "bach: 1}}\n"
              "dead_letter: q\n");
    assert_int_equal(wr_diags_count(r.d, WR_ERROR), 7);
    rig_done(&r);
}

static void too_many_components(void **state)
{
    struct wr_buf b = {0};
    struct plan_rig r;
    (void)state;

    wr_buf_text(
        &b, "sources: {in: {type: src}}\nsinks: {s: {type: out, on_reject: stop}}\ntransforms:\n");
    for (int i = 0; i < 998; i++)
        wr_buf_printf(&b, "  t%d: {type: pass, on_error: stop}\n", i);
    planned(&r, b.ptr);
    assert_int_equal(r.p->n_components, 1000);
    rig_done(&r);
    wr_buf_text(&b, "  one-more: {type: pass}\n");
    says(b.ptr, "too-many-components 1:1 \n");
    wr_buf_done(&b);
}

static void files_are_read(void **state)
{
    char path[] = "/tmp/weir-plan-XXXXXX.yaml", name[64];
    int fd = mkstemps(path, 5);
    static const char text[] = "\xef\xbb\xbfsources: {in: {type: src, path: p.txt}}\r\n"
                               "sinks: {out: {type: out, on_reject: stop}}\r\n";
    struct wr_diags *d = wr_diags_new();
    struct wr_plan *p;
    (void)state;

    assert_true(fd >= 0 && write(fd, text, sizeof(text) - 1) == (ssize_t)sizeof(text) - 1);
    p = wr_plan_load(path, NULL, d);
    assert_non_null(p);
    snprintf(name, sizeof(name), "%.*s", (int)strlen(path) - 10, path + 5);
    assert_string_equal(p->name.ptr, name);
    assert_string_equal(((const struct fake_config *)p->components[0].config)->path.ptr,
                        "/tmp/p.txt");
    wr_plan_free(p);
    assert_int_equal(wr_diags_count(d, WR_ERROR), 0);
    unlink(path);
    close(fd);
    assert_null(wr_plan_load(path, NULL, d));
    assert_null(wr_plan_load("/tmp", NULL, d));
    assert_int_equal(wr_diags_count(d, WR_ERROR), 2);
    assert_string_equal(wr_diags_at(d, 0)->code, "file-unreadable");
    assert_string_equal(wr_diags_at(d, 1)->message.ptr,
                        "cannot read the pipeline file: it is a folder");
    wr_diags_free(d);
}

static void types_describe_themselves(void **state)
{
    struct wr_buf b = {0};
    (void)state;

    wr_describe_type(&fake_src, &b, false);
    assert_non_null(
        strstr(b.ptr, "src (source)\nA source of tests.\n\nIt has every kind of option.\n"));
    assert_non_null(strstr(b.ptr, "  count                   int, -5 to 100, default 7\n"
                                  "                          A count.\n"
                                  "                          example: 12\n"));
    assert_non_null(
        strstr(b.ptr, "number                  int, -5 to 100, deprecated: use count\n"));
    assert_non_null(strstr(b.ptr, "    tls.depth             int, 1 to 9, default 3\n"));
    assert_non_null(strstr(b.ptr, "    routes[].to           text, required\n"));
    assert_non_null(strstr(b.ptr, "    tables.*.weight       int, default 1\n"));
    assert_non_null(strstr(b.ptr, "secret, not empty"));
    assert_non_null(strstr(b.ptr, "list of one of low, middle, high\n"));
    assert_true(strstr(b.ptr, "  settings ") >
                strstr(b.ptr, "  tables ")); /* advanced ones come last */
    assert_non_null(strstr(b.ptr, "Options of every source\n"));
    assert_null(strstr(b.ptr, "inputs"));
    b.len = 0;
    wr_describe_type(&fake_routes, &b, true);
    assert_non_null(
        strstr(b.ptr, "## `route` (transform)\n\nA transform with ports.\n\n### Options\n"));
    assert_non_null(strstr(b.ptr,
                           "| `routes` | map of condition, required, not empty | | Ports and their "
                           "conditions. |\n"));
    assert_non_null(strstr(b.ptr, "| `drop` | list of text | | "));
    assert_non_null(
        strstr(b.ptr, "| `on_error` | one of dead_letter, drop, stop | `dead_letter` | "));
    b.len = 0;
    wr_describe_type(&fake_out, &b, true);
    assert_non_null(strstr(b.ptr, "| `batch.events` | int, 1 to 1000000 | `250` | "));
    assert_non_null(strstr(b.ptr, "| `batch.timeout` | duration, 0s to 1h | `5ms` | "));
    assert_non_null(strstr(b.ptr, "| `in_flight` | int, 1 to 10000 | `3` | "));
    assert_false(wr_describe_type(NULL, &b, true));
    b.len = 0;
    wr_describe_top(&b, false);
    assert_non_null(strstr(b.ptr, "  shutdown_timeout        duration, 0s to 1h, default 30s\n"));
    b.len = 0;
    wr_describe_list(NULL, &b);
    assert_string_equal(b.ptr, "sources\n"
                               "  src             A source of tests.\n"
                               "                  plugin fake 1.2.3, /plugins/fake.so\n"
                               "\ntransforms\n"
                               "  pass            A transform of tests.\n"
                               "                  plugin fake 1.2.3, /plugins/fake.so\n"
                               "  route           A transform with ports.\n"
                               "                  plugin fake 1.2.3, /plugins/fake.so\n"
                               "\nsinks\n"
                               "  out             A sink of tests.\n"
                               "                  plugin fake 1.2.3, /plugins/fake.so\n");
    wr_buf_done(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_needs_no_inputs),
        cmocka_unit_test(a_graph_is_ordered),
        cmocka_unit_test(options_are_resolved),
        cmocka_unit_test(positions_outlive_the_diagnostics),
        cmocka_unit_test(conditions_are_listed),
        cmocka_unit_test(conditions_that_fail),
        cmocka_unit_test(the_types_own_check),
        cmocka_unit_test(a_check_cannot_tell_secrets),
        cmocka_unit_test(the_top_of_the_file),
        cmocka_unit_test(ids),
        cmocka_unit_test(types),
        cmocka_unit_test(inputs_that_are_wrong),
        cmocka_unit_test(what_nobody_reads),
        cmocka_unit_test(an_unnamed_way_beside_ports),
        cmocka_unit_test(a_line_may_branch_later),
        cmocka_unit_test(a_line_with_ports_needs_inputs),
        cmocka_unit_test(cycles_are_named),
        cmocka_unit_test(dead_letters),
        cmocka_unit_test(dead_letters_that_are_wrong),
        cmocka_unit_test(no_dead_letter_is_a_warning),
        cmocka_unit_test(sink_options_that_contradict),
        cmocka_unit_test(a_table_with_the_cores_names),
        cmocka_unit_test(everything_at_once),
        cmocka_unit_test(too_many_components),
        cmocka_unit_test(files_are_read),
        cmocka_unit_test(types_describe_themselves),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
