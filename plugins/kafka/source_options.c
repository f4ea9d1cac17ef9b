/* SPDX-License-Identifier: Apache-2.0
 *
 * The source's type: its option table, their way into librdkafka's configuration, and the checks
 * that need no running instance.
 */
#include "source.h"

#include <regex.h>
#include <stdio.h>
#include <string.h>

/* From this version on the library's cooperative assignor neither aborts nor hangs. */
#define VERSION_COOPERATIVE 0x020601ff

/* Bytes of one fetch request. */
#define FETCH_LEAST (INT64_C(4) << 20)
#define FETCH_MOST (INT64_C(50) << 20)

static const char *const assignment_words[] = {"auto", "range", "roundrobin", "cooperative-sticky",
                                               NULL};

static const struct weir_option options[] = {
    CLIENT_OPTIONS(struct source_config, client),
    {.name = "topics",
     .type = WEIR_OPT_LIST,
     .of = WEIR_OPT_STRING,
     .flags = WEIR_OPT_REQUIRED | WEIR_OPT_NONEMPTY,
     .offset = offsetof(struct source_config, topics),
     .doc =
         "Topics to read; one that begins with ^ is a regular expression over topic names, which "
         "finds none that Kafka writes itself (`__consumer_offsets` and the like).",
     .example = "[user-events, \"^audit\\\\..*\"]"},
    {.name = "group",
     .type = WEIR_OPT_STRING,
     .flags = WEIR_OPT_REQUIRED | WEIR_OPT_NONEMPTY,
     .offset = offsetof(struct source_config, group),
     .doc = "Consumer group; its members share the partitions, and it keeps the offsets.",
     .example = "consumer"},
    {.name = "start",
     .type = WEIR_OPT_ENUM,
     .offset = offsetof(struct source_config, start),
     .def = "earliest",
     .choices = start_words,
     .doc = "Where to begin in a partition of which the group holds no offset; one that appears "
            "while weir runs is always read from its beginning."},
    {.name = "start_time",
     .type = WEIR_OPT_STRING,
     .offset = offsetof(struct source_config, start_time),
     .doc = "With `start: time`: begin at the first message with this time or a later one.",
     .example = "2026-01-31T12:00:00Z"},
    {.name = "start_ago",
     .type = WEIR_OPT_DURATION,
     .offset = offsetof(struct source_config, start_ago),
     .min = 1,
     .max = INT64_C(100) * 365 * 86400 * WEIR_NS_PER_S,
     .doc = "With `start: time`: the same, so long before weir starts.",
     .example = "2h"},
    {.name = "start_offset",
     .type = WEIR_OPT_INT,
     .offset = offsetof(struct source_config, start_offset),
     .def = "0",
     .min = INT64_MIN + 1,
     .max = INT64_MAX,
     .doc = "With `start: offset`: begin at this offset of each partition; a negative one counts "
            "from its end.",
     .example = "-1000"},
    {.name = "stop_at_end",
     .type = WEIR_OPT_BOOL,
     .offset = offsetof(struct source_config, stop_at_end),
     .def = "false",
     .doc = "End the run once every assigned partition has been read to the end that it had when "
            "weir took it on, for batch jobs; what came behind it is left to the next run."},
    {.name = "start_over",
     .type = WEIR_OPT_BOOL,
     .flags = WEIR_OPT_ADVANCED,
     .offset = offsetof(struct source_config, start_over),
     .def = "false",
     .doc =
         "Begin by `start` also where the group holds an offset, once a run of weir; the group's "
         "offset is set back at once."},
    {.name = "instance_id",
     .type = WEIR_OPT_STRING,
     .offset = offsetof(struct source_config, instance_id),
     .doc = "Static group membership, one a process: a restart within session.timeout.ms moves no "
            "partition; each lane adds its number.",
     .example = "${env:HOSTNAME}"},
    {.name = "assignment",
     .type = WEIR_OPT_ENUM,
     .flags = WEIR_OPT_ADVANCED,
     .offset = offsetof(struct source_config, assignment),
     .def = "auto",
     .choices = assignment_words,
     .doc =
         "How the group shares partitions; all members need the same. auto: range, or "
         "roundrobin where the others want that. cooperative-sticky (librdkafka 2.6.1 and later) "
         "moves fewer partitions while members come and go, and the others are read on while the "
         "group forms anew."},
    {.name = "commit_interval",
     .type = WEIR_OPT_DURATION,
     .flags = WEIR_OPT_ADVANCED,
     .offset = offsetof(struct source_config, commit_interval),
     .def = "1s",
     .min = 10 * WEIR_NS_PER_MS,
     .max = 600 * WEIR_NS_PER_S,
     .doc = "How often offsets are committed; a crash repeats at most that much."},
    {.name = "drain_deadline",
     .type = WEIR_OPT_DURATION,
     .flags = WEIR_OPT_ADVANCED,
     .offset = offsetof(struct source_config, drain_deadline),
     .min = WEIR_NS_PER_MS,
     .max = 3600 * WEIR_NS_PER_S,
     .doc =
         "How long a partition that goes to another member may take to finish its events; default "
         "10s, or a third of max.poll.interval.ms where that is less.",
     .example = "20s"},
    {.name = "prefetch",
     .type = WEIR_OPT_SIZE,
     .flags = WEIR_OPT_ADVANCED | WEIR_OPT_MEMORY,
     .percent = 250, /* the queue, its messages' own structs, and a request under way */
     .offset = offsetof(struct source_config, prefetch),
     .def = "16MiB",
     .min = INT64_C(1) << 20,
     .max = INT64_C(2047) << 20,
     .doc =
         "Memory a lane for messages fetched ahead, besides about 300 bytes for each of them and "
         "what one more request a broker brings, unpacked (rdkafka.fetch.max.bytes bounds it "
         "packed).",
     .example = "64MiB"},
};

