/* SPDX-License-Identifier: Apache-2.0
 *
 * disk_rig.h: a disk buffer without a pipeline and without its thread. The test is the lane that pushes, the
 * outlet that takes and the thread that writes, and owns the clock. Every pushed event has a number, by
 * which all of it can be made again and compared, and an ack whose end is written down.
 */
#ifndef DISK_RIG_H
#define DISK_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <base/error.h>
#include <base/mem.h>
#include <base/str.h>
#include <engine/ack.h>
#include <engine/disk_impl.h>
#include <engine/disk_recover.h>
#include <engine/runtime.h>

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define RIG_EVENTS_MAX 200000

static struct {
    struct wr_clock clock;
    int64_t now;
    uint64_t chance;
    char path[256];
    struct wr_metrics *metrics;
    struct wr_acks *acks; /* of what is pushed */
    struct wr_disk_options opt;
    struct wr_buffer *buf;
    uint8_t *outcome; /* by number: 0 = not heard of, else outcome + 1 */
    uint64_t next;    /* number of the next event */
    uint64_t discarded[3]; /* buffer_full, buffer_damaged, others */
    uint32_t n_filled, n_room;
    struct wr_waiter waiter;
} disk;

/* ---- Clock and chance ---- */

static inline int64_t disk_clock_now(struct wr_clock *c)
{
    (void)c;
    return disk.now;
}

static inline int64_t disk_clock_wall(struct wr_clock *c)
{
    (void)c;
    return INT64_C(1700000000000000000) + disk.now;
}

/* splitmix64 */
static inline uint64_t disk_random(void)
{
    uint64_t z = disk.chance += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static inline uint64_t disk_clock_random(struct wr_clock *c)
{
    (void)c;
    return disk_random();
}

static inline uint32_t below(uint32_t n)
{
    return (uint32_t)(disk_random() % n);
}

static inline void disk_clock_wait(struct wr_clock *c, pthread_cond_t *cond, pthread_mutex_t *held,
                                   int64_t until)
{
    (void)c;
    (void)cond;
    (void)held;
    if (until != INT64_MAX && until > disk.now)
        disk.now = until;
}

/* ---- Folders ---- */

#define DISK_PATH 1024

/* folder/name */
static inline const char *disk_join(char out[DISK_PATH], const char *folder, const char *name)
{
    snprintf(out, DISK_PATH, "%.700s/%.300s", folder, name);
    return out;
}

static inline void disk_remove(const char *path)
{
    char name[DISK_PATH];
    DIR *d = opendir(path);
    for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        (void)disk_join(name, path, e->d_name);
        if (unlink(name) != 0)
            disk_remove(name);
    }
    if (d != NULL)
        closedir(d);
    rmdir(path);
}

/* How many files begin with that word. */
static inline uint32_t disk_files(const char *word, char ret_name[300])
{
    uint32_t n = 0;
    DIR *d = opendir(disk.path);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d)) != NULL;)
        if (strncmp(e->d_name, word, strlen(word)) == 0 && e->d_name[0] != '.') {
            n++;
            if (ret_name != NULL)
                snprintf(ret_name, 300, "%s", e->d_name);
        }
    closedir(d);
    return n;
}

/* ---- Events ---- */

static inline void ack_woken(void *arg)
{
    (void)arg;
}

static inline void ack_ended(void *arg, void *watcher, uint64_t number, enum weir_outcome outcome)
{
    (void)arg;
    (void)watcher;
    assert_true(number < disk.next);
    assert_int_equal(disk.outcome[number], 0);
    disk.outcome[number] = (uint8_t)(outcome + 1);
}

static inline uint64_t mixed(uint64_t number, uint64_t salt)
{
    uint64_t z = (number + 1) * UINT64_C(0x9e3779b97f4a7c15) + salt;
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    return z ^ (z >> 31);
}

/* "number:filler", the same for the same number. */
static inline struct weir_str text_of(uint64_t number, uint64_t salt, size_t max, struct weir_arena *a)
{
    size_t len = 24 + mixed(number, salt) % max;
    char *text = wr_arena_alloc(a, len + 1);
    int n = snprintf(text, len + 1, "%llu:", (unsigned long long)number);
    for (size_t i = (size_t)n; i < len; i++)
        text[i] = (char)mixed(number + i, salt);
    return weir_str_n(text, len);
}

