/* SPDX-License-Identifier: Apache-2.0
 *
 * The reading side of the disk buffer: what is no longer in memory comes from the segments, a piece of some
 * hundred events at a time, which lies in the arena of its batch as it was read. Damaged places are set
 * aside, counted and passed. On the threads of the outlet, one at a time.
 */
#include <engine/disk_impl.h>

#include <base/mem.h>

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#define PIECE (256u * 1024u)
#define PIECE_EVENTS 1024u

/* The segment that holds what is given next, as it was when we looked. */
struct place {
    struct wr_disk_segment seg;
    uint64_t seq;   /* what is given next */
    uint64_t limit; /* the segment has records before it */
};

/* One piece while it is read. */
struct piece {
    struct wr_disk *d;
    const struct place *place;
    struct wr_scan scan;
    struct wr_batch *b;
    int64_t now, wall;
    size_t disk_bytes;
    uint64_t n_lost; /* records that are not there */
};

/* ---- Where to read ---- */

/* Of [from, to), which no segment has, those that were lost: what was dropped has been counted. Under the
 * mutex. */
static uint64_t count_missing(const struct wr_disk *d, uint64_t from, uint64_t to)
{
    uint64_t dropped_from = d->dropped_from > from ? d->dropped_from : from;
    uint64_t dropped_to = d->dropped_to < to ? d->dropped_to : to;
    return to - from - (dropped_to > dropped_from ? dropped_to - dropped_from : 0);
}

static void tell_lost(struct wr_disk *d, uint64_t n)
{
    if (n == 0)
        return;
    d->opt.discarded(d->opt.discarded_arg, "buffer_damaged", n);
    WR_LOG(d->opt.log, WEIR_LOG_ERROR,
           "the disk buffer lacks events: they are damaged, or a segment was cut or deleted",
           weir_kv_u64("events", n), weir_kv_text("path", d->opt.path));
}

/* False: nothing can be read now. */
static bool find_place(struct wr_disk *d, struct place *ret)
{
    uint64_t lost = 0;
    pthread_mutex_lock(&d->mutex);
    struct wr_disk_segment *seg = d->first;
    while (seg != NULL && seg->next != NULL && seg->next->first_seq <= d->read_seq)
        seg = seg->next;
    if (seg != NULL && d->read_seq < seg->first_seq) {
        lost = count_missing(d, d->read_seq, seg->first_seq);
        d->read_seq = seg->first_seq;
    }
    bool any = seg != NULL && d->read_seq < d->synced_seq;
    if (any)
        *ret = (struct place){*seg, d->read_seq,
                              seg->next != NULL ? seg->next->first_seq : d->synced_seq};
    else
        d->hungry = WR_WANTS_EVENTS;
    d->reading = any;
    pthread_mutex_unlock(&d->mutex);
    tell_lost(d, lost);
    return any;
}

static void close_read(struct wr_disk *d)
{
    if (d->read_fd >= 0)
        close(d->read_fd);
    d->read_fd = -1;
}

void wr_disk_let_go(struct wr_disk *d, uint64_t number)
{
    pthread_mutex_lock(&d->mutex);
    if (d->reading)
        d->read_fd_gone = true;
    else if (d->read_fd_number == number)
        close_read(d);
    pthread_mutex_unlock(&d->mutex);
}

bool wr_disk_reads_deleted(struct wr_disk *d)
{
    pthread_mutex_lock(&d->mutex);
    bool gone = d->read_fd_gone;
    pthread_mutex_unlock(&d->mutex);
    return gone;
}

static void end_reading(struct wr_disk *d)
{
    pthread_mutex_lock(&d->mutex);
    if (d->read_fd_gone)
        close_read(d);
    d->reading = d->read_fd_gone = false;
    pthread_mutex_unlock(&d->mutex);
}

/* Opens the segment and says where in it to begin. */
static bool open_place(struct wr_disk *d, const struct place *place, struct wr_scan *scan)
{
    if (d->read_fd_number != place->seg.number)
        close_read(d);
    if (d->read_fd < 0)
        d->read_fd = wr_segment_open(d->dir, &place->seg);
    if (d->read_fd < 0)
        return false;
    d->read_fd_number = place->seg.number;
    bool known = d->read_number == place->seg.number && d->read_at_seq <= place->seq;
    *scan = (struct wr_scan){.fd = d->read_fd, .marker = place->seg.marker, .end = place->seg.bytes,
                             .limit = place->limit};
    scan->at = known ? d->read_at : WR_SEGMENT_HEAD;
    scan->seq = known ? d->read_at_seq : place->seg.first_seq;
    return true;
}

