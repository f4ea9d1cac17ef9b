/* SPDX-License-Identifier: Apache-2.0
 *
 * Where to begin in a partition. What the group holds is asked for before the assignment: what
 * comes first tells then what is gone (gone.c), and ids may have a mark (mark.c). Where it holds
 * nothing, `earliest` is the library's own reset; the others are looked up and committed at once,
 * so that they are decided once: a restart before the first event does not skip what has come
 * meanwhile.
 *
 * A partition that appears while weir runs is read from its beginning whatever `start` says: it was
 * not there when somebody asked to begin at the end.
 *
 * With `stop_at_end` the ends are asked for in the same breath, so that a run which writes to what
 * it reads comes to its end.
 */
#include "source.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

const char *const start_words[] = {"earliest", "latest", "time", "offset", NULL};

/* ---- Time ---------------------------------------------------------------------------------- */

static bool digits(const char **at, int n, int *ret)
{
    *ret = 0;
    for (int i = 0; i < n; i++, (*at)++) {
        if (**at < '0' || **at > '9')
            return false;
        *ret = *ret * 10 + (**at - '0');
    }
    return true;
}

static bool literal(const char **at, char c)
{
    if (**at != c)
        return false;
    (*at)++;
    return true;
}

/* Z or +hh:mm, in minutes. */
static bool zone(const char **at, int *ret_minutes)
{
    int hours, minutes;
    *ret_minutes = 0;
    if (**at == 'Z' || **at == 'z')
        return (*at)++, true;
    int sign = **at == '-' ? -1 : 1;
    if (!literal(at, '+') && !literal(at, '-'))
        return false;
    if (!digits(at, 2, &hours) || !literal(at, ':') || !digits(at, 2, &minutes))
        return false;
    *ret_minutes = sign * (hours * 60 + minutes);
    return hours < 24 && minutes < 60;
}

/* RFC 3339 → ms since the epoch. */
static bool parse_time(const char *text, int64_t *ret_ms)
{
    struct tm tm = {0};
    int year, month, minutes, ms = 0, digit, scale = 100;
    const char *at = text;
    if (!digits(&at, 4, &year) || !literal(&at, '-') || !digits(&at, 2, &month) ||
        !literal(&at, '-') || !digits(&at, 2, &tm.tm_mday) ||
        !(literal(&at, 'T') || literal(&at, 't') || literal(&at, ' ')) ||
        !digits(&at, 2, &tm.tm_hour) || !literal(&at, ':') || !digits(&at, 2, &tm.tm_min) ||
        !literal(&at, ':') || !digits(&at, 2, &tm.tm_sec))
        return false;
    if (literal(&at, '.'))
        for (; digits(&at, 1, &digit); scale /= 10)
            ms += digit * scale;
    if (!zone(&at, &minutes) || *at != '\0')
        return false;
    int day = tm.tm_mday;
    tm.tm_year = year - 1900;
    tm.tm_mon = month - 1;
    if (month < 1 || month > 12 || day < 1 || tm.tm_hour > 23 || tm.tm_min > 59 || tm.tm_sec > 59)
        return false;
    int64_t seconds = timegm(&tm); /* which makes March of the 30th of February */
    *ret_ms = (seconds - minutes * 60) * 1000 + ms;
    return tm.tm_mon == month - 1 && tm.tm_mday == day && *ret_ms >= 0;
}

/* ---- Options ------------------------------------------------------------------------------- */

void check_start(const struct source_config *cfg, struct problems *p)
{
    int64_t ms;
    bool timed = cfg->start == START_TIME;
    if (timed && (cfg->start_time.len != 0) == (cfg->start_ago != 0))
        problem(p, "start",
                "time needs one of start_time, such as 2026-01-31T12:00:00Z, and "
                "start_ago, such as 2h");
    else if (!timed && (cfg->start_time.len != 0 || cfg->start_ago != 0))
        problem(p, cfg->start_time.len != 0 ? "start_time" : "start_ago",
                "has no effect with start: %s; say start: time", start_words[cfg->start]);
    if (cfg->start_time.len != 0 && !parse_time(cfg->start_time.ptr, &ms))
        problem(p, "start_time",
                "'%.60s' is no time: expected RFC 3339, such as 2026-01-31T12:00:00Z or "
                "2026-01-31T13:00:00+01:00",
                cfg->start_time.ptr);
    if (cfg->start != START_OFFSET && cfg->start_offset != 0)
        problem(p, "start_offset", "has no effect with start: %s; say start: offset",
                start_words[cfg->start]);
}

bool start_is_asked(const struct source_config *cfg)
{
    return cfg->start != START_EARLIEST || cfg->start_over;
}

/* ---- Finding ------------------------------------------------------------------------------- */

/* The instance closes: no further question. */
static rd_kafka_resp_err_t unless_stopped(struct source *s, rd_kafka_resp_err_t code)
{
    return atomic_load(&s->asker.stop) ? RD_KAFKA_RESP_ERR__DESTROY : code;
}

