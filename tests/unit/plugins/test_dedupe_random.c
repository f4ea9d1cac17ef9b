/* SPDX-License-Identifier: Apache-2.0
 *
 * The transform dedupe while anything may happen: two lanes and a sink that takes, rejects, and leaves
 * open, in any order and by many seeds.
 */
#include "flow_rig.h"

#define KEYS 7u
#define SEEDS 150u

static uint64_t chance;
static uint32_t n_emitted, delivered[KEYS], pending[64], n_pending, n_twice;
static uint32_t this_write, this_event; /* that a verdict was asked for last */
static uint64_t pending_ticket;

static uint32_t roll(uint32_t n)
{
    chance = chance * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return (uint32_t)(chance >> 33) % n;
}

static enum weir_status poll_any(struct rig_script *s, struct weir_batch *b, uint32_t room)
{
    uint32_t n = n_emitted < 400 ? roll(12) : 0;
    for (uint32_t i = 0; i < n && i < room; i++, n_emitted++) {
        char text[32];
        snprintf(text, sizeof(text), "{\"k\":\"%u\"}", roll(KEYS));
        (void)rig_emit(s, b, text, (int64_t)(s->n_polls * 1000 + i));
    }
    return n != 0 ? WEIR_OK : WEIR_AGAIN;
}

/* What the sink has taken is not to come again. */
static void take(uint32_t key)
{
    n_twice += delivered[key]++ != 0;
}

static enum weir_verdict any_verdict(struct rig_script *s, const struct weir_event *ev, uint32_t write)
{
    uint32_t key = (uint32_t)(ev->payload.ptr[6] - '0');
    uint32_t i = write == this_write ? ++this_event : 0;
    this_event = i;
    this_write = write;
    pending_ticket = s->last_ticket;
    switch (roll(4)) {
    case 0:
        return WEIR_VERDICT_REJECTED;
    case 1:
        pending[n_pending++] = i << 8 | key;
        return WEIR_VERDICT_PENDING;
    default:
        take(key);
        return WEIR_VERDICT_OK;
    }
}

static void complete_any(struct rig *r)
{
    struct rig_script *s = &r->script[3];
    while (n_pending > 0 && roll(3) != 0) {
        uint32_t at = pending[--n_pending];
        bool ok = roll(3) != 0;
        if (ok)
            take(at & 0xff);
        rig_complete_as(s, pending_ticket, at >> 8, ok ? WEIR_VERDICT_OK : WEIR_VERDICT_REJECTED, 0);
    }
}

/* No key is delivered twice, each event has one end, and each key is delivered at last. */
static void run_any(uint64_t seed)
{
    char options[200];
    chance = seed;
    n_emitted = n_pending = n_twice = 0;
    this_write = UINT32_MAX;
    memset(delivered, 0, sizeof(delivered));
    snprintf(options, sizeof(options), "type: dedupe, key: '{{ k }}', held: %u, entries: %u", 1 + roll(20), KEYS + roll(3));
    struct rig *r = flow_two_lanes(options, "", "");
    r->script[0].poll = r->script[1].poll = poll_any;
    r->script[3].verdict = any_verdict;
    r->comps[3].opt.sink.batch.events = 20;
    for (uint32_t i = 0; i < 300 || n_pending > 0; i++) {
        complete_any(r);
        rig_step(r, 1 + roll(3));
        r->script[3].seen[0] = '\0';
    }
    wr_pipeline_drain(r->p, r->now + 1000 * WEIR_NS_PER_S);
    for (uint32_t i = 0; i < 200 && wr_pipeline_state(r->p) != WR_PIPELINE_DONE; i++) {
        complete_any(r);
        rig_step(r, 1);
        r->script[3].seen[0] = '\0';
    }
    assert_int_equal(wr_pipeline_state(r->p), WR_PIPELINE_DONE);
    assert_int_equal(n_twice, 0);
    uint32_t n_delivered = 0;
    for (uint32_t k = 0; k < KEYS; k++)
        n_delivered += delivered[k];
    double dropped = flow_discarded(r, "duplicate"), rejected = flow_discarded(r, "scripted");
    assert_true(n_emitted > 200 && n_delivered + dropped + rejected == n_emitted);
    assert_true(n_delivered == KEYS);
    assert_int_equal(atomic_load(&r->p->units[2]->held_events), 0);
    rig_done(r);
}

static void test_whatever_happens_each_key_is_delivered_once(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= SEEDS; seed++)
        run_any(seed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whatever_happens_each_key_is_delivered_once),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    flow_end();
    return failed;
}