/* ---- One piece ---- */

static bool fill(struct piece *p, size_t need)
{
    int64_t left = p->scan.end - p->scan.at;
    size_t want = left < (int64_t)PIECE ? (size_t)left : PIECE;
    want = want < need ? need : want;
    uint8_t *window = wr_arena_alloc(&p->b->own->arena, want);
    if (window == NULL) {
        errno = ENOMEM;
        return false;
    }
    ssize_t n = wr_disk_read(p->scan.fd, window, want, p->scan.at, &p->scan.unreadable);
    if (n < 0)
        return false;
    p->scan.window = window;
    p->scan.window_at = p->scan.at;
    p->scan.window_len = (size_t)n;
    if ((size_t)n < need)
        p->scan.end = p->scan.at + n; /* somebody cut it */
    return true;
}

/* False when memory is used up. */
static bool add_event(struct piece *p, const struct wr_record *r)
{
    struct wr_batch *b = p->b;
    uint32_t n = b->pub.n_events;
    struct weir_event ev;
    if (!wr_batch_reserve(b, n + 1) ||
        !wr_record_event(r, &b->own->arena, n != 0 ? &wr_batch_events(b)[n - 1] : NULL, &ev))
        return false;
    ev.stream = p->d->stream;
    ev.next = (int64_t)r->seq + 1;
    /* A payload that is no JSON leaves none: the outlet says so of it. */
    if ((p->d->opt.needs & WEIR_NEEDS_VALUE) != 0 &&
        (ev.flags & (WEIR_EVENT_RAW | WEIR_EVENT_TOMB)) == 0)
        ev.value = wr_value_parse(&b->own->arena, ev.payload, NULL);
    if (n == 0 && p->wall > r->entered_ns)
        b->entered_ns = p->now - (p->wall - r->entered_ns);
    wr_batch_events(b)[n] = ev;
    b->pub.n_events = n + 1;
    p->disk_bytes += r->length;
    return true;
}

/* The next record, or the segment's end, is at `seq`. */
static void count_lost(struct piece *p, uint64_t seq)
{
    uint64_t expected = p->b->pub.n_events != 0
                            ? (uint64_t)wr_batch_events(p->b)[p->b->pub.n_events - 1].next
                            : p->place->seq;
    if (seq <= expected)
        return;
    pthread_mutex_lock(&p->d->mutex);
    p->n_lost += count_missing(p->d, expected, seq);
    pthread_mutex_unlock(&p->d->mutex);
}

static void pass_damage(struct piece *p, const struct wr_damage *damage)
{
    struct wr_disk_segment seg = p->place->seg;
    wr_disk_set_aside(p->d->dir, &seg, damage, wr_disk_tell_find, p->d);
    if (p->scan.unreadable)
        wr_segment_keep(p->d->dir, &seg);
    bool keep = seg.keep;
    pthread_mutex_lock(&p->d->mutex);
    for (struct wr_disk_segment *s = p->d->first; keep && s != NULL; s = s->next)
        if (s->number == seg.number)
            s->keep = true;
    pthread_mutex_unlock(&p->d->mutex);
}

/* Events until the piece is full, or the segment at its end. False with errno: not now. */
static bool read_piece(struct piece *p)
{
    struct wr_record r;
    struct wr_damage damage;
    size_t need;
    while (p->b->pub.n_events < PIECE_EVENTS) {
        switch (wr_scan_look(&p->scan, &r, &need)) {
        case WR_SCAN_RECORD:
            if (r.seq < p->place->seq)
                continue;
            count_lost(p, r.seq);
            if (!add_event(p, &r)) {
                p->scan.at -= r.length; /* again, when there is memory */
                p->scan.seq = r.seq;
                errno = ENOMEM;
                return p->b->pub.n_events != 0;
            }
            break;
        case WR_SCAN_MORE:
            if (p->b->pub.n_events != 0)
                return true;
            if (!fill(p, need))
                return false;
            break;
        case WR_SCAN_DAMAGE:
            if (p->b->pub.n_events != 0)
                return true; /* these first */
            if (!wr_scan_resync(&p->scan, &damage))
                return false;
            pass_damage(p, &damage);
            break;
        default:
            count_lost(p, p->place->limit);
            return true;
        }
    }
    return true;
}