/* All of event `number`, but its ack. */
static inline struct weir_event event_of(uint64_t number, struct weir_arena *a)
{
    uint64_t shape = mixed(number, 7);
    struct weir_event ev = {.time_ns = (int64_t)number + 5, .position = (int64_t)(number * 3),
                            .payload = text_of(number, 1, shape % 50 == 0 ? 20000 : 900, a)};
    ev.id = wr_arena_printf(a, "id-%llu", (unsigned long long)number);
    ev.flags = shape % 3 == 0 ? WEIR_EVENT_RAW : 0;
    if (shape % 2 == 0)
        ev.key = shape % 4 == 0 ? weir_str_n("", 0) : text_of(number, 2, 30, a);
    if (shape % 5 != 0) {
        struct weir_origin *origin = wr_arena_alloc(a, sizeof(*origin));
        *origin = (struct weir_origin){wr_arena_printf(a, "topic-%u", (unsigned)(shape % 3)),
                                       (int32_t)(shape % 7) - 1};
        ev.origin = origin;
    }
    if (shape % 6 == 0) {
        struct weir_header *h = wr_arena_alloc(a, 2 * sizeof(*h));
        h[0] = (struct weir_header){weir_cstr("name"), text_of(number, 3, 40, a)};
        h[1] = (struct weir_header){weir_cstr("none"), {NULL, 0}};
        ev.headers = h;
        ev.n_headers = 2;
    }
    if (shape % 7 == 0) {
        struct wr_trace *trace = wr_arena_alloc(a, sizeof(*trace));
        *trace = (struct wr_trace){.source = text_of(number, 4, 300, a)};
        if (shape % 21 == 0)
            trace->source = weir_str_n(NULL, 0); /* a tombstone, of which a payload was made */
        ev.host_trace = trace;
    }
    return ev;
}

static inline void assert_same_str(struct weir_str a, struct weir_str b)
{
    assert_int_equal(a.len, b.len);
    assert_true((a.ptr == NULL) == (b.ptr == NULL));
    if (a.len != 0)
        assert_memory_equal(a.ptr, b.ptr, a.len);
}

/* The event is one that was pushed, to the last byte; gives its number. */
static inline uint64_t check_event(const struct weir_event *ev)
{
    struct weir_arena a = {0};
    assert_true(ev->payload.len > 1);
    uint64_t number = strtoull(ev->payload.ptr, NULL, 10);
    assert_true(number < disk.next);
    struct weir_event want = event_of(number, &a);
    assert_same_str(ev->payload, want.payload);
    assert_same_str(ev->key, want.key);
    assert_same_str(ev->id, want.id);
    assert_same_str(wr_event_source_payload(ev), wr_event_source_payload(&want));
    assert_int_equal(ev->time_ns, want.time_ns);
    assert_int_equal(ev->position, want.position);
    assert_int_equal(ev->flags, want.flags);
    assert_int_equal(ev->n_headers, want.n_headers);
    for (uint32_t i = 0; i < ev->n_headers; i++) {
        assert_same_str(ev->headers[i].name, want.headers[i].name);
        assert_same_str(ev->headers[i].value, want.headers[i].value);
    }
    assert_true((ev->origin == NULL) == (want.origin == NULL));
    if (ev->origin != NULL) {
        assert_same_str(ev->origin->name, want.origin->name);
        assert_int_equal(ev->origin->partition, want.origin->partition);
    }
    wr_arena_done(&a);
    return number;
}

/* ---- The buffer ---- */

static inline void disk_filled(void *arg)
{
    (void)arg;
    disk.n_filled++;
}

static inline void disk_has_room(void *arg)
{
    (void)arg;
    disk.n_room++;
}

static inline void disk_discarded(void *arg, const char *reason, uint64_t n)
{
    (void)arg;
    disk.discarded[strcmp(reason, "buffer_full") == 0 ? 0 : strcmp(reason, "buffer_damaged") == 0 ? 1 : 2] += n;
}

/* Everything but the buffer itself. size: of the buffer. */
static inline void disk_rig_init(uint64_t seed, size_t size)
{
    static const struct wr_acks_ops ops = {.wake = ack_woken, .settled = ack_ended};
    static const struct weir_source source = {.size = sizeof(source)};
    memset(&disk, 0, sizeof(disk));
    disk.chance = seed;
    disk.now = WEIR_NS_PER_S;
    disk.clock = (struct wr_clock){disk_clock_now, disk_clock_wall, disk_clock_random, disk_clock_wait};
    const char *base = getenv("TMPDIR");
    snprintf(disk.path, sizeof(disk.path), "%s/weir-disk-XXXXXX", base != NULL ? base : "/tmp");
    assert_non_null(mkdtemp(disk.path));
    disk.metrics = wr_metrics_new(1000);
    disk.acks = wr_acks_new(&source, &ops, NULL);
    disk.outcome = wr_xalloc(RIG_EVENTS_MAX);
    disk.waiter.wake = disk_has_room;
    disk.opt = (struct wr_disk_options){.path = disk.path, .size = size, .memory = 32 << 20,
                                        .sync_ns = 10 * WEIR_NS_PER_MS,
                                        .keep_source = true, .clock = &disk.clock,
                                        .metrics = disk.metrics, .component = weir_cstr("out"),
                                        .discarded = disk_discarded};
    disk.opt.log = wr_log_scope_new(NULL, NULL, 0);
}

