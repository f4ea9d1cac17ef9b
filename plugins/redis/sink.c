/* SPDX-License-Identifier: Apache-2.0
 *
 * Sink `redis`: a command an event, always pipelined.
 *
 * write() encodes a whole batch behind what is still being sent and leaves its events pending;
 * progress() sends and receives, and settles events as their replies come. So the next pipeline is
 * written while the replies of the last one are read:
 *
 *   ops: [write 7: 40 of 100 settled] ─▶ [write 8] ─▶ [write 9]      replies come in this order
 *
 * An error reply is the verdict of its event alone. When the connection ends or a write's deadline
 * comes, everything that has no reply yet is unavailable, and the next write connects anew.
 */
#include "command.h"
#include "conn.h"
#include "errors.h"
#include "redis.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define REPLY_LIMIT ((size_t)64 << 10) /* what a reply says is of interest only in an error */

struct config {
    struct conn_config conn;
    struct weir_list command;
    struct {
        struct weir_template *key, *value;
    } set;
    struct {
        struct weir_template *key;
        struct weir_list fields;
    } hash;
    struct {
        struct weir_template *key;
        struct weir_list fields;
        int64_t maxlen;
    } stream;
    int64_t expire_ns;
};

/* A write whose events wait for replies. */
struct op {
    struct op *next;
    uint64_t ticket;
    int64_t deadline_ns;
    uint32_t n, at;           /* events in all, and the one whose reply is next */
    unsigned got;             /* replies of that event so far */
    struct weir_result worst; /* of that event; verdict 0 = no error yet */
    char text[320];           /* its message */
    uint32_t index[];         /* of the events in the batch */
};

struct sink {
    const struct weir_host *h;
    struct conn conn;
    struct command command;
    struct op *first, **last;
    int wake_fd;
    bool reconnect; /* a reply said that another connection may do better */
    atomic_bool canceled;
};

/* ---- Options --------------------------------------------------------------------------------- */

static const struct weir_option set_fields[] = {
    {.name = "key",
     .type = WEIR_OPT_TEMPLATE,
     .offset = offsetof(struct config, set.key) - offsetof(struct config, set),
     .flags = WEIR_OPT_PREFIXED | WEIR_OPT_REQUIRED,
     .doc = "The key; it begins with fixed text.",
     .example = "\"user:{{ user_id }}\""},
    {.name = "value",
     .type = WEIR_OPT_TEMPLATE,
     .offset = offsetof(struct config, set.value) - offsetof(struct config, set),
     .doc = "The value; without it the whole payload.",
     .example = "\"{{ ts }}\""},
};

static const struct weir_option hash_fields[] = {
    {.name = "key",
     .type = WEIR_OPT_TEMPLATE,
     .offset = offsetof(struct config, hash.key) - offsetof(struct config, hash),
     .flags = WEIR_OPT_PREFIXED | WEIR_OPT_REQUIRED,
     .doc = "The key; it begins with fixed text.",
     .example = "\"session:{{ session_id }}\""},
    {.name = "fields",
     .type = WEIR_OPT_MAP,
     .of = WEIR_OPT_TEMPLATE,
     .offset = offsetof(struct config, hash.fields) - offsetof(struct config, hash),
     .flags = WEIR_OPT_NONEMPTY | WEIR_OPT_REQUIRED,
     .doc = "Fields of the hash to set, and their values.",
     .example = "{last: \"{{ ts }}\", type: \"{{ type }}\"}"},
};

static const struct weir_option stream_fields[] = {
    {.name = "key",
     .type = WEIR_OPT_TEMPLATE,
     .offset = offsetof(struct config, stream.key) - offsetof(struct config, stream),
     .flags = WEIR_OPT_PREFIXED | WEIR_OPT_REQUIRED,
     .doc = "The stream's key; it begins with fixed text.",
     .example = "events"},
    {.name = "fields",
     .type = WEIR_OPT_MAP,
     .of = WEIR_OPT_TEMPLATE,
     .offset = offsetof(struct config, stream.fields) - offsetof(struct config, stream),
     .doc = "Fields of the entry and their values; without it one field `payload`.",
     .example = "{user: \"{{ user_id }}\", type: \"{{ type }}\"}"},
    {.name = "maxlen",
     .type = WEIR_OPT_INT,
     .offset = offsetof(struct config, stream.maxlen) - offsetof(struct config, stream),
     .def = "0",
     .min = 0,
     .max = INT64_MAX,
     .doc = "About how many entries the stream keeps (MAXLEN ~); 0 keeps all.",
     .example = "100000"},
};