/* ---- Configuration ------------------------------------------------------------------------- */

/* Never cooperative by itself: a commit that meets a generation's end costs the library all its
 * partitions then, and with them the events under way, which are repeated. commit.c keeps clear of
 * that but for a moment; eager members have nothing left to commit. */
static const char *assignor(const struct source_config *cfg)
{
    if (cfg->assignment != ASSIGN_AUTO)
        return assignment_words[cfg->assignment];
    return "range,roundrobin";
}

static bool is_named(const struct source_config *cfg, const char *topic)
{
    const struct weir_str *topics = cfg->topics.items;
    for (uint32_t i = 0; i < cfg->topics.n; i++)
        if (strcmp(topics[i].ptr, topic) == 0)
            return true;
    return false;
}

/* A pattern such as ^.* means the user's topics: Kafka's own would feed on each commit of ours. */
static void conf_topics(rd_kafka_conf_t *conf, const struct source_config *cfg, struct problems *p)
{
    static const char *const own[] = {"__consumer_offsets", "__transaction_state",
                                      "__share_group_state"};
    char text[128] = "";
    size_t n = 0;
    for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++)
        if (!is_named(cfg, own[i]))
            n += (size_t)snprintf(text + n, sizeof(text) - n, "%s^%s$", n > 0 ? "," : "", own[i]);
    set(conf, p, "topics", "topic.blacklist", text);
}

static void conf_prefetch(rd_kafka_conf_t *conf, const struct source_config *cfg,
                          struct problems *p)
{
    bool backoff = rd_kafka_version() >= VERSION_BACKOFF;
    int64_t bytes = cfg->prefetch;
    set_number(conf, p, "prefetch", "queued.max.messages.kbytes", bytes >> 10);
    set(conf, p, "prefetch", "queued.min.messages", "1000000");
    if (backoff)
        set(conf, p, "prefetch", "fetch.queue.backoff.ms", "5");
    /* What a request brings comes on top, and packed. */
    int64_t request = bytes > FETCH_LEAST ? bytes : FETCH_LEAST;
    set_number(conf, p, "prefetch", "fetch.max.bytes", request < FETCH_MOST ? request : FETCH_MOST);
}

