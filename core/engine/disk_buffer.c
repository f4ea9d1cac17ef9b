/* SPDX-License-Identifier: Apache-2.0
 *
 * The disk buffer as a buffer: opening, pushing, taking, settling. Its thread's turns are in disk_turn.c, what
 * that writes in disk_write.c, what take reads back in disk_read.c.
 */
#include <engine/disk_impl.h>

#include <base/check.h>
#include <base/error.h>
#include <base/mem.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define EVENT_MAX ((size_t)256 << 20)    /* with its source payload and headers it must fit a record */

/* ---- Lists ---- */

void wr_disk_list_add(struct wr_disk_list *list, struct wr_disk_entry *e)
{
    e->base.next = NULL;
    if (list->first == NULL)
        list->first = e;
    else
        list->last->base.next = &e->base;
    list->last = e;
}

struct wr_disk_entry *wr_disk_list_take(struct wr_disk_list *list)
{
    struct wr_disk_entry *e = list->first;
    if (e != NULL)
        list->first = (struct wr_disk_entry *)(void *)e->base.next;
    return e;
}

void wr_disk_list_prepend(struct wr_disk_list *list, struct wr_disk_list *take_front)
{
    if (take_front->first == NULL)
        return;
    if (list->first != NULL)
        take_front->last->base.next = &list->first->base;
    else
        list->last = take_front->last;
    list->first = take_front->first;
    *take_front = (struct wr_disk_list){0};
}

void wr_disk_entry_free(struct wr_disk_entry *take_e)
{
    wr_batch_free(take_e->base.batch);
    wr_free(take_e);
}

void wr_disk_end(struct wr_disk *d, struct wr_batch *take_b, enum weir_outcome outcome, const char *code,
                 const char *text)
{
    struct wr_ended ended = {0};
    struct wr_why why = {outcome, d->opt.component, code, weir_cstr(text), NULL};
    for (uint32_t i = 0; i < take_b->pub.n_events; i++)
        wr_ack_settle(wr_batch_events(take_b)[i].host_ack, outcome, &why, &ended);
    wr_ended_flush(&ended);
    wr_batch_free(take_b);
}

/* ---- Room ---- */

void wr_disk_count(struct wr_disk *d)
{
    uint64_t events = d->waiting_events + (d->synced_seq - d->cursor);
    atomic_store_explicit(&d->base.bytes, d->disk_bytes + d->waiting_disk, memory_order_relaxed);
    atomic_store_explicit(&d->base.events, events, memory_order_release);
}

enum room { ROOM, NO_ROOM, FULL };

static enum room room_for(const struct wr_disk *d, size_t disk, size_t memory)
{
    if (d->waiting_memory != 0 && d->waiting_memory + memory > wr_disk_memory(d))
        return NO_ROOM; /* the disk is behind, whatever is to be done where it is full */
    bool empty = d->waiting_events == 0 && d->cursor == d->synced_seq;
    if (empty || d->disk_bytes + d->waiting_disk + disk <= d->opt.size)
        return ROOM;
    return d->opt.when_full == WR_FULL_DROP_OLDEST ? ROOM
           : d->opt.when_full == WR_FULL_BLOCK     ? NO_ROOM
                                                   : FULL;
}

static void wait_for_room(struct wr_disk *d, struct wr_waiter *w, size_t disk)
{
    if (d->waiters == NULL || disk < d->wanted_disk)
        d->wanted_disk = disk;
    if (w->queued)
        return;
    w->queued = true;
    w->next = NULL;
    if (d->waiters == NULL)
        d->waiters = w;
    else
        d->last_waiter->next = w;
    d->last_waiter = w;
}

/* A waiter that got its room without being called. */
static void wait_no_more(struct wr_disk *d, struct wr_waiter *w)
{
    if (!w->queued)
        return;
    w->queued = false;
    struct wr_waiter **at = &d->waiters;
    d->last_waiter = NULL;
    while (*at != NULL) {
        if (*at == w)
            *at = w->next;
        else
            at = &(d->last_waiter = *at)->next;
    }
    atomic_store(&d->base.wanted, d->waiters != NULL);
}

