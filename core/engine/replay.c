/* SPDX-License-Identifier: Apache-2.0
 *
 * The transform `replay`: events whose payload is an envelope become the events that are in it,
 * each on its way to the component that gave up on it; see replay.h. What does not go on, because
 * it was not asked for or cannot, ends as abandoned: its source then keeps no position behind it,
 * and a later run finds it again. Only what is no dead letter, or another pipeline's, ends for
 * good.
 */
#include <engine/replay.h>

#include <base/mem.h>
#include <base/str.h>
#include <engine/envelope.h>
#include <engine/runtime.h>

#include <stdlib.h>

#define ROWS_MAX 1000u         /* the last one is for all others */
#define COMPLAINTS_MAX 100u    /* more of them are counted */
#define PLACES_BYTES_MAX 2000u /* of one row */

struct target {
    struct weir_str id;
    bool is_source, is_raw; /* a source whose payloads nobody reads (`codec: raw`) */
};

struct wr_replay {
    struct wr_replay_options opt;
    struct weir_str pipeline;
    struct target *targets;
    uint32_t n_targets;
    pthread_mutex_t mutex; /* guards what follows: there may be several lanes */
    struct wr_replay_row *rows;
    uint32_t n_rows, cap_rows, last_row;
    struct wr_replay_totals totals;
    struct weir_str other;
    uint32_t n_complaints;
    bool stopping; /* the limit is reached: the sources are told */
};

/* One lane's part. */
struct replayer {
    const struct weir_host *h;
    struct wr_replay *r;
    int64_t next_ns; /* by the rate: nothing enters before */
};

/* ---- What the command sees ---- */

struct wr_replay *wr_replay_new(const struct wr_replay_options *opt)
{
    struct wr_replay *r = wr_xalloc(sizeof(*r));
    r->opt = *opt;
    r->pipeline = weir_cstr(opt->pipeline);
    pthread_mutex_init(&r->mutex, NULL);
    return r;
}

void wr_replay_free(struct wr_replay *take_r)
{
    if (take_r == NULL)
        return;
    for (uint32_t i = 0; i < take_r->n_rows; i++) {
        wr_free((char *)(uintptr_t)take_r->rows[i].component.ptr);
        wr_free((char *)(uintptr_t)take_r->rows[i].code.ptr);
        wr_free((char *)(uintptr_t)take_r->rows[i].place_name.ptr);
        wr_buf_done(&take_r->rows[i].places);
    }
    pthread_mutex_destroy(&take_r->mutex);
    wr_free((char *)(uintptr_t)take_r->other.ptr);
    wr_free(take_r->rows);
    wr_free(take_r->targets);
    wr_free(take_r);
}

const struct wr_replay_options *wr_replay_options(const struct wr_replay *r)
{
    return &r->opt;
}

struct wr_replay_totals wr_replay_totals(const struct wr_replay *r)
{
    return r->totals;
}

uint32_t wr_replay_n_rows(const struct wr_replay *r)
{
    return r->n_rows;
}

struct weir_str wr_replay_other(const struct wr_replay *r)
{
    return r->other;
}

void wr_replay_add_target(struct wr_replay *r, const struct wr_component *c)
{
    bool is_source = c->type->kind == WEIR_SOURCE;
    r->targets = wr_xrealloc(r->targets, (r->n_targets + 1u) * sizeof(*r->targets));
    r->targets[r->n_targets++] = (struct target){
        c->id, is_source, is_source && c->opt.source.codec == WR_CODEC_RAW};
}

void wr_replay_set_pipeline(struct wr_replay *r, struct weir_str name)
{
    if (r->opt.pipeline == NULL)
        r->pipeline = name;
}

/* ---- Rows ---- */

static struct weir_str keep_text(struct weir_str s)
{
    return weir_str_n(wr_xmemdup(s.ptr != NULL ? s.ptr : "", s.len), s.len);
}

static bool is_row(const struct wr_replay_row *row, const struct wr_envelope *e)
{
    return wr_str_eq(row->component, e->component) && wr_str_eq(row->code, e->code);
}

static uint32_t add_row(struct wr_replay *r, struct weir_str component, struct weir_str code)
{
    if (r->n_rows == r->cap_rows) {
        r->cap_rows = r->cap_rows != 0 ? r->cap_rows * 2 : 16;
        r->rows = wr_xrealloc(r->rows, r->cap_rows * sizeof(*r->rows));
    }
    r->rows[r->n_rows] =
        (struct wr_replay_row){.component = keep_text(component), .code = keep_text(code)};
    return r->n_rows++;
}

