/* SPDX-License-Identifier: Apache-2.0
 *
 * Taking partitions on and handing them over.
 *
 *   callback (inside a poll) ──marks──▶ ASSIGN ────────────────▶ LOOKUP ────▶ assign
 *                                       DRAIN ──nothing under way──▶ STORE ──▶ unassign
 *                                         └──deadline──────────────▶   │
 *
 * The library waits for assign or unassign as long as it is polled, and goes on with its
 * heartbeats; it has paused the partitions by itself. So a partition's events end before its next
 * owner begins, unless the sink is too slow for the deadline: then they are abandoned and read
 * again there.
 */
#include "source.h"

#include <stdio.h>
#include <string.h>

/* How long the commit of a hand-over may take. */
#define STORE_DEADLINE (5 * WEIR_NS_PER_S)
/* After brokers that could not say where to begin. */
#define LOOKUP_PAUSE WEIR_NS_PER_S

static void say(const struct source *s, enum weir_log_level level, const char *message,
                uint64_t partitions, uint64_t events)
{
    const struct weir_host *h = s->client.host;
    struct weir_kv kv[3] = {weir_kv_u64("rebalance", s->rebalance.number),
                            weir_kv_u64("partitions", partitions), weir_kv_u64("events", events)};
    h->log(h, level, message, kv, events > 0 ? 3 : 2);
}

static void check_error(struct source *s, rd_kafka_error_t *take_error)
{
    if (take_error == NULL)
        return;
    client_fault(&s->client, rd_kafka_error_code(take_error), rd_kafka_error_string(take_error),
                 NULL);
    rd_kafka_error_destroy(take_error);
}

static void check_code(struct source *s, rd_kafka_resp_err_t code)
{
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
        client_fault(&s->client, code, rd_kafka_err2str(code), NULL);
}

static void finished(struct rebalance *r)
{
    rd_kafka_topic_partition_list_destroy(r->list);
    r->list = NULL;
    r->state = REBALANCE_NONE;
}

static void library_assign(struct source *s)
{
    struct rebalance *r = &s->rebalance;
    if (r->incremental)
        check_error(s, rd_kafka_incremental_assign(s->rk, r->list));
    else
        check_code(s, rd_kafka_assign(s->rk, r->list));
}

static void library_unassign(struct source *s)
{
    struct rebalance *r = &s->rebalance;
    if (r->incremental)
        check_error(s, rd_kafka_incremental_unassign(s->rk, r->list));
    else
        check_code(s, rd_kafka_assign(s->rk, NULL));
}

/* ---- Taking on ----------------------------------------------------------------------------- */

/* Where the group had no offset, the place that was found is kept there at once. */
static void keep_start(struct source *s, const rd_kafka_topic_partition_t *o, struct part *p)
{
    if (o->opaque == NULL)
        return;
    commit_mark(s, p, o->offset);
    s->commit_ns = 0;
}

static void take_on(struct source *s)
{
    struct rebalance *r = &s->rebalance;
    /* Eager: this is the whole assignment. Else a give-up that was not carried out has lapsed. */
    for (uint32_t i = 0; i < s->n_parts; i++)
        s->parts[i]->giving_up = s->parts[i]->draining = !r->incremental;
    parts_close(s);
    for (int i = 0; i < r->list->cnt; i++) {
        const rd_kafka_topic_partition_t *o = &r->list->elems[i];
        struct part *p = part_open(s, o->topic, o->partition);
        if (p == NULL) {
            s->fatal = true;
            s->client.host->error(&s->fatal_error, WEIR_E_NOMEM, "no_memory",
                                  "memory is used up: cannot take on partition %d of topic '%s'",
                                  (int)o->partition, o->topic);
            return;
        }
        p->stop = start_stop_of(s, o);
        keep_start(s, o, p);
    }
    library_assign(s);
    if (s->paused)
        parts_pause(s);
    gone_taken_on(s, r->list);
    rights_joined(s);
    r->assigned = true;
    r->joining = false;
    say(s, WEIR_LOG_INFO, "partitions taken on", (uint64_t)r->list->cnt, 0);
    finished(r);
}

static void lookup_failed(struct source *s, rd_kafka_resp_err_t code)
{
    char text[WEIR_ERROR_TEXT / 2];
    snprintf(text, sizeof(text), "looking where to begin failed, trying again: %s",
             rd_kafka_err2str(code));
    client_fault(&s->client, code, text, NULL);
}

/* Asks where to begin, or takes the answer in. An answer to an older assignment has lapsed. */
static void step_lookup(struct source *s, int64_t now)
{
    struct rebalance *r = &s->rebalance;
    struct question q;
    enum ask_state state = ask_answer(s, ASK_STARTS, &q);
    if (state == ASK_OPEN || (state == ASK_NONE && now < r->deadline_ns))
        return;
    if (state == ASK_NONE) {
        ask(s, ASK_STARTS, rd_kafka_topic_partition_list_copy(r->list), r->number);
        return;
    }
    if (q.number != r->number || q.code != RD_KAFKA_RESP_ERR_NO_ERROR) {
        bool lapsed = q.number != r->number;
        r->deadline_ns = lapsed ? now : now + LOOKUP_PAUSE;
        if (!lapsed)
            lookup_failed(s, q.code);
        rd_kafka_topic_partition_list_destroy(q.list);
        return;
    }
    rd_kafka_topic_partition_list_destroy(r->list);
    r->list = q.list;
    take_on(s);
}

