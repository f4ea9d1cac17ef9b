/* SPDX-License-Identifier: Apache-2.0
 *
 * Any bytes as a segment of a disk buffer: its header is read, its records are walked over and made into
 * events, damage is passed. The first byte's lowest bit says whether markers and checksums are put right
 * first, wherever a length lets a record end within the file, so that what lies behind them is reached.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <base/check.h>
#include <base/crc32c.h>
#include <engine/disk_segment.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MARKER 0x5eed1234u

static void put_right(uint8_t *bytes, size_t size)
{
    if (size >= WR_SEGMENT_HEAD) {
        wr_put32(bytes + 12, wr_crc32c(0, bytes, 12));
        wr_put32(bytes + 44, wr_crc32c(MARKER, bytes + 16, 28));
    }
    for (size_t at = WR_SEGMENT_HEAD; at + WR_RECORD_HEAD <= size;) {
        size_t length = wr_get32(bytes + at + 4);
        if (length < WR_RECORD_HEAD || length > size - at)
            return;
        wr_put32(bytes + at, MARKER);
        uint32_t crc = wr_crc32c(MARKER, bytes + at, 8);
        wr_put32(bytes + at + 8, wr_crc32c(crc, bytes + at + 12, length - 12));
        at += length;
    }
}

/* Every byte of what the event points to is looked at. */
static uint64_t touch(const struct weir_event *ev)
{
    uint64_t sum = 0;
    struct weir_str texts[] = {ev->payload, ev->key, ev->id, wr_event_source_payload(ev),
                               ev->origin != NULL ? ev->origin->name : weir_str_n(NULL, 0)};
    for (size_t k = 0; k < WR_COUNT(texts); k++)
        for (size_t i = 0; i < texts[k].len; i++)
            sum += (uint8_t)texts[k].ptr[i];
    for (uint32_t h = 0; h < ev->n_headers; h++) {
        for (size_t i = 0; i < ev->headers[h].name.len; i++)
            sum += (uint8_t)ev->headers[h].name.ptr[i];
        for (size_t i = 0; i < ev->headers[h].value.len; i++)
            sum += (uint8_t)ev->headers[h].value.ptr[i];
    }
    return sum;
}

static volatile uint64_t sink;

/* What is read and written again is the same record. */
static void write_again(const struct wr_record *r, const struct weir_event *ev)
{
    size_t size = wr_record_size(ev, true), need;
    WR_BUG_ON(size == 0 || size > (size_t)r->length + WR_RECORD_ALIGN);
    uint8_t *bytes = malloc(size);
    struct wr_record again;
    struct weir_arena a = {0};
    struct weir_event back;
    WR_BUG_ON(bytes == NULL);
    WR_BUG_ON(wr_record_write(bytes, ev, true, MARKER, r->seq, r->entered_ns) != size);
    WR_BUG_ON(wr_record_read(bytes, size, MARKER, &again, &need) != WR_RECORD_OK);
    WR_BUG_ON(again.seq != r->seq || again.entered_ns != r->entered_ns);
    WR_BUG_ON(!wr_record_event(&again, &a, NULL, &back));
    WR_BUG_ON(touch(&back) != touch(ev) || back.n_headers != ev->n_headers || back.flags != ev->flags);
    wr_arena_done(&a);
    free(bytes);
}

static void walk(struct wr_scan *scan)
{
    struct weir_arena a = {0};
    struct wr_record r;
    struct wr_damage damage;
    struct weir_event before, ev;
    bool any = false;
    uint64_t least = scan->seq;
    for (int64_t at = scan->at;; at = scan->at) {
        enum wr_scan_state state = wr_scan_next(scan, &r, &damage);
        WR_BUG_ON(state == WR_SCAN_MORE || state == WR_SCAN_FAILED);
        if (state == WR_SCAN_END)
            break;
        WR_BUG_ON(scan->at <= at || scan->at > scan->end);
        if (state == WR_SCAN_DAMAGE) {
            WR_BUG_ON(damage.from != at || damage.to != scan->at || (damage.torn && damage.to != scan->end));
            continue;
        }
        WR_BUG_ON(r.seq < least || r.seq >= scan->limit);
        least = r.seq + 1;
        /* A copy of just its bytes: the sanitizer sees what looks beyond them. */
        uint8_t *copy = malloc(r.length);
        WR_BUG_ON(copy == NULL);
        memcpy(copy, r.bytes, r.length);
        r.bytes = copy;
        WR_BUG_ON(!wr_record_event(&r, &a, any ? &before : NULL, &ev));
        sink += touch(&ev);
        write_again(&r, &ev);
        free(copy);
        any = false; /* what it points to is gone */
        before = ev;
    }
    wr_arena_done(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int fd = -1;
    if (size < 1 || size > 1 << 16)
        return 0;
    if (fd < 0)
        fd = memfd_create("segment", MFD_CLOEXEC);
    uint8_t *bytes = malloc(size);
    WR_BUG_ON(fd < 0 || bytes == NULL);
    memcpy(bytes, data + 1, size - 1);
    if ((data[0] & 1) != 0)
        put_right(bytes, size - 1);
    WR_BUG_ON(ftruncate(fd, 0) != 0 || !wr_disk_write(fd, bytes, size - 1, 0));
    struct wr_disk_segment seg = {.marker = MARKER, .bytes = (int64_t)size - 1};
    uint32_t format = 0;
    enum wr_head_state head = wr_segment_head(fd, &seg, &format);
    WR_BUG_ON(head == WR_HEAD_OK && seg.first_seq >= WR_SEQ_MAX);
    struct wr_scan scan = {.fd = fd, .marker = MARKER, .at = (data[0] & 2) != 0 ? 0 : WR_SEGMENT_HEAD,
                           .end = seg.bytes, .seq = seg.first_seq,
                           .limit = (data[0] & 4) != 0 ? seg.first_seq + 3 : WR_SEQ_MAX};
    walk(&scan);
    wr_scan_done(&scan);
    free(bytes);
    return 0;
}
