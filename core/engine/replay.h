/* SPDX-License-Identifier: Apache-2.0
 *
 * engine/replay.h: dead letters sent through their pipeline again.
 *
 *   file, kafka ─▶ replay: opens envelopes ─▶ the component that gave up on it ─▶ ... ─▶ sinks
 *   (the source     (a transform of the         (by a port each)
 *    plugins)        engine's own)
 *
 * The pipeline is planned as ever; then its sources are taken out, and a source that reads dead
 * letters and the transform `replay` come in their place (replay_plan.c). An envelope's end is that
 * of its event, so positions and offsets are kept as of any other source: up to the first one that
 * was not sent through, and not before its event has ended.
 */
#ifndef WR_ENGINE_REPLAY_H
#define WR_ENGINE_REPLAY_H

#include <base/buf.h>
#include <engine/plan.h>

/* Which dead letters, and where to. Lists end with NULL; NULL takes all. */
struct wr_replay_options {
    const char *pipeline;          /* theirs; NULL: the plan's name */
    const char *at;                /* id of the component to enter at; NULL: the one that gave up */
    bool from_start;               /* behind the source that it came from, as that gave it */
    bool dry_run;                  /* only counts */
    const char *const *components; /* that gave up */
    const char *const *codes;
    int64_t since_ns, until_ns; /* of the last failure: since <= t < until */
    int64_t limit;              /* so many; -1 = all */
    int64_t rate;               /* events a second; 0 = as fast as it goes */
    const char *place;          /* name of what is read, for messages; NULL: the event's origin */
    const char *dir; /* the working folder, which such a name need not tell; may be NULL */
    /* One line about one that cannot be replayed. [any] */
    void (*complain)(const char *line);
};

/* What became of the dead letters of one component and code. */
struct wr_replay_row {
    struct weir_str component, code;
    struct weir_str target; /* where they enter; empty: nowhere, and `why` says why not */
    const char *why;
    uint64_t found; /* that the filters let through */
    uint64_t entered;
    uint64_t ended[WEIR_FAILED + 1]; /* of those, by outcome */
    struct wr_buf places;            /* of those that cannot enter, as ranges */
    /* The range that is open. */
    struct weir_str place_name;
    int64_t place_from, place_to;
};

struct wr_replay_totals {
    uint64_t read;
    uint64_t entered;
    uint64_t filtered; /* by the options */
    uint64_t over;     /* behind the limit: not looked at */
    uint64_t others;   /* of other pipelines */
    uint64_t homeless; /* no way to enter */
    uint64_t broken;   /* no dead letters */
};

struct wr_replay;

/* The options are kept as they are. */
struct wr_replay *wr_replay_new(const struct wr_replay_options *opt);
void wr_replay_free(struct wr_replay *take_r);
const struct wr_replay_options *wr_replay_options(const struct wr_replay *r);
/* After the run. */
struct wr_replay_totals wr_replay_totals(const struct wr_replay *r);
uint32_t wr_replay_n_rows(const struct wr_replay *r);
const struct wr_replay_row *wr_replay_row(struct wr_replay *r, uint32_t i);
/* A pipeline's name, other than the one asked for, that was met; empty: none. */
struct weir_str wr_replay_other(const struct wr_replay *r);

/* Where dead letters are read. */
struct wr_replay_from {
    const char *const *files; /* NULL at the end; "-" alone: standard input. NULL: a topic */
    const char *topic;
    const char *brokers;     /* NULL: as the dead-letter sink of that type has them */
    const char *dir;         /* the working folder, absolute */
    const char *dead_letter; /* a file for what fails again; NULL: the pipeline's own sinks */
    bool again;              /* from the beginning, not from where the last run ended */
};

/* The plan of the replay over `of`, which must outlive it; so must d and r. NULL with diagnostics.
 */
struct wr_plan *wr_replay_plan(const struct wr_plan *of, struct wr_loader *loader,
                               struct wr_diags *d, const struct wr_replay_from *from,
                               struct wr_replay *r);

/* ---- Between replay.c and replay_plan.c ---- */

#define WR_REPLAY_LINE_HEADER "weir-line" /* the number of an envelope's line */

extern const struct weir_type wr_replay_type;

/* A way in: a component, or behind a source; its port is the number of the target + 1. */
void wr_replay_add_target(struct wr_replay *r, const struct wr_component *c);
/* Name of the pipeline whose dead letters are wanted, where the options do not say. */
void wr_replay_set_pipeline(struct wr_replay *r, struct weir_str name);

#endif