static const struct weir_option options[] = {
    CONN_OPTIONS(struct config),
    {.name = "command",
     .type = WEIR_OPT_LIST,
     .of = WEIR_OPT_TEMPLATE,
     .offset = offsetof(struct config, command),
     .flags = WEIR_OPT_NONEMPTY,
     .doc = "Any command, an item an argument. Exactly one of `command`, `set`, `hash` and "
            "`stream` is given.",
     .example = "[INCR, \"count:{{ type }}\"]"},
    {.name = "set",
     .type = WEIR_OPT_TABLE,
     .offset = offsetof(struct config, set),
     WEIR_FIELDS(set_fields),
     .doc = "SET: a string.",
     .example = "{key: \"user:{{ user_id }}\"}"},
    {.name = "hash",
     .type = WEIR_OPT_TABLE,
     .offset = offsetof(struct config, hash),
     WEIR_FIELDS(hash_fields),
     .doc = "HSET: fields of a hash.",
     .example = "{key: \"session:{{ session_id }}\", fields: {last: \"{{ ts }}\"}}"},
    {.name = "stream",
     .type = WEIR_OPT_TABLE,
     .offset = offsetof(struct config, stream),
     WEIR_FIELDS(stream_fields),
     .doc = "XADD: an entry of a stream.",
     .example = "{key: events, maxlen: 100000}"},
    {.name = "expire",
     .type = WEIR_OPT_DURATION,
     .offset = offsetof(struct config, expire_ns),
     .min = WEIR_NS_PER_MS,
     .max = INT64_MAX,
     .doc = "How long the key lives from now on: a PEXPIRE in the same pipeline (of `set`: PX).",
     .example = "30m"},
};

static void sink_check(const void *config, const struct weir_report *report)
{
    const struct config *cf = config;
    conn_config_check(&cf->conn, report);
    int n = (cf->command.n > 0) + (cf->set.key != NULL) + (cf->hash.key != NULL) +
            (cf->stream.key != NULL);
    if (n != 1)
        report->error(report, "", -1,
                      "expected exactly one of `command`, `set`, `hash` and `stream`, found %d", n);
    if (cf->command.n > 0)
        command_check(&cf->command, "command", cf->expire_ns > 0, report);
}

static uint32_t sink_needs(const struct weir_host *h, const void *config)
{
    (void)h;
    const struct config *cf = config;
    bool payload = (cf->set.key != NULL && cf->set.value == NULL) ||
                   (cf->stream.key != NULL && cf->stream.fields.n == 0);
    return payload ? WEIR_NEEDS_PAYLOAD : 0;
}

/* Of ZADD's forms the one with INCR adds up, though its name does not say so. */
static bool adds_up(const struct weir_host *h, const struct weir_list *command)
{
    struct weir_template *const *items = command->items;
    struct weir_str text;
    for (uint32_t i = 2; i < command->n; i++) {
        if (h->template_is_literal(items[i], &text) && text.len == 4 &&
            strncasecmp(text.ptr, "INCR", 4) == 0)
            return true;
    }
    return false;
}

static bool overwrites(const struct weir_host *h, const struct config *cf)
{
    struct weir_template *const *items = cf->command.items;
    struct weir_str name;
    if (cf->command.n == 0)
        return cf->stream.key == NULL;
    return h->template_is_literal(items[0], &name) &&
           (command_info(name)->flags & COMMAND_OVERWRITES) != 0 && !adds_up(h, &cf->command);
}

static uint32_t sink_traits(const struct weir_host *h, const void *config)
{
    const struct config *cf = config;
    return WEIR_TRAIT_ORDERED | (overwrites(h, cf) ? WEIR_TRAIT_OVERWRITES : 0);
}

