/* SPDX-License-Identifier: Apache-2.0
 *
 * What the files of the sinks share:
 *
 *   sink.c     options, checks, opening      write.c    a batch becomes writes and verdicts
 *   format.c   an event's line               name.c     an event's file
 *   target.c   one file                      targets.c  all that are open, and their keeper
 */
#ifndef SINK_H
#define SINK_H

#include "file.h"
#include "format.h"
#include "name.h"
#include "targets.h"

#include <pthread.h>
#include <stdatomic.h>

struct z_stream_s;

struct sink {
    const struct weir_host *h;
    pthread_mutex_t lock;   /* guards all below but the atomic */
    struct targets targets; /* without `name`: one */
    struct text text;       /* what is written to one file */
    struct text packed;     /* the same in gzip */
    struct z_stream_s *zip;
    struct weir_arena *arena; /* of one batch */
    struct weir_arena *names; /* of what `name` is compiled to */
    struct name name;
    enum format format;
    bool named;
    bool is_stdout;
    bool one_reader; /* stdout is a pipe without a name: once its reader is gone none comes */
    int cancel_fd;
    atomic_bool canceled;
};

bool zip_init(struct sink *self);
void zip_done(struct sink *self);

/* NULL, or why it may be the name of another file: of one while it is written, or once it is
 * rotated, where events of any name could make `keep` delete it. */
const char *why_reserved(bool part, bool keep, struct weir_str name);

void sink_write(void *self, struct weir_batch *b, int64_t deadline_ns,
                struct weir_results *results);

#endif
