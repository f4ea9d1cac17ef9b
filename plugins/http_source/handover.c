/* SPDX-License-Identifier: Apache-2.0
 *
 * What becomes of connections when a reload puts another instance in the place of this one, at the same
 * port. Those that are between two requests, or have sent no whole head, go along: their clients notice
 * nothing. Requests that have begun to come are read on for a moment and taken; those that are with the
 * pipeline are answered, and their connections closed behind the answer.
 *
 * A connection does not go along where the new instance would not let it in (port.c): it is closed.
 */
#include "http_source.h"

#define READ_NS WEIR_NS_PER_S /* for requests of which a part has come */

/* Nothing of it is of this instance's making. */
static bool may_go(const struct conn *c)
{
    return (c->phase == PHASE_TLS || c->phase == PHASE_HEAD) && c->request == NULL &&
           c->behind == NULL && c->out == NULL && inbuf_charge(c->in) == 0;
}

/* What it has sent is looked at first: a request that is there is taken. */
static void end_idle(struct conn *c)
{
    c->readable = true;
    conn_work(c);
    if (c->phase == PHASE_HEAD && c->in == NULL)
        conn_end(c);
}

static void let_go(struct lane *s, enum deadline deadline)
{
    bool parks = atomic_load(&s->port->parks);
    struct conn *next = NULL;
    for (struct conn *c = s->deadlines[deadline].head; c != NULL; c = next) {
        next = c->next;
        if (parks && may_go(c)) {
            conn_leave(c);
            port_park(s->port, c);
        } else if (deadline == DEADLINE_IDLE && c->used) { /* a new one is about to send */
            end_idle(c);
        }
    }
}

void handover_begin(struct lane *s)
{
    s->read_until_ns = s->now + READ_NS;
    let_go(s, DEADLINE_REQUEST);
    let_go(s, DEADLINE_IDLE);
}

/* Of those without a request only new ones are left: see let_go. */
bool handover_reads(const struct lane *s)
{
    return s->now < s->read_until_ns &&
           (s->reading.head != NULL || s->deadlines[DEADLINE_IDLE].head != NULL);
}

void handover_take(struct lane *s)
{
    struct conn *c;
    while (!s->stopping && (c = port_take_parked(s->port, s->h->index, s->h->count)) != NULL)
        conn_enter(s, c);
}