/* ---- Opening and closing --------------------------------------------------------------------- */

static void add_fields(struct command *c, const struct weir_list *fields)
{
    const struct weir_pair *pairs = fields->items;
    for (uint32_t i = 0; i < fields->n; i++) {
        command_add_str(c, pairs[i].key);
        command_add_template(c, pairs[i].value.ptr);
    }
}

static bool build_set(struct command *c, const struct weir_host *h, const struct config *cf)
{
    char ms[24];
    if (!command_init(c, h, 5))
        return false;
    command_add_text(c, "SET");
    command_add_template(c, cf->set.key);
    if (cf->set.value != NULL)
        command_add_template(c, cf->set.value);
    else
        command_add_payload(c);
    if (cf->expire_ns > 0) {
        snprintf(ms, sizeof(ms), "%lld", (long long)(cf->expire_ns / WEIR_NS_PER_MS));
        command_add_text(c, "PX");
        command_add_text(c, ms);
    }
    return command_seal(c, 1, 0);
}

static bool build_hash(struct command *c, const struct weir_host *h, const struct config *cf)
{
    if (!command_init(c, h, 2 + 2 * (size_t)cf->hash.fields.n))
        return false;
    command_add_text(c, "HSET");
    command_add_template(c, cf->hash.key);
    add_fields(c, &cf->hash.fields);
    return command_seal(c, 1, cf->expire_ns / WEIR_NS_PER_MS);
}

static bool build_stream(struct command *c, const struct weir_host *h, const struct config *cf)
{
    char n[24];
    if (!command_init(c, h, 8 + 2 * (size_t)cf->stream.fields.n))
        return false;
    command_add_text(c, "XADD");
    command_add_template(c, cf->stream.key);
    if (cf->stream.maxlen > 0) {
        snprintf(n, sizeof(n), "%lld", (long long)cf->stream.maxlen);
        command_add_text(c, "MAXLEN");
        command_add_text(c, "~");
        command_add_text(c, n);
    }
    command_add_text(c, "*");
    add_fields(c, &cf->stream.fields);
    if (cf->stream.fields.n == 0) {
        command_add_text(c, "payload");
        command_add_payload(c);
    }
    return command_seal(c, 1, cf->expire_ns / WEIR_NS_PER_MS);
}

static bool build_any(struct command *c, const struct weir_host *h, const struct config *cf)
{
    struct weir_template *const *items = cf->command.items;
    struct weir_str name = {NULL, 0};
    if (!command_init(c, h, cf->command.n))
        return false;
    command_add_list(c, &cf->command);
    (void)h->template_is_literal(items[0], &name); /* it is: check() has seen to that */
    return command_seal(c, command_info(name)->key, cf->expire_ns / WEIR_NS_PER_MS);
}

static bool build_command(struct sink *self, const struct config *cf)
{
    if (cf->set.key != NULL)
        return build_set(&self->command, self->h, cf);
    if (cf->hash.key != NULL)
        return build_hash(&self->command, self->h, cf);
    if (cf->stream.key != NULL)
        return build_stream(&self->command, self->h, cf);
    return build_any(&self->command, self->h, cf);
}

static void sink_close(void *take_self)
{
    struct sink *self = take_self;
    if (self == NULL)
        return;
    while (self->first != NULL) {
        struct op *op = self->first;
        self->first = op->next;
        self->h->free(op);
    }
    conn_done(&self->conn);
    command_done(&self->command);
    if (self->wake_fd >= 0)
        close(self->wake_fd);
    self->h->free(self);
}

static enum weir_status sink_open(const struct weir_host *h, const void *config, void **ret_self,
                                  struct weir_error *err)
{
    const struct config *cf = config;
    struct sink *self = h->alloc(sizeof(*self));
    if (self == NULL)
        return h->error(err, WEIR_E_NOMEM, "no_memory", "no memory for the redis sink");
    self->h = h;
    self->last = &self->first;
    conn_init(&self->conn, h, &cf->conn, REPLY_LIMIT);
    self->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (self->wake_fd < 0 || !build_command(self, cf)) {
        sink_close(self);
        return h->error(err, WEIR_E_NOMEM, "no_memory",
                        "no memory or descriptor for the redis sink");
    }
    *ret_self = self;
    return WEIR_OK;
}

