/* SPDX-License-Identifier: Apache-2.0
 *
 * Transforms `filter` and `route`: conditions decide, the host evaluates them; no Lua here.
 */
#include "condition.h"

#include <string.h>

/* ---- filter ---- */

struct filter_config {
    const struct weir_condition *condition;
};

struct filter {
    const struct weir_host *h;
    const struct filter_config *cf;
};

static const struct weir_option filter_options[] = {
    {.name = "condition",
     .type = WEIR_OPT_CONDITION,
     .flags = WEIR_OPT_REQUIRED,
     .offset = offsetof(struct filter_config, condition),
     .doc = "Events for which this Lua expression is true go on; the others are filtered out.",
     .example = "event.type == \"purchase\" and event.props.amount > 0"},
};

static enum weir_status filter_open(const struct weir_host *h, const void *config, void **ret_self,
                                    struct weir_error *err)
{
    struct filter *self = h->alloc(sizeof(*self));
    if (self == NULL)
        return h->error(err, WEIR_E_NOMEM, "no_memory", "no memory for the filter");
    self->h = h;
    self->cf = config;
    *ret_self = self;
    return WEIR_OK;
}

static void filter_close(void *take_self)
{
    struct filter *self = take_self;
    if (self != NULL)
        self->h->free(self);
}

static enum weir_status filter_apply(void *self_arg, struct weir_batch *b, int64_t *ret_again_ns,
                                     struct weir_error *err)
{
    const struct filter *self = self_arg;
    const struct weir_host *h = self->h;
    uint32_t n = b->n_events;
    uint8_t *keep = h->arena_alloc(h->scratch(h), n + (size_t)1);
    (void)ret_again_ns;
    if (keep == NULL)
        return h->error(err, WEIR_E_NOMEM, "no_memory", "no memory for %u results", n);
    h->condition_eval(h, self->cf->condition, b, keep);
    for (uint32_t i = 0; i < n; i++)
        if (keep[i] == 0)
            h->event_drop(h, b, weir_event_at(b, i), NULL); /* of one that is gone: nothing */
    return WEIR_OK;
}

static const struct weir_transform filter_calls = {.size = sizeof(filter_calls),
                                                   .apply = filter_apply};

const struct weir_type filter_type = {
    .size = sizeof(filter_type),
    .kind = WEIR_TRANSFORM,
    .name = "filter",
    .summary = "Keeps the events for which a condition holds.",
    .doc = "The condition is a Lua expression over `event` and `meta`. A missing field is nil all "
           "the way down, and comparing it is false; a real mistake, such as comparing a number "
           "with a string, fails the event (`on_error`).",
    .options = WEIR_OPTIONS(filter_options, struct filter_config),
    .transform = &filter_calls,
    .open = filter_open,
    .close = filter_close,
};

/* ---- route ---- */

enum match { MATCH_FIRST, MATCH_ALL };

static const char *const match_words[] = {"first", "all", NULL};

struct route_config {
    struct weir_list routes; /* of struct weir_pair: port, condition */
    int match;
};

struct route {
    const struct weir_host *h;
    const struct route_config *cf;
};

static const struct weir_option route_options[] = {
    {.name = "routes",
     .type = WEIR_OPT_MAP,
     .of = WEIR_OPT_CONDITION,
     .flags = WEIR_OPT_REQUIRED | WEIR_OPT_NONEMPTY,
     .offset = offsetof(struct route_config, routes),
     .doc = "Port names and the conditions for them, in order; what matches none goes to `other`.",
     .example = "{login: event.type == \"login\"}"},
    {.name = "match",
     .type = WEIR_OPT_ENUM,
     .offset = offsetof(struct route_config, match),
     .def = "first",
     .choices = match_words,
     .doc = "first: an event leaves by the first route that matches. all: by each of them; for the "
            "second and later ones as a copy with the id parent/1, parent/2 and so on.",
     .example = "all"},
};

static const struct weir_pair *routes_of(const struct route_config *cf)
{
    return cf->routes.items;
}

static void route_check(const void *config, const struct weir_report *report)
{
    const struct route_config *cf = config;
    for (uint32_t i = 0; i < cf->routes.n; i++) {
        struct weir_str key = routes_of(cf)[i].key;
        if (key.len == 5 && memcmp(key.ptr, "other", 5) == 0)
            report->error(report, "routes.other", -1,
                          "'other' is the port of the events that match no route; rename this one");
    }
}

static void route_ports(const struct weir_host *h, const void *config,
                        void (*add)(void *arg, struct weir_str name), void *arg)
{
    (void)h;
    const struct route_config *cf = config;
    bool has_other = false;
    for (uint32_t i = 0; i < cf->routes.n; i++) {
        struct weir_str key = routes_of(cf)[i].key;
        has_other = has_other || (key.len == 5 && memcmp(key.ptr, "other", 5) == 0);
        add(arg, key);
    }
    if (!has_other) /* else check has said so */
        add(arg, weir_cstr("other"));
}