void wr_disk_wake_waiters(struct wr_disk *d)
{
    if (d->waiters == NULL || d->waiting_memory > wr_disk_memory(d) / 2 ||
        room_for(d, d->wanted_disk, 0) == NO_ROOM)
        return;
    struct wr_waiter *waiters = d->waiters;
    d->waiters = d->last_waiter = NULL;
    atomic_store(&d->base.wanted, 0);
    for (struct wr_waiter *w = waiters, *next; w != NULL; w = next) {
        next = w->next;
        w->queued = false;
        w->wake(w->arg); /* under the lock: w is its owner's again afterwards */
    }
}

/* ---- Pushing ---- */

static struct wr_disk_entry *entry_new(struct wr_disk *d, struct wr_batch *b, int64_t now)
{
    struct wr_disk_entry *e = wr_alloc(sizeof(*e));
    if (e == NULL)
        return NULL;
    e->base.buffer = &d->base;
    e->base.batch = b;
    e->base.pushed_ns = now;
    e->memory = wr_batch_memory(b);
    e->keep_source = d->opt.keep_source;
    for (uint32_t i = 0; i < b->pub.n_events; i++) {
        size_t size = wr_record_size(&wr_batch_events(b)[i], e->keep_source);
        e->disk_bytes += size;
        e->too_large |= size == 0;
    }
    return e;
}

static void add_pending(struct wr_disk *d, struct wr_disk_entry *e)
{
    uint32_t n = e->base.batch->pub.n_events;
    atomic_init(&e->base.n_left, n);
    wr_disk_list_add(&d->pending, e);
    d->waiting_memory += e->memory;
    d->waiting_disk += e->disk_bytes;
    d->waiting_events += n;
    wr_disk_count(d);
}

static void disk_forget(struct wr_buffer *buf, struct wr_waiter *w)
{
    struct wr_disk *d = wr_disk_of(buf);
    pthread_mutex_lock(&d->mutex);
    wait_no_more(d, w);
    pthread_mutex_unlock(&d->mutex);
}

static bool disk_push(struct wr_buffer *buf, struct wr_batch *take_b, int64_t now, struct wr_waiter *w)
{
    struct wr_disk *d = wr_disk_of(buf);
    struct wr_disk_entry *e = entry_new(d, take_b, now);
    bool tell = false, wake = false;
    pthread_mutex_lock(&d->mutex);
    enum room room = e != NULL ? room_for(d, e->disk_bytes, e->memory) : NO_ROOM;
    if (room == NO_ROOM) {
        wait_for_room(d, w, e != NULL ? e->disk_bytes : 0);
        tell = atomic_exchange(&buf->wanted, 1) == 0;
    } else {
        wait_no_more(d, w);
        if (room == ROOM)
            add_pending(d, e);
        wake = room == ROOM && (!d->napping || d->waiting_disk >= WR_DISK_GROUP);
    }
    pthread_mutex_unlock(&d->mutex);
    if (wake)
        wr_wake_signal(&d->wake);
    if (tell)
        buf->filled(buf->arg);
    if (room == ROOM)
        return true;
    wr_free(e);
    if (room == NO_ROOM)
        return false;
    d->opt.discarded(d->opt.discarded_arg, "buffer_full", take_b->pub.n_events);
    wr_disk_end(d, take_b, WEIR_DROPPED, "buffer_full", "the disk buffer is full");
    return true;
}

/* ---- Giving out ---- */

void wr_disk_feed(struct wr_disk *d, bool events)
{
    pthread_mutex_lock(&d->mutex);
    bool tell = !atomic_load(&d->stopping) &&
                (d->hungry == WR_WANTS_MEMORY || (events && d->hungry != WR_FED));
    if (tell)
        d->hungry = WR_FED;
    pthread_mutex_unlock(&d->mutex);
    if (tell)
        d->base.filled(d->base.arg);
}

/* The next of what is still in memory. The place behind it on the disk goes along. */
static struct wr_disk_entry *take_ready(struct wr_disk *d)
{
    struct wr_disk_entry *e = wr_disk_list_take(&d->ready);
    if (e == NULL)
        return NULL;
    d->read_seq = d->given_seq = e->first_seq + e->base.batch->pub.n_events;
    d->read_number = e->number;
    d->read_at = e->end_at;
    d->read_at_seq = d->read_seq;
    d->n_given++;
    return e;
}

