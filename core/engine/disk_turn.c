/* SPDX-License-Identifier: Apache-2.0
 *
 * The turns of a disk buffer's thread: what has ended is heard of, the cursor moves and is kept, segments
 * behind it go, or the oldest where the user wants that. What a turn writes is in disk_write.c.
 */
#include <engine/disk_impl.h>

#include <base/mem.h>

#include <errno.h>
#include <unistd.h>

#define CURSOR_NS (100 * WEIR_NS_PER_MS) /* how often it is kept */
#define LOOK_AGAIN_NS (1 * WEIR_NS_PER_S)

/* What a start finds missing behind the cursor that it reads was lost, so that comes first. */
static void keep_before(struct wr_disk *d, uint64_t seq)
{
    if (d->safe_cursor >= seq || !wr_disk_keep_cursor(d))
        return;
    if (fdatasync(d->cursor_fd) == 0)
        d->safe_cursor = d->kept_cursor;
    else
        wr_disk_tell_error(d, "keep the cursor", errno);
}

static void remove_segment(struct wr_disk *d, struct wr_disk_segment *take_seg, uint64_t end)
{
    keep_before(d, end);
    wr_disk_let_go(d, take_seg->number);
    if (!wr_segment_remove(d->dir, take_seg))
        wr_disk_tell_error(d, "delete a segment", errno);
    wr_free(take_seg);
}

/* Out of the list; under the mutex. */
static void detach(struct wr_disk *d, struct wr_disk_segment *seg)
{
    struct wr_disk_segment **at = &d->first;
    d->last = NULL;
    while (*at != seg)
        at = &(d->last = *at)->next;
    *at = seg->next;
    while (*at != NULL)
        at = &(d->last = *at)->next;
    d->disk_bytes -= (size_t)seg->bytes;
    d->n_segments--;
}

void wr_disk_advance(struct wr_disk *d)
{
    for (;;) {
        pthread_mutex_lock(&d->mutex);
        struct wr_disk_segment *seg = d->first;
        uint64_t end = seg != NULL && seg->next != NULL ? seg->next->first_seq : d->synced_seq;
        bool ended = seg != NULL && end <= d->cursor && (seg->next != NULL || d->fd < 0);
        if (ended)
            detach(d, seg);
        wr_disk_count(d);
        wr_disk_wake_waiters(d);
        pthread_mutex_unlock(&d->mutex);
        if (!ended)
            return;
        remove_segment(d, seg, end);
    }
}

/* Nobody has them, and nobody will. Under the mutex; gives how many. */
static uint64_t skip_to(struct wr_disk *d, uint64_t seq, struct wr_disk_list *ret_gone)
{
    uint64_t n = seq > d->read_seq ? seq - d->read_seq : 0;
    if (n != 0) {
        if (d->dropped_to <= d->cursor || d->read_seq < d->dropped_from)
            d->dropped_from = d->read_seq; /* what was dropped before is behind the cursor, or further on */
        d->dropped_to = seq > d->dropped_to ? seq : d->dropped_to;
        d->read_seq = seq;
    }
    while (d->ready.first != NULL && d->ready.first->first_seq < d->read_seq) {
        struct wr_disk_entry *e = wr_disk_list_take(&d->ready);
        d->given_memory -= e->memory;
        wr_disk_list_add(ret_gone, e);
    }
    return n;
}

/* Nothing of it was given out and has not ended: that must be found again after a crash. Under the mutex. */
static bool may_go(const struct wr_disk *d, uint64_t first_seq, uint64_t end)
{
    uint64_t from = d->cursor > first_seq ? d->cursor : first_seq;
    return from >= (d->given_seq < end ? d->given_seq : end);
}

bool wr_disk_drop_oldest(struct wr_disk *d)
{
    struct wr_disk_list gone = {0};
    struct wr_disk_segment *seg;
    uint64_t n = 0, end = 0;
    bool found = false;
    pthread_mutex_lock(&d->mutex);
    for (seg = d->first; seg != NULL && !(seg == d->last && d->fd >= 0); seg = seg->next) {
        end = seg->next != NULL ? seg->next->first_seq : d->synced_seq;
        if ((found = may_go(d, seg->first_seq, end)))
            break;
    }
    if (found) { /* and only then: what is dropped makes room */
        n = skip_to(d, end, &gone);
        detach(d, seg);
        wr_disk_count(d);
    }
    pthread_mutex_unlock(&d->mutex);
    for (struct wr_disk_entry *e; (e = wr_disk_list_take(&gone)) != NULL;)
        wr_disk_entry_free(e);
    if (n != 0)
        d->opt.discarded(d->opt.discarded_arg, "buffer_full", n);
    if (found)
        remove_segment(d, seg, end);
    return found;
}