static enum weir_status route_open(const struct weir_host *h, const void *config, void **ret_self,
                                   struct weir_error *err)
{
    struct route *self = h->alloc(sizeof(*self));
    if (self == NULL)
        return h->error(err, WEIR_E_NOMEM, "no_memory", "no memory for the route");
    self->h = h;
    self->cf = config;
    *ret_self = self;
    return WEIR_OK;
}

static void route_close(void *take_self)
{
    struct route *self = take_self;
    if (self != NULL)
        self->h->free(self);
}

/* Evaluates route k for the events that are not yet out (skip[i] 0). Those that are out must not be
 * failed by a condition that nobody asks about, so for the call they count as gone. */
static void eval_rest(const struct route *self, struct weir_batch *b, uint32_t k,
                      const uint8_t *skip, uint8_t *ret_true)
{
    const struct weir_host *h = self->h;
    for (uint32_t i = 0; i < b->n_events; i++)
        if (skip[i] != 0)
            weir_event_at(b, i)->flags |= WEIR_EVENT_GONE;
    h->condition_eval(h, routes_of(self->cf)[k].value.ptr, b, ret_true);
    for (uint32_t i = 0; i < b->n_events; i++)
        if (skip[i] != 0)
            weir_event_at(b, i)->flags &= ~WEIR_EVENT_GONE;
}

static void send_first(const struct route *self, struct weir_batch *b, uint8_t *out, uint8_t *hit)
{
    const struct weir_host *h = self->h;
    uint32_t n = b->n_events, n_routes = self->cf->routes.n;
    for (uint32_t i = 0; i < n; i++)
        out[i] = 0;
    for (uint32_t k = 0; k < n_routes; k++) {
        eval_rest(self, b, k, out, hit);
        for (uint32_t i = 0; i < n; i++) {
            if (hit[i] == 0)
                continue;
            h->event_send(h, weir_event_at(b, i), k);
            out[i] = 1;
        }
    }
    for (uint32_t i = 0; i < n; i++)
        if (out[i] == 0)
            h->event_send(h, weir_event_at(b, i), n_routes);
}

/* hits: n_routes rows of n. */
static bool send_all(const struct route *self, struct weir_batch *b, uint32_t n, uint8_t *hits)
{
    const struct weir_host *h = self->h;
    uint32_t n_routes = self->cf->routes.n;
    for (uint32_t k = 0; k < n_routes; k++)
        h->condition_eval(h, routes_of(self->cf)[k].value.ptr, b, hits + (size_t)k * n);
    for (uint32_t i = 0; i < n; i++) {
        bool sent = false;
        if ((weir_event_at(b, i)->flags & WEIR_EVENT_GONE) != 0)
            continue;
        for (uint32_t k = 0; k < n_routes; k++) {
            if (hits[(size_t)k * n + i] == 0)
                continue;
            uint32_t at = sent ? h->event_derive(h, b, i) : i;
            if (at == UINT32_MAX)
                return false;
            h->event_send(h, weir_event_at(b, at), k);
            sent = true;
        }
        if (!sent)
            h->event_send(h, weir_event_at(b, i), n_routes);
    }
    return true;
}

static enum weir_status route_apply(void *self_arg, struct weir_batch *b, int64_t *ret_again_ns,
                                    struct weir_error *err)
{
    const struct route *self = self_arg;
    const struct weir_host *h = self->h;
    uint32_t n = b->n_events;
    bool all = self->cf->match == MATCH_ALL;
    size_t rows = all ? self->cf->routes.n : 2;
    uint8_t *hits = h->arena_alloc(h->scratch(h), rows * n + 1);
    (void)ret_again_ns;
    if (hits == NULL)
        return h->error(err, WEIR_E_NOMEM, "no_memory", "no memory to route %u events", n);
    if (!all)
        send_first(self, b, hits, hits + n);
    else if (!send_all(self, b, n, hits))
        return h->error(err, WEIR_E_NOMEM, "no_memory", "no memory for a copy of an event");
    return WEIR_OK;
}

static const struct weir_transform route_calls = {.size = sizeof(route_calls),
                                                  .apply = route_apply};

const struct weir_type route_type = {
    .size = sizeof(route_type),
    .kind = WEIR_TRANSFORM,
    .name = "route",
    .summary = "Sends each event out by the port whose condition it meets.",
    .doc = "Each key of `routes` is a port, read as `id.port` in the `inputs` of others; its value "
           "is a condition as in `filter`. What matches none leaves by the port `other`. A port "
           "that nobody reads must be named in `drop`.",
    .options = WEIR_OPTIONS(route_options, struct route_config),
    .transform = &route_calls,
    .check = route_check,
    .ports = route_ports,
    .open = route_open,
    .close = route_close,
};
