/* SPDX-License-Identifier: Apache-2.0
 *
 * Events that were made of events, against a model; and several threads that settle at the same time.
 */
#include "ack_rig.h"

#include <sched.h>

/* ---- Trees: fan-out, derive, join, watch ---- */

enum { TREE_EVENTS = 3000, TREE_NODES = 40000, TREE_REFS = 60000 };

static struct {
    struct node {
        uint32_t refs, worst, n_parents;
        uint32_t parent[4];
        uint32_t cookie; /* of a watched one, 0 = none */
        bool ended;
    } node[TREE_NODES];
    uint32_t n_nodes;
    struct {
        struct wr_ack *ack;
        uint32_t node;
    } ref[TREE_REFS];
    uint32_t n_refs, n_watched;
    uint8_t watched[TREE_NODES]; /* by cookie: outcome + 1 */
} tree;

static void tree_settle(uint32_t i, uint32_t outcome)
{
    struct node *n = &tree.node[i];
    n->worst = outcome > n->worst ? outcome : n->worst;
    if (--n->refs != 0)
        return;
    n->ended = true;
    if (n->cookie != 0)
        tree.watched[n->cookie] = (uint8_t)(n->worst + 1);
    for (uint32_t p = 0; p < n->n_parents; p++)
        tree_settle(n->parent[p], n->worst);
}

static uint32_t tree_node(struct wr_ack *ack)
{
    tree.ref[tree.n_refs].ack = ack;
    tree.ref[tree.n_refs].node = tree.n_nodes;
    tree.node[tree.n_nodes].refs = 1;
    tree.n_refs++;
    return tree.n_nodes++;
}

static void drop_ref(uint32_t i)
{
    tree.ref[i] = tree.ref[--tree.n_refs];
}

/* A child of up to four refs, which it takes. */
static void tree_child(uint32_t n, bool watch)
{
    struct wr_ack *parents[4];
    uint32_t nodes[4];
    for (uint32_t p = 0; p < n; p++) {
        uint32_t i = any(tree.n_refs);
        parents[p] = tree.ref[i].ack;
        nodes[p] = tree.ref[i].node;
        drop_ref(i);
    }
    uint32_t cookie = watch ? ++tree.n_watched : 0;
    uint32_t c = tree_node(wr_acks_child(rig.acks, parents, n, watch ? WATCHER : NULL, cookie));
    tree.node[c].cookie = cookie;
    tree.node[c].n_parents = n;
    memcpy(tree.node[c].parent, nodes, sizeof(nodes));
}

static void tree_step(struct wr_ended *ended)
{
    uint32_t i = any(tree.n_refs);
    switch (any(16)) {
    case 0: /* fan-out, derive */
    case 1:
    case 2:
    case 3:
    case 4:
        if (tree.n_refs < TREE_REFS) {
            wr_ack_ref(tree.ref[i].ack);
            tree.node[tree.ref[i].node].refs++;
            tree.ref[tree.n_refs++] = tree.ref[i];
        }
        break;
    case 5:
    case 6:
        if (tree.n_nodes < TREE_NODES)
            tree_child(1, true);
        break;
    case 7:
        if (tree.n_nodes < TREE_NODES && tree.n_refs >= 4)
            tree_child(2 + any(3), any(2) != 0);
        break;
    case 8:
        wr_ended_flush(ended);
        wr_acks_collect(rig.acks);
        break;
    default: {
        uint32_t outcome = any(WEIR_FAILED + 1);
        wr_ack_settle(tree.ref[i].ack, outcome, NULL, ended);
        tree_settle(tree.ref[i].node, outcome);
        drop_ref(i);
    }
    }
}

static void test_trees_end_as_their_worst_branch(void **state)
{
    struct wr_ended ended = {0};
    (void)state;
    memset(&tree, 0, sizeof(tree));
    rig.settled = wr_xalloc(TREE_NODES);
    for (int i = 0; i < TREE_EVENTS; i++) { /* each a request of its own, which tells the outcome */
        struct wr_ack *ack;
        enter(NULL, begin_request(i), 0, 1, 1, &ack);
        wr_request_seal(rig.requests[i].r, 1);
        assert_int_equal(tree_node(ack), i);
    }
    while (tree.n_refs != 0)
        tree_step(&ended);
    wr_ended_flush(&ended);
    wr_acks_collect(rig.acks);
    for (int i = 0; i < TREE_EVENTS; i++) {
        assert_true(tree.node[i].ended);
        assert_int_equal(rig.requests[i].n_answers, 1);
        assert_int_equal(rig.requests[i].ends[0], tree.node[i].worst);
    }
    assert_true(tree.n_watched > 1000);
    assert_int_equal(rig.n_settled, tree.n_watched);
    assert_memory_equal(rig.settled, tree.watched, TREE_NODES);
}


/* ---- Several threads ---- */

enum { SETTLERS = 4, CROWD = 32000, ITEMS = 8, CHUNK = 64 };

/* Chunks of 64: the even ones are events of streams, the odd ones those of 8 requests. */
static struct {
    struct wr_ack *ack[CROWD];
    _Atomic uint32_t entered;
    _Atomic int over;
} crowd;

static bool of_stream(uint32_t i)
{
    return i / CHUNK % 2 == 0;
}

static enum weir_outcome outcome_by(uint32_t i, uint32_t settler)
{
    uint32_t x = (i * 2654435761u) ^ (settler * 2246822519u);
    x = (x ^ (x >> 15)) * 2654435761u;
    return (x >> 16) % (of_stream(i) ? WEIR_DEAD_LETTERED + 1 : WEIR_FAILED + 1);
}

