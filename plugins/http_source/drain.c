/* SPDX-License-Identifier: Apache-2.0
 *
 * What Retry-After says: as long as requests have taken of late from their last byte to their end, or as
 * the oldest one waits already, at most a minute. It is spread by up to a half, so that refused clients do
 * not come back all at once.
 */
#include "http_source.h"

#define WAIT_MOST (60 * WEIR_NS_PER_S)
#define WEIGHT 8 /* of the average: the newest is an eighth */

void drain_note(struct lane *s, int64_t took_ns)
{
    s->took_ns += (took_ns - s->took_ns) / WEIGHT;
}

/* Since when the oldest request is with us, where it is complete. */
static int64_t oldest_waits(const struct lane *s)
{
    const struct conn_list *list = &s->deadlines[DEADLINE_REQUEST];
    const struct conn *c = list->head;
    return c != NULL && c->phase == PHASE_WAIT ? s->now - (c->deadline_ns - list->ttl_ns) : 0;
}

int64_t drain_retry_after(const struct lane *s)
{
    int64_t least = s->config->retry_after, most = least > WAIT_MOST ? least : WAIT_MOST;
    int64_t oldest = oldest_waits(s), wait = oldest > s->took_ns ? oldest : s->took_ns;
    wait = wait < least ? least : wait > most ? most : wait;
    int64_t seconds = (wait + WEIR_NS_PER_S - 1) / WEIR_NS_PER_S;
    return seconds + (int64_t)(s->h->random(s->h) % (uint64_t)(seconds / 2 + 1));
}
