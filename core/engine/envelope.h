/* SPDX-License-Identifier: Apache-2.0
 *
 * engine/envelope.h: the form of a dead letter: one JSON object that holds the event byte for byte,
 * why it is dead, and all that is needed to send it through again. core/README.md lists the
 * members.
 *
 *   component gives up ─▶ wr_envelope_write ─▶ dead-letter sink ─▶ ... ─▶ wr_envelope_read ─▶ `weir
 * replay`
 */
#ifndef WR_ENGINE_ENVELOPE_H
#define WR_ENGINE_ENVELOPE_H

#include <base/buf.h>
#include <model/batch.h>

#define WR_ENVELOPE_VERSION 1
#define WR_ENVELOPE_BYTES_MAX ((size_t)256 << 20)
#define WR_ENVELOPE_HEADERS_MAX 10000u
#define WR_ENVELOPE_NAME_MAX                                                                       \
    256u /* bytes of a component's id, a pipeline's or type's name, a code */
#define WR_ENVELOPE_ID_MAX 8192u /* bytes of an event's id */
#define WR_ENVELOPE_REASON_MAX ((size_t)1 << 20)

/* Of texts a NULL ptr means that there is none, which is not an empty one. Times: 0 is none. */
struct wr_envelope {
    struct weir_str payload; /* as its source gave it */
    struct weir_str entered; /* as it entered the component, where that differs */
    bool tombstone;          /* as it entered: it has no payload */
    bool raw;                /* as it entered: the payload is opaque (codec: raw) */
    /* Why. */
    struct weir_str reason, code;
    int32_t number; /* the library's or server's own code, 0 = none */
    uint32_t attempts;
    int64_t first_ns, last_ns;
    struct weir_str pipeline, component, type; /* who gave up */
    struct weir_str source;                    /* id of the source that it came from */
    uint32_t replays;                          /* how often it was sent through again so far */
    /* The rest of the event. */
    struct weir_str id, key;
    int64_t time_ns;
    bool has_origin;
    bool is_item; /* `position` counts the items of a request, not places in a stream */
    struct weir_origin origin;
    int64_t position;
    const struct weir_header *headers;
    uint32_t n_headers;
};

/* Adds the object, one line without its end. */
void wr_envelope_write(const struct wr_envelope *e, struct wr_buf *out);

/* What the text says; its parts live in `a` or in the text. Members that are not known are passed
 * over: a store may have added some of its own. False with err, which names the member. */
bool wr_envelope_read(struct weir_arena *a, struct weir_str text, struct wr_envelope *ret,
                      struct weir_error *err);

/* The payload that enters the component again. */
static inline struct weir_str wr_envelope_entered(const struct wr_envelope *e)
{
    return e->tombstone || e->entered.ptr != NULL ? e->entered : e->payload;
}

#endif
