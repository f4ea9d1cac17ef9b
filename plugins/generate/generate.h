/* SPDX-License-Identifier: Apache-2.0
 *
 * What the two halves of the source `generate` share: the maker of event bytes (events.c), which
 * knows nothing of the host, and the source that paces it (generate.c).
 */
#ifndef GENERATE_H
#define GENERATE_H

#include <weir/plugin.h>

/* No event without its fill is longer than this. */
#define MAKER_NATURAL_MAX 1024

/* Makes event number `seq` of an endless, seeded sequence: the same numbers give the same bytes,
 * in any order and on any lane. */
struct maker {
    uint64_t seed;
    uint64_t n_users;
    uint64_t n_until_wrap; /* event times start again behind so many events */
    int64_t start_ns;
    int64_t step_ns;
    size_t size_bytes;  /* wanted payload size, 0 = as the event comes */
    uint8_t kinds[256]; /* event kind by a random byte: the weights */
    int64_t stamped_s;  /* the second that `stamp` shows */
    char stamp[20];     /* "2026-01-01T00:00:00." */
};

/* One made event: views into the bytes that maker_put wrote. */
struct made {
    struct weir_str payload;
    struct weir_str id;
    struct weir_str user;
    int64_t time_ns;
};

void maker_init(struct maker *m, uint64_t seed, uint64_t n_users, int64_t start_ns, int64_t step_ns,
                size_t size_bytes);

/* Upper bound of the bytes of one event. */
size_t maker_max(const struct maker *m);

/* Writes event `seq` at `out`, which has room for maker_max() bytes. */
void maker_put(struct maker *m, uint64_t seq, char *out, struct made *ret_made);

#endif