/* Most come many of a kind. */
static uint32_t row_of(struct wr_replay *r, const struct wr_envelope *e)
{
    if (r->last_row < r->n_rows && is_row(&r->rows[r->last_row], e))
        return r->last_row;
    uint32_t i = 0;
    while (i < r->n_rows && !is_row(&r->rows[i], e))
        i++;
    if (i == r->n_rows && i + 1 < ROWS_MAX)
        i = add_row(r, e->component, e->code);
    else if (i == r->n_rows && i < ROWS_MAX)
        i = add_row(r, weir_cstr("(others)"), weir_cstr("(others)"));
    else if (i == r->n_rows)
        i = ROWS_MAX - 1;
    return r->last_row = i;
}

/* ---- Places ---- */

/* Where an envelope stood. */
struct place {
    struct weir_str name;
    const char *unit; /* "line" or "offset" */
    int64_t number;
    bool unfinished; /* a last line without an end: it may still be written */
};

static int64_t line_number(const struct weir_event *ev)
{
    const struct weir_header *line = wr_event_header(ev, weir_cstr(WR_REPLAY_LINE_HEADER));
    return line != NULL && line->value.ptr != NULL ? strtoll(line->value.ptr, NULL, 10) : -1;
}

/* As the user may have given it. */
static struct weir_str short_name(const struct wr_replay *r, struct weir_str name)
{
    size_t n = r->opt.dir != NULL ? strlen(r->opt.dir) : 0;
    if (n == 0 || name.len <= n + 1 || memcmp(name.ptr, r->opt.dir, n) != 0 || name.ptr[n] != '/')
        return name;
    return weir_str_n(name.ptr + n + 1, name.len - n - 1);
}

static struct place place_of(const struct wr_replay *r, const struct weir_batch *b,
                             const struct weir_event *ev)
{
    struct place at = {.name = weir_cstr("?"), .unit = "offset", .number = ev->position};
    int64_t line = line_number(ev);
    if (line >= 0) {
        at.unit = "line";
        at.number = line;
        at.unfinished = ev->next - ev->position == (int64_t)ev->payload.len;
    }
    if (r->opt.place != NULL)
        at.name = weir_cstr(r->opt.place);
    else if (ev->origin != NULL)
        at.name = short_name(r, ev->origin->name);
    if (ev->origin != NULL && ev->origin->partition >= 0)
        at.name =
            wr_arena_printf(b->arena, "%.*s[%d]", WR_STR(at.name), (int)ev->origin->partition);
    return at;
}

/* Ends the range that is open. */
static void close_range(struct wr_replay_row *row)
{
    if (row->place_name.ptr == NULL || row->place_from < 0)
        return;
    wr_buf_printf(&row->places, row->place_from == row->place_to ? " %lld" : " %lld-%lld",
                  (long long)row->place_from, (long long)row->place_to);
    row->place_from = -1;
}

static void add_place(struct wr_replay_row *row, const struct place *at)
{
    bool same = row->place_name.ptr != NULL && wr_str_eq(row->place_name, at->name);
    if (same && row->place_from >= 0 && at->number == row->place_to + 1) {
        row->place_to = at->number;
        return;
    }
    close_range(row);
    if (row->places.len > PLACES_BYTES_MAX) {
        if (row->places.ptr[row->places.len - 1] != '.')
            wr_buf_text(&row->places, " ...");
        return;
    }
    if (!same) {
        wr_buf_printf(&row->places, "%s%.*s, %ss", row->places.len != 0 ? "; " : "",
                      WR_STR(at->name), at->unit);
        wr_free((char *)(uintptr_t)row->place_name.ptr);
        row->place_name = keep_text(at->name);
    }
    row->place_from = row->place_to = at->number;
}

const struct wr_replay_row *wr_replay_row(struct wr_replay *r, uint32_t i)
{
    close_range(&r->rows[i]);
    return &r->rows[i];
}

static void complain(struct wr_replay *r, const struct place *at, const char *why)
{
    struct wr_buf line = {0};
    if (r->opt.complain == NULL || r->n_complaints > COMPLAINTS_MAX)
        return;
    if (r->n_complaints++ == COMPLAINTS_MAX)
        wr_buf_text(&line, "more of them are counted, not shown");
    else if (at->unit[0] == 'l')
        wr_buf_printf(&line, "%.*s:%lld: no dead letter: %s", WR_STR(at->name),
                      (long long)at->number, why);
    else
        wr_buf_printf(&line, "%.*s, offset %lld: no dead letter: %s", WR_STR(at->name),
                      (long long)at->number, why);
    r->opt.complain(line.ptr);
    wr_buf_done(&line);
}

/* ---- Which, and where to ---- */

static bool is_listed(const char *const *words, struct weir_str s)
{
    while (words != NULL && *words != NULL && !wr_str_is(s, *words))
        words++;
    return words == NULL || *words != NULL;
}

static bool is_wanted(const struct wr_replay *r, const struct wr_envelope *e)
{
    return is_listed(r->opt.components, e->component) && is_listed(r->opt.codes, e->code) &&
           e->last_ns >= r->opt.since_ns && e->last_ns < r->opt.until_ns;
}