static bool is_known(const rd_kafka_metadata_t *md, const rd_kafka_topic_partition_t *o)
{
    for (int i = 0; i < md->topic_cnt; i++)
        if (strcmp(md->topics[i].topic, o->topic) == 0)
            return o->partition < md->topics[i].partition_cnt;
    return false;
}

/* What to ask the brokers for: a time, or one of the ends. */
static int64_t start_question(const struct source *s, const rd_kafka_topic_partition_t *o)
{
    int64_t ms;
    if (s->cfg->start == START_EARLIEST || !is_known(s->known, o))
        return RD_KAFKA_OFFSET_BEGINNING;
    if (s->cfg->start != START_TIME)
        return RD_KAFKA_OFFSET_END;
    if (s->cfg->start_time.len != 0 && parse_time(s->cfg->start_time.ptr, &ms))
        return ms;
    ms = (s->opened_wall_ns - s->cfg->start_ago) / WEIR_NS_PER_MS;
    return ms > 0 ? ms : 0;
}

static rd_kafka_resp_err_t worst_of(const rd_kafka_topic_partition_list_t *list)
{
    for (int i = 0; i < list->cnt; i++)
        if (list->elems[i].err != RD_KAFKA_RESP_ERR_NO_ERROR)
            return list->elems[i].err;
    return RD_KAFKA_RESP_ERR_NO_ERROR;
}

/* Asks for what `list` holds as offsets; the answers stand there then, all of them real offsets. */
static rd_kafka_resp_err_t find_offsets(struct source *s, rd_kafka_topic_partition_list_t *list,
                                        int timeout_ms)
{
    bool again = false;
    rd_kafka_resp_err_t code =
        unless_stopped(s, rd_kafka_offsets_for_times(s->rk, list, timeout_ms));
    if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
        code = worst_of(list);
    /* A time behind the last message is answered with the end as a word. */
    for (int i = 0; i < list->cnt && code == RD_KAFKA_RESP_ERR_NO_ERROR; i++)
        again |= list->elems[i].offset == RD_KAFKA_OFFSET_END;
    if (!again)
        return code;
    rd_kafka_topic_partition_list_t *ends = rd_kafka_topic_partition_list_new(list->cnt);
    for (int i = 0; i < list->cnt; i++)
        if (list->elems[i].offset == RD_KAFKA_OFFSET_END)
            rd_kafka_topic_partition_list_add(ends, list->elems[i].topic, list->elems[i].partition)
                ->offset = RD_KAFKA_OFFSET_END;
    code = unless_stopped(s, rd_kafka_offsets_for_times(s->rk, ends, timeout_ms));
    if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
        code = worst_of(ends);
    for (int i = 0; i < ends->cnt && code == RD_KAFKA_RESP_ERR_NO_ERROR; i++)
        rd_kafka_topic_partition_list_find(list, ends->elems[i].topic, ends->elems[i].partition)
            ->offset = ends->elems[i].offset;
    rd_kafka_topic_partition_list_destroy(ends);
    return code;
}

/* start_offset within what the partition holds; one before its first message is put right by the
 * library's reset to the earliest. */
static int64_t place(const struct source *s, const rd_kafka_topic_partition_t *found)
{
    int64_t n = s->cfg->start_offset, end = found->offset;
    if (s->cfg->start != START_OFFSET || !is_known(s->known, found))
        return found->offset;
    if (n >= 0)
        return n < end ? n : end;
    return end + n > 0 ? end + n : 0;
}

/* Those of `list` that have no offset yet. */
static rd_kafka_resp_err_t find_starts(struct source *s, rd_kafka_topic_partition_list_t *list,
                                       int timeout_ms)
{
    rd_kafka_topic_partition_list_t *wanted = rd_kafka_topic_partition_list_new(list->cnt);
    for (int i = 0; i < list->cnt; i++)
        if (list->elems[i].offset < 0)
            rd_kafka_topic_partition_list_add(wanted, list->elems[i].topic,
                                              list->elems[i].partition)
                ->offset = start_question(s, &list->elems[i]);
    rd_kafka_resp_err_t code = RD_KAFKA_RESP_ERR_NO_ERROR;
    if (wanted->cnt > 0)
        code = find_offsets(s, wanted, timeout_ms);
    for (int i = 0; i < wanted->cnt && code == RD_KAFKA_RESP_ERR_NO_ERROR; i++) {
        rd_kafka_topic_partition_t *o = rd_kafka_topic_partition_list_find(
            list, wanted->elems[i].topic, wanted->elems[i].partition);
        o->offset = place(s, &wanted->elems[i]);
        o->opaque = s; /* any mark: it was found here */
    }
    rd_kafka_topic_partition_list_destroy(wanted);
    return code;
}

/* ---- Anew, and up to the end --------------------------------------------------------------- */

/* `start_over`: what the group holds of a partition that was not begun in this run does not count.
 */