/* Gives its events acks of the buffer's own. */
static bool enter(struct wr_disk *d, struct wr_disk_entry *e)
{
    pthread_mutex_lock(&d->acks_mutex);
    bool ok = wr_acks_enter(d->acks, e->base.batch, wr_now(d->opt.clock));
    pthread_mutex_unlock(&d->acks_mutex);
    if (ok)
        return true;
    WR_LOG(d->opt.log, WEIR_LOG_ERROR, "no memory to know what becomes of events: the disk buffer gives out "
                                       "no more until a restart", weir_kv_text("path", d->opt.path));
    return false;
}

/* Under the mutex: behind it the thread would make room, and tell nobody. */
static bool window_full(struct wr_disk *d)
{
    pthread_mutex_lock(&d->acks_mutex);
    bool full = wr_acks_full(d->acks);
    pthread_mutex_unlock(&d->acks_mutex);
    return full;
}

static struct wr_entry *disk_take(struct wr_buffer *buf)
{
    struct wr_disk *d = wr_disk_of(buf);
    pthread_mutex_lock(&d->mutex);
    struct wr_disk_entry *e = NULL;
    bool read = false;
    if (d->broken) {
        d->hungry = WR_FED;
    } else if (window_full(d)) {
        d->hungry = WR_WANTS_MEMORY;
    } else if ((e = take_ready(d)) == NULL) {
        read = d->read_seq < d->synced_seq;
        bool room = d->n_given == 0 || d->given_memory < wr_disk_memory(d);
        d->hungry = !read ? WR_WANTS_EVENTS : room ? WR_FED : WR_WANTS_MEMORY;
        read = read && room;
    }
    pthread_mutex_unlock(&d->mutex);
    if (read)
        e = wr_disk_read_next(d);
    if (e == NULL)
        return NULL;
    if (enter(d, e))
        return &e->base;
    pthread_mutex_lock(&d->mutex);
    d->broken = true;
    pthread_mutex_unlock(&d->mutex);
    return &e->base; /* its events go their way; the cursor stays in front of them */
}

static void disk_settle(struct wr_buffer *buf, struct wr_entry *entry, uint32_t n, size_t bytes)
{
    struct wr_disk *d = wr_disk_of(buf);
    struct wr_disk_entry *e = (struct wr_disk_entry *)(void *)entry;
    (void)bytes;
    if (atomic_fetch_sub_explicit(&entry->n_left, n, memory_order_acq_rel) != n)
        return;
    size_t memory = e->memory;
    wr_disk_entry_free(e);
    pthread_mutex_lock(&d->mutex);
    d->given_memory -= memory;
    d->n_given--;
    bool tell = d->hungry == WR_WANTS_MEMORY;
    pthread_mutex_unlock(&d->mutex);
    if (tell)
        wr_disk_feed(d, false);
}

/* ---- Its thread ---- */

static void *run(void *arg)
{
    while (wr_disk_step(arg, INT64_MAX) >= 0)
        continue;
    return NULL;
}

static void disk_start(struct wr_buffer *buf)
{
    struct wr_disk *d = wr_disk_of(buf);
    WR_BUG_ON(pthread_create(&d->thread, NULL, run, buf) != 0);
    (void)pthread_setname_np(d->thread, "buffer");
    d->has_thread = true;
}

static void disk_stop(struct wr_buffer *buf)
{
    struct wr_disk *d = wr_disk_of(buf);
    atomic_store(&d->stopping, 1);
    wr_wake_signal(&d->wake);
    if (d->has_thread)
        pthread_join(d->thread, NULL);
    d->has_thread = false;
}

static void disk_give_up(struct wr_buffer *buf)
{
    struct wr_disk *d = wr_disk_of(buf);
    atomic_store(&d->giving_up, 1);
    wr_wake_signal(&d->wake);
}

/* ---- Opening and closing ---- */

static void forget(void *self, struct weir_stream *stream, void *user, int64_t next, bool final)
{
    struct wr_disk *d = self;
    (void)stream;
    (void)user;
    (void)final;
    d->ended_seq = (uint64_t)next;
}

static void wake_thread(void *arg)
{
    wr_wake_signal(&((struct wr_disk *)arg)->wake);
}