static enum weir_status sink_probe(const struct weir_host *h, const void *config,
                                   int64_t deadline_ns, struct weir_error *err)
{
    const struct config *cf = config;
    return conn_probe(h, &cf->conn, deadline_ns, err);
}

/* ---- Writing --------------------------------------------------------------------------------- */

static struct op *op_new(struct sink *self, uint64_t ticket, int64_t deadline_ns, uint32_t n_events)
{
    struct op *op = self->h->alloc(sizeof(*op) + sizeof(op->index[0]) * n_events);
    if (op == NULL)
        return NULL;
    op->ticket = ticket;
    op->deadline_ns = deadline_ns;
    return op;
}

static void op_push(struct sink *self, struct op *op)
{
    *self->last = op;
    self->last = &op->next;
}

static void op_pop(struct sink *self)
{
    struct op *op = self->first;
    self->first = op->next;
    if (self->first == NULL)
        self->last = &self->first;
    self->h->free(op);
}

static void refuse(const struct weir_batch *b, struct weir_results *results, struct weir_result why)
{
    for (uint32_t i = 0; i < b->n_events; i++)
        *weir_result_at(results, i) = why;
}

/* Sees to it that there is a connection, or one under way; false where there is none. */
static bool connection_wanted(struct sink *self)
{
    struct conn *c = &self->conn;
    if (self->first == NULL)
        conn_check_idle(c);
    if (c->state == CONN_DOWN || (c->state == CONN_BROKEN && self->first == NULL))
        conn_open(c);
    return c->state != CONN_BROKEN;
}

/* Encodes the batch; events that cannot be have their verdict then, the others are PENDING. */
static void encode(struct sink *self, struct weir_batch *b, struct op *op,
                   struct weir_results *results)
{
    struct weir_arena *a = self->h->scratch(self->h);
    for (uint32_t i = 0; i < b->n_events; i++) {
        struct weir_result *r = weir_result_at(results, i);
        if (command_put(&self->command, b, weir_event_at(b, i), &self->conn.out, a, r) !=
            WEIR_VERDICT_OK)
            continue;
        r->verdict = WEIR_VERDICT_PENDING;
        op->index[op->n++] = i;
    }
}

static void sink_write(void *self_, struct weir_batch *b, int64_t deadline_ns,
                       struct weir_results *results)
{
    struct sink *self = self_;
    if (atomic_load(&self->canceled)) {
        refuse(b, results,
               (struct weir_result){.verdict = WEIR_VERDICT_UNAVAILABLE, .code = "canceled"});
        return;
    }
    if (!connection_wanted(self)) {
        refuse(b, results, self->conn.error);
        return;
    }
    struct op *op = op_new(self, b->ticket, deadline_ns, b->n_events);
    if (op == NULL) {
        refuse(b, results,
               (struct weir_result){.verdict = WEIR_VERDICT_UNAVAILABLE, .code = "no_memory"});
        return;
    }
    encode(self, b, op, results);
    if (op->n == 0) {
        self->h->free(op);
        return;
    }
    op_push(self, op);
    conn_send(&self->conn);
}

/* ---- Replies --------------------------------------------------------------------------------- */

/* Gives the event whose reply is next its result, and goes to the one behind it. */
static void settle(struct sink *self, struct op *op, const struct weir_result *result)
{
    self->h->complete(self->h, op->ticket, op->index[op->at], result);
    op->at++;
    op->got = 0;
    op->worst.verdict = WEIR_VERDICT_NONE;
    if (op->at == op->n)
        op_pop(self);
}

static void note_error(struct sink *self, struct op *op, struct weir_str text)
{
    bool reconnect = false;
    struct weir_result r = redis_error_result(text, &reconnect);
    self->reconnect = self->reconnect || reconnect;
    if (op->worst.verdict != WEIR_VERDICT_NONE)
        return;
    size_t n = r.message.len < sizeof(op->text) ? r.message.len : sizeof(op->text);
    memcpy(op->text, r.message.ptr, n); /* the view is dead before the second reply may come */
    r.message = weir_str_n(op->text, n);
    op->worst = r;
}

