/* SPDX-License-Identifier: Apache-2.0
 *
 * The source `kafka`: a consumer a lane, position style.
 *
 * Owns the instance and the poll. A poll takes messages while there is room; while there
 * is none it leaves the library's queue alone for a second, then serves it once a second, keeping
 * the few messages which that hands out, and pauses the partitions when those are too many: the
 * consumer so stays in its group however long a sink is away. Never blocks but in the wait for its
 * deadline.
 */
#include "source.h"

#include <errno.h>
#include <poll.h>
#include <time.h>
#include <unistd.h>

#define BATCH_BYTES (1 << 20)
#define SERVE_INTERVAL WEIR_NS_PER_S
/* While partitions drain: how often to ask whether they were lost meanwhile. */
#define DRAIN_LOOK (100 * WEIR_NS_PER_MS)

/* ---- Poll ---------------------------------------------------------------------------------- */

static rd_kafka_message_t *held_pop(struct source *s)
{
    rd_kafka_message_t *m = s->held[s->held_first];
    s->held_first = (s->held_first + 1) % HELD_CAP;
    s->n_held--;
    return m;
}

static void held_push_front(struct source *s, rd_kafka_message_t *m)
{
    s->held_first = (s->held_first + HELD_CAP - 1) % HELD_CAP;
    s->held[s->held_first] = m;
    s->n_held++;
}

static void held_push(struct source *s, rd_kafka_message_t *m)
{
    s->held[(s->held_first + s->n_held++) % HELD_CAP] = m;
}

/* A message that is an error or a notice. Takes m. */
static void notice(struct source *s, rd_kafka_message_t *take_m)
{
    const char *topic = take_m->rkt != NULL ? rd_kafka_topic_name(take_m->rkt) : NULL;
    if (take_m->err == RD_KAFKA_RESP_ERR__PARTITION_EOF) {
        struct part *p = topic != NULL ? part_find(s, topic, take_m->partition) : NULL;
        if (p != NULL)
            gone_end(s, p, take_m->offset);
        if (p != NULL && p->denied)
            rights_read(s, p);
    } else if (take_m->err == RD_KAFKA_RESP_ERR__FATAL) {
        char text[WEIR_ERROR_TEXT / 2];
        rd_kafka_resp_err_t code = rd_kafka_fatal_error(s->rk, text, sizeof(text));
        s->fatal = true;
        s->client.host->error(&s->fatal_error, WEIR_E_FATAL, "kafka_fatal",
                              "the consumer can do nothing more: %s: %s%s", rd_kafka_err2str(code),
                              text,
                              code == RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID
                                  ? "; another process uses the same instance_id"
                                  : "");
        client_fault(&s->client, RD_KAFKA_RESP_ERR__FATAL, s->fatal_error.text, topic);
    } else {
        client_fault(&s->client, take_m->err, rd_kafka_message_errstr(take_m), topic);
        if (take_m->err == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED ||
            take_m->err == RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED)
            rights_denied(s, take_m->err, topic, take_m->partition);
    }
    rd_kafka_message_destroy(take_m);
}

/* The next message that an event can be made of, NULL where there is none now. */
static rd_kafka_message_t *next_message(struct source *s)
{
    for (;;) {
        if (s->n_held == 0 && s->paused)
            parts_resume(s);
        rd_kafka_message_t *m = s->n_held > 0 ? held_pop(s) : rd_kafka_consumer_poll(s->rk, 0);
        if (m == NULL || m->err == RD_KAFKA_RESP_ERR_NO_ERROR)
            return m;
        notice(s, m);
    }
}

static int64_t time_of(const rd_kafka_message_t *m)
{
    rd_kafka_timestamp_type_t kind;
    return rd_kafka_message_timestamp(m, &kind);
}

/* True where it was emitted already: a pause from another thread can catch the library between
 * handing out a message and noting that it did. */
static bool is_repeated(const struct part *p, const rd_kafka_message_t *m)
{
    return m->offset == p->last_offset && m->len == p->last_len && time_of(m) == p->last_time_ms;
}

