/* SPDX-License-Identifier: Apache-2.0
 *
 * The option table of the transform `redis_dedupe`, and what it cannot say.
 */
#include "dedupe_config.h"

#include "redis.h"
#include "servers.h"

static const char *const away_words[] = {"wait", "pass", NULL};

static const struct weir_option options[] = {
    CONN_OPTIONS(struct dedupe_config),
    LANE_OPTIONS(struct dedupe_config),
    {.name = "prefix",
     .type = WEIR_OPT_STRING,
     .offset = offsetof(struct dedupe_config, prefix),
     .flags = WEIR_OPT_NONEMPTY,
     .doc = "What stands in front of each key in Redis; without it weir:dedupe:PIPELINE:COMPONENT:, "
            "which keeps pipelines apart.",
     .example = "\"orders:seen:\""},
    {.name = "on_unavailable",
     .type = WEIR_OPT_ENUM,
     .offset = offsetof(struct dedupe_config, on_unavailable),
     .def = "wait",
     .choices = away_words,
     .doc = "While Redis is away: events wait, or pass though they may be duplicates.",
     .example = "pass"},
    {.name = "timeout",
     .type = WEIR_OPT_DURATION,
     .offset = offsetof(struct dedupe_config, timeout_ns),
     .def = "1s",
     .min = WEIR_NS_PER_MS,
     .max = 600 * WEIR_NS_PER_S,
     .doc = "How long an answer may take before Redis counts as away; at the end of weir, how long it "
            "waits for the last keys to be written.",
     .example = "200ms"},
    {.name = "memory",
     .type = WEIR_OPT_SIZE,
     .flags = WEIR_OPT_ADVANCED | WEIR_OPT_MEMORY | WEIR_OPT_SHARED,
     .offset = offsetof(struct dedupe_config, memory),
     .def = "64MiB",
     .min = 4096,
     .max = INT64_C(1) << 40,
     .doc = "How many bytes of keys may be on their way at most, for all lanes together; then the lanes "
            "take nothing new until some have ended and are written.",
     .example = "16MiB"},
};

static void dedupe_check(const void *config, const struct weir_report *report)
{
    const struct dedupe_config *cf = config;
    conn_config_check(&cf->conn, report);
    lane_check(&cf->lane, report);
    if (cf->prefix.len > DEDUPE_PREFIX_MAX)
        report->error(report, "prefix", -1, "expected at most %u bytes, found %zu",
                      DEDUPE_PREFIX_MAX, cf->prefix.len);
}

static int64_t dedupe_interval(const struct weir_host *h, const void *config)
{
    (void)h;
    (void)config;
    return LANE_INTERVAL_NS;
}

static enum weir_status dedupe_probe(const struct weir_host *h, const void *config,
                                     int64_t deadline_ns, struct weir_error *err)
{
    const struct dedupe_config *cf = config;
    return servers_probe(h, &cf->conn, deadline_ns, err);
}

const struct weir_type type_redis_dedupe = {
    .size = sizeof(type_redis_dedupe),
    .kind = WEIR_TRANSFORM,
    .name = "redis_dedupe",
    .summary = "Lets the first event with a key pass and filters the others, by keys in Redis.",
    .doc =
        "As `dedupe`, with keys that several processes share and that outlive them. Each new key is "
        "looked up (GET) before its event goes on, and written (SET NX PX) after the event has ended "
        "well; never before, so that a duplicate is not taken for an event that got nowhere. Both are "
        "pipelined, and the lane goes on serving its source meanwhile.\n\n"
        "**What is promised.** In one process the first of a key that is on its way is known, and "
        "its duplicates wait for it. Of two processes that meet the same key at the same time neither "
        "knows of the other: both events pass. That is counted in `weir_dedupe_races_total` when the "
        "key is written (a key that was written again after a lost connection counts, too). So is "
        "what a crash leaves behind: an event that had ended, but whose key was not written yet, passes "
        "once more. No event is ever filtered for one that was not delivered.\n\n"
        "An error reply to a look-up (WRONGTYPE, NOPERM) fails the event and its duplicates. A key "
        "that could not be written is counted in `weir_dedupe_unwritten_total`. While Redis is away "
        "nothing is lost: see `on_unavailable`.",
    .options = WEIR_OPTIONS(options, struct dedupe_config),
    .transform = &dedupe_calls,
    .check = dedupe_check,
    .interval = dedupe_interval,
    .probe = dedupe_probe,
    .open = dedupe_open,
    .close = dedupe_close,
};
