/* SPDX-License-Identifier: Apache-2.0
 *
 * A reload, step by step: what the new plan keeps is found, what it changes is opened beside it, sources
 * that change or go are ended, all threads come to rest, the graphs change places (reload_swap.c), and all
 * goes on. Up to the rest everything can be taken back.
 */
#include <engine/reload_impl.h>

#include <base/error.h>
#include <base/mem.h>
#include <base/str.h>
#include <engine/shares.h>

#include <stdio.h>

/* ---- What both plans have ---- */

static bool is_same(const struct wr_component *a, const struct wr_component *b)
{
    return wr_component_same(a, b) && (a->type->kind != WEIR_SINK || wr_outlet_fits(a, b));
}

static void match(struct wr_swap *s, const struct wr_plan *plan)
{
    struct wr_pipeline *p = s->p;
    uint32_t n_old = p->plan->n_components, n_new = plan->n_components;
    s->old = (struct wr_graph){p->plan, p->units};
    s->new = (struct wr_graph){wr_plan_ref(plan), wr_xalloc((n_new + 1) * sizeof(struct wr_unit *))};
    s->new_of = wr_xalloc((n_old + 1) * sizeof(*s->new_of));
    s->old_of = wr_xalloc((n_new + 1) * sizeof(*s->old_of));
    s->same = wr_xalloc(n_new + 1);
    s->told = wr_xalloc(n_old + 1);
    s->beside = wr_xalloc(n_new + 1);
    s->sinks = wr_xalloc((n_new + 1) * sizeof(*s->sinks));
    for (uint32_t i = 0; i < n_old; i++)
        s->new_of[i] = wr_component_find(plan, &p->plan->components[i]);
    for (uint32_t i = 0; i < n_new; i++) {
        uint32_t was = s->old_of[i] = wr_component_find(p->plan, &plan->components[i]);
        s->same[i] = was != WR_NOWHERE && is_same(&p->plan->components[was], &plan->components[i]);
        s->new.units[i] = s->same[i] ? p->units[was] : wr_unit_new(p, plan, i);
    }
}

static void count(const struct wr_swap *s, struct wr_reloaded *ret)
{
    *ret = (struct wr_reloaded){0};
    for (uint32_t i = 0; i < s->new.plan->n_components; i++) {
        ret->kept += s->same[i];
        ret->added += s->old_of[i] == WR_NOWHERE;
        ret->changed += !s->same[i] && s->old_of[i] != WR_NOWHERE;
    }
    for (uint32_t i = 0; i < s->old.plan->n_components; i++)
        ret->removed += s->new_of[i] == WR_NOWHERE;
}

/* ---- Opening ---- */

/* It cannot be opened beside the one in whose place it comes: so behind it. A server that is away, or an
 * option that is wrong, is no such reason. */
static bool opens_later(const struct weir_error *err)
{
    return err->status == WEIR_E_RETRY;
}

/* A folder has one buffer at a time. False with err where the running one stays in its. */
static bool folder_is_free(const struct wr_swap *s, uint32_t i, struct weir_error *err)
{
    const struct wr_component *comp = &s->new.plan->components[i];
    for (uint32_t k = 0; k < s->old.plan->n_components; k++) {
        const struct wr_component *other = &s->old.plan->components[k];
        if (!wr_buffer_same_folder(other, comp))
            continue;
        if (k == s->old_of[i])
            (void)wr_error(err, WEIR_E_UNAVAILABLE, "bad_change",
                           "sink '%.*s': %s cannot change while its disk buffer '%.*s' stays: give the buffer "
                           "another path as well, and what the old one has is delivered first, or restart weir",
                           WR_STR(comp->id), wr_outlet_misfit(other, comp),
                           WR_STR(comp->opt.sink.buffer.path));
        else
            (void)wr_error(err, WEIR_E_UNAVAILABLE, "bad_change",
                           "sink '%.*s': the disk buffer '%.*s' is that of the running sink '%.*s': take another "
                           "path, or restart weir",
                           WR_STR(comp->id), WR_STR(comp->opt.sink.buffer.path), WR_STR(other->id));
        return false;
    }
    for (uint32_t k = 0; k < s->p->n_outlets; k++) {
        const struct wr_outlet *o = s->p->outlets[k];
        if (!o->going || !wr_buffer_same_folder(o->unit->comp, comp))
            continue;
        (void)wr_error(err, WEIR_E_UNAVAILABLE, "busy",
                       "sink '%.*s': the disk buffer '%.*s' is still being emptied for sink '%.*s', which has "
                       "gone: reload again once that has ended",
                       WR_STR(comp->id), WR_STR(comp->opt.sink.buffer.path), WR_STR(o->unit->id));
        return false;
    }
    return true;
}

