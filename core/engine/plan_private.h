/* SPDX-License-Identifier: Apache-2.0
 *
 * engine/plan_private.h: what the files plan*.c share while one pipeline file becomes a plan.
 *
 *   plan.c            the file, its top level, the sections, the finished plan
 *   plan_component.c  one component: its type, its options, its own check, its ports
 *   plan_wire.c       inputs, default wiring, what nobody reads
 *   plan_order.c      cycles and the topological order
 *   plan_failure.c    dead letters and what follows from a failure
 *   plan_buffer.c     buffers on disk: options that go together, paths
 *   plan_options.c    the options that the core itself has
 */
#ifndef WR_ENGINE_PLAN_PRIVATE_H
#define WR_ENGINE_PLAN_PRIVATE_H

#include <engine/plan.h>
#include <model/options.h>

/* What the core reads of a component beside the type's own options. */
struct wr_common {
    struct weir_str type;
    struct weir_list inputs;
    struct weir_str description;
    struct weir_list drop;
    struct weir_str dead_letter;
    union {
        struct wr_source_options source;
        struct wr_transform_options transform;
        struct wr_sink_options sink;
    } opt;
};

/* The top of the file. */
struct wr_top {
    struct weir_str name, description, dead_letter;
    int64_t shutdown_timeout, drain_delay;
};

/* Tables over struct wr_common (`drop` apart, for types with ports) and struct wr_top. */
struct weir_options wr_common_options(enum weir_kind kind);
struct weir_options wr_drop_option(void);
struct weir_options wr_top_options(void);
/* batch and in_flight as a sink's type has them by default; the rest is zero. */
struct wr_sink_options wr_sink_defaults(const struct weir_sink *sink);
/* What a component of that kind begins with; defaults come on top. */
void wr_common_init(struct wr_common *c, enum weir_kind kind);

/* An input as it was written. */
struct wr_input {
    const struct wr_node *node; /* NULL: wired by default */
    uint32_t from;              /* draft */
    uint32_t port;              /* as in struct wr_edge */
};

/* A component while it is made. */
struct wr_draft {
    enum weir_kind kind;
    const struct wr_field *field; /* id and map */
    struct wr_path path;          /* "sinks.store" */
    struct wr_common common;
    struct wr_component c;
    struct wr_input *inputs;
    uint32_t n_inputs;
    bool has_inputs; /* the option was given */
    bool bound;      /* its options were read, right or wrong */
    bool ports_known; /* its options were right */
    bool has_unnamed; /* there is an unnamed way out */
    bool *port_read;  /* for each of c.ports */
    bool unnamed_read;
    bool skip; /* cannot be wired: its id stands twice */
    int mark;  /* of the walks through the graph */
};

struct wr_planner {
    struct wr_plan *plan;
    struct weir_arena *arena; /* the plan's */
    struct wr_diags *diags;
    const struct wr_text *text;     /* kept by diags */
    const struct wr_text *own_text; /* kept by the plan */
    struct wr_loader *loader;
    const char *dir;
    const struct wr_node *root;
    struct wr_top top;
    struct wr_draft *drafts; /* sources, transforms, sinks; each in the order of the file */
    uint32_t n;
    uint32_t n_kind[WEIR_SINK + 1];
    int32_t dead_letter; /* draft, -1 = none */
    bool partial;        /* the file lacks something: what is missing is no news */
    bool wiring_failed;  /* some input could not be resolved: what is unread is no news */
};

/* Reports; facts has everything but severity. */
void wr_plan_error(struct wr_planner *p, const char *code, struct wr_pos pos,
                   const struct wr_path *path, const struct wr_diag *facts);
void wr_plan_warning(struct wr_planner *p, const char *code, struct wr_pos pos,
                     const struct wr_path *path, const struct wr_diag *facts);
struct wr_binder wr_plan_binder(struct wr_planner *p, struct wr_pos origin);

const char *wr_kind_word(enum weir_kind kind);  /* "source" */
const char *wr_kind_words(enum weir_kind kind); /* "sources" */
/* Draft of that id, or -1. */
int32_t wr_plan_find(const struct wr_planner *p, struct weir_str id);
/* `did you mean "x"?`, or an empty view. */
struct weir_str wr_plan_did_you_mean(struct wr_planner *p, struct weir_str word,
                                     const char *const *words, uint32_t n);
bool wr_plan_is_name(struct weir_str s); /* an id or a port */
/* Where a component's options name one of its ports: a key or an item; else its id. */
struct wr_pos wr_plan_port_pos(const struct wr_draft *d, struct weir_str port);

/* The plan depends on what that file holds. */
void wr_plan_watch(struct wr_plan *p, struct weir_str path, bool modules);
void wr_plan_component(struct wr_planner *p, struct wr_draft *draft);
void wr_plan_dead_letters(struct wr_planner *p); /* before the wiring: who is one */
void wr_plan_failures(struct wr_planner *p);     /* on_error, on_reject, on_unavailable */
void wr_plan_buffer(struct wr_planner *p, struct wr_draft *draft); /* of a sink whose options were read */
void wr_plan_buffers(struct wr_planner *p);      /* those of different sinks */
bool wr_same_folder(struct weir_str a, struct weir_str b);
void wr_plan_wire(struct wr_planner *p);
/* Drafts in the order of the plan's components into ret_order; false with diagnostics on a cycle.
 */
bool wr_plan_order(struct wr_planner *p, uint32_t *ret_order);

#endif
