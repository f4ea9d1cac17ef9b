/* SPDX-License-Identifier: Apache-2.0
 *
 * engine/disk_record.h: one event as bytes on a disk, and back.
 *
 *   0  marker   of its segment: what a search behind a damaged place looks for
 *   4  length   of all of it, padding included: a multiple of 8
 *   8  crc      CRC-32C of all the rest; the marker is where it starts from
 *  12  flags
 *  16  seq      its place in the order of the buffer
 *  24  time     of the event        32  entered   when it came into weir (both ns since the epoch)
 *  40  position                     48  partition
 *  52  lengths of payload, source, key, id, origin, and the number of headers
 *  76  payload, source payload, key, id, origin's name, headers (two lengths and two texts each), padding
 *
 * Numbers are little-endian. Nothing that is read is believed before its CRC was seen to be right, and
 * no length before it was seen to lie within the bytes that are there.
 */
#ifndef WR_ENGINE_DISK_RECORD_H
#define WR_ENGINE_DISK_RECORD_H

#include <base/arena.h>
#include <model/batch.h>

#define WR_RECORD_HEAD 76u
#define WR_RECORD_ALIGN 8u
#define WR_RECORD_MAX (UINT32_C(1) << 30)
#define WR_SEQ_MAX (UINT64_C(1) << 62)

/* A record that was found to be whole; it lies in memory of the caller's. */
struct wr_record {
    const uint8_t *bytes;
    uint32_t length;
    uint64_t seq;
    int64_t entered_ns; /* wall clock */
};

enum wr_record_state {
    WR_RECORD_OK,
    WR_RECORD_SHORT, /* it would go on behind the bytes that are there */
    WR_RECORD_BAD
};

/* Bytes that a record of it takes; 0: more than a record can have. */
size_t wr_record_size(const struct weir_event *ev, bool keep_source);
/* Writes it; gives its bytes, which are what wr_record_size said. */
size_t wr_record_write(uint8_t *out, const struct weir_event *ev, bool keep_source, uint32_t marker,
                       uint64_t seq, int64_t entered_ns);
/* Looks at the record that begins at p. SHORT: *ret_need says how many bytes it claims to have. */
enum wr_record_state wr_record_read(const uint8_t *p, size_t len, uint32_t marker,
                                    struct wr_record *ret, size_t *ret_need);
/* Makes an event of it, whose texts point into the record and whose rest is in `a`. `before`: the last
 * event that was made in this arena, or NULL; the same origin is used again. False when memory is used up. */
bool wr_record_event(const struct wr_record *r, struct weir_arena *a, const struct weir_event *before,
                     struct weir_event *ret_ev);

/* Little-endian numbers at any place. */
static inline void wr_put32(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(v >> (8 * i));
}

static inline void wr_put64(uint8_t *p, uint64_t v)
{
    wr_put32(p, (uint32_t)v);
    wr_put32(p + 4, (uint32_t)(v >> 32));
}

static inline uint32_t wr_get32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static inline uint64_t wr_get64(const uint8_t *p)
{
    return wr_get32(p) | (uint64_t)wr_get32(p + 4) << 32;
}

#endif