static bool open_outlet(struct wr_swap *s, uint32_t i, struct weir_error *err)
{
    uint32_t was = s->old_of[i];
    if (!folder_is_free(s, i, err))
        return false;
    struct wr_outlet *o = wr_outlet_new(s->new.units[i], false, err);
    if (o == NULL && was != WR_NOWHERE && opens_later(err))
        o = wr_outlet_new(s->new.units[i], true, err);
    if (o != NULL && was != WR_NOWHERE)
        o->waits_for = s->old.units[was]->outlet;
    s->sinks[i].outlet = o;
    return o != NULL;
}

static bool open_sink(struct wr_swap *s, uint32_t i, struct weir_error *err)
{
    const struct wr_component *comp = &s->new.plan->components[i];
    uint32_t was = s->old_of[i];
    if (s->same[i])
        return true;
    if (was == WR_NOWHERE || !wr_outlet_fits(&s->old.plan->components[was], comp))
        return open_outlet(s, i, err);
    struct wr_outlet *o = s->old.units[was]->outlet;
    s->sinks[i].inst = wr_xalloc(o->n_shards * sizeof(struct wr_instance *));
    for (uint32_t k = 0; k < o->n_shards; k++) {
        s->sinks[i].inst[k] =
            wr_instance_open(s->new.units[i], k, o->n_shards, NULL, &o->shards[k], err);
        if (s->sinks[i].inst[k] == NULL && !opens_later(err))
            return false;
    }
    return true;
}

static bool open_transforms(struct wr_swap *s, struct wr_lane_swap *mine, struct weir_error *err)
{
    struct wr_lane *lane = mine->lane;
    uint32_t source = s->new_of[lane->source], n_old = s->old.plan->n_components;
    mine->goes = wr_xalloc(n_old + 1);
    mine->inst = wr_xalloc((s->new.plan->n_components + 1) * sizeof(struct wr_instance *));
    for (uint32_t i = 0; i < n_old; i++) {
        uint32_t is = s->new_of[i];
        mine->goes[i] = i != lane->source && lane->inst[i] != NULL &&
                        (is == WR_NOWHERE || !s->same[is] || !wr_lane_has(s->new.plan, source, is));
    }
    for (uint32_t i = 0; i < s->new.plan->n_components; i++) {
        uint32_t was = s->old_of[i];
        bool there = s->same[i] && lane->inst[was] != NULL;
        if (there || !wr_lane_has(s->new.plan, source, i))
            continue;
        mine->inst[i] = wr_instance_open(s->new.units[i], lane->index, lane->count, lane, NULL, err);
        if (mine->inst[i] == NULL)
            return false;
    }
    return true;
}

static bool stays(const struct wr_swap *s, const struct wr_lane *lane)
{
    uint32_t is = lane->source != WR_NOWHERE ? s->new_of[lane->source] : WR_NOWHERE;
    return is != WR_NOWHERE && s->same[is] && !atomic_load(&lane->leaves);
}

static void close_added(struct wr_swap *s, uint32_t before)
{
    while (s->n_added > before)
        wr_reload_close_lane(s->added[--s->n_added]);
}

/* All of them, or none. */
static bool open_lanes(struct wr_swap *s, const struct wr_graph *g, uint32_t source,
                       struct weir_error *err)
{
    uint32_t count = wr_lanes_of(&g->plan->components[source]), before = s->n_added;
    for (uint32_t k = 0; k < count; k++) {
        struct wr_lane *lane = wr_lane_new(s->p, g, source, k, count, err);
        if (lane == NULL) {
            close_added(s, before);
            return false;
        }
        s->added = wr_xrealloc(s->added, (s->n_added + 1) * sizeof(struct wr_lane *));
        s->added[s->n_added++] = lane;
    }
    return true;
}

static bool open_source(struct wr_swap *s, uint32_t i, struct weir_error *err)
{
    if (open_lanes(s, &s->new, i, err))
        return true;
    (void)wr_unit_end_shared(s->new.units[i]);
    return false;
}