static void take_reply(struct sink *self, const struct resp_reply *reply)
{
    static const struct weir_result ok = {.verdict = WEIR_VERDICT_OK};
    struct op *op = self->first;
    if (op == NULL) {
        conn_break(&self->conn, "protocol", "redis at %s sent a reply that nobody asked for",
                   self->conn.where);
        return;
    }
    if (reply->type == RESP_ERROR)
        note_error(self, op, reply->text);
    op->got++;
    if (op->got < command_n_replies(&self->command))
        return;
    settle(self, op, op->worst.verdict == WEIR_VERDICT_NONE ? &ok : &op->worst);
}

/* Everything without a reply is unavailable; the next write connects anew. */
static void give_up(struct sink *self)
{
    struct weir_result error = self->conn.error;
    while (self->first != NULL)
        settle(self, self->first, &error);
    self->reconnect = false;
    conn_close(&self->conn);
}

static void take_replies(struct sink *self)
{
    struct resp_reply reply;
    while (conn_next(&self->conn, &reply))
        take_reply(self, &reply);
    if (self->conn.state != CONN_BROKEN && atomic_load(&self->canceled) && self->first != NULL)
        conn_break(&self->conn, "canceled", "given up at the end of the shutdown");
    if (self->conn.state != CONN_BROKEN && self->first != NULL &&
        self->h->now(self->h) >= self->first->deadline_ns)
        conn_break(&self->conn, "timeout", "redis at %s did not answer in time", self->conn.where);
    if (self->conn.state == CONN_BROKEN)
        give_up(self);
    if (self->reconnect && self->first == NULL) {
        self->reconnect = false;
        conn_close(&self->conn);
    }
}

static void sink_progress(void *self_, int64_t deadline_ns)
{
    struct sink *self = self_;
    int64_t until_ns = deadline_ns;
    if (self->first != NULL && self->first->deadline_ns < until_ns)
        until_ns = self->first->deadline_ns;
    conn_step(&self->conn, conn_wait(&self->conn, self->wake_fd, until_ns));
    take_replies(self);
}

static void sink_flush(void *self_, int64_t deadline_ns)
{
    struct sink *self = self_;
    while (self->first != NULL && self->h->now(self->h) < deadline_ns)
        sink_progress(self, deadline_ns);
}

static void sink_wake(void *self_)
{
    struct sink *self = self_;
    const uint64_t one = 1;
    ssize_t n = write(self->wake_fd, &one, sizeof(one));
    (void)n; /* EAGAIN: it is set already */
}

static void sink_cancel(void *self_)
{
    struct sink *self = self_;
    atomic_store(&self->canceled, true);
    sink_wake(self);
}

static const struct weir_sink sink = {
    .size = sizeof(sink),
    .batch_events = 1000,
    .batch_bytes = 1 << 20,
    .in_flight = 4,
    .write = sink_write,
    .progress = sink_progress,
    .wake = sink_wake,
    .flush = sink_flush,
    .cancel = sink_cancel,
};

const struct weir_type type_redis_sink = {
    .size = sizeof(type_redis_sink),
    .kind = WEIR_SINK,
    .name = "redis",
    .summary = "Writes a Redis command an event, pipelined.",
    .doc =
        "Values of templates go as text: strings as they are, everything else as JSON. An error "
        "reply rejects its event alone; replies such as LOADING, OOM or READONLY mean that the "
        "server is unavailable, and the event is tried again.\n\n"
        "Commands that overwrite (SET, HSET ...) can be repeated without harm; commands that "
        "add up (INCR, XADD ...) may count an event twice when the connection breaks between a "
        "command and its reply.\n\n"
        "One server, or the master of a replicated one; a server that answers MOVED belongs to a "
        "cluster, which is not supported yet.",
    .options = WEIR_OPTIONS(options, struct config),
    .sink = &sink,
    .check = sink_check,
    .needs = sink_needs,
    .traits = sink_traits,
    .probe = sink_probe,
    .open = sink_open,
    .close = sink_close,
};