rd_kafka_conf_t *source_conf(const struct source_config *cfg, uint32_t lane, struct problems *p)
{
    rd_kafka_conf_t *conf = client_conf(&cfg->client, p);
    char id[300];
    if (cfg->instance_id.len != 0) {
        int n = snprintf(id, sizeof(id), "%s-%u", cfg->instance_id.ptr, (unsigned)lane);
        if (n >= (int)sizeof(id) - 50)
            problem(p, "instance_id", "is longer than %d bytes", (int)sizeof(id) - 53);
        else
            set(conf, p, "instance_id", "group.instance.id", id);
    }
    set_text(conf, p, "group", "group.id", cfg->group);
    /* Also where a committed offset is gone from the topic: what is left is read. */
    set(conf, p, "start", "auto.offset.reset", "earliest");
    set(conf, p, "assignment", "partition.assignment.strategy", assignor(cfg));
    set(conf, p, "", "enable.auto.commit", "false");
    set(conf, p, "", "enable.auto.offset.store", "false");
    set(conf, p, "", "enable.partition.eof", "true");
    /* Nothing is to come behind the end, for which a broker would wait half a second. */
    if (cfg->stop_at_end)
        set(conf, p, "stop_at_end", "fetch.wait.max.ms", "50");
    /* New topics and partitions are found within that time. */
    set(conf, p, "", "topic.metadata.refresh.interval.ms", "30000");
    conf_prefetch(conf, cfg, p);
    conf_topics(conf, cfg, p);
    client_conf_raw(conf, &cfg->client, WEIR_SOURCE, p);
    return conf;
}

/* The drain deadline in ns. A member that takes longer than max.poll.interval.ms to join again is
 * thrown out of its group, so that half of it is the most. */
int64_t drain_time(const struct source_config *cfg, const rd_kafka_conf_t *conf, struct problems *p)
{
    int64_t limit = get_number(conf, "max.poll.interval.ms") * WEIR_NS_PER_MS;
    int64_t usual = 10 * WEIR_NS_PER_S;
    if (cfg->drain_deadline == 0)
        return limit / 3 < usual ? limit / 3 : usual;
    if (cfg->drain_deadline > limit / 2)
        problem(p, "drain_deadline",
                "is more than half of max.poll.interval.ms (%lld ms): the group would throw the "
                "member out before it has joined again; lower it or raise "
                "rdkafka.max.poll.interval.ms",
                (long long)(limit / WEIR_NS_PER_MS));
    return cfg->drain_deadline;
}

static void check_pattern(struct problems *p, const char *path, const char *pattern)
{
    regex_t re;
    char text[200];
    int code = regcomp(&re, pattern, REG_EXTENDED | REG_NOSUB);
    if (code == 0) {
        regfree(&re);
        return;
    }
    regerror(code, &re, text, sizeof(text));
    problem(p, path, "'%.200s' is no regular expression: %s", pattern, text);
}

static void check_topics(const struct source_config *cfg, struct problems *p)
{
    const struct weir_str *topics = cfg->topics.items;
    for (uint32_t i = 0; i < cfg->topics.n; i++) {
        char path[32];
        snprintf(path, sizeof(path), "topics[%u]", (unsigned)i);
        if (topics[i].len > 0 && topics[i].ptr[0] == '^')
            check_pattern(p, path, topics[i].ptr);
        else if (!topic_name_valid(topics[i]))
            problem(p, path,
                    "'%.200s' is no topic name: 1 to 249 letters, digits, '.', '_' and '-'",
                    topics[i].ptr);
        for (uint32_t k = 0; k < i; k++)
            if (topics[k].len == topics[i].len &&
                memcmp(topics[k].ptr, topics[i].ptr, topics[i].len) == 0)
                problem(p, path, "'%.200s' is named twice", topics[i].ptr);
    }
}

void check_assignment(const struct source_config *cfg, struct problems *p)
{
    if (cfg->assignment == ASSIGN_COOPERATIVE && rd_kafka_version() < VERSION_COOPERATIVE)
        problem(p, "assignment",
                "cooperative-sticky can abort or hang the process in librdkafka %s: use range or "
                "roundrobin, or librdkafka 2.6.1 and later",
                rd_kafka_version_str());
}

