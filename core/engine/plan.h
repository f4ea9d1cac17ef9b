/* SPDX-License-Identifier: Apache-2.0
 *
 * engine/plan.h: one pipeline file, read, checked and resolved: what the engine builds from.
 *
 * A plan is immutable and holds everything that its text gave: component types, filled config
 * structs, edges. It opens nothing but plugins and the files that options name.
 */
#ifndef WR_ENGINE_PLAN_H
#define WR_ENGINE_PLAN_H

#include <base/secret.h>
#include <engine/loader.h>
#include <model/conf.h>
#include <model/diag.h>
#include <weir/plugin.h>

#include <stdatomic.h>

struct wr_replay;

/* An edge out of a component. */
struct wr_edge {
    uint32_t to;   /* index of the component that reads */
    uint32_t port; /* of the one that writes: index in its ports + 1, 0 = the unnamed way out */
};

enum wr_codec { WR_CODEC_JSON, WR_CODEC_RAW };
enum wr_on_failure { WR_ON_DEAD_LETTER, WR_ON_DROP, WR_ON_STOP };
enum wr_buffer_type { WR_BUFFER_MEMORY, WR_BUFFER_DISK };
#define WR_BUFFER_MEMORY_SIZE (INT64_C(32) << 20) /* of one in memory, unless told otherwise */
enum wr_when_full { WR_FULL_BLOCK, WR_FULL_DROP_NEWEST, WR_FULL_DROP_OLDEST };
enum wr_on_unavailable { WR_UNAVAILABLE_WAIT, WR_UNAVAILABLE_DEAD_LETTER };

struct wr_source_options {
    int64_t lanes; /* 0: as the type advises */
    int codec;
    uint32_t room; /* events that a poll may give; 0: as the lane sees fit */
};

struct wr_transform_options {
    int on_error; /* enum wr_on_failure */
};

/* Units: bytes, ns. */
struct wr_sink_options {
    struct {
        int64_t events, bytes, timeout;
    } batch; /* -1: the type's default (resolved in the plan: never -1 there) */
    struct {
        int type;     /* enum wr_buffer_type */
        int64_t size; /* resolved: never -1 */
        /* Of a disk buffer: */
        struct weir_str path;
        int64_t memory; /* what of it is in memory; no option of the file's */
        int when_full; /* enum wr_when_full */
        int64_t sync;
        bool keep_source, drain_on_stop;
    } buffer;
    int64_t concurrency;
    int64_t in_flight; /* resolved: 1 where the type is not ORDERED */
    struct weir_template *shard_by; /* NULL: key, else stream or request */
    struct {
        int64_t attempts; /* 0 = no bound */
        int64_t initial, max;
    } retry;
    int64_t timeout; /* a write's deadline */
    int on_reject;   /* enum wr_on_failure, resolved: DEAD_LETTER only where there is one */
    int on_unavailable;
};

/* The texts of a component's CONDITION options; struct weir_condition is an entry of this list. */
struct weir_condition {
    struct weir_str text;
    uint32_t index; /* in wr_component.conditions */
};

struct wr_component {
    struct weir_str id;
    const struct weir_type *type;
    const struct wr_plugin *plugin;
    struct wr_pos pos; /* of its id in the file */
    const struct wr_node *node; /* its options there */
    void *config;
    const struct weir_str *conditions; /* texts, for weir_condition_service.open */
    uint32_t n_conditions;
    uint32_t needs;  /* with what its templates read; of a sink also that of shard_by */
    uint32_t traits;
    struct weir_str *ports; /* names; n_ports 0 = one unnamed way out */
    uint32_t n_ports;
    struct wr_edge *outs; /* in the order of the readers in the file */
    uint32_t n_outs;
    uint32_t n_ins;
    uint64_t files_print; /* of the content of the files that belong to its options */
    int32_t dead_letter; /* component that takes what this one could not, -1 = none */
    bool is_dead_letter; /* some other component's dead_letter */
    union {
        struct wr_source_options source;
        struct wr_transform_options transform;
        struct wr_sink_options sink;
    } opt;
};

struct wr_plan {
    _Atomic uint32_t refs;
    struct weir_str name;
    struct weir_str description;
    struct weir_str file;
    struct wr_component *components; /* sources, then transforms in topological order, then sinks */
    uint32_t n_components;
    const struct weir_condition_service *condition_service; /* NULL where there is no condition */
    struct weir_arena *arena;
    struct wr_replay *replay; /* not NULL: dead letters come in the place of sources (replay.h) */
    const struct wr_secret *secrets; /* of all components: never shown */
    struct wr_content_file *files; /* all that it was made of: where one changes it may be another */
    int64_t shutdown_timeout; /* ns, option `shutdown_timeout`, default 30s */
    int64_t drain_delay;      /* ns, option `drain_delay`, default 0 */
};

/* Two disk buffers of a process cannot share a folder: reports those of the plan whose folder is one of n
 * other plans', too. NULL among those are passed over. */
void wr_plan_check_buffers(struct wr_plan *plan, const struct wr_plan *const *others, uint32_t n,
                           struct wr_diags *d);

/* Reads and checks one file. NULL where d got errors from it. The plan holds its own copy of the
 * text that positions point into; where NULL is returned that text lives on in `d`'s keeping. */
struct wr_plan *wr_plan_load(const char *path, struct wr_loader *loader, struct wr_diags *d);
/* The same from memory: `name` for messages, `dir` for relative paths. For tests and fuzzers. */
struct wr_plan *wr_plan_parse(const char *name, const char *dir, struct weir_str text,
                              struct wr_loader *loader, struct wr_diags *d);
/* One more that needs it. */
const struct wr_plan *wr_plan_ref(const struct wr_plan *p);
/* With the last of them. NULL is allowed. */
void wr_plan_free(const struct wr_plan *take_p);

#endif
