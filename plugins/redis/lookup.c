/* SPDX-License-Identifier: Apache-2.0
 *
 * Transform `redis`: looks something up for each event and puts it into a field.
 *
 * The first call for a batch makes one question for each different command, answers from the cache
 * what it can, submits the rest (client.c) and answers `again`; woken by the last answer, the same
 * batch comes back and its events get their fields. A lane never waits here.
 */
#include "client.h"
#include "command.h"
#include "lookup_config.h"
#include "redis.h"
#include "reply_value.h"
#include "slots.h"

#include "../common/hash.h"
#include <string.h>

#define NO_QUESTION UINT32_MAX

struct transform {
    const struct weir_host *h;
    const struct lookup_config *config;
    struct client *client;
    struct command command;
    struct target_path target;
    struct group *group;   /* of the batch that is looked up; NULL between batches */
    uint32_t *question_of; /* by event of that batch */
    uint32_t cap_events;
    uint32_t *table; /* question + 1 by hash of its command; 0 = free */
    uint32_t table_size;
    uint64_t seed;
    struct weir_metric *cached, *asked, *missing, *unavailable;
};

/* ---- Opening and closing --------------------------------------------------------------------- */

static void *shared_new(const struct weir_host *h, const void *config, struct weir_error *err)
{
    const struct lookup_config *cf = config;
    struct client_config cc = {
        .conn = &cf->conn,
        .timeout_ns = cf->timeout_ns,
        .wait = cf->on_unavailable == UNAVAILABLE_WAIT,
        .cache = {(uint32_t)cf->cache.entries, (size_t)cf->cache.bytes},
        .ttl_ns = cf->cache.ttl_ns,
        .missing_ttl_ns = cf->cache.missing_ttl_ns,
    };
    struct client *client = client_new(h, &cc);
    if (client == NULL)
        h->error(err, WEIR_E_NOMEM, "no_memory", "no memory or descriptor for the redis client");
    return client;
}

static void shared_free(void *take_shared)
{
    client_free(take_shared);
}

void lookup_close(void *take_self)
{
    struct transform *self = take_self;
    if (self == NULL)
        return;
    if (self->client != NULL) {
        client_release(self->client, self->group);
        client_leave(self->client, self->h);
    }
    command_done(&self->command);
    if (self->question_of != NULL)
        self->h->free(self->question_of);
    if (self->table != NULL)
        self->h->free(self->table);
    self->h->free(self);
}

static bool build_command(struct transform *self)
{
    struct command *c = &self->command;
    const struct lookup_config *cf = self->config;
    if (!command_init(c, self->h, cf->command.n > 2 ? cf->command.n : 2))
        return false;
    if (cf->command.n > 0) {
        command_add_list(c, &cf->command);
        return command_seal(c, command_key(self->h, &cf->command),
                            command_route(self->h, &cf->command));
    }
    command_add_text(c, cf->lookup == LOOKUP_HGETALL ? "HGETALL" : "GET");
    command_add_template(c, cf->key);
    return command_seal(c, 1, 1);
}

static struct weir_metric *lookups_counter(const struct weir_host *h, const char *result)
{
    const char *labels[] = {"result", result, NULL};
    return h->counter(h, "redis_lookups_total",
                      "Different commands of a batch, answered by the cache or asked of Redis; "
                      "events for which there was nothing, or no answer.",
                      labels);
}

static enum weir_status setup(struct transform *self, struct weir_error *err)
{
    const struct weir_host *h = self->h;
    if (!split_path(self->config->target, &self->target))
        return h->error(err, WEIR_E_CONFIG, "bad_target", "target \"%s\" is not a dotted path",
                        self->config->target.ptr);
    if (!build_command(self))
        return h->error(err, WEIR_E_NOMEM, "no_memory", "no memory for the lookup");
    self->cached = lookups_counter(h, "cached");
    self->asked = lookups_counter(h, "asked");
    self->missing = lookups_counter(h, "missing");
    self->unavailable = lookups_counter(h, "unavailable");
    self->seed = h->random(h);
    self->client = h->shared(h, shared_new, shared_free, err);
    if (self->client == NULL)
        return WEIR_E_NOMEM;
    return client_join(self->client, h, err);
}

