/* SPDX-License-Identifier: Apache-2.0
 *
 * Encodes a command for an event: literals are encoded once, templates are rendered into the arena
 * that the caller gives and copied from there. Values of every kind go as text; bytes may be any.
 */
#include "command.h"

#include <stdio.h>
#include <string.h>

#define KEY_MAX ((size_t)64 << 10)
#define ARG_MAX ((size_t)512 << 20) /* Redis's own limit (proto-max-bulk-len) */

bool command_init(struct command *c, const struct weir_host *h, size_t cap_args)
{
    *c = (struct command){.h = h, .texts = {.h = h}, .head = {.h = h}};
    c->args = h->alloc(sizeof(*c->args) * (cap_args + 1));
    c->cap_args = cap_args;
    return c->args != NULL;
}

void command_done(struct command *c)
{
    if (c->args != NULL)
        c->h->free(c->args);
    c->args = NULL;
    bytes_done(&c->texts);
    bytes_done(&c->head);
}

static struct arg *add(struct command *c)
{
    if (c->n_args == c->cap_args) {
        c->texts.failed = true; /* the caller counted wrong: seal says so */
        return &c->args[c->cap_args];
    }
    return &c->args[c->n_args++];
}

/* Views into `texts` move while it grows: until the seal `encoded` holds an offset. */
void command_add_str(struct command *c, struct weir_str text)
{
    struct arg *arg = add(c);
    size_t start = c->texts.len;
    bytes_put_arg(&c->texts, text);
    arg->encoded = weir_str_n(NULL, c->texts.len - start);
    arg->literal = weir_str_n(NULL, text.len);
}

void command_add_text(struct command *c, const char *text)
{
    command_add_str(c, weir_cstr(text));
}

void command_add_template(struct command *c, const struct weir_template *t)
{
    struct weir_str text;
    if (c->h->template_is_literal(t, &text))
        command_add_str(c, text);
    else
        add(c)->template = t;
}

void command_add_payload(struct command *c)
{
    add(c);
}

void command_add_list(struct command *c, const struct weir_list *list)
{
    struct weir_template *const *items = list->items;
    for (uint32_t i = 0; i < list->n; i++)
        command_add_template(c, items[i]);
}

bool command_seal(struct command *c, size_t key, int64_t expire_ms)
{
    const char *p = c->texts.ptr;
    for (size_t i = 0; i < c->n_args && !c->texts.failed; i++) {
        struct arg *arg = &c->args[i];
        if (arg->encoded.len == 0)
            continue;
        arg->encoded.ptr = p;
        p += arg->encoded.len;
        arg->literal.ptr = p - 2 - arg->literal.len;
    }
    bytes_put_head(&c->head, c->n_args);
    c->key = key < c->n_args ? key : 0;
    c->expire_ms = expire_ms;
    return !c->texts.failed && !c->head.failed;
}

static enum weir_verdict rejected(struct weir_result *ret, const char *code,
                                  struct weir_str message)
{
    *ret = (struct weir_result){.verdict = WEIR_VERDICT_REJECTED, .code = code, .message = message};
    return WEIR_VERDICT_REJECTED;
}

static enum weir_verdict no_memory(struct weir_result *ret)
{
    *ret = (struct weir_result){.verdict = WEIR_VERDICT_UNAVAILABLE,
                                .code = "no_memory",
                                .message = weir_cstr("no memory for the command")};
    return WEIR_VERDICT_UNAVAILABLE;
}

/* The argument's text for this event. */
static enum weir_verdict render(const struct command *c, const struct arg *arg,
                                struct weir_batch *b, struct weir_event *ev, struct weir_arena *a,
                                struct weir_str *ret_text, struct weir_result *ret_result)
{
    const struct weir_host *h = c->h;
    if (arg->encoded.len > 0) {
        *ret_text = arg->literal;
        return WEIR_VERDICT_OK;
    }
    if (arg->template == NULL) {
        if ((ev->flags & WEIR_EVENT_TOMB) != 0)
            return rejected(ret_result, "tombstone",
                            weir_cstr("a tombstone has no payload to store"));
        *ret_text = h->event_payload(h, b, ev);
        return WEIR_VERDICT_OK;
    }
    struct weir_error err = {0};
    *ret_text = h->template_render(h, arg->template, b, ev, a, &err);
    if (ret_text->ptr != NULL)
        return WEIR_VERDICT_OK;
    if (err.status == WEIR_E_NOMEM)
        return no_memory(ret_result);
    return rejected(ret_result, err.code != NULL ? err.code : "missing_field",
                    h->arena_copy(a, weir_cstr(err.text)));
}

static enum weir_verdict too_long(const struct command *c, size_t which, size_t len,
                                  struct weir_arena *a, struct weir_result *ret_result)
{
    bool key = which == c->key;
    struct weir_str message =
        c->h->arena_printf(a, "the %s (argument %zu) has %zu bytes; at most %zu are sent",
                           key ? "key" : "value", which, len, key ? KEY_MAX : ARG_MAX);
    return rejected(ret_result, key ? "key_too_long" : "value_too_long", message);
}

static void put_expire(const struct command *c, struct bytes *out, struct weir_str key)
{
    char ms[24];
    snprintf(ms, sizeof(ms), "%lld", (long long)c->expire_ms);
    bytes_put(out, "*3\r\n$7\r\nPEXPIRE\r\n", 17);
    bytes_put_arg(out, key);
    bytes_put_arg(out, weir_cstr(ms));
}

static enum weir_verdict put_args(const struct command *c, struct weir_batch *b,
                                  struct weir_event *ev, struct bytes *out, struct weir_arena *a,
                                  struct weir_result *ret_result)
{
    struct weir_str key = {NULL, 0};
    for (size_t i = 0; i < c->n_args; i++) {
        const struct arg *arg = &c->args[i];
        struct weir_str text;
        enum weir_verdict v = render(c, arg, b, ev, a, &text, ret_result);
        if (v != WEIR_VERDICT_OK)
            return v;
        if (text.len > (i == c->key && i > 0 ? KEY_MAX : ARG_MAX))
            return too_long(c, i, text.len, a, ret_result);
        if (arg->encoded.len > 0)
            bytes_put(out, arg->encoded.ptr, arg->encoded.len);
        else
            bytes_put_arg(out, text);
        if (i == c->key)
            key = text;
    }
    if (c->expire_ms > 0)
        put_expire(c, out, key);
    return out->failed ? no_memory(ret_result) : WEIR_VERDICT_OK;
}

enum weir_verdict command_put(const struct command *c, struct weir_batch *b, struct weir_event *ev,
                              struct bytes *out, struct weir_arena *a,
                              struct weir_result *ret_result)
{
    size_t before = out->len;
    out->failed = false;
    bytes_put(out, c->head.ptr, c->head.len);
    enum weir_verdict v = put_args(c, b, ev, out, a, ret_result);
    if (v != WEIR_VERDICT_OK)
        out->len = before;
    return v;
}