static inline void disk_open(void)
{
    struct weir_error err = {0};
    disk.waiter.queued = false;
    disk.buf = wr_buffer_disk(&disk.opt, disk_filled, NULL, &err);
    if (disk.buf == NULL)
        fail_msg("%s", err.text);
}

static inline void disk_close(void)
{
    disk.buf->ops->free(disk.buf);
    disk.buf = NULL;
}

static inline void disk_rig_done(void)
{
    wr_acks_collect(disk.acks);
    wr_acks_free(disk.acks);
    wr_metrics_free(disk.metrics);
    wr_log_scope_free(disk.opt.log);
    wr_free(disk.outcome);
    disk_remove(disk.path);
}

/* n events in one batch. False, and nothing was pushed: there is no room. */
static inline bool disk_push_events(uint32_t n)
{
    struct wr_body *body = wr_body_new();
    struct wr_batch *b = wr_batch_new(body, n);
    for (uint32_t i = 0; i < n; i++) {
        struct weir_event ev = event_of(disk.next + i, &body->arena);
        ev.host_ack = wr_acks_child(disk.acks, NULL, 0, &disk, disk.next + i);
        assert_non_null(wr_batch_append(b, &ev));
    }
    b->entered_ns = disk.now;
    assert_true(disk.next + n < RIG_EVENTS_MAX);
    disk.next += n;
    wr_body_unref(body);
    wr_batch_freeze(b);
    if (wr_buffer_push(disk.buf, b, disk.now, &disk.waiter))
        return true;
    struct wr_ended ended = {0};
    for (uint32_t i = 0; i < n; i++)
        wr_ack_settle(wr_batch_events(b)[i].host_ack, WEIR_FAILED, NULL, &ended);
    wr_ended_flush(&ended);
    wr_batch_free(b);
    return false;
}

static inline void disk_turn(void)
{
    (void)wr_disk_step(disk.buf, disk.now);
    wr_acks_collect(disk.acks);
}

/* Ends event i of an entry as its outlet would. */
static inline void disk_settle_event(struct wr_entry *entry, uint32_t i, enum weir_outcome outcome)
{
    struct wr_ended ended = {0};
    struct weir_event ev = wr_batch_events(entry->batch)[i];
    wr_ack_settle(ev.host_ack, outcome, NULL, &ended);
    wr_ended_flush(&ended);
    wr_buffer_settle(entry, 1, wr_event_cost(&ev));
}

static inline void disk_settle_all(struct wr_entry *entry, enum weir_outcome outcome)
{
    uint32_t n = entry->batch->pub.n_events;
    for (uint32_t i = 0; i < n; i++)
        disk_settle_event(entry, i, outcome);
}

/* Takes all there is and delivers it; gives how many, which begin with `first`. */
static inline uint64_t disk_deliver_all(uint64_t first)
{
    uint64_t n = 0;
    struct wr_entry *entry;
    for (uint32_t idle = 0; idle < 3; idle++) {
        while ((entry = wr_buffer_take(disk.buf)) != NULL) {
            for (uint32_t i = 0; i < entry->batch->pub.n_events; i++)
                assert_int_equal(check_event(&wr_batch_events(entry->batch)[i]), first + n++);
            disk_settle_all(entry, WEIR_DELIVERED);
            idle = 0;
        }
        disk.now += 20 * WEIR_NS_PER_MS;
        disk_turn();
    }
    return n;
}

/* Pushes until there is no room; gives how many were taken. */
static inline uint64_t disk_fill(void)
{
    uint64_t before = disk.next;
    while (disk_push_events(10)) {
        disk.now += 20 * WEIR_NS_PER_MS;
        disk_turn();
    }
    wr_acks_collect(disk.acks);
    disk.next -= 10; /* numbers are given anew */
    memset(disk.outcome + disk.next, 0, 10);
    return disk.next - before;
}

#endif