enum weir_status lookup_open(const struct weir_host *h, const void *config, void **ret_self,
                             struct weir_error *err)
{
    struct transform *self = h->alloc(sizeof(*self));
    if (self == NULL)
        return h->error(err, WEIR_E_NOMEM, "no_memory", "no memory for the lookup");
    self->h = h;
    self->config = config;
    enum weir_status st = setup(self, err);
    if (st != WEIR_OK) {
        lookup_close(self);
        return st;
    }
    *ret_self = self;
    return WEIR_OK;
}

/* ---- Questions ------------------------------------------------------------------------------- */

/* Room for n events; false when memory is used up. */
static bool reserve(struct transform *self, uint32_t n)
{
    const struct weir_host *h = self->h;
    uint32_t size = 16;
    if (n <= self->cap_events)
        return true;
    while (size < 2 * n)
        size *= 2;
    uint32_t *question_of = h->realloc(self->question_of, sizeof(*question_of) * n);
    if (question_of == NULL)
        return false;
    self->question_of = question_of;
    uint32_t *table = h->realloc(self->table, sizeof(*table) * size);
    if (table == NULL)
        return false;
    self->table = table;
    self->table_size = size;
    self->cap_events = n;
    return true;
}

/* The question with the command that was just put at the end of the group's commands: an earlier
 * one with the same bytes, else a new one. */
static uint32_t intern(struct transform *self, size_t at, struct weir_str route)
{
    struct group *g = self->group;
    struct weir_str command = weir_str_n(g->commands.ptr + at, g->commands.len - at);
    uint32_t mask = self->table_size - 1;
    uint32_t slot = (uint32_t)hash_bytes(command.ptr, command.len, self->seed) & mask;
    for (; self->table[slot] != 0; slot = (slot + 1) & mask) {
        struct weir_str other = group_command(g, self->table[slot] - 1);
        if (other.len != command.len || memcmp(other.ptr, command.ptr, command.len) != 0)
            continue;
        g->commands.len = at;
        return self->table[slot] - 1;
    }
    uint32_t i = g->n++;
    g->questions[i].at = at;
    g->questions[i].len = command.len;
    if (self->config->conn.cluster)
        g->questions[i].slot = (uint16_t)slot_of(route);
    self->table[slot] = i + 1;
    return i;
}

static uint32_t ask_for(struct transform *self, struct weir_batch *b, struct weir_event *ev)
{
    const struct weir_host *h = self->h;
    struct command_put put = {.out = &self->group->commands};
    if ((ev->flags & WEIR_EVENT_GONE) != 0)
        return NO_QUESTION;
    size_t at = self->group->commands.len;
    if (command_put(&self->command, b, ev, &put, h->scratch(h)) == WEIR_VERDICT_OK)
        return intern(self, at, put.ret_route);
    if ((ev->flags & WEIR_EVENT_GONE) == 0)
        h->event_fail(h, b, ev, &put.ret_result);
    return NO_QUESTION;
}

/* Makes the batch's group. False when memory is used up. */
static bool make_questions(struct transform *self, struct weir_batch *b)
{
    if (!reserve(self, b->n_events))
        return false;
    self->group = group_new(self->h, b->n_events);
    if (self->group == NULL)
        return false;
    memset(self->table, 0, sizeof(*self->table) * self->table_size);
    for (uint32_t i = 0; i < b->n_events; i++)
        self->question_of[i] = ask_for(self, b, weir_event_at(b, i));
    return true;
}

/* ---- Answers --------------------------------------------------------------------------------- */

static void fail(struct transform *self, struct weir_batch *b, struct weir_event *ev,
                 const char *code, struct weir_str message)
{
    struct weir_result r = {.verdict = WEIR_VERDICT_REJECTED, .code = code, .message = message};
    self->h->event_fail(self->h, b, ev, &r);
}

/* A child of a value that can be changed can be changed as well; NULL where there is none. */
static struct weir_value *child_of(const struct weir_host *h, struct weir_value *obj,
                                   struct weir_str name)
{
    return (struct weir_value *)(uintptr_t)h->value_get(obj, name);
}