bool wr_disk_last_may_go(struct wr_disk *d)
{
    if (d->fd < 0 || d->at <= WR_SEGMENT_HEAD)
        return false;
    pthread_mutex_lock(&d->mutex);
    bool may = may_go(d, d->last->first_seq, d->next_seq);
    pthread_mutex_unlock(&d->mutex);
    return may;
}

void wr_disk_collect(struct wr_disk *d)
{
    pthread_mutex_lock(&d->acks_mutex);
    wr_acks_collect(d->acks);
    uint64_t ended = d->ended_seq;
    pthread_mutex_unlock(&d->acks_mutex);
    pthread_mutex_lock(&d->mutex);
    /* Where all that was given has ended, what was skipped behind it is over too. */
    uint64_t cursor = ended == d->given_seq ? d->read_seq : ended;
    d->cursor = cursor > d->cursor ? cursor : d->cursor;
    wr_disk_count(d);
    bool emptied = (d->base.drains || d->last_came) && d->waiting_events == 0 && d->cursor == d->synced_seq;
    bool look = emptied && d->hungry != WR_FED;
    pthread_mutex_unlock(&d->mutex);
    wr_disk_feed(d, look);
}

bool wr_disk_keep_cursor(struct wr_disk *d)
{
    if (d->cursor_fd < 0)
        d->cursor_fd = wr_cursor_open(d->dir);
    struct wr_cursor cursor = {d->cursor, d->dropped_from, d->dropped_to};
    if (d->cursor_fd >= 0 && wr_cursor_store(d->cursor_fd, &cursor, d->kept_turn++)) {
        d->kept_cursor = d->cursor;
        return true;
    }
    wr_disk_tell_error(d, "keep the cursor", errno);
    return false;
}

static int64_t keep_cursor(struct wr_disk *d, int64_t now)
{
    if (d->cursor == d->kept_cursor)
        return INT64_MAX;
    if (now - d->kept_at < CURSOR_NS)
        return d->kept_at + CURSOR_NS;
    d->kept_at = now;
    return wr_disk_keep_cursor(d) ? INT64_MAX : now + CURSOR_NS;
}

/* Reading that failed is tried again after a while. */
static int64_t look_again(struct wr_disk *d, int64_t now)
{
    pthread_mutex_lock(&d->mutex);
    bool wants = d->hungry == WR_WANTS_TIME;
    pthread_mutex_unlock(&d->mutex);
    if (!wants) {
        d->look_at = 0;
        return INT64_MAX;
    }
    if (d->look_at == 0)
        d->look_at = now + LOOK_AGAIN_NS;
    if (now < d->look_at)
        return d->look_at;
    d->look_at = 0;
    wr_disk_feed(d, true);
    return INT64_MAX;
}

static int64_t min64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* ---- Changes ---- */

void wr_disk_change(struct wr_buffer *buf, const struct wr_disk_limits *limits)
{
    struct wr_disk *d = wr_disk_of(buf);
    pthread_mutex_lock(&d->mutex);
    d->next = *limits;
    d->changed = true;
    d->opt.keep_source = limits->keep_source;
    buf->drains = limits->drains;
    buf->cap_bytes = limits->size;
    pthread_mutex_unlock(&d->mutex);
    wr_wake_signal(&d->wake);
}

void wr_disk_last(struct wr_buffer *buf)
{
    struct wr_disk *d = wr_disk_of(buf);
    pthread_mutex_lock(&d->mutex);
    d->last_came = true;
    pthread_mutex_unlock(&d->mutex);
    wr_wake_signal(&d->wake);
}

static void take_change(struct wr_disk *d)
{
    pthread_mutex_lock(&d->mutex);
    if (d->changed) {
        d->opt.size = d->next.size;
        d->opt.sync_ns = d->next.sync_ns;
        d->opt.when_full = d->next.when_full;
    }
    d->changed = false;
    pthread_mutex_unlock(&d->mutex);
}

int64_t wr_disk_step(struct wr_buffer *buf, int64_t wait_until)
{
    struct wr_disk *d = wr_disk_of(buf);
    if (atomic_load(&d->stopping))
        return -1;
    int64_t now = wr_now(d->opt.clock);
    wr_wake_clear(&d->wake);
    take_change(d);
    wr_disk_collect(d);
    wr_disk_advance(d);
    int64_t next = wr_disk_write_step(d, now);
    next = min64(next, keep_cursor(d, now));
    next = min64(next, look_again(d, now));
    wr_wake_wait(&d->wake, d->opt.clock, min64(next, wait_until));
    return next;
}