static void source_check(const void *config, const struct weir_report *report)
{
    const struct source_config *cfg = config;
    struct problems p = {.report = report};
    client_check(&cfg->client, &p);
    check_topics(cfg, &p);
    check_assignment(cfg, &p);
    check_start(cfg, &p);
    rd_kafka_conf_t *conf = source_conf(cfg, 0, &p);
    drain_time(cfg, conf, &p);
    if (p.n == 0)
        client_try(conf, WEIR_SOURCE, &p);
    else
        rd_kafka_conf_destroy(conf);
}

static enum weir_status source_probe(const struct weir_host *h, const void *config,
                                     int64_t deadline_ns, struct weir_error *err)
{
    const struct source_config *cfg = config;
    const struct weir_str *topics = cfg->topics.items;
    struct weir_str *names = h->alloc((cfg->topics.n + 1) * sizeof(*names));
    uint32_t n = 0;
    if (names == NULL)
        return h->error(err, WEIR_E_NOMEM, "no_memory", "memory is used up");
    for (uint32_t i = 0; i < cfg->topics.n; i++)
        if (topics[i].ptr[0] != '^')
            names[n++] = topics[i];
    enum weir_status status =
        client_probe(h, WEIR_SOURCE, &cfg->client, names, n, deadline_ns, err);
    h->free(names);
    return status;
}

const struct weir_type kafka_source_type = {
    .size = sizeof(kafka_source_type),
    .kind = WEIR_SOURCE,
    .name = "kafka",
    .summary = "Reads topics as a member of a consumer group.",
    .doc =
        "Each lane is a consumer of its own in the group. Offsets are committed once everything "
        "before them has ended: delivered, filtered, or kept as a dead letter.\n\n"
        "When a partition moves to another member its events end first, which may take up to "
        "`drain_deadline`. A member of which the group hears nothing for `session.timeout.ms` has "
        "lost "
        "its partitions: it writes nothing more of them, for their next owner reads them again "
        "(`weir_component_discarded_events_total{reason=\"abandoned\"}`). Of two processes with "
        "one `instance_id` the older one stops.\n\n"
        "Where messages were gone from the topic before they were read, what is left is read, "
        "whatever `start` says; the log and `weir_kafka_offsets_gone_total` tell how many offsets. "
        "A topic that is deleted and made again is read from its beginning; but where it is longer "
        "than the old one by the time that this is found, only from the place that was reached. "
        "While Kafka refuses the login, or denies a "
        "topic or the group, `/readyz` says so, and the source goes on once it may.\n\n"
        "The header `weir-id` gives an event its id; without it the id is "
        "`topic-partition-offset`. Where the topic was deleted and made again while it was read, "
        "`@` and a time follow, so that nobody takes its messages for those of before: the time, "
        "in ms, of the first one that was read, which the group keeps beside the offset. Brokers "
        "forget a group's offsets with the topic: a weir that was not running meanwhile, or had "
        "read nothing of the topic, takes it for a new one, and gives the ids that the old one's "
        "messages had. A partition that only lost its end, to a leader that had missed it, is "
        "read from its beginning, too: its ids stay where the first message that is left has "
        "another offset than 0 and is older than the last one that was read; else a time follows "
        "them, so that these messages pass for new ones. A message without a value is a tombstone "
        "and passes as one.\n\n"
        "Metrics of the client, every `statistics`: `weir_kafka_rx_messages_total`, "
        "`weir_kafka_rx_bytes_total`, `weir_kafka_fetch_queue_messages`, "
        "`weir_kafka_fetch_queue_bytes`, `weir_kafka_broker_rtt_seconds` and "
        "`weir_kafka_broker_connected` (of up to 32 brokers), "
        "`weir_kafka_requests_timed_out_total`, `weir_kafka_requests_retried_total`, "
        "`weir_kafka_connects_total`. Always: `weir_kafka_watermark_lag` (messages behind what "
        "has ended), `weir_kafka_rebalances_total`, `weir_kafka_commits_total`, "
        "`weir_kafka_offsets_gone_total`, `weir_kafka_errors_total`.",
    .options = WEIR_OPTIONS(options, struct source_config),
    .source = &kafka_source_calls,
    .check = source_check,
    .probe = source_probe,
    .open = source_open,
    .close = source_close,
};