/* Puts v at the target path; objects on the way are made. */
static void put_target(struct transform *self, struct weir_batch *b, struct weir_event *ev,
                       struct weir_value *v)
{
    const struct weir_host *h = self->h;
    struct weir_value *at = h->event_edit(h, b, ev);
    if (at == NULL)
        return; /* not JSON: the host has failed the event */
    for (uint32_t i = 0; i < self->target.n; i++) {
        struct weir_str name = self->target.names[i];
        if (h->value_type(at) != WEIR_OBJECT) {
            fail(self, b, ev, "not_object",
                 h->arena_printf(b->arena,
                                 "cannot put the answer into \"%s\": \"%.*s\" would be "
                                 "a field of something that is no object",
                                 self->config->target.ptr, (int)name.len, name.ptr));
            return;
        }
        bool last = i + 1 == self->target.n;
        struct weir_value *next = last ? v : child_of(h, at, name);
        bool made = last || next == NULL;
        if (next == NULL)
            next = h->make_object(b->arena);
        if (made && !h->object_set(b->arena, at, name, next)) {
            fail(self, b, ev, "no_memory", weir_cstr("no memory for the answer"));
            return;
        }
        at = next;
    }
}

static void apply_found(struct transform *self, struct weir_batch *b, struct weir_event *ev,
                        const struct blob *blob)
{
    struct reply_reader reader = {
        .h = self->h, .arena = b->arena, .parse = (enum reply_parse)self->config->parse};
    bool pairs = self->config->command.n == 0 && self->config->lookup == LOOKUP_HGETALL;
    struct weir_value *v = reply_value(&reader, weir_str_n(blob->data, blob->len), pairs);
    if (v == NULL)
        fail(self, b, ev, reader.code, weir_cstr(reader.message));
    else
        put_target(self, b, ev, v);
}

static void put_default(struct transform *self, struct weir_batch *b, struct weir_event *ev)
{
    struct weir_value *v = self->h->make_copy(b->arena, self->config->fallback);
    if (v == NULL)
        fail(self, b, ev, "no_memory", weir_cstr("no memory for the default"));
    else
        put_target(self, b, ev, v);
}

static void apply_missing(struct transform *self, struct weir_batch *b, struct weir_event *ev)
{
    const struct weir_host *h = self->h;
    const struct lookup_config *cf = self->config;
    h->metric_add(self->missing, 1);
    if (cf->on_missing == MISSING_DROP)
        h->event_drop(h, b, ev, "missing");
    else if (cf->on_missing == MISSING_ERROR)
        fail(self, b, ev, "missing", weir_cstr("redis has nothing under this key"));
    else if (cf->fallback != NULL)
        put_default(self, b, ev);
}

static void apply_answer(struct transform *self, struct weir_batch *b, struct weir_event *ev,
                         const struct answer *a)
{
    switch (a->state) {
    case ANSWER_FOUND:
        apply_found(self, b, ev, a->blob);
        break;
    case ANSWER_MISSING:
        apply_missing(self, b, ev);
        break;
    case ANSWER_REJECTED:
        fail(self, b, ev, a->code, weir_cstr(a->message));
        break;
    case ANSWER_UNAVAILABLE:
        self->h->metric_add(self->unavailable, 1);
        if (self->config->on_unavailable == UNAVAILABLE_ERROR)
            fail(self, b, ev, a->code, weir_cstr(a->message));
        break;
    case ANSWER_WAITING:
        break;
    }
}

static void apply_answers(struct transform *self, struct weir_batch *b)
{
    for (uint32_t i = 0; i < b->n_events; i++) {
        struct weir_event *ev = weir_event_at(b, i);
        uint32_t q = self->question_of[i];
        if (q != NO_QUESTION && (ev->flags & WEIR_EVENT_GONE) == 0)
            apply_answer(self, b, ev, &self->group->questions[q].answer);
    }
    client_release(self->client, self->group);
    self->group = NULL;
}

static enum weir_status transform_apply(void *self_, struct weir_batch *b, int64_t *ret_again_ns,
                                        struct weir_error *err)
{
    struct transform *self = self_;
    const struct weir_host *h = self->h;
    if (self->group == NULL) {
        if (!make_questions(self, b))
            return h->error(err, WEIR_E_NOMEM, "no_memory", "no memory for the lookups");
        uint32_t left = client_ask_cache(self->client, self->group);
        h->metric_add(self->cached, self->group->n - left);
        h->metric_add(self->asked, left);
        if (left > 0)
            client_submit(self->client, self->group);
    }
    if (atomic_load(&self->group->n_waiting) > 0) {
        *ret_again_ns = WEIR_NEVER;
        return WEIR_AGAIN;
    }
    apply_answers(self, b);
    return WEIR_OK;
}

const struct weir_transform lookup_calls = {
    .size = sizeof(lookup_calls),
    .apply = transform_apply,
};