static void forget_offsets(struct source *s, rd_kafka_topic_partition_list_t *list)
{
    if (s->begun == NULL)
        s->begun = rd_kafka_topic_partition_list_new(list->cnt);
    for (int i = 0; i < list->cnt; i++) {
        rd_kafka_topic_partition_t *o = &list->elems[i];
        if (rd_kafka_topic_partition_list_find(s->begun, o->topic, o->partition) == NULL)
            o->offset = RD_KAFKA_OFFSET_INVALID;
    }
}

static void note_begun(struct source *s, const rd_kafka_topic_partition_list_t *list)
{
    for (int i = 0; i < list->cnt; i++) {
        const rd_kafka_topic_partition_t *o = &list->elems[i];
        if (rd_kafka_topic_partition_list_find(s->begun, o->topic, o->partition) == NULL)
            rd_kafka_topic_partition_list_add(s->begun, o->topic, o->partition);
    }
}

/* `stop_at_end`: the ends of the partitions that are taken on for the first time. */
static rd_kafka_resp_err_t find_stops(struct source *s, const rd_kafka_topic_partition_list_t *list,
                                      int timeout_ms)
{
    rd_kafka_topic_partition_list_t *wanted = rd_kafka_topic_partition_list_new(list->cnt);
    if (s->stops == NULL)
        s->stops = rd_kafka_topic_partition_list_new(list->cnt);
    for (int i = 0; i < list->cnt; i++) {
        const rd_kafka_topic_partition_t *o = &list->elems[i];
        if (rd_kafka_topic_partition_list_find(s->stops, o->topic, o->partition) == NULL)
            rd_kafka_topic_partition_list_add(wanted, o->topic, o->partition)->offset =
                RD_KAFKA_OFFSET_END;
    }
    rd_kafka_resp_err_t code = RD_KAFKA_RESP_ERR_NO_ERROR;
    if (wanted->cnt > 0)
        code = unless_stopped(s, rd_kafka_offsets_for_times(s->rk, wanted, timeout_ms));
    if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
        code = worst_of(wanted);
    for (int i = 0; i < wanted->cnt && code == RD_KAFKA_RESP_ERR_NO_ERROR; i++)
        rd_kafka_topic_partition_list_add(s->stops, wanted->elems[i].topic,
                                          wanted->elems[i].partition)
            ->offset = wanted->elems[i].offset;
    rd_kafka_topic_partition_list_destroy(wanted);
    return code;
}

int64_t start_stop_of(const struct source *s, const rd_kafka_topic_partition_t *o)
{
    const rd_kafka_topic_partition_t *found =
        s->stops != NULL ? rd_kafka_topic_partition_list_find(s->stops, o->topic, o->partition)
                         : NULL;
    return found != NULL ? found->offset : NO_OFFSET;
}

void start_done(struct source *s)
{
    if (s->known != NULL)
        rd_kafka_metadata_destroy(s->known);
    if (s->begun != NULL)
        rd_kafka_topic_partition_list_destroy(s->begun);
    if (s->stops != NULL)
        rd_kafka_topic_partition_list_destroy(s->stops);
    if (s->forgotten != NULL)
        rd_kafka_topic_partition_list_destroy(s->forgotten);
}

/* What the group holds of them, and what has become of those that were read before. */
static rd_kafka_resp_err_t find_held(struct source *s, rd_kafka_topic_partition_list_t *list,
                                     int timeout_ms)
{
    rd_kafka_topic_partition_list_t *known = mark_known(s, list);
    rd_kafka_resp_err_t code = unless_stopped(s, rd_kafka_committed(s->rk, list, timeout_ms));
    if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
        code = worst_of(list);
    if (code == RD_KAFKA_RESP_ERR_NO_ERROR && known->cnt > 0)
        code = unless_stopped(s, rd_kafka_committed(s->rk, known, timeout_ms));
    if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
        mark_compare(s, known);
    rd_kafka_topic_partition_list_destroy(known);
    return code;
}

static rd_kafka_resp_err_t find_places(struct source *s, rd_kafka_topic_partition_list_t *list,
                                       int timeout_ms)
{
    rd_kafka_resp_err_t code = find_held(s, list, timeout_ms);
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR || !start_is_asked(s->cfg))
        return code;
    if (s->cfg->start_over)
        forget_offsets(s, list);
    code = find_starts(s, list, timeout_ms);
    if (code == RD_KAFKA_RESP_ERR_NO_ERROR && s->cfg->start_over)
        note_begun(s, list);
    return code;
}

rd_kafka_resp_err_t start_find(struct source *s, rd_kafka_topic_partition_list_t *list,
                               int timeout_ms)
{
    rd_kafka_resp_err_t code = RD_KAFKA_RESP_ERR_NO_ERROR;
    if (s->known == NULL && start_is_asked(s->cfg))
        code = rd_kafka_metadata(s->rk, 1, NULL, &s->known, timeout_ms);
    code = unless_stopped(s, code);
    if (list->cnt == 0 || code != RD_KAFKA_RESP_ERR_NO_ERROR)
        return code;
    if (s->cfg->stop_at_end)
        code = find_stops(s, list, timeout_ms);
    if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
        code = find_places(s, list, timeout_ms);
    return code;
}
