/* SPDX-License-Identifier: Apache-2.0
 *
 * throttle/buckets.h: token buckets by key, shared by the lanes of a component.
 *
 * A bucket is one moment: when it would be empty of debts. It is kept in parts of a nanosecond, so
 * that no rate drifts, however long it runs. At most so many keys have one; the one that was not used
 * for longest goes first.
 */
#ifndef THROTTLE_BUCKETS_H
#define THROTTLE_BUCKETS_H

#include <weir/plugin.h>

#define RATE_MIN 1e-6 /* an event in 11 days */
#define RATE_MAX 1e9

struct buckets;

struct buckets_config {
    double rate;   /* tokens a second, RATE_MIN to RATE_MAX */
    int64_t burst; /* tokens of a full bucket, 1 or more */
    uint32_t keys;
};

enum bucket_result { BUCKET_TAKEN, BUCKET_EMPTY, BUCKET_NO_MEMORY };

/* NULL when memory is used up. Only the host's alloc and free are kept. */
struct buckets *buckets_new(const struct weir_host *h, const struct buckets_config *config);
/* NULL is allowed. */
void buckets_free(struct buckets *take_buckets);

/* Takes a token of the key's bucket. EMPTY: *ret_when_ns is when there will be one.
 *
 * late_ns  how long somebody may have waited for this token already: what came meanwhile is then not
 *          lost, though the bucket was full. 0: nobody has waited.
 * Thread   any */
enum bucket_result buckets_take(struct buckets *b, struct weir_str key, int64_t now_ns,
                                int64_t late_ns, int64_t *ret_when_ns);

/* Keys that are known, and how many since the last call had to be forgotten, to make room, while they
 * still had debts. Thread: any. */
void buckets_report(struct buckets *b, uint32_t *ret_keys, uint64_t *ret_forgotten);

#endif
