/* SPDX-License-Identifier: Apache-2.0
 *
 * What a reload leaves behind: sinks that go, which end once they are empty, those that begin behind them, and
 * lanes of sources that go.
 */
#include <engine/reload_impl.h>

static bool all_finished(struct wr_outlet *o)
{
    for (uint32_t i = 0; i < o->n_shards; i++)
        if (!atomic_load(&o->shards[i].finished))
            return false;
    return true;
}

/* Dead-letter sinks that go, after the sinks that go. */
static void tell_going(struct wr_pipeline *p)
{
    bool any = false;
    for (uint32_t i = 0; i < p->n_outlets; i++)
        any |= p->outlets[i]->going && !p->outlets[i]->is_dead_letter;
    for (uint32_t i = 0; i < p->n_outlets; i++) {
        struct wr_outlet *o = p->outlets[i];
        if (!o->going || (o->is_dead_letter && any) || atomic_exchange(&o->leaves, true))
            continue;
        wr_outlet_wake(o);
    }
}

static void start_waiting(struct wr_pipeline *p, const struct wr_outlet *gone)
{
    struct weir_error err = {0};
    for (uint32_t i = 0; i < p->n_outlets; i++) {
        struct wr_outlet *o = p->outlets[i];
        if (o->waits_for != gone)
            continue;
        o->waits_for = NULL;
        if (!wr_outlet_open(o, &err))
            wr_pipeline_fail(p, "%s", err.text);
        if (p->started)
            wr_outlet_start(o);
    }
}

static void reap_outlets(struct wr_pipeline *p)
{
    for (uint32_t i = 0; i < p->n_outlets;) {
        struct wr_outlet *o = p->outlets[i];
        if (!o->going || !all_finished(o)) {
            i++;
            continue;
        }
        wr_outlet_join(o);
        pthread_mutex_lock(&p->parts);
        p->outlets[i] = p->outlets[--p->n_outlets];
        pthread_mutex_unlock(&p->parts);
        wr_outlet_free(o);
        start_waiting(p, o);
        i = 0;
    }
}

void wr_reload_close_lane(struct wr_lane *take_lane)
{
    wr_lane_close_transforms(take_lane);
    wr_lane_free(take_lane);
}

void wr_reload_reap_lanes(struct wr_pipeline *p)
{
    for (uint32_t i = 0; i < p->n_lanes;) {
        struct wr_lane *lane = p->lanes[i];
        if (!atomic_load(&lane->leaves) || !atomic_load(&lane->finished)) {
            i++;
            continue;
        }
        wr_lane_join(lane);
        pthread_mutex_lock(&p->parts);
        p->lanes[i] = p->lanes[--p->n_lanes];
        pthread_mutex_unlock(&p->parts);
        wr_reload_close_lane(lane);
    }
}

void wr_pipeline_reap(struct wr_pipeline *p)
{
    tell_going(p);
    reap_outlets(p);
    wr_reload_reap_lanes(p);
    tell_going(p);
}
