/* SPDX-License-Identifier: Apache-2.0
 *
 * How fast requests end, and so what Retry-After says: by then what is there now should have ended. While
 * nothing ends it doubles each second, up to a minute; it is spread a little, so that refused clients do
 * not come back all at once.
 */
#include "http_source.h"

#define STEP_NS WEIR_NS_PER_S
#define STEPS_MOST 16
#define WAIT_MOST (60 * WEIR_NS_PER_S)

/* Takes in the seconds that are over: half of the new rate, half of the old. */
static void roll(struct lane *s)
{
    struct drain *d = &s->drain;
    for (int i = 0; i < STEPS_MOST && s->now - d->since_ns >= STEP_NS; i++) {
        d->rate = d->known ? (d->rate + d->bytes) / 2 : d->bytes;
        d->known = d->known || d->bytes != 0;
        d->bytes = 0;
        d->since_ns += STEP_NS;
    }
    if (s->now - d->since_ns >= STEP_NS)
        d->since_ns = s->now;
}

void drain_note(struct lane *s, int64_t bytes)
{
    roll(s);
    s->drain.bytes += bytes;
}

int64_t drain_retry_after(struct lane *s)
{
    int64_t least = s->config->retry_after, most = least > WAIT_MOST ? least : WAIT_MOST;
    int64_t in_flight = atomic_load_explicit(&s->shared->in_flight, memory_order_relaxed);
    int64_t wait = least;
    roll(s);
    if (s->drain.known) {
        double rate = (double)(s->drain.rate > 0 ? s->drain.rate : 1) * s->h->count;
        double ns = (double)in_flight / rate * (double)WEIR_NS_PER_S;
        wait = ns > (double)most ? most : (int64_t)ns;
    }
    int64_t seconds = ((wait > least ? wait : least) + WEIR_NS_PER_S - 1) / WEIR_NS_PER_S;
    return seconds + (int64_t)(s->h->random(s->h) % (uint64_t)(seconds / 2 + 1));
}
