/* SPDX-License-Identifier: Apache-2.0
 *
 * An event as one line of text: what the sinks `file` and `stdout` write.
 */
#ifndef FORMAT_H
#define FORMAT_H

#include <weir/plugin.h>

enum format { FORMAT_PAYLOAD, FORMAT_FULL };

extern const char *const format_words[]; /* by enum format, NULL at the end */

/* A growing buffer; all-zero is empty. */
struct text {
    const struct weir_host *h;
    char *ptr;
    size_t len, cap;
    bool failed; /* memory was used up: what was put since is not there */
};

void text_put(struct text *t, const char *ptr, size_t len);
void text_done(struct text *t);

/* What format_event found wrong with an event. */
enum format_result {
    FORMAT_OK,
    FORMAT_NO_MEMORY, /* nothing was put */
    FORMAT_TOMBSTONE, /* there is no payload to write */
    FORMAT_LINE_BREAK /* a payload that is no JSON with a line break inside */
};

/* Appends the event's line with its LF. On failure nothing is appended. `a` is for what is needed
 * on the way. */
enum format_result format_event(struct text *t, enum format format, struct weir_batch *b,
                                struct weir_event *ev, struct weir_arena *a);

#endif