#define NO_TARGET UINT32_MAX

static uint32_t find_target(const struct wr_replay *r, struct weir_str id)
{
    uint32_t i = 0;
    while (i < r->n_targets && !wr_str_eq(r->targets[i].id, id))
        i++;
    return i < r->n_targets ? i : NO_TARGET;
}

/* The source that it came from; where that is not known, the only one. */
static uint32_t find_source(const struct wr_replay *r, const struct wr_envelope *e,
                            const char **why)
{
    uint32_t found = find_target(r, e->source), n = 0;
    if (e->source.len != 0 && found != NO_TARGET && r->targets[found].is_source)
        return found;
    for (uint32_t i = 0; i < r->n_targets; i++) {
        found = r->targets[i].is_source ? i : found;
        n += r->targets[i].is_source;
    }
    if (n == 1)
        return found;
    *why = "the source that it came from is not in the pipeline: say --at ID";
    return NO_TARGET;
}

static uint32_t target_of(const struct wr_replay *r, const struct wr_envelope *e, const char **why)
{
    if (r->opt.at != NULL)
        return find_target(r, weir_cstr(r->opt.at));
    uint32_t i = find_target(r, e->component);
    if (i != NO_TARGET && r->targets[i].is_source) {
        *why = "the source itself gave up on it, and may have kept only a part: say --at ID";
        return NO_TARGET;
    }
    if (r->opt.from_start)
        return find_source(r, e, why);
    if (i == NO_TARGET)
        *why = "there is no such component in the pipeline that could take it: say --at ID";
    return i;
}

/* ---- One envelope ---- */

/* Somebody else's from here on: behind the call it is no longer in the batch. */
static void take_out(struct weir_event *ev, enum weir_outcome outcome, struct wr_ended *ended)
{
    static const struct wr_gone taken = {.held = true};
    wr_ack_settle(ev->host_ack, outcome, NULL, ended);
    ev->flags |= WEIR_EVENT_GONE;
    ev->host_why = &taken;
}

/* The event as it entered the component, or, where `source` is not NULL, as that gave it. False when
 * memory is used up. */
static bool become(struct wr_batch *b, struct weir_event *ev, const struct wr_envelope *e,
                   const struct target *source)
{
    struct weir_arena *a = &b->own->arena;
    struct wr_replayed *replayed = wr_arena_alloc(a, sizeof(*replayed));
    struct weir_origin *origin = wr_arena_alloc(a, sizeof(*origin));
    if (replayed == NULL || origin == NULL)
        return false;
    *replayed = (struct wr_replayed){e->source, e->replays + 1, e->is_item};
    *origin = e->origin;
    bool tombstone = source != NULL ? e->payload.ptr == NULL : e->tombstone;
    bool raw = source != NULL ? source->is_raw : e->raw;
    ev->payload = source != NULL ? e->payload : wr_envelope_entered(e);
    ev->value = NULL;
    ev->flags = (tombstone ? WEIR_EVENT_TOMB : 0) | (raw ? WEIR_EVENT_RAW : 0);
    ev->key = e->key;
    ev->id = e->id;
    ev->time_ns = e->time_ns;
    ev->headers = e->headers;
    ev->n_headers = e->n_headers;
    ev->origin = e->has_origin ? origin : NULL;
    ev->position = e->position;
    if (!e->has_origin || e->is_item)
        ev->stream = NULL; /* its ack has it; the event has no place in a stream */
    return wr_event_set_replayed(b, ev, e->payload, replayed);
}

/* True where it goes on. The mutex is held. */
static bool enter(struct replayer *self, struct weir_batch *b, struct weir_event *ev,
                  const struct wr_envelope *e, uint32_t row, uint32_t target)
{
    static const struct weir_result no_memory = {.verdict = WEIR_VERDICT_REJECTED,
                                                 .code = "no_memory",
                                                 .message = {"no memory to open the envelope", 30}};
    const struct weir_host *h = self->h;
    const struct target *source = self->r->opt.from_start ? &self->r->targets[target] : NULL;
    if (!h->event_watch(h, b, ev, row) || !become(wr_batch_of(b), ev, e, source)) {
        h->event_fail(h, b, ev, &no_memory);
        return false;
    }
    h->event_send(h, ev, target);
    return true;
}

/* It is no dead letter of this pipeline: done, but in a dry run, which keeps no position. */
static enum weir_outcome done_with(const struct wr_replay *r)
{
    return r->opt.dry_run ? WEIR_ABANDONED : WEIR_FILTERED;
}

static void note_other(struct wr_replay *r, const struct wr_envelope *e)
{
    r->totals.others++;
    if (r->other.ptr == NULL)
        r->other = keep_text(e->pipeline);
}