/* The origin that a batch's events of one partition share. */
struct origin_cache {
    const struct part *part;
    const struct weir_origin *origin;
};

static const struct weir_origin *origin_of(const struct source *s, struct weir_batch *b,
                                           const struct part *p, struct origin_cache *cache)
{
    if (cache->part == p)
        return cache->origin;
    const struct weir_host *h = s->client.host;
    struct weir_origin *origin = h->arena_alloc(b->arena, sizeof(*origin));
    struct weir_str name = h->arena_copy(b->arena, p->origin.name);
    if (origin == NULL || name.ptr == NULL)
        return NULL;
    *origin = (struct weir_origin){name, p->origin.partition};
    *cache = (struct origin_cache){p, origin};
    return origin;
}

/* True where the end that counts was before the message. */
static bool is_behind_end(struct part *p, const rd_kafka_message_t *m)
{
    if (p->stop == NO_OFFSET || m->offset < p->stop)
        return false;
    p->end = p->stop;
    return true;
}

/* False where it ended for want of memory, or waits for the end of what is under way. */
static bool take_messages(struct source *s, struct weir_batch *b, uint32_t room)
{
    struct origin_cache cache = {NULL, NULL};
    uint32_t most = b->n_events + room;
    size_t bytes = 0;
    while (b->n_events < most && bytes < BATCH_BYTES && s->rebalance.state == REBALANCE_NONE) {
        rd_kafka_message_t *m = next_message(s);
        if (m == NULL)
            return true;
        struct part *p = part_find(s, rd_kafka_topic_name(m->rkt), m->partition);
        if (p == NULL || p->draining || is_repeated(p, m) || is_behind_end(p, m)) {
            rd_kafka_message_destroy(m);
            continue;
        }
        size_t n;
        const struct weir_origin *origin = origin_of(s, b, p, &cache);
        if (origin == NULL || !gone_check(s, p, m->offset, time_of(m)) ||
            !message_emit(s, b, p, origin, m, &n)) {
            held_push_front(s, m);
            return false;
        }
        if (p->denied)
            rights_read(s, p);
        bytes += n;
        s->taken_bytes = bytes;
    }
    return true;
}

/* No room: keeps the consumer in its group. Returns when it wants to be called again. */
static int64_t keep_alive(struct source *s, int64_t now)
{
    if (s->no_room_ns == 0) {
        s->no_room_ns = now;
        s->serve_ns = now + SERVE_INTERVAL;
    }
    bool idle = s->paused || s->rebalance.state != REBALANCE_NONE;
    if (!idle && now < s->serve_ns)
        return s->serve_ns;
    s->serve_ns = now + SERVE_INTERVAL;
    if (!idle && s->n_held >= HELD_MOST) {
        parts_pause(s);
        idle = true;
    }
    /* Paused partitions give no message, so that this ends with the callbacks. */
    while (s->n_held < HELD_CAP) {
        rd_kafka_message_t *m = rd_kafka_consumer_poll(s->rk, 0);
        if (m == NULL)
            break;
        if (m->err != RD_KAFKA_RESP_ERR_NO_ERROR) {
            notice(s, m);
            continue;
        }
        held_push(s, m);
        if (!idle)
            break;
    }
    return s->serve_ns;
}

void held_clear(struct source *s)
{
    while (s->n_held > 0)
        rd_kafka_message_destroy(held_pop(s));
}

static void drain_fd(int fd)
{
    uint64_t n;
    while (read(fd, &n, sizeof(n)) < 0 && errno == EINTR)
        continue;
}

