/* SPDX-License-Identifier: Apache-2.0
 *
 * A dead letter's envelope as text; see envelope.h. Bytes stand in it as a string where they are
 * UTF-8, else in base64 under the same name with `_base64` behind it.
 */
#include <engine/envelope.h>

#include <base/date.h>
#include <base/str.h>

static void add_name(struct wr_buf *out, const char *name)
{
    wr_buf_printf(out, "%s\"%s\":", out->ptr[out->len - 1] != '{' ? "," : "", name);
}

/* Text as "name", other bytes as "name_base64"; nothing for NULL. */
static void add_bytes(struct wr_buf *out, const char *name, const char *name_base64,
                      struct weir_str s)
{
    if (s.ptr == NULL)
        return;
    if (wr_utf8_check(s) == s.len) {
        add_name(out, name);
        wr_buf_json(out, s);
        return;
    }
    add_name(out, name_base64);
    wr_buf_text(out, "\"");
    wr_buf_base64(out, s);
    wr_buf_text(out, "\"");
}

/* For people: what is not UTF-8 in it is replaced. */
static void add_text(struct wr_buf *out, const char *name, struct weir_str s)
{
    if (s.ptr == NULL)
        return;
    add_name(out, name);
    wr_buf_json(out, s);
}

static void add_int(struct wr_buf *out, const char *name, int64_t v)
{
    add_name(out, name);
    wr_buf_printf(out, "%lld", (long long)v);
}

static void add_flag(struct wr_buf *out, const char *name, bool v)
{
    if (!v)
        return;
    add_name(out, name);
    wr_buf_text(out, "true");
}

static void add_time(struct wr_buf *out, const char *name, int64_t ns)
{
    char text[WR_DATE_MAX];
    if (ns == 0)
        return;
    (void)wr_date_write(ns, text);
    add_name(out, name);
    wr_buf_printf(out, "\"%s\"", text);
}

static void add_origin(struct wr_buf *out, const struct wr_envelope *e)
{
    if (!e->has_origin)
        return;
    add_name(out, "origin");
    wr_buf_text(out, "{");
    add_bytes(out, "name", "name_base64", e->origin.name);
    if (e->origin.partition >= 0)
        add_int(out, "partition", e->origin.partition);
    add_int(out, e->is_item ? "item" : "offset", e->position);
    wr_buf_text(out, "}");
}

static void add_headers(struct wr_buf *out, const struct wr_envelope *e)
{
    if (e->n_headers == 0)
        return;
    add_name(out, "headers");
    wr_buf_text(out, "[");
    for (uint32_t i = 0; i < e->n_headers; i++) {
        wr_buf_text(out, i != 0 ? ",{" : "{");
        add_bytes(out, "name", "name_base64", e->headers[i].name);
        add_bytes(out, "value", "value_base64", e->headers[i].value);
        wr_buf_text(out, "}");
    }
    wr_buf_text(out, "]");
}

static void add_failure(struct wr_buf *out, const struct wr_envelope *e)
{
    add_text(out, "reason", e->reason);
    add_text(out, "code", e->code);
    if (e->number != 0)
        add_int(out, "number", e->number);
    add_int(out, "attempts", e->attempts);
    add_time(out, "first_time", e->first_ns);
    add_time(out, "last_time", e->last_ns);
    add_text(out, "pipeline", e->pipeline);
    add_text(out, "component", e->component);
    add_text(out, "type", e->type);
    add_text(out, "source", e->source);
    if (e->replays != 0)
        add_int(out, "replays", e->replays);
}

void wr_envelope_write(const struct wr_envelope *e, struct wr_buf *out)
{
    wr_buf_text(out, "{");
    add_int(out, "version", WR_ENVELOPE_VERSION);
    add_bytes(out, "payload", "payload_base64", e->payload);
    add_bytes(out, "entered", "entered_base64", e->entered);
    add_flag(out, "tombstone", e->tombstone);
    add_flag(out, "raw", e->raw);
    add_failure(out, e);
    add_bytes(out, "id", "id_base64", e->id);
    add_bytes(out, "key", "key_base64", e->key);
    add_time(out, "time", e->time_ns);
    add_origin(out, e);
    add_headers(out, e);
    wr_buf_text(out, "}");
}