/* A source that takes something over from the running one, such as a socket that must go on listening. */
static bool open_source_beside(struct wr_swap *s, uint32_t i, struct weir_error *err)
{
    uint32_t was = s->old_of[i];
    const struct wr_component *comp = &s->new.plan->components[i];
    if (s->same[i] || was == WR_NOWHERE || comp->type != s->old.plan->components[was].type ||
        (comp->traits & WEIR_TRAIT_BESIDE) == 0)
        return true;
    s->new.units[i]->before = s->old.units[was];
    s->beside[i] = open_source(s, i, err);
    s->new.units[i]->before = NULL;
    return s->beside[i] || opens_later(err);
}

static bool open_beside(struct wr_swap *s, struct weir_error *err)
{
    struct wr_pipeline *p = s->p;
    for (uint32_t i = 0; i < s->new.plan->n_components; i++)
        if (s->new.plan->components[i].type->kind == WEIR_SINK && !open_sink(s, i, err))
            return false;
    s->lanes = wr_xalloc((p->n_lanes + 1) * sizeof(*s->lanes));
    for (uint32_t i = 0; i < p->n_lanes; i++) {
        if (!stays(s, p->lanes[i]))
            continue;
        struct wr_lane_swap *mine = &s->lanes[s->n_lanes++];
        mine->lane = p->lanes[i];
        if (!open_transforms(s, mine, err))
            return false;
    }
    for (uint32_t i = 0; i < s->new.plan->n_components; i++)
        if (s->new.plan->components[i].type->kind == WEIR_SOURCE && !open_source_beside(s, i, err))
            return false;
    return true;
}

static bool has_lanes(const struct wr_pipeline *p, const struct wr_unit *unit)
{
    bool any = false;
    for (uint32_t i = 0; i < p->n_lanes; i++)
        any |= p->lanes[i]->src->unit == unit;
    return any;
}

static bool let_go(struct wr_swap *s, uint32_t was)
{
    return s->told[was] && !has_lanes(s->p, s->old.units[was]) && wr_unit_end_shared(s->old.units[was]);
}

/* What one that has ended still shares may be what this one waits for, such as the lock of a file; of another id
 * where that has changed. It stays as long as it can: it may be all that knows how far the source is, and the
 * reload can still fail. */
static bool let_one_go(struct wr_swap *s, uint32_t i)
{
    if (s->old_of[i] != WR_NOWHERE && let_go(s, s->old_of[i]))
        return true;
    for (uint32_t k = 0; k < s->old.plan->n_components; k++)
        if (s->old.units[k]->type == s->new.units[i]->type && let_go(s, k))
            return true;
    return false;
}

static bool open_source_behind(struct wr_swap *s, uint32_t i, struct weir_error *err)
{
    uint32_t was = s->old_of[i];
    wr_reload_reap_lanes(s->p);
    while (!open_source(s, i, err)) {
        if (opens_later(err) && let_one_go(s, i))
            continue;
        if (opens_later(err) && was != WR_NOWHERE && has_lanes(s->p, s->old.units[was]))
            wr_error_context(err, "the events of the running one did not end in time");
        return false;
    }
    return true;
}

static bool open_sources(struct wr_swap *s, struct weir_error *err)
{
    for (uint32_t i = 0; i < s->new.plan->n_components; i++)
        if (s->new.plan->components[i].type->kind == WEIR_SOURCE && !s->same[i] && !s->beside[i] &&
            !open_source_behind(s, i, err))
            return false;
    return true;
}

/* ---- Waiting ---- */

static void wake_threads(struct wr_pipeline *p)
{
    for (uint32_t i = 0; i < p->n_lanes; i++)
        wr_lane_wake(p->lanes[i]);
    for (uint32_t i = 0; i < p->n_outlets; i++)
        wr_outlet_wake(p->outlets[i]);
}

static bool is_given_up(const struct wr_pipeline *p, const struct wr_reload_wait *wait)
{
    return atomic_load(&p->draining) || (wait->give_up != NULL && wait->give_up(wait->arg));
}

static bool ending(struct weir_error *err)
{
    (void)wr_error(err, WEIR_E_UNAVAILABLE, "ending", "the pipeline ends");
    return false;
}