/* Sleeps until wake() or `until`, with `data` also until the library has something. */
static void wait_until(struct source *s, bool data, int64_t until)
{
    const struct weir_host *h = s->client.host;
    int64_t left = until - h->now(h);
    struct pollfd fds[2] = {{s->wake_fd, POLLIN, 0}, {s->data_fd, POLLIN, 0}};
    struct timespec ts = {0, 0};
    if (left > 0) {
        ts.tv_sec = (time_t)(left / WEIR_NS_PER_S);
        ts.tv_nsec = (long)(left % WEIR_NS_PER_S);
    }
    if (ppoll(fds, data ? 2 : 1, until == WEIR_NEVER ? NULL : &ts, NULL) <= 0)
        return;
    if (fds[0].revents != 0)
        drain_fd(s->wake_fd);
    if (data && fds[1].revents != 0)
        drain_fd(s->data_fd);
}

static int64_t earlier(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* What goes on at every poll, whether there is room or not. Returns when it has to go on. */
static int64_t step(struct source *s, int64_t now)
{
    client_step(&s->client);
    int64_t lease_ns = wire_lease(&s->client);
    if (!rd_kafka_assignment_lost(s->rk)) /* looked at behind what it may contradict */
        parts_lease(s, lease_ns);
    commit_step(s, now);
    rebalance_step(s, now);
    gone_step(s, now);
    rights_step(s, now);
    int64_t due = earlier(lag_step(s, now), fetch_step(s, now));
    if (s->rebalance.state != REBALANCE_NONE)
        due = earlier(due, now + DRAIN_LOOK);
    if (s->dirty && !s->committing)
        due = earlier(due, s->commit_ns);
    return due;
}

static bool finished(const struct source *s)
{
    return s->cfg->stop_at_end && s->rebalance.assigned && s->n_held == 0 &&
           s->rebalance.state == REBALANCE_NONE && parts_at_end(s) && !gone_looks(s);
}

/* Takes messages, or where that cannot be keeps the consumer alive. Returns when to go on. */
static int64_t take_or_wait(struct source *s, struct weir_batch *b, uint32_t room, int64_t now)
{
    bool free = s->rebalance.state == REBALANCE_NONE && !s->stopping;
    uint32_t before = b->n_events;
    if (room > 0 && free && take_messages(s, b, room)) {
        fetch_note(s, b->n_events - before, s->taken_bytes);
        s->no_room_ns = 0;
        return WEIR_NEVER;
    }
    return keep_alive(s, now);
}

static enum weir_status source_poll(void *self, struct weir_batch *b, uint32_t room,
                                    int64_t deadline_ns, struct weir_error *err)
{
    struct source *s = self;
    const struct weir_host *h = s->client.host;
    uint32_t before = b->n_events;
    s->n_polls++;
    for (int round = 0; round < 2 && !s->fatal; round++) {
        int64_t now = h->now(h);
        int64_t due = earlier(deadline_ns, step(s, now));
        due = earlier(due, take_or_wait(s, b, room, now));
        if (b->n_events > before)
            return WEIR_OK;
        if (s->stopping || (room > 0 && finished(s)))
            return WEIR_END;
        bool idle = s->no_room_ns == 0 || s->paused || s->rebalance.state != REBALANCE_NONE;
        if (round == 0 && !s->fatal)
            wait_until(s, idle, rebalance_due(s) ? now : due);
    }
    if (!s->fatal)
        return WEIR_AGAIN;
    if (err != NULL)
        *err = s->fatal_error;
    return s->fatal_error.status;
}

static void source_wake(void *self)
{
    const struct source *s = self;
    uint64_t one = 1;
    while (write(s->wake_fd, &one, sizeof(one)) < 0 && errno == EINTR)
        continue;
}

static void source_commit(void *self, struct weir_stream *stream, void *user, int64_t next,
                          bool final)
{
    (void)stream;
    struct source *s = self;
    commit_mark(s, user, next);
    if (final)
        s->commit_ns = 0;
}

static void source_stop(void *self)
{
    struct source *s = self;
    s->stopping = true;
    parts_pause(s);
    held_clear(s);
}

const struct weir_source kafka_source_calls = {
    .size = sizeof(kafka_source_calls),
    .poll = source_poll,
    .wake = source_wake,
    .commit = source_commit,
    .stop = source_stop,
};
