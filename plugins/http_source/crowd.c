/* SPDX-License-Identifier: Apache-2.0
 *
 * What a crowd changes. While every place for a connection is taken, or memory is short, those who do
 * nothing with theirs lose it: the ones without a request after a second; and where others wait to be
 * accepted, the ones whose request does not get on after five. So clients that hold connections open, or
 * drip, cannot keep the others out.
 *
 * Connections that read a request stand in lane->reading, in the order in which they were last seen to
 * get on: the first has waited longest.
 */
#include "http_source.h"

#define IDLE_NS WEIR_NS_PER_S
#define LINGER_NS (200 * WEIR_NS_PER_MS)
#define READ_NS (5 * WEIR_NS_PER_S)
#define READ_BYTES UINT64_C(8192) /* of a body, in READ_NS: who brings so much gets on */

void reading_end(struct conn *c)
{
    struct lane *s = c->lane;
    if (!c->reading)
        return;
    *(c->read_prev != NULL ? &c->read_prev->read_next : &s->reading.head) = c->read_next;
    *(c->read_next != NULL ? &c->read_next->read_prev : &s->reading.tail) = c->read_prev;
    c->reading = false;
}

void reading_begin(struct conn *c)
{
    struct lane *s = c->lane;
    reading_end(c);
    c->reading = true;
    c->read_since_ns = s->now;
    c->read_mark = c->n_read;
    c->read_prev = s->reading.tail;
    c->read_next = NULL;
    *(s->reading.tail != NULL ? &s->reading.tail->read_next : &s->reading.head) = c;
    s->reading.tail = c;
}

bool crowd_is_there(const struct lane *s)
{
    return s->memory_short || atomic_load_explicit(&s->shared->connections, memory_order_relaxed) >=
                                  s->shared->max_connections;
}

/* The oldest of a list, where it has been there for `most`. */
static struct conn *older(const struct lane *s, enum deadline deadline, int64_t most)
{
    const struct conn_list *list = &s->deadlines[deadline];
    struct conn *c = list->head;
    return c != NULL && c->deadline_ns - list->ttl_ns + most <= s->now ? c : NULL;
}

static struct conn *slowest_reader(const struct lane *s)
{
    struct conn *c = s->reading.head;
    return c != NULL && c->read_since_ns + READ_NS <= s->now ? c : NULL;
}

static void cut_readers(struct lane *s)
{
    struct conn *c = slowest_reader(s);
    if (c == NULL || (!s->memory_short && !listen_has_waiting(s)))
        return;
    while ((c = slowest_reader(s)) != NULL) {
        if (c->phase == PHASE_BODY && c->n_read - c->read_mark >= READ_BYTES)
            reading_begin(c);
        else
            conn_cut(c, "too_slow",
                     "the request came too slowly while the server has too many clients: send it "
                     "again");
    }
}

/* A lane that was busy may not have come to what is there already: a turn hears of so many connections
 * only, and a client that is reset does not know whether its request was taken. */
static void close_idle(struct conn *c)
{
    char byte;
    if (recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 1) {
        c->readable = true;
        conn_work(c);
    }
    if (older(c->lane, DEADLINE_IDLE, IDLE_NS) == c) /* still: nothing of use came */
        conn_close(c);
}

void crowd_expire(struct lane *s)
{
    struct conn *c;
    if (!crowd_is_there(s))
        return;
    while ((c = older(s, DEADLINE_IDLE, IDLE_NS)) != NULL)
        close_idle(c);
    while ((c = older(s, DEADLINE_LINGER, LINGER_NS)) != NULL)
        conn_close(c);
    cut_readers(s);
}