static void stop_reading(struct replayer *self)
{
    if (self->r->stopping)
        return;
    self->r->stopping = true;
    wr_pipeline_drain(((struct wr_instance *)self->h->priv)->unit->pipeline, WEIR_NEVER);
}

static bool is_enough(const struct wr_replay *r)
{
    return r->opt.limit >= 0 && r->totals.entered >= (uint64_t)r->opt.limit;
}

/* One that the filters let through; true where it enters. */
static bool send(struct replayer *self, struct weir_batch *b, struct weir_event *ev,
                 const struct wr_envelope *e, struct wr_ended *ended)
{
    struct wr_replay *r = self->r;
    uint32_t i = row_of(r, e);
    const char *why = NULL;
    uint32_t target = target_of(r, e, &why);
    struct wr_replay_row *row = &r->rows[i];
    row->found++;
    if (target == NO_TARGET) {
        struct place at = place_of(r, b, ev);
        row->why = why;
        add_place(row, &at);
        r->totals.homeless++;
        take_out(ev, WEIR_ABANDONED, ended);
        return false;
    }
    row->entered++;
    row->target = r->targets[target].id;
    r->totals.entered++;
    if (is_enough(r))
        stop_reading(self);
    if (!r->opt.dry_run)
        return enter(self, b, ev, e, i, target);
    take_out(ev, WEIR_ABANDONED, ended);
    return false;
}

static bool open_one(struct replayer *self, struct weir_batch *b, struct weir_event *ev,
                     struct wr_ended *ended)
{
    struct wr_replay *r = self->r;
    struct wr_envelope e;
    struct weir_error err = {0};
    if (is_enough(r)) {
        r->totals.over++;
        take_out(ev, WEIR_ABANDONED, ended);
        return false;
    }
    r->totals.read++;
    if (!wr_envelope_read(b->arena, ev->payload, &e, &err)) {
        struct place at = place_of(r, b, ev);
        complain(r, &at, at.unfinished ? "the last line has no end yet" : err.text);
        r->totals.broken++;
        take_out(ev, at.unfinished ? WEIR_ABANDONED : done_with(r), ended);
        return false;
    }
    if (!wr_str_eq(e.pipeline, r->pipeline)) {
        note_other(r, &e);
        take_out(ev, done_with(r), ended);
        return false;
    }
    if (!is_wanted(r, &e)) {
        r->totals.filtered++;
        take_out(ev, WEIR_ABANDONED, ended);
        return false;
    }
    return send(self, b, ev, &e, ended);
}

/* ---- The type ---- */

static enum weir_status apply(void *self_, struct weir_batch *b, int64_t *ret_again_ns,
                              struct weir_error *err)
{
    struct replayer *self = self_;
    struct wr_replay *r = self->r;
    struct wr_ended ended = {0};
    int64_t now = self->h->now(self->h), n = 0;
    (void)err;
    if (r->opt.rate != 0 && now < self->next_ns) {
        *ret_again_ns = self->next_ns;
        return WEIR_AGAIN;
    }
    pthread_mutex_lock(&r->mutex);
    for (uint32_t i = 0; i < b->n_events; i++)
        if ((weir_event_at(b, i)->flags & WEIR_EVENT_GONE) == 0)
            n += open_one(self, b, weir_event_at(b, i), &ended);
    pthread_mutex_unlock(&r->mutex);
    wr_ended_flush(&ended);
    if (r->opt.rate != 0)
        self->next_ns = now + n * WEIR_NS_PER_S / r->opt.rate;
    return WEIR_OK;
}

static void settled(void *self_, const uint64_t *cookies, const enum weir_outcome *outcomes,
                    uint32_t n)
{
    struct replayer *self = self_;
    pthread_mutex_lock(&self->r->mutex);
    for (uint32_t i = 0; i < n; i++)
        self->r->rows[cookies[i]].ended[outcomes[i]]++;
    pthread_mutex_unlock(&self->r->mutex);
}

static enum weir_status open_replayer(const struct weir_host *h, const void *config,
                                      void **ret_self, struct weir_error *err)
{
    struct replayer *self = wr_xalloc(sizeof(*self));
    (void)err;
    self->h = h;
    self->r = ((const struct wr_instance *)h->priv)->unit->pipeline->plan->replay;
    (void)config;
    *ret_self = self;
    return WEIR_OK;
}

static void close_replayer(void *take_self)
{
    wr_free(take_self);
}

static const struct weir_transform calls = {
    .size = sizeof(calls), .apply = apply, .settled = settled};

const struct weir_type wr_replay_type = {
    .size = sizeof(wr_replay_type),
    .kind = WEIR_TRANSFORM,
    .name = "replay",
    .summary = "Opens dead letters.",
    .transform = &calls,
    .open = open_replayer,
    .close = close_replayer,
};