static bool open_folder(struct wr_disk *d, struct weir_error *err)
{
    if (!wr_disk_folder_make(d->opt.path, err))
        return false;
    d->dir = open(d->opt.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (d->dir < 0) {
        (void)wr_error(err, WEIR_E_FATAL, "no_folder", "cannot open the folder '%s' of the buffer: %s",
                       d->opt.path, strerror(errno));
        return false;
    }
    d->lock = wr_disk_lock(d->dir, d->opt.path, d->opt.clock, err);
    return d->lock >= 0;
}

static bool open_files(struct wr_disk *d, struct weir_error *err)
{
    struct wr_disk_state state;
    if (!wr_disk_recover(d->dir, d->opt.path, &state, wr_disk_tell_find, d, err))
        return false;
    d->first = state.first;
    for (struct wr_disk_segment *seg = d->first; seg != NULL; seg = seg->next) {
        d->disk_bytes += (size_t)seg->bytes;
        d->n_segments++;
        d->last = seg;
    }
    d->read_seq = d->given_seq = d->cursor = d->ended_seq = d->kept_cursor = state.cursor;
    d->dropped_from = state.dropped_from;
    d->dropped_to = state.dropped_to;
    d->synced_seq = d->next_seq = state.next_seq;
    d->next_number = state.next_number;
    d->read_number = d->first != NULL ? d->first->number : 0;
    d->read_at = state.cursor_at;
    d->read_at_seq = d->read_seq;
    (void)wr_disk_keep_cursor(d); /* on a full disk later, when it moves */
    return true;
}

static void open_acks(struct wr_disk *d)
{
    static const struct weir_source reader = {.size = sizeof(reader), .commit = forget};
    static const struct wr_acks_ops ops = {.wake = wake_thread};
    struct weir_origin origin = {weir_cstr(d->opt.path), -1};
    d->acks = wr_acks_new(&reader, &ops, d);
    wr_acks_source(d->acks, d);
    d->stream = wr_stream_open(d->acks, &origin, d);
}

static void close_fd(int fd)
{
    if (fd >= 0)
        close(fd);
}

static void give_back(struct wr_disk *d)
{
    wr_disk_metrics_close(d);
    wr_segments_free(d->first);
    wr_acks_free(d->acks);
    close_fd(d->fd);
    close_fd(d->read_fd);
    close_fd(d->cursor_fd);
    close_fd(d->lock);
    close_fd(d->dir);
    wr_wake_done(&d->wake);
    pthread_mutex_destroy(&d->mutex);
    pthread_mutex_destroy(&d->acks_mutex);
    wr_free(d->group);
    wr_free(d);
}

/* What was given and not settled as delivered, and what nobody took, stays on the disk. */
static void disk_free(struct wr_buffer *take_buf)
{
    struct wr_disk *d = wr_disk_of(take_buf);
    disk_stop(take_buf);
    wr_disk_write_last(d, wr_now(d->opt.clock));
    for (struct wr_disk_entry *e; (e = wr_disk_list_take(&d->ready)) != NULL;)
        wr_disk_entry_free(e);
    wr_disk_collect(d);
    wr_disk_advance(d);
    if (wr_disk_keep_cursor(d) && fdatasync(d->cursor_fd) != 0)
        wr_disk_tell_error(d, "keep the cursor", errno);
    wr_disk_tell_kept(d);
    give_back(d);
}

struct wr_buffer *wr_buffer_disk(const struct wr_disk_options *opt, void (*filled)(void *arg), void *arg,
                                 struct weir_error *err)
{
    static const struct wr_buffer_ops ops = {disk_push, disk_forget, disk_take, disk_settle, disk_free,
                                             disk_start, disk_give_up, disk_stop};
    struct wr_disk *d = wr_xalloc(sizeof(*d));
    d->base = (struct wr_buffer){.ops = &ops, .durable = true, .drains = opt->drains, .filled = filled,
                                 .arg = arg, .cap_bytes = opt->size, .max_event = EVENT_MAX};
    d->opt = *opt;
    d->dir = d->lock = d->fd = d->read_fd = d->cursor_fd = -1;
    pthread_mutex_init(&d->mutex, NULL);
    pthread_mutex_init(&d->acks_mutex, NULL);
    wr_wake_init(&d->wake, NULL, d);
    wr_disk_metrics_open(d);
    open_acks(d);
    if (!open_folder(d, err) || !open_files(d, err)) {
        give_back(d);
        return NULL;
    }
    wr_disk_count(d);
    return &d->base;
}