/* ---- Entries ---- */

/* What was read counts, unless it was dropped meanwhile. */
static bool commit_piece(struct piece *p, struct wr_disk_entry *e)
{
    struct wr_disk *d = p->d;
    uint32_t n = p->b->pub.n_events;
    bool at_end = p->scan.at >= p->scan.end || p->scan.seq >= p->scan.limit;
    pthread_mutex_lock(&d->mutex);
    bool ours = d->read_seq == p->place->seq;
    if (ours) {
        uint64_t given = n != 0 ? (uint64_t)wr_batch_events(p->b)[n - 1].next : 0;
        d->read_seq = at_end ? p->place->limit : p->scan.seq;
        d->given_seq = n != 0 ? given : d->given_seq;
        d->given_memory += n != 0 ? e->memory : 0;
        d->n_given += n != 0;
    }
    pthread_mutex_unlock(&d->mutex);
    if (ours) {
        d->read_number = p->place->seg.number;
        d->read_at = p->scan.at;
        d->read_at_seq = p->scan.seq;
        tell_lost(d, p->n_lost);
    }
    return ours;
}

static void cannot_read(struct wr_disk *d, const struct place *place, int error)
{
    uint64_t lost = 0;
    pthread_mutex_lock(&d->mutex);
    bool dropped = error == ENOENT && d->read_seq != place->seq; /* since we looked, and counted */
    if (error != ENOENT) {
        d->hungry = WR_WANTS_TIME;
    } else if (!dropped) {
        lost = count_missing(d, place->seq, place->limit);
        d->read_seq = place->limit; /* somebody deleted it */
    }
    pthread_mutex_unlock(&d->mutex);
    if (dropped)
        return;
    wr_disk_tell_error(d, "read a segment", error);
    tell_lost(d, lost);
    wr_wake_signal(&d->wake);
}

static struct wr_disk_entry *entry_new(struct wr_disk *d)
{
    struct wr_disk_entry *e = wr_alloc(sizeof(*e));
    struct wr_body *body = e != NULL ? wr_body_new() : NULL;
    if (body != NULL)
        e->base.batch = wr_batch_new(body, 8);
    wr_body_unref(body);
    if (e != NULL && e->base.batch == NULL) {
        wr_free(e);
        return NULL;
    }
    if (e != NULL)
        e->base.buffer = &d->base;
    return e;
}

/* An entry of events; NULL: none of them here, which *ret_again tells from an error. */
static struct wr_disk_entry *read_place(struct wr_disk *d, const struct place *place, bool *ret_again)
{
    struct wr_disk_entry *e = entry_new(d);
    struct piece p = {.d = d, .place = place, .now = wr_now(d->opt.clock),
                      .wall = d->opt.clock->wall(d->opt.clock)};
    if (e == NULL)
        errno = ENOMEM;
    bool ok = e != NULL && open_place(d, place, &p.scan);
    if (ok) {
        p.b = e->base.batch;
        p.b->entered_ns = p.now;
        ok = read_piece(&p);
    }
    *ret_again = ok || errno == ENOENT;
    if (!ok)
        cannot_read(d, place, errno);
    bool any = ok && p.b->pub.n_events != 0;
    if (any) {
        e->memory = wr_batch_memory(p.b);
        e->disk_bytes = p.disk_bytes;
        atomic_init(&e->base.n_left, p.b->pub.n_events);
        wr_batch_freeze(p.b);
    }
    bool ours = ok && commit_piece(&p, e);
    end_reading(d);
    if (ours && any)
        return e;
    if (e != NULL)
        wr_disk_entry_free(e);
    return NULL;
}

struct wr_disk_entry *wr_disk_read_next(struct wr_disk *d)
{
    struct place place;
    bool again = true;
    while (again && find_place(d, &place)) {
        struct wr_disk_entry *e = read_place(d, &place, &again);
        if (e != NULL)
            return e;
    }
    return NULL;
}
