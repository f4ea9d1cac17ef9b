/* SPDX-License-Identifier: Apache-2.0
 *
 * app/replay_report.c: the summary of a replay, as text and as JSON; see replay_report.h.
 */
#include <app/replay_report.h>
#include <base/check.h>
#include <base/str.h>

static const char *const outcome_texts[] = {
    [WEIR_FILTERED] = "filtered",        [WEIR_DELIVERED] = "delivered",
    [WEIR_DROPPED] = "dropped",          [WEIR_DEAD_LETTERED] = "failed again",
    [WEIR_ABANDONED] = "left to others", [WEIR_FAILED] = "not done"};
static const char *const outcome_names[] = {
    [WEIR_FILTERED] = "filtered",   [WEIR_DELIVERED] = "delivered",
    [WEIR_DROPPED] = "dropped",     [WEIR_DEAD_LETTERED] = "failed_again",
    [WEIR_ABANDONED] = "abandoned", [WEIR_FAILED] = "not_done"};
/* In the order of the good ones first. */
static const enum weir_outcome shown[] = {WEIR_DELIVERED,     WEIR_FILTERED,  WEIR_DROPPED,
                                          WEIR_DEAD_LETTERED, WEIR_ABANDONED, WEIR_FAILED};

static const char *plural(uint64_t n)
{
    return n == 1 ? "" : "s";
}

/* ---- Text ---- */

static void add_outcomes(struct wr_buf *out, const struct wr_replay_row *row)
{
    bool any = false;
    for (size_t i = 0; i < WR_COUNT(shown); i++) {
        uint64_t n = row->ended[shown[i]];
        if (n == 0)
            continue;
        wr_buf_printf(out, "%s%llu %s", any ? ", " : ": ", (unsigned long long)n,
                      outcome_texts[shown[i]]);
        any = true;
    }
}

static void add_row(struct wr_buf *out, const struct wr_replay_row *row)
{
    uint64_t homeless = row->found - row->entered;
    if (row->entered != 0) {
        wr_buf_printf(out, "  %.*s, %.*s: %llu at %.*s", WR_STR(row->component), WR_STR(row->code),
                      (unsigned long long)row->entered, WR_STR(row->target));
        add_outcomes(out, row);
        wr_buf_text(out, "\n");
    }
    if (homeless != 0)
        wr_buf_printf(out, "  %.*s, %.*s: %llu nowhere: %s (%.*s)\n", WR_STR(row->component),
                      WR_STR(row->code), (unsigned long long)homeless, row->why,
                      WR_STR(wr_buf_view(&row->places)));
}

static void add_count(struct wr_buf *out, uint64_t n, const char *what)
{
    if (n != 0)
        wr_buf_printf(out, "  %s: %llu\n", what, (unsigned long long)n);
}

void wr_replay_report_text(struct wr_replay *r, struct weir_str pipeline, struct wr_buf *out)
{
    struct wr_replay_totals t = wr_replay_totals(r);
    bool dry_run = wr_replay_options(r)->dry_run;
    wr_buf_printf(out, "pipeline \"%.*s\": %llu dead letter%s read, %llu %s\n", WR_STR(pipeline),
                  (unsigned long long)t.read, plural(t.read), (unsigned long long)t.entered,
                  dry_run ? "would be replayed" : "replayed");
    for (uint32_t i = 0; i < wr_replay_n_rows(r); i++)
        add_row(out, wr_replay_row(r, i));
    add_count(out, t.filtered, "left out by the options");
    add_count(out, t.over, "behind the limit, not looked at");
    if (t.others != 0)
        wr_buf_printf(out, "  of other pipelines, such as \"%.*s\" (--pipeline NAME): %llu\n",
                      WR_STR(wr_replay_other(r)), (unsigned long long)t.others);
    add_count(out, t.broken, "no dead letters, left where they are");
}

/* ---- JSON ---- */

static void add_json_count(struct wr_buf *out, const char *name, uint64_t n)
{
    wr_buf_printf(out, "%s\"%s\":%llu", out->ptr[out->len - 1] != '{' ? "," : "", name,
                  (unsigned long long)n);
}

static void add_json_text(struct wr_buf *out, const char *name, struct weir_str s)
{
    wr_buf_printf(out, "%s\"%s\":", out->ptr[out->len - 1] != '{' ? "," : "", name);
    wr_buf_json(out, s);
}

static void add_json_row(struct wr_buf *out, const struct wr_replay_row *row)
{
    wr_buf_text(out, out->ptr[out->len - 1] != '[' ? ",{" : "{");
    add_json_text(out, "component", row->component);
    add_json_text(out, "code", row->code);
    add_json_count(out, "found", row->found);
    add_json_count(out, "replayed", row->entered);
    if (row->entered != 0)
        add_json_text(out, "at", row->target);
    for (size_t i = 0; i < WR_COUNT(shown); i++)
        add_json_count(out, outcome_names[shown[i]], row->ended[shown[i]]);
    if (row->why != NULL) {
        add_json_text(out, "reason", weir_cstr(row->why));
        add_json_text(out, "places", wr_buf_view(&row->places));
    }
    wr_buf_text(out, "}");
}

void wr_replay_report_json(struct wr_replay *r, struct weir_str pipeline, struct wr_buf *out)
{
    struct wr_replay_totals t = wr_replay_totals(r);
    wr_buf_text(out, "{");
    add_json_text(out, "pipeline", pipeline);
    wr_buf_printf(out, ",\"dry_run\":%s", wr_replay_options(r)->dry_run ? "true" : "false");
    add_json_count(out, "read", t.read);
    add_json_count(out, "replayed", t.entered);
    add_json_count(out, "left_out", t.filtered);
    add_json_count(out, "behind_limit", t.over);
    add_json_count(out, "of_others", t.others);
    add_json_count(out, "nowhere", t.homeless);
    add_json_count(out, "broken", t.broken);
    wr_buf_text(out, ",\"kinds\":[");
    for (uint32_t i = 0; i < wr_replay_n_rows(r); i++)
        add_json_row(out, wr_replay_row(r, i));
    wr_buf_text(out, "]}\n");
}

/* ---- The verdict ---- */

bool wr_replay_report_is_good(struct wr_replay *r)
{
    struct wr_replay_totals t = wr_replay_totals(r);
    bool good = t.homeless == 0 && t.broken == 0;
    for (uint32_t i = 0; i < wr_replay_n_rows(r); i++) {
        const struct wr_replay_row *row = wr_replay_row(r, i);
        good = good && row->ended[WEIR_DEAD_LETTERED] == 0 && row->ended[WEIR_FAILED] == 0;
    }
    return good;
}
