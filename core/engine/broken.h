/* SPDX-License-Identifier: Apache-2.0
 *
 * engine/broken.h: builds that break one promise on purpose (cmake -DWEIR_BREAK=NAME), by which
 * scripts/chaos --self-test shows that it would notice. Any other build has nothing of this: each
 * function here is then what stands in its place anyway.
 */
#ifndef WR_ENGINE_BROKEN_H
#define WR_ENGINE_BROKEN_H

#include <engine/ack.h>

#include <unistd.h>

/* ACK_BEFORE_WRITE: events count as delivered when they are gathered for a write. */
static inline void wr_break_gathered(struct weir_event *ev, struct wr_ended *ended)
{
#ifdef WEIR_BREAK_ACK_BEFORE_WRITE
    wr_ack_settle(ev->host_ack, WEIR_DELIVERED, NULL, ended);
    ev->host_ack = NULL;
#else
    (void)ev;
    (void)ended;
#endif
}

/* RETRY_DROPPED: what would have to be written again counts as delivered. */
static inline bool wr_break_retry(struct weir_result *r)
{
#ifdef WEIR_BREAK_RETRY_DROPPED
    r->verdict = WEIR_VERDICT_OK;
    return true;
#else
    (void)r;
    return false;
#endif
}

/* COMMIT_PAST_FAILURE: a watermark passes events that failed. */
static inline bool wr_break_failed(bool failed)
{
#ifdef WEIR_BREAK_COMMIT_PAST_FAILURE
    (void)failed;
    return false;
#else
    return failed;
#endif
}

/* SPLIT_WITHOUT_ACK: nobody waits for what an event was split into. */
static inline void wr_break_derived(struct weir_event *child)
{
#ifdef WEIR_BREAK_SPLIT_WITHOUT_ACK
    child->host_ack = NULL;
#else
    (void)child;
#endif
}

/* ACK_BEFORE_FSYNC: what was written to a disk buffer counts as durable; most of it is so a little later. */
static inline int wr_break_sync(int fd)
{
#ifdef WEIR_BREAK_ACK_BEFORE_FSYNC
    static _Atomic unsigned n;
    return n++ % 64 == 63 ? fdatasync(fd) : 0;
#else
    return fdatasync(fd);
#endif
}

/* OLD_EPOCH: events of partitions that were given up are written all the same. */
static inline bool wr_break_epoch(bool closed)
{
#ifdef WEIR_BREAK_OLD_EPOCH
    (void)closed;
    return false;
#else
    return closed;
#endif
}

#endif