static enum weir_outcome outcome_of(uint32_t i)
{
    enum weir_outcome worst = WEIR_FILTERED;
    for (uint32_t t = 0; t < SETTLERS; t++)
        worst = outcome_by(i, t) > worst ? outcome_by(i, t) : worst;
    return worst;
}

static void settle_as(uint32_t i, uint32_t settler, struct wr_ended *ended)
{
    enum weir_outcome outcome = outcome_by(i, settler);
    struct wr_why why = {outcome, weir_cstr("sink"), "code", weir_cstr("message"), NULL};
    (void)is_gone(crowd.ack[i]);
    if (i % 3 == 0 && outcome > WEIR_DELIVERED)
        wr_ack_note(crowd.ack[i], &why);
    wr_ack_settle(crowd.ack[i], outcome, i % 5 == 0 && outcome > WEIR_DELIVERED ? &why : NULL, ended);
}

static void *settle_crowd(void *arg)
{
    uint32_t settler = (uint32_t)(uintptr_t)arg;
    struct wr_ended ended = {0};
    for (uint32_t at = 0; at < CROWD; at += CHUNK) {
        while (atomic_load(&crowd.entered) < at + CHUNK)
            sched_yield();
        for (uint32_t k = 0; k < CHUNK; k++) { /* each in an order of its own */
            settle_as(at + (k * (2 * settler + 1) + settler * 17) % CHUNK, settler, &ended);
            if (k % (7 + settler) == 0)
                wr_ended_flush(&ended);
        }
    }
    wr_ended_flush(&ended);
    atomic_fetch_add(&crowd.over, 1);
    wr_wake_signal(&rig.wake);
    return NULL;
}

static void enter_chunk(uint32_t at)
{
    uint32_t chunk = at / CHUNK;
    if (of_stream(at)) {
        struct heard_stream *hs = &rig.streams[chunk / 2 % 3];
        enter(hs->s, NULL, (int64_t)chunk / 2 / 3 * CHUNK, CHUNK, 1, &crowd.ack[at]);
    }
    for (uint32_t i = at; !of_stream(at) && i < at + CHUNK; i += ITEMS) {
        int r = (int)(chunk / 2 * (CHUNK / ITEMS) + (i - at) / ITEMS);
        enter(NULL, begin_request(r), 0, ITEMS, 1, &crowd.ack[i]);
        wr_request_seal(rig.requests[r].r, ITEMS);
    }
    for (uint32_t i = at; i < at + CHUNK; i++)
        for (int t = 1; t < SETTLERS; t++)
            wr_ack_ref(crowd.ack[i]);
    atomic_store(&crowd.entered, at + CHUNK);
}

static void test_threads_settle_at_the_same_time(void **state)
{
    pthread_t threads[SETTLERS];
    (void)state;
    memset(&crowd, 0, sizeof(crowd));
    for (int s = 0; s < 3; s++)
        open_stream(s);
    for (uintptr_t t = 0; t < SETTLERS; t++)
        assert_int_equal(pthread_create(&threads[t], NULL, settle_crowd, (void *)t), 0);
    for (uint32_t at = 0; at < CROWD; at += CHUNK) {
        enter_chunk(at);
        wr_wake_clear(&rig.wake);
        wr_acks_collect(rig.acks);
    }
    /* Woken for whatever comes home: a lost wake-up would hang here. */
    while (wr_acks_open(rig.acks) != 0) {
        wr_wake_wait(&rig.wake, wr_clock_system(), INT64_MAX);
        wr_wake_clear(&rig.wake);
        wr_acks_collect(rig.acks);
    }
    for (int t = 0; t < SETTLERS; t++)
        pthread_join(threads[t], NULL);
    int64_t committed = 0;
    for (int s = 0; s < 3; s++)
        committed += rig.streams[s].committed;
    assert_int_equal(committed, CROWD / 2);
    for (uint32_t i = 0; i < CROWD; i++) {
        if (of_stream(i))
            continue;
        uint32_t r = i / CHUNK / 2 * (CHUNK / ITEMS) + i % CHUNK / ITEMS;
        assert_int_equal(rig.requests[r].n_answers, 1);
        assert_int_equal(rig.requests[r].n, ITEMS);
        assert_int_equal(rig.requests[r].ends[i % ITEMS], outcome_of(i));
    }
}

/* A partition goes to another member while its events are at the sinks. */
static void test_a_stream_is_closed_while_threads_settle(void **state)
{
    pthread_t threads[SETTLERS];
    (void)state;
    memset(&crowd, 0, sizeof(crowd));
    for (int s = 0; s < 3; s++)
        open_stream(s);
    for (uintptr_t t = 0; t < SETTLERS; t++)
        assert_int_equal(pthread_create(&threads[t], NULL, settle_crowd, (void *)t), 0);
    int closed_after = -1;
    for (uint32_t at = 0; at < CROWD; at += CHUNK) {
        enter_chunk(at);
        wr_acks_collect(rig.acks);
        if (at / CHUNK % 60 == 59) { /* a new owner, a new epoch */
            closed_after = rig.streams[1].n_commits;
            wr_stream_close(rig.streams[1].s);
            wr_acks_collect(rig.acks);
            assert_int_equal(rig.streams[1].n_commits, closed_after);
            rig.streams[1].committed = -1;
            open_stream(1);
        }
    }
    assert_true(closed_after >= 0);
    for (int t = 0; t < SETTLERS; t++)
        pthread_join(threads[t], NULL);
    wr_acks_collect(rig.acks);
    assert_int_equal(wr_acks_open(rig.acks), 0);
    for (int s = 0; s < 3; s++)
        assert_int_equal(wr_stream_pending(rig.streams[s].s), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ACKS(test_trees_end_as_their_worst_branch),
        ACKS(test_threads_settle_at_the_same_time),
        ACKS(test_a_stream_is_closed_while_threads_settle),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
