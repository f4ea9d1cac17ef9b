/* SPDX-License-Identifier: Apache-2.0
 *
 * engine/disk_buffer.h: a durable buffer in a folder (see buffer.h for what durable means).
 *
 *   push ──▶ pending ──write──▶ written ──fdatasync──▶ acks of the pushed: delivered
 *                                                  └──▶ ready in memory, or left on the disk ──▶ take
 *   settle ──▶ acks of the given ──▶ cursor ──▶ segments behind it are deleted
 *
 * The buffer's own thread writes, syncs, settles what was pushed, keeps the cursor and deletes; take reads
 * what is no longer in memory. What is in memory is bounded, however much is on the disk.
 */
#ifndef WR_ENGINE_DISK_BUFFER_H
#define WR_ENGINE_DISK_BUFFER_H

#include <base/log.h>
#include <engine/buffer.h>
#include <engine/plan.h>
#include <model/metrics.h>

struct wr_disk_options {
    const char *path;
    size_t size;      /* of all segments */
    size_t memory;    /* half of it for what waits to be written, half for what was given or is ready */
    int64_t sync_ns;  /* at most so long between two fdatasync while there is something to sync */
    int when_full;    /* enum wr_when_full */
    bool keep_source; /* with each event the payload that its source gave, where it differs */
    bool drains;      /* an end empties it; see wr_buffer.drains */
    uint32_t needs;   /* of the sink: with VALUE events come out parsed */
    struct wr_clock *clock;
    struct wr_log_scope *log;
    struct wr_metrics *metrics;
    const struct wr_label *labels; /* of the metrics; copied */
    uint32_t n_labels;
    struct weir_str component; /* who is said to have dropped; outlives the buffer */
    void (*discarded)(void *arg, const char *reason, uint64_t n); /* counts events that are lost. [any] */
    void *discarded_arg;
};

/* Opens the folder, or makes it. NULL with err: it is in use, or cannot be used. The thread begins with
 * the buffer's `start`. */
struct wr_buffer *wr_buffer_disk(const struct wr_disk_options *opt, void (*filled)(void *arg), void *arg,
                                 struct weir_error *err);

/* What a reload may change of an open one. */
struct wr_disk_limits {
    size_t size;
    int64_t sync_ns;
    int when_full;
    bool keep_source;
    bool drains;
};

/* From its thread's next turn on; nobody pushes or takes meanwhile. What is over a smaller size stays until it
 * is delivered, or dropped as when_full says. [control] */
void wr_disk_change(struct wr_buffer *buf, const struct wr_disk_limits *limits);
/* Nothing more is pushed: `filled` is called also when all of it has ended. [control] */
void wr_disk_last(struct wr_buffer *buf);

/* One turn of its thread, for tests that have none: as wr_shard_step. */
int64_t wr_disk_step(struct wr_buffer *buf, int64_t wait_until);

#endif
