/* SPDX-License-Identifier: Apache-2.0
 *
 * The envelope of a dead letter: one JSON object that holds the source payload byte for byte (as a
 * string where it is UTF-8, else in base64), the event as it entered the component where that differs,
 * and all that is needed to find the cause and to send it through again.
 */
#include <engine/runtime.h>

#include <base/buf.h>
#include <base/str.h>

#include <time.h>

static void add_base64(struct wr_buf *out, struct weir_str s)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const uint8_t *in = (const uint8_t *)s.ptr;
    for (size_t i = 0; i < s.len; i += 3) {
        size_t left = s.len - i;
        uint32_t v = (uint32_t)in[i] << 16 | (left > 1 ? (uint32_t)in[i + 1] << 8 : 0) |
                     (left > 2 ? in[i + 2] : 0);
        char four[4] = {digits[v >> 18], digits[v >> 12 & 63], left > 1 ? digits[v >> 6 & 63] : '=',
                        left > 2 ? digits[v & 63] : '='};
        wr_buf_add(out, four, 4);
    }
}

static void add_name(struct wr_buf *out, const char *name)
{
    wr_buf_printf(out, "%s\"%s\":", out->len > 1 && out->ptr[out->len - 1] != '{' ? "," : "", name);
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
    add_base64(out, s);
    wr_buf_text(out, "\"");
}

static void add_text(struct wr_buf *out, const char *name, struct weir_str s)
{
    if (s.ptr == NULL)
        return;
    add_name(out, name);
    wr_buf_json(out, s);
}

static void add_time(struct wr_buf *out, const char *name, int64_t ns)
{
    if (ns <= 0)
        return;
    time_t seconds = (time_t)(ns / WEIR_NS_PER_S);
    struct tm tm;
    char text[32];
    gmtime_r(&seconds, &tm);
    strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
    add_name(out, name);
    wr_buf_printf(out, "\"%s.%03dZ\"", text, (int)(ns % WEIR_NS_PER_S / WEIR_NS_PER_MS));
}

static void add_origin(struct wr_buf *out, const struct weir_event *ev)
{
    if (ev->origin == NULL)
        return;
    add_name(out, "origin");
    wr_buf_text(out, "{");
    add_text(out, "name", ev->origin->name);
    if (ev->origin->partition >= 0)
        wr_buf_printf(out, ",\"partition\":%d", ev->origin->partition);
    wr_buf_printf(out, ",\"%s\":%lld}", ev->request != NULL ? "item" : "offset",
                  (long long)ev->position);
}

static void add_headers(struct wr_buf *out, const struct weir_event *ev)
{
    if (ev->n_headers == 0)
        return;
    add_name(out, "headers");
    wr_buf_text(out, "[");
    for (uint32_t i = 0; i < ev->n_headers; i++) {
        wr_buf_text(out, i != 0 ? ",{" : "{");
        add_bytes(out, "name", "name_base64", ev->headers[i].name);
        add_bytes(out, "value", "value_base64", ev->headers[i].value);
        wr_buf_text(out, "}");
    }
    wr_buf_text(out, "]");
}

/* The event as it entered the component, where it is no longer what its source gave. */
static void add_entered(struct wr_buf *out, struct weir_arena *a, const struct weir_event *ev,
                        struct weir_str source)
{
    struct weir_str entered = ev->payload;
    if ((ev->flags & WEIR_EVENT_EDITED) != 0)
        entered = wr_value_write(a, ev->value);
    if (entered.ptr != source.ptr && !wr_str_eq(entered, source))
        add_bytes(out, "entered", "entered_base64", entered);
}

static void add_failure(struct wr_buf *out, const struct wr_failure *f)
{
    add_text(out, "reason", f->result->message);
    add_text(out, "code", weir_cstr(f->result->code != NULL ? f->result->code : "rejected"));
    if (f->result->number != 0)
        wr_buf_printf(out, ",\"number\":%d", f->result->number);
    wr_buf_printf(out, ",\"attempts\":%u", f->attempts);
    add_time(out, "first_time", f->first_ns);
    add_time(out, "last_time", f->last_ns);
    add_text(out, "pipeline", f->unit->pipeline->plan->name);
    add_text(out, "component", f->unit->comp->id);
    add_text(out, "type", weir_cstr(f->unit->comp->type->name));
}

static struct wr_batch *batch_new(struct wr_clock *clock)
{
    struct wr_body *body = wr_body_new();
    struct wr_batch *b = body != NULL ? wr_batch_new(body, 8) : NULL;
    wr_body_unref(body);
    if (b != NULL)
        b->entered_ns = wr_now(clock);
    return b;
}

bool wr_dead_letter_add(struct wr_batch **io_out, const struct weir_event *ev,
                        const struct wr_failure *failure)
{
    struct wr_clock *clock = failure->unit->pipeline->rt.clock;
    if (*io_out == NULL && (*io_out = batch_new(clock)) == NULL)
        return false;
    struct wr_batch *out = *io_out;
    struct weir_arena *a = &out->own->arena;
    struct weir_str source = wr_event_source_payload(ev);
    struct weir_event dead = *ev;
    /* The copies first: the original's memory may go while the dead letter waits. */
    dead.id = wr_event_id(out, &dead, clock);
    dead.id = wr_arena_copy(a, dead.id);
    dead.key = wr_arena_copy(a, ev->key);
    struct wr_buf text = {0};
    wr_buf_text(&text, "{");
    add_bytes(&text, "payload", "payload_base64", source);
    add_entered(&text, a, ev, source);
    add_failure(&text, failure);
    add_text(&text, "id", dead.id);
    add_bytes(&text, "key", "key_base64", ev->key);
    add_time(&text, "time", ev->time_ns);
    add_origin(&text, ev);
    add_headers(&text, ev);
    wr_buf_text(&text, "}");
    dead.payload = wr_arena_copy(a, wr_buf_view(&text));
    wr_buf_done(&text);
    dead.value = NULL;
    dead.headers = NULL;
    dead.n_headers = 0;
    dead.origin = NULL;
    dead.host_trace = NULL;
    dead.host_why = NULL;
    dead.host_port = 0;
    dead.flags = WR_EVENT_DEAD;
    if (dead.payload.ptr == NULL || dead.id.ptr == NULL || wr_batch_append(out, &dead) == NULL)
        return false;
    struct wr_why why = wr_why_of(failure->unit, WEIR_DEAD_LETTERED, failure->result->code,
                                  failure->result->message);
    wr_ack_note(dead.host_ack, &why);
    wr_unit_count_dead(failure->unit, 1);
    return true;
}
