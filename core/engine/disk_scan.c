/* SPDX-License-Identifier: Apache-2.0
 *
 * Walking over the records of a segment, and over what is damaged in it: behind a place that is no record
 * the search goes on for the segment's marker, until a whole record stands behind one.
 */
#include <engine/disk_segment.h>

#include <base/mem.h>

#include <errno.h>
#include <string.h>

#define WINDOW (256u * 1024u)

enum wr_scan_state wr_scan_look(struct wr_scan *s, struct wr_record *ret, size_t *ret_need)
{
    if (s->at >= s->end || s->seq >= s->limit)
        return WR_SCAN_END;
    struct wr_record r;
    int64_t skip = s->at - s->window_at;
    bool inside = skip >= 0 && skip <= (int64_t)s->window_len && s->window != NULL;
    size_t there = inside ? s->window_len - (size_t)skip : 0;
    enum wr_record_state state = inside ? wr_record_read(s->window + skip, there, s->marker, &r, ret_need)
                                        : WR_RECORD_SHORT;
    if (!inside)
        *ret_need = WR_RECORD_HEAD;
    if (state == WR_RECORD_SHORT)
        return (int64_t)*ret_need > s->end - s->at ? WR_SCAN_DAMAGE : WR_SCAN_MORE;
    if (state == WR_RECORD_BAD || r.seq < s->seq || r.seq >= s->limit)
        return WR_SCAN_DAMAGE;
    s->at += r.length;
    s->seq = r.seq + 1;
    *ret = r;
    return WR_SCAN_RECORD;
}

/* ---- Behind damage ---- */

/* Whether a whole record that may follow stands at this place. False with errno: nobody knows. */
static bool look_for_record(struct wr_scan *s, int64_t at, bool *ret)
{
    uint8_t head[WR_RECORD_HEAD];
    struct wr_record r;
    size_t need;
    ssize_t n = wr_disk_read(s->fd, head, sizeof(head), at, &s->unreadable);
    *ret = false;
    if (n != (ssize_t)sizeof(head))
        return n >= 0;
    if (wr_record_read(head, sizeof(head), s->marker, &r, &need) == WR_RECORD_BAD ||
        (int64_t)need > s->end - at)
        return true;
    uint8_t *all = wr_alloc_raw(need);
    if (all == NULL) {
        errno = ENOMEM;
        return false;
    }
    n = wr_disk_read(s->fd, all, need, at, &s->unreadable);
    *ret = n == (ssize_t)need && wr_record_read(all, need, s->marker, &r, &need) == WR_RECORD_OK &&
           r.seq >= s->seq && r.seq < s->limit;
    int why = errno;
    wr_free(all);
    errno = why;
    return n >= 0;
}

/* The first whole record whose marker is in the block, which lies at `at` in the file; else *io_found stays.
 * False with errno. */
static bool search(struct wr_scan *s, const uint8_t *block, size_t len, int64_t at, int64_t *io_found)
{
    uint8_t marker[4];
    bool is_record = false;
    wr_put32(marker, s->marker);
    const uint8_t *p = block;
    for (; (p = memmem(p, (size_t)(block + len - p), marker, sizeof(marker))) != NULL; p++) {
        if (!look_for_record(s, at + (p - block), &is_record))
            return false;
        if (is_record) {
            *io_found = at + (p - block);
            return true;
        }
    }
    return true;
}

/* The first whole record from `at` on, else the end. */
static bool find_record(struct wr_scan *s, int64_t at, int64_t *ret)
{
    uint8_t *block = wr_alloc_raw(WINDOW);
    if (block == NULL) {
        errno = ENOMEM;
        return false;
    }
    *ret = s->end;
    bool ok = true;
    while (at < s->end && *ret == s->end) {
        size_t want = s->end - at < (int64_t)WINDOW ? (size_t)(s->end - at) : WINDOW;
        ssize_t n = wr_disk_read(s->fd, block, want, at, &s->unreadable);
        ok = n >= 0 && search(s, block, (size_t)n, at, ret);
        if (!ok || n < 4)
            break;
        at += n - 3; /* a marker may lie across the border */
    }
    int why = errno;
    wr_free(block);
    errno = why;
    return ok;
}

/* Nothing whole follows: is it the beginning of a record that goes on behind the end, or room that was
 * never written to? Not where the disk could not give all of it: whole records may stand there. */
static bool looks_torn(struct wr_scan *s, int64_t from)
{
    uint8_t block[4096];
    struct wr_record r;
    size_t need;
    int64_t left = s->end - from;
    ssize_t n = wr_disk_read(s->fd, block, left < (int64_t)sizeof(block) ? (size_t)left : sizeof(block),
                             from, &s->unreadable);
    if (n < 0)
        return false;
    enum wr_record_state state = wr_record_read(block, (size_t)n, s->marker, &r, &need);
    if (s->unreadable)
        return false;
    if (state == WR_RECORD_SHORT && (int64_t)need > left)
        return true;
    for (int64_t at = from; at < s->end; at += n) {
        n = wr_disk_read(s->fd, block, sizeof(block), at, &s->unreadable);
        for (ssize_t i = 0; i < n && at + i < s->end; i++)
            if (block[i] != 0)
                return false;
        if (n <= 0)
            return n == 0 && !s->unreadable;
    }
    return !s->unreadable;
}

bool wr_scan_resync(struct wr_scan *s, struct wr_damage *ret)
{
    int64_t from = s->at, to;
    if (!find_record(s, from + 1, &to)) {
        s->failed = true;
        return false;
    }
    *ret = (struct wr_damage){from, to, to == s->end && looks_torn(s, from)};
    s->at = to;
    return true;
}

/* ---- With a window of its own ---- */

static bool fill(struct wr_scan *s, size_t need)
{
    size_t cap = need > WINDOW ? need : WINDOW;
    if (s->window_cap < cap) {
        wr_free(s->window);
        s->window = wr_alloc_raw(cap);
        s->window_cap = s->window != NULL ? cap : 0;
        s->window_len = 0;
        if (s->window == NULL) {
            errno = ENOMEM;
            return false;
        }
    }
    ssize_t n = wr_disk_read(s->fd, s->window, s->window_cap, s->at, &s->unreadable);
    s->window_at = s->at;
    s->window_len = n > 0 ? (size_t)n : 0;
    if (n >= 0 && (size_t)n < need)
        s->end = s->at + n; /* the file is shorter than it was */
    return n >= 0;
}

enum wr_scan_state wr_scan_next(struct wr_scan *s, struct wr_record *ret, struct wr_damage *ret_damage)
{
    for (;;) {
        size_t need;
        enum wr_scan_state state = wr_scan_look(s, ret, &need);
        if (state == WR_SCAN_DAMAGE)
            return wr_scan_resync(s, ret_damage) ? WR_SCAN_DAMAGE : WR_SCAN_FAILED;
        if (state != WR_SCAN_MORE)
            return state;
        if (!fill(s, need)) {
            s->failed = true;
            return WR_SCAN_FAILED;
        }
    }
}

void wr_scan_done(struct wr_scan *s)
{
    wr_free(s->window);
    s->window = NULL;
    s->window_len = s->window_cap = 0;
}
