/* SPDX-License-Identifier: Apache-2.0
 *
 * dedupe/lane.h: a lane's side of deduplication, for the types `dedupe` and `redis_dedupe`: which event
 * is the first of its key, and what becomes of the duplicates. How long a key is remembered, and where, is
 * the type's.
 *
 *   lane_sort ─▶ first of its key ─▶ lane_pass ─▶ … sinks … ─▶ settled ─▶ lane_end ─▶ waiters
 *            └─▶ its first is on its way: held ◀──────────────────────────────────────────┘
 *            └─▶ its first has ended well: filtered        lane_give_out: filtered, or the next first
 */
#ifndef DEDUPE_LANE_H
#define DEDUPE_LANE_H

#include "keys.h"

/* Options of both types; a config struct begins with them. */
struct lane_config {
    struct weir_template *key;
    int64_t ttl_ns;
    int64_t held;
};

#define LANE_TTL_MAX (INT64_C(3650) * 86400 * WEIR_NS_PER_S)

/* Rows of an option table whose config struct has a member `lane`. */
#define LANE_OPTIONS(config_type)                                                                  \
    {.name = "key",                                                                                \
     .type = WEIR_OPT_TEMPLATE,                                                                    \
     .flags = WEIR_OPT_NONEMPTY,                                                                   \
     .offset = offsetof(config_type, lane.key),                                                    \
     .def = "{{ @id }}",                                                                           \
     .doc = "Events with the same text are duplicates of each other.",                             \
     .example = "\"{{ order.id }}\""},                                                             \
        {.name = "ttl",                                                                            \
         .type = WEIR_OPT_DURATION,                                                                \
         .offset = offsetof(config_type, lane.ttl_ns),                                             \
         .def = "1h",                                                                              \
         .min = WEIR_NS_PER_MS,                                                                    \
         .max = LANE_TTL_MAX,                                                                      \
         .doc = "How long a key is remembered, from the end of its event on.",                     \
         .example = "24h"},                                                                        \
    {                                                                                              \
        .name = "held", .type = WEIR_OPT_INT, .flags = WEIR_OPT_ADVANCED,                          \
        .offset = offsetof(config_type, lane.held), .def = "10000", .min = 1, .max = 1000000,      \
        .doc = "How many duplicates may wait for the end of their first, about; then the lanes "   \
               "take nothing new until some have ended.",                                          \
        .example = "1000"                                                                          \
    }

#define LANE_INTERVAL_NS WEIR_NS_PER_S /* of tick */

/* An event of the batch at hand. */
struct item {
    struct weir_str text;
    uint64_t hash;
    struct key *first; /* it is the first with this key; else NULL */
};

struct lane {
    const struct weir_host *h;
    const struct weir_template *template;
    struct keys *keys;
    struct item *items; /* by event, since lane_sort */
    uint32_t cap_items;
    struct waiters ready; /* of this lane; guarded by the keys' lock, as the next two */
    struct lane *next;
    bool wants_room;
    struct weir_metric *n_keys, *n_bytes, *evicted;
};

/* As weir_type.check, for these options. */
void lane_check(const struct lane_config *config, const struct weir_report *report);

/* Joins the others of its component, whose keys these are. */
void lane_open(struct lane *l, const struct weir_host *h, const struct lane_config *config,
               struct keys *keys);
void lane_close(struct lane *l);

/* True where nothing more may come: the lane is woken when there is room. [lane] */
bool lane_is_full(struct lane *l);

/* Sorts the events of a batch: duplicates leave it, or are held; items says who is a first. False when
 * memory is used up. [lane] */
bool lane_sort(struct lane *l, struct weir_batch *b);

/* A first goes on; its end will be told to settled(), with this key as the cookie. [lane] */
void lane_pass(struct lane *l, struct weir_batch *b, struct weir_event *ev, struct key *key);
static inline struct key *lane_key_of(uint64_t cookie)
{
    return (struct key *)(uintptr_t)cookie;
}
/* This end makes later events with the key duplicates: everybody who was to have it has it. */
static inline bool lane_ended_well(enum weir_outcome outcome)
{
    return outcome == WEIR_DELIVERED || outcome == WEIR_FILTERED;
}

enum key_end {
    END_SEEN,      /* remembered here */
    END_WRITING,   /* remembered elsewhere: keys_forget follows */
    END_DUPLICATE, /* it was remembered elsewhere before */
    END_REFUSED,   /* nobody can say: duplicates fail as their first did */
    END_FAILED     /* the next duplicate is the first */
};
/* The end of a key's first, whose duplicates are told. [lane] */
void lane_end(struct lane *l, struct key *key, enum key_end how);
/* A key that was WRITING is written, or given up. [any] */
void lane_written(struct lane *l, struct key *take_key);

/* Adds the duplicates of this lane whose waiting is over to the batch. parked: apply will answer AGAIN,
 * and they leave before. [lane] */
void lane_give_out(struct lane *l, struct weir_batch *b, bool parked);

/* What is due now and then. [lane] */
void lane_tick(struct lane *l, struct weir_batch *b);

#endif
