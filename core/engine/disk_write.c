/* SPDX-License-Identifier: Apache-2.0
 *
 * The writing side of the disk buffer, on its thread. What was pushed is written in groups, one fdatasync
 * makes the groups since the last one durable, and only then their sources hear that they are delivered.
 *
 * A write that fails is cut off and tried again later. After an fdatasync that failed nobody knows what the
 * disk has: the segment ends where it was durable last, and all behind that is written again into a new one.
 */
#include <engine/disk_impl.h>

#include <base/mem.h>
#include <engine/broken.h>
#include <engine/runtime.h>

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define SEGMENT_MAX ((size_t)64 << 20)
#define SEGMENTS 16u /* that the whole has, about: what is freed at once */
#define RETRY_FIRST_NS (100 * WEIR_NS_PER_MS)
#define RETRY_MAX_NS (5 * WEIR_NS_PER_S)

static size_t segment_size(const struct wr_disk *d)
{
    size_t share = d->opt.size / SEGMENTS;
    return share < SEGMENT_MAX ? share : SEGMENT_MAX;
}

static int64_t max64(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* ---- What was pushed ---- */

static void compact(struct wr_disk *d, struct wr_disk_entry *e, uint32_t kept, size_t disk_bytes)
{
    uint32_t gone = e->base.batch->pub.n_events - kept;
    e->base.batch->pub.n_events = kept;
    atomic_store(&e->base.n_left, kept);
    pthread_mutex_lock(&d->mutex);
    d->waiting_events -= gone;
    d->waiting_disk -= e->disk_bytes - disk_bytes;
    e->disk_bytes = disk_bytes;
    if (kept == 0)
        d->waiting_memory -= e->memory;
    wr_disk_count(d);
    pthread_mutex_unlock(&d->mutex);
}

static bool needs_sifting(const struct wr_disk *d, const struct wr_disk_entry *e)
{
    int64_t now = wr_now(d->opt.clock);
    const struct weir_event *events = wr_batch_events(e->base.batch);
    for (uint32_t i = 0; i < e->base.batch->pub.n_events; i++)
        if (wr_ack_fate(events[i].host_ack, now) == WR_FATE_GONE)
            return true;
    return e->too_large;
}

/* Leaves out what nobody counts any more, since its new owner reads it again, and what is too large for a
 * record: its source hears that it has failed. */
static void sift(struct wr_disk *d, struct wr_disk_entry *e)
{
    struct wr_ended ended = {0};
    struct wr_why why = {WEIR_FAILED, d->opt.component, "too_large",
                         weir_cstr("the event is too large for the disk buffer"), NULL};
    struct weir_event *events = wr_batch_events(e->base.batch);
    uint32_t n = e->base.batch->pub.n_events, kept = 0, abandoned = 0;
    size_t disk_bytes = 0;
    if (!needs_sifting(d, e))
        return;
    for (uint32_t i = 0; i < n; i++) {
        size_t size = wr_record_size(&events[i], e->keep_source);
        if (size == 0) {
            WR_LOG(d->opt.log, WEIR_LOG_ERROR, "an event is too large for the disk buffer",
                   weir_kv_u64("bytes", events[i].payload.len));
            wr_ack_settle(events[i].host_ack, WEIR_FAILED, &why, &ended);
        } else if (wr_ack_fate(events[i].host_ack, wr_now(d->opt.clock)) == WR_FATE_GONE) {
            abandoned++;
            wr_ack_settle(events[i].host_ack, WEIR_ABANDONED, NULL, &ended);
        } else {
            disk_bytes += size;
            events[kept++] = events[i];
        }
    }
    wr_ended_flush(&ended);
    if (abandoned != 0)
        d->opt.discarded(d->opt.discarded_arg, "abandoned", abandoned);
    if (kept != n)
        compact(d, e, kept, disk_bytes);
}

static void take_pending(struct wr_disk *d)
{
    struct wr_disk_list pending;
    pthread_mutex_lock(&d->mutex);
    pending = d->pending;
    d->pending = (struct wr_disk_list){0};
    d->napping = false;
    pthread_mutex_unlock(&d->mutex);
    for (struct wr_disk_entry *e; (e = wr_disk_list_take(&pending)) != NULL;) {
        sift(d, e);
        if (e->base.batch->pub.n_events != 0)
            wr_disk_list_add(&d->todo, e);
        else
            wr_disk_entry_free(e);
    }
}

/* ---- Failures ---- */

static void end_list(struct wr_disk *d, struct wr_disk_list *list, enum weir_outcome outcome,
                     const char *code, const char *text)
{
    for (struct wr_disk_entry *e; (e = wr_disk_list_take(list)) != NULL;) {
        uint32_t n = e->base.batch->pub.n_events;
        pthread_mutex_lock(&d->mutex);
        d->waiting_events -= n;
        d->waiting_disk -= e->disk_bytes;
        d->waiting_memory -= e->memory;
        wr_disk_count(d);
        pthread_mutex_unlock(&d->mutex);
        if (outcome == WEIR_DROPPED)
            d->opt.discarded(d->opt.discarded_arg, code, n);
        wr_disk_end(d, e->base.batch, outcome, code, text);
        wr_free(e);
    }
}

static void give_up_todo(struct wr_disk *d)
{
    take_pending(d);
    end_list(d, &d->todo, WEIR_FAILED, "shutdown", "the disk buffer could not store this event in time");
}

static bool close_segment(struct wr_disk *d);

/* The disk is full, and the user wants the oldest to go. There is room at once, unless take has their file
 * open and is reading. */
static bool free_oldest(struct wr_disk *d)
{
    if (d->opt.when_full != WR_FULL_DROP_OLDEST || d->written.first != NULL)
        return false;
    bool dropped = wr_disk_drop_oldest(d) ||
                   (wr_disk_last_may_go(d) && close_segment(d) && wr_disk_drop_oldest(d));
    return dropped && !wr_disk_reads_deleted(d);
}

/* The disk is full, and the user wants what comes to go, until it is tried again. */
static void drop_newest(struct wr_disk *d)
{
    if (d->disk_full && d->opt.when_full == WR_FULL_DROP_NEWEST)
        end_list(d, &d->todo, WEIR_DROPPED, "buffer_full", "the disk of the buffer is full");
}

/* The disk did not do what it was told: later again. */
static void failed(struct wr_disk *d, int64_t now, const char *what, int error)
{
    int64_t wait = RETRY_FIRST_NS;
    for (uint32_t i = 0; i < d->failures && wait < RETRY_MAX_NS; i++)
        wait *= 2;
    wait = wait < RETRY_MAX_NS ? wait : RETRY_MAX_NS;
    wait -= (int64_t)(d->opt.clock->random(d->opt.clock) % (uint64_t)(wait / 2));
    d->failures++;
    d->retry_at = now + wait;
    wr_disk_tell_error(d, what, error);
    d->disk_full = error == ENOSPC || error == EDQUOT;
    if (d->disk_full && free_oldest(d))
        d->retry_at = now;
}

/* What is written and not durable goes back to what is to be written. */
static void take_back(struct wr_disk *d)
{
    size_t bytes = 0;
    for (struct wr_disk_entry *e = d->written.first; e != NULL;
         e = (struct wr_disk_entry *)(void *)e->base.next)
        bytes += e->disk_bytes;
    wr_disk_list_prepend(&d->todo, &d->written);
    pthread_mutex_lock(&d->mutex);
    d->disk_bytes -= bytes;
    d->waiting_disk += bytes;
    d->next_seq = d->synced_seq;
    wr_disk_count(d);
    pthread_mutex_unlock(&d->mutex);
}

static void drop_last_segment(struct wr_disk *d)
{
    struct wr_disk_segment *seg = d->last;
    pthread_mutex_lock(&d->mutex);
    struct wr_disk_segment **at = &d->first;
    for (d->last = NULL; *at != seg; at = &(*at)->next)
        d->last = *at;
    *at = NULL;
    d->disk_bytes -= (size_t)seg->bytes;
    d->n_segments--;
    wr_disk_count(d);
    pthread_mutex_unlock(&d->mutex);
    (void)wr_segment_remove(d->dir, seg); /* what stays is empty, and the next one ends it */
    wr_free(seg);
}

/* Nobody knows what of the segment's end is on the disk: it ends where it was durable last. */
static void abandon_segment(struct wr_disk *d)
{
    if (ftruncate(d->fd, d->last->bytes) != 0)
        wr_disk_tell_error(d, "cut a segment", errno); /* the next one's beginning is its end all the same */
    close(d->fd);
    d->fd = -1;
    take_back(d);
    if (d->last->bytes <= WR_SEGMENT_HEAD)
        drop_last_segment(d);
}

/* ---- Durable ---- */

/* What comes out of here has a place in the buffer's order, and no longer one in its source's. */
static void adopt(struct wr_disk *d, struct weir_event *ev, uint64_t seq)
{
    if (ev->request != NULL)
        ev->flags |= WR_EVENT_ITEM;
    ev->request = NULL;
    ev->stream = d->stream;
    ev->next = (int64_t)seq + 1;
}

static void settle_pushed(struct wr_disk *d)
{
    struct wr_ended ended = {0};
    for (struct wr_disk_entry *e = d->written.first; e != NULL;
         e = (struct wr_disk_entry *)(void *)e->base.next)
        for (uint32_t i = 0; i < e->base.batch->pub.n_events; i++) {
            struct weir_event *ev = &wr_batch_events(e->base.batch)[i];
            bool dead = (ev->flags & WR_EVENT_DEAD) != 0;
            wr_ack_settle(ev->host_ack, dead ? WEIR_DEAD_LETTERED : WEIR_DELIVERED, NULL, &ended);
            adopt(d, ev, e->first_seq + i);
        }
    wr_ended_flush(&ended);
}

/* It can be given from memory: it follows what is ready, and there is room. Under the mutex. */
static bool stays_ready(const struct wr_disk *d, const struct wr_disk_entry *e)
{
    uint64_t end = d->ready.first != NULL
                       ? d->ready.last->first_seq + d->ready.last->base.batch->pub.n_events
                       : d->read_seq;
    return end == e->first_seq &&
           (d->given_memory == 0 || d->given_memory + e->memory <= wr_disk_memory(d));
}

static void hand_over(struct wr_disk *d)
{
    struct wr_disk_list left = {0};
    pthread_mutex_lock(&d->mutex);
    d->last->bytes = d->at;
    d->synced_seq = d->next_seq;
    for (struct wr_disk_entry *e; (e = wr_disk_list_take(&d->written)) != NULL;) {
        d->waiting_memory -= e->memory;
        d->waiting_events -= e->base.batch->pub.n_events;
        if (stays_ready(d, e)) {
            d->given_memory += e->memory;
            wr_disk_list_add(&d->ready, e);
        } else {
            wr_disk_list_add(&left, e);
        }
    }
    wr_disk_count(d);
    wr_disk_wake_waiters(d);
    pthread_mutex_unlock(&d->mutex);
    wr_disk_feed(d, true);
    for (struct wr_disk_entry *e; (e = wr_disk_list_take(&left)) != NULL;)
        wr_disk_entry_free(e);
}

/* What is in the file becomes durable, or is taken back. */
static bool sync_written(struct wr_disk *d)
{
    if (d->written.first == NULL)
        return true;
    int64_t began = wr_now(d->opt.clock);
    bool ok = wr_break_sync(d->fd) == 0 && (!d->new_names || fsync(d->dir) == 0);
    int error = errno;
    d->synced_at = wr_now(d->opt.clock);
    wr_metric_observe(d->metrics.sync_seconds, (double)(d->synced_at - began) / 1e9);
    if (!ok) {
        abandon_segment(d);
        failed(d, d->synced_at, "sync", error);
        return false;
    }
    if (d->failures != 0 && d->todo.first == NULL) {
        WR_LOG(d->opt.log, WEIR_LOG_INFO, "the disk buffer stores events again",
               weir_kv_text("path", d->opt.path));
        d->failures = 0;
    }
    d->new_names = false;
    settle_pushed(d);
    hand_over(d);
    return true;
}

/* ---- Segments ---- */

static bool close_segment(struct wr_disk *d)
{
    if (d->fd < 0)
        return true;
    if (!sync_written(d))
        return false;
    close(d->fd);
    d->fd = -1;
    wr_disk_advance(d);
    return true;
}

static bool has_ended(struct wr_disk *d)
{
    pthread_mutex_lock(&d->mutex);
    bool ended = d->cursor == d->synced_seq;
    pthread_mutex_unlock(&d->mutex);
    return ended;
}

static bool is_over(struct wr_disk *d, size_t more)
{
    pthread_mutex_lock(&d->mutex);
    bool over = d->disk_bytes + more > d->opt.size;
    pthread_mutex_unlock(&d->mutex);
    return over;
}

/* Room under the limit, as far as it can be made: a segment that has ended goes with the last of its
 * records, and the oldest records where the user wants that. */
static bool make_room(struct wr_disk *d, size_t bytes)
{
    while (is_over(d, bytes)) {
        bool ended = d->written.first == NULL && has_ended(d);
        if (!ended && d->opt.when_full != WR_FULL_DROP_OLDEST)
            return true; /* push has looked at the limit */
        if (!ended && wr_disk_drop_oldest(d))
            continue;
        if (ended ? d->fd < 0 : !wr_disk_last_may_go(d))
            return true; /* what is left is under way */
        if (!close_segment(d))
            return false;
    }
    return true;
}

static bool new_segment(struct wr_disk *d, int64_t now)
{
    struct wr_clock *clock = d->opt.clock;
    struct wr_disk_segment *seg = wr_xalloc(sizeof(*seg));
    uint32_t marker = (uint32_t)clock->random(clock);
    *seg = (struct wr_disk_segment){.number = d->next_number++, .marker = marker != 0 ? marker : 1,
                               .first_seq = d->next_seq, .bytes = WR_SEGMENT_HEAD};
    d->fd = wr_segment_create(d->dir, seg, clock->wall(clock));
    if (d->fd < 0) {
        failed(d, now, "make a segment", errno);
        wr_free(seg);
        return false;
    }
    d->at = WR_SEGMENT_HEAD;
    d->new_names = true;
    pthread_mutex_lock(&d->mutex);
    if (d->last == NULL)
        d->first = seg;
    else
        d->last->next = seg;
    d->last = seg;
    d->disk_bytes += WR_SEGMENT_HEAD;
    d->n_segments++;
    pthread_mutex_unlock(&d->mutex);
    return true;
}

/* A segment that has room for it, or is empty. */
static bool open_segment(struct wr_disk *d, size_t bytes, int64_t now)
{
    if (!make_room(d, bytes))
        return false;
    bool full = d->fd >= 0 && d->at > WR_SEGMENT_HEAD && (size_t)d->at + bytes > segment_size(d);
    if (full && !close_segment(d))
        return false;
    return d->fd >= 0 || new_segment(d, now);
}

/* ---- Writing ---- */

static bool group_reserve(struct wr_disk *d, size_t bytes)
{
    if (bytes <= d->group_cap && (d->group_cap <= 2 * WR_DISK_GROUP || bytes > WR_DISK_GROUP))
        return true;
    size_t cap = bytes > WR_DISK_GROUP ? bytes : WR_DISK_GROUP;
    wr_free(d->group);
    d->group = wr_alloc_raw(cap);
    d->group_cap = d->group != NULL ? cap : 0;
    return d->group != NULL;
}

/* How many entries the next write takes, and their bytes. */
static uint32_t group_of(const struct wr_disk *d, size_t *ret_bytes)
{
    size_t bytes = 0, limit = segment_size(d);
    uint32_t n = 0;
    for (const struct wr_disk_entry *e = d->todo.first; e != NULL;
         e = (const struct wr_disk_entry *)(const void *)e->base.next, n++) {
        bool fits = bytes + e->disk_bytes <= WR_DISK_GROUP &&
                    (size_t)d->at + bytes + e->disk_bytes <= limit;
        if (n != 0 && !fits)
            break;
        bytes += e->disk_bytes;
    }
    *ret_bytes = bytes;
    return n;
}

static void encode(struct wr_disk *d, uint32_t n)
{
    struct wr_clock *clock = d->opt.clock;
    int64_t to_wall = clock->wall(clock) - wr_now(clock);
    uint64_t seq = d->next_seq;
    uint8_t *out = d->group;
    struct wr_disk_entry *e = d->todo.first;
    for (; n != 0; n--, e = (struct wr_disk_entry *)(void *)e->base.next) {
        const struct wr_batch *b = e->base.batch;
        e->first_seq = seq;
        for (uint32_t i = 0; i < b->pub.n_events; i++) {
            const struct weir_event *ev = &wr_batch_events(b)[i];
            out += wr_record_write(out, ev, e->keep_source, d->last->marker, seq++,
                                   b->entered_ns + to_wall);
        }
        e->number = d->last->number;
        e->end_at = d->at + (out - d->group);
    }
}

static void count_written(struct wr_disk *d, uint32_t n, size_t bytes)
{
    for (; n != 0; n--) {
        struct wr_disk_entry *e = wr_disk_list_take(&d->todo);
        d->next_seq += e->base.batch->pub.n_events;
        wr_disk_list_add(&d->written, e);
    }
    d->at += (int64_t)bytes;
    d->disk_full = false;
    pthread_mutex_lock(&d->mutex);
    d->waiting_disk -= bytes;
    d->disk_bytes += bytes;
    wr_disk_count(d);
    pthread_mutex_unlock(&d->mutex);
}

/* False: not now. */
static bool write_group(struct wr_disk *d, int64_t now)
{
    size_t bytes;
    if (!open_segment(d, d->todo.first->disk_bytes, now))
        return false;
    uint32_t n = group_of(d, &bytes);
    if (!group_reserve(d, bytes)) {
        failed(d, now, "write", ENOMEM);
        return false;
    }
    encode(d, n);
    if (wr_disk_write(d->fd, d->group, bytes, d->at)) {
        count_written(d, n, bytes);
        return true;
    }
    int error = errno;
    if (ftruncate(d->fd, d->at) != 0)
        abandon_segment(d); /* half a record stays behind its end */
    failed(d, now, "write", error);
    return false;
}

static int64_t next_turn(struct wr_disk *d, int64_t now)
{
    int64_t next = INT64_MAX;
    if (d->todo.first != NULL)
        next = max64(now, d->retry_at);
    if (d->written.first != NULL) {
        int64_t sync_at = max64(d->synced_at + d->opt.sync_ns, now);
        next = next < sync_at ? next : sync_at;
    }
    pthread_mutex_lock(&d->mutex);
    d->napping = next != INT64_MAX && d->waiting_disk < WR_DISK_GROUP;
    wr_disk_wake_waiters(d); /* what was dropped or left out has made room */
    pthread_mutex_unlock(&d->mutex);
    return next;
}

int64_t wr_disk_write_step(struct wr_disk *d, int64_t now)
{
    take_pending(d);
    while (d->todo.first != NULL && now >= d->retry_at && write_group(d, now))
        continue;
    now = wr_now(d->opt.clock);
    bool giving_up = atomic_load(&d->giving_up) != 0;
    if (d->written.first != NULL && (giving_up || now >= d->synced_at + d->opt.sync_ns))
        (void)sync_written(d);
    drop_newest(d);
    if (giving_up && d->failures != 0)
        give_up_todo(d);
    return next_turn(d, now);
}

void wr_disk_write_last(struct wr_disk *d, int64_t now)
{
    take_pending(d);
    d->retry_at = now;
    while (d->todo.first != NULL && write_group(d, now))
        continue;
    (void)close_segment(d);
    give_up_todo(d);
}