/* Before anything is assigned: a topic that is not there yet is new when it comes. */
static void prime(struct source *s, int64_t now)
{
    struct rebalance *r = &s->rebalance;
    struct question q;
    if (r->primed || !start_is_asked(s->cfg))
        return;
    enum ask_state state = ask_answer(s, ASK_STARTS, &q);
    if (state == ASK_NONE && now >= r->deadline_ns)
        ask(s, ASK_STARTS, rd_kafka_topic_partition_list_new(1), r->number);
    if (state != ASK_ANSWERED)
        return;
    r->primed = q.code == RD_KAFKA_RESP_ERR_NO_ERROR;
    r->deadline_ns = now + LOOKUP_PAUSE;
    rd_kafka_topic_partition_list_destroy(q.list);
}

static void begin_assign(struct source *s, int64_t now)
{
    struct rebalance *r = &s->rebalance;
    if (r->list->cnt == 0) {
        take_on(s);
        return;
    }
    r->state = REBALANCE_LOOKUP;
    r->deadline_ns = now;
    step_lookup(s, now);
}

/* ---- Handing over -------------------------------------------------------------------------- */

static void mark_drain(struct source *s)
{
    struct rebalance *r = &s->rebalance;
    for (uint32_t i = 0; i < s->n_parts && !r->marked; i++) {
        struct part *p = s->parts[i];
        p->giving_up = !r->incremental || rd_kafka_topic_partition_list_find(
                                              r->list, p->topic, p->origin.partition) != NULL;
        p->draining = p->giving_up;
    }
    r->marked = true;
}

static void give_up(struct source *s, bool lost)
{
    uint64_t pending = parts_pending(s);
    uint32_t n = s->n_parts;
    parts_close(s);
    library_unassign(s);
    n -= s->n_parts;
    s->rebalance.assigned = false;
    s->rebalance.joining = s->rebalance.incremental && !lost;
    if (lost)
        say(s, WEIR_LOG_WARN, "partitions lost: the group has given them to others", n, pending);
    else if (pending > 0)
        say(s, WEIR_LOG_WARN,
            "partitions handed over at the drain deadline: their next owner repeats the events "
            "that were under way",
            n, pending);
    else
        say(s, WEIR_LOG_INFO, "partitions handed over", n, 0);
    finished(&s->rebalance);
}

static void step_drain(struct source *s, int64_t now)
{
    struct rebalance *r = &s->rebalance;
    mark_drain(s);
    if (r->lost || rd_kafka_assignment_lost(s->rk)) {
        give_up(s, true);
        return;
    }
    if (parts_pending(s) > 0 && now < r->deadline_ns)
        return;
    if (s->committing && now < r->deadline_ns + STORE_DEADLINE)
        return;
    if (!s->committing && commit_send(s, true)) {
        r->state = REBALANCE_STORE;
        r->deadline_ns = now + STORE_DEADLINE;
        return;
    }
    give_up(s, false);
}

static void step_store(struct source *s, int64_t now)
{
    if (!s->committing || now >= s->rebalance.deadline_ns)
        give_up(s, false);
}

void rebalance_step(struct source *s, int64_t now)
{
    switch (s->rebalance.state) {
    case REBALANCE_NONE:
        prime(s, now);
        return;
    case REBALANCE_ASSIGN:
        begin_assign(s, now);
        return;
    case REBALANCE_LOOKUP:
        step_lookup(s, now);
        return;
    case REBALANCE_DRAIN:
        step_drain(s, now);
        return;
    case REBALANCE_STORE:
        step_store(s, now);
        return;
    }
}

bool rebalance_due(const struct source *s)
{
    const struct rebalance *r = &s->rebalance;
    return r->state == REBALANCE_ASSIGN || (r->state == REBALANCE_DRAIN && !r->marked);
}

/* ---- Marking ------------------------------------------------------------------------------- */

static void carry_out_closing(struct source *s)
{
    if (s->rebalance.state == REBALANCE_ASSIGN || s->rebalance.state == REBALANCE_LOOKUP) {
        library_assign(s);
    } else {
        mark_drain(s);
        parts_close(s);
        library_unassign(s);
    }
    finished(&s->rebalance);
}

void on_rebalance(rd_kafka_t *rk, rd_kafka_resp_err_t code, rd_kafka_topic_partition_list_t *list,
                  void *opaque)
{
    struct source *s = opaque;
    struct rebalance *r = &s->rebalance;
    const struct weir_host *h = s->client.host;
    const char *protocol = rd_kafka_rebalance_protocol(rk);
    if (r->list != NULL)
        rd_kafka_topic_partition_list_destroy(r->list);
    r->number++;
    r->marked = false;
    r->list = rd_kafka_topic_partition_list_copy(list);
    r->incremental = protocol != NULL && strcmp(protocol, "COOPERATIVE") == 0;
    r->state = code == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS ? REBALANCE_ASSIGN : REBALANCE_DRAIN;
    r->lost = r->state == REBALANCE_DRAIN &&
              (code != RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS || rd_kafka_assignment_lost(rk));
    r->deadline_ns = h->now(h) + s->drain_ns;
    h->metric_add(s->n_rebalances, 1);
    if (r->closing)
        carry_out_closing(s);
}

void rebalance_close(struct source *s)
{
    s->rebalance.closing = true;
    if (s->rebalance.state != REBALANCE_NONE)
        carry_out_closing(s);
}