/* Until `done` says so. False at the deadline, or where the caller gives up, or the pipeline ends. */
static bool wait_for(struct wr_swap *s, bool (*done)(struct wr_swap *s), const struct wr_reload_wait *wait)
{
    struct wr_pipeline *p = s->p;
    struct wr_clock *clock = p->rt.clock;
    bool ok;
    pthread_mutex_lock(&p->swap_mutex);
    while (!(ok = done(s))) {
        int64_t now = wr_now(clock);
        if (now >= wait->deadline_ns || is_given_up(p, wait))
            break;
        int64_t until = now + WR_SWAP_LOOK_NS;
        clock->wait(clock, &p->swap_changed, &p->swap_mutex,
                    until < wait->deadline_ns ? until : wait->deadline_ns);
        if (wr_now(clock) >= until)
            wake_threads(p); /* what one waits for may be another one's, which does not tell it */
    }
    pthread_mutex_unlock(&p->swap_mutex);
    return ok;
}

/* Where what has its place is open already, the last acks can come later. */
static bool has_left(const struct wr_swap *s, const struct wr_lane *lane)
{
    if (!atomic_load(&lane->leaves) || lane->source == WR_NOWHERE) /* or of an earlier reload */
        return true;
    uint32_t is = s->new_of[lane->source];
    return atomic_load(is != WR_NOWHERE && s->beside[is] ? &lane->left : &lane->finished);
}

static bool sources_ended(struct wr_swap *s)
{
    for (uint32_t i = 0; i < s->p->n_lanes; i++)
        if (!has_left(s, s->p->lanes[i]))
            return false;
    return true;
}

/* All of those that are to rest by now. */
static bool all_rest(struct wr_swap *s)
{
    struct wr_pipeline *p = s->p;
    uint32_t n = atomic_load(&p->lanes_left);
    if (atomic_load(&s->rest) >= WR_REST_SINKS)
        n += atomic_load(&p->sinks_left);
    if (atomic_load(&s->rest) >= WR_REST_DEAD)
        n += atomic_load(&p->dead_sinks_left);
    bool all = s->n_resting >= n;
    s->lanes_rest |= all;
    return all;
}

/* ---- Taking it back ---- */

static void free_swap(struct wr_swap *s)
{
    for (uint32_t i = 0; i < s->n_lanes; i++) {
        wr_free(s->lanes[i].goes);
        wr_free(s->lanes[i].inst);
    }
    for (uint32_t i = 0; i < s->new.plan->n_components; i++)
        wr_free(s->sinks[i].inst);
    wr_free(s->lanes);
    wr_free(s->sinks);
    wr_free(s->added);
    wr_free(s->beside);
    wr_free(s->same);
    wr_free(s->told);
    wr_free(s->old_of);
    wr_free(s->new_of);
    wr_free(s->new.units);
    wr_plan_free(s->new.plan);
    wr_free(s);
}

void wr_swap_unref(struct wr_pipeline *p, struct wr_swap *take_swap)
{
    pthread_mutex_lock(&p->swap_mutex);
    bool last = --take_swap->refs == 0;
    pthread_mutex_unlock(&p->swap_mutex);
    if (last)
        free_swap(take_swap);
}

static void close_opened(struct wr_swap *s)
{
    const struct wr_plan *new = s->new.plan;
    close_added(s, 0);
    for (uint32_t i = 0; i < s->n_lanes; i++)
        for (uint32_t k = 0; s->lanes[i].inst != NULL && k < new->n_components; k++)
            wr_instance_close(s->lanes[i].inst[k]);
    for (uint32_t i = 0; i < new->n_components; i++) {
        uint32_t was = s->old_of[i];
        wr_outlet_free(s->sinks[i].outlet);
        uint32_t n = s->sinks[i].inst != NULL ? s->old.units[was]->outlet->n_shards : 0;
        for (uint32_t k = 0; k < n; k++)
            wr_instance_close(s->sinks[i].inst[k]);
        if (!s->same[i])
            wr_unit_unref(s->new.units[i]);
    }
}

/* Sources that were ended for the reload begin anew, as they were, unless all end. */
static void reopen_sources(struct wr_swap *s)
{
    struct wr_pipeline *p = s->p;
    struct weir_error err = {0};
    for (uint32_t i = 0; !atomic_load(&p->draining) && i < s->old.plan->n_components; i++) {
        if (s->told[i] && !open_lanes(s, &s->old, i, &err))
            wr_pipeline_fail_source(p, "source '%.*s' could not go on after a reload that failed: %s",
                                    WR_STR(s->old.units[i]->id), err.text);
    }
}

/* ---- The reload ---- */

static void start_added(struct wr_swap *s)
{
    for (uint32_t i = 0; i < s->n_added; i++) {
        wr_pipeline_add_lane(s->p, s->added[i]);
        if (s->p->started)
            wr_lane_start(s->added[i]);
    }
    s->n_added = 0;
}

static void end_leaving(struct wr_swap *s)
{
    for (uint32_t i = 0; i < s->p->n_lanes; i++) {
        struct wr_lane *lane = s->p->lanes[i];
        if (stays(s, lane) || atomic_load(&lane->leaves)) /* for an earlier reload */
            continue;
        s->told[lane->source] = true;
        wr_lane_leave(lane);
    }
}

/* False with err where somebody does not come to rest. */
static bool rest(struct wr_swap *s, const struct wr_reload_wait *wait, struct weir_error *err)
{
    struct wr_pipeline *p = s->p;
    bool ok = true;
    atomic_store(&p->swap, s);
    for (int who = WR_REST_LANES; ok && p->started && who <= WR_REST_DEAD; who++) {
        atomic_store(&s->rest, who);
        wake_threads(p);
        ok = wait_for(s, all_rest, wait);
    }
    if (ok)
        return true;
    wr_swap_over(p);
    if (is_given_up(p, wait))
        return ending(err);
    (void)wr_error(err, WEIR_E_UNAVAILABLE, "busy",
                   "events of components that change did not end in time");
    return false;
}

static void go_on(struct wr_swap *s)
{
    struct wr_pipeline *p = s->p;
    for (uint32_t i = 0; i < s->new.plan->n_components; i++) {
        struct wr_outlet *o = s->sinks[i].outlet;
        if (o == NULL)
            continue;
        wr_pipeline_add_outlet(p, o);
        if (p->started && o->waits_for == NULL)
            wr_outlet_start(o);
    }
    wr_swap_over(p);
    start_added(s);
}

static bool prepare(struct wr_swap *s, const struct wr_reload_wait *wait, struct weir_error *err)
{
    if (!open_beside(s, err))
        return false;
    struct wr_clock *clock = s->p->rt.clock;
    int64_t patience = wait->deadline_ns < WEIR_NEVER ? wait->deadline_ns - wr_now(clock) : WEIR_NEVER;
    struct wr_reload_wait again = *wait;
    end_leaving(s);
    if (s->p->started && !wait_for(s, sources_ended, wait) && is_given_up(s->p, wait))
        return ending(err); /* else it is the deadline: what has not ended by then ends beside the new one */
    if (patience < WEIR_NEVER)
        again.deadline_ns = wr_now(clock) + patience;
    return open_sources(s, err) && rest(s, &again, err);
}

static bool is_free(const struct wr_pipeline *p, struct weir_error *err)
{
    for (uint32_t i = 0; i < p->n_outlets; i++)
        if (p->outlets[i]->waits_for != NULL) {
            (void)wr_error(err, WEIR_E_UNAVAILABLE, "busy",
                           "sink '%.*s' still delivers what it had before the last reload, to where that "
                           "went; if that is gone for good, restart weir",
                           WR_STR(p->outlets[i]->unit->id));
            return false;
        }
    return !atomic_load(&p->draining) || ending(err);
}

bool wr_pipeline_reload(struct wr_pipeline *p, const struct wr_plan *plan,
                        const struct wr_reload_wait *wait, struct wr_reloaded *ret,
                        struct weir_error *err)
{
    wr_pipeline_reap(p);
    if (!is_free(p, err))
        return false;
    struct wr_swap *s = wr_xalloc(sizeof(*s));
    s->p = p;
    s->refs = 1;
    match(s, plan);
    count(s, ret);
    atomic_store(&p->reloading, true);
    bool ok = prepare(s, wait, err);
    if (ok) {
        wr_swap_apply(s);
        go_on(s);
    } else {
        close_opened(s);
        reopen_sources(s);
        start_added(s);
    }
    wr_swap_unref(p, s);
    atomic_store(&p->reloading, false);
    wr_pipeline_lanes_changed(p);
    wr_pipeline_reap(p);
    return ok;
}
