/* SPDX-License-Identifier: Apache-2.0
 *
 * Encodes a command for an event: literals are encoded once, templates are rendered into the arena
 * that the caller gives and copied from there. Values of every kind go as text; bytes may be any.
 */
#include "command.h"

#include "guard.h"

#include <stdio.h>
#include <string.h>

#define KEY_MAX ((size_t)64 << 10)
#define ARG_MAX ((size_t)512 << 20) /* Redis's own limit (proto-max-bulk-len) */

/* ---- Making ---------------------------------------------------------------------------------- */

bool command_init(struct command *c, const struct weir_host *h, size_t cap_args)
{
    *c = (struct command){.h = h, .texts = {.h = h}, .head = {.h = h}};
    c->args = h->alloc(sizeof(*c->args) * (cap_args + 1));
    c->arena = h->arena_new(h);
    c->cap_args = cap_args;
    return c->args != NULL && c->arena != NULL;
}

void command_done(struct command *c)
{
    if (c->h == NULL)
        return;
    if (c->args != NULL)
        c->h->free(c->args);
    c->args = NULL;
    if (c->arena != NULL)
        c->h->arena_free(c->arena);
    c->arena = NULL;
    bytes_done(&c->texts);
    bytes_done(&c->head);
}

static struct arg *add(struct command *c)
{
    if (c->n_args == c->cap_args) {
        c->failed = true; /* the caller counted wrong: seal says so */
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

void command_add_int(struct command *c, int64_t number)
{
    char text[24];
    snprintf(text, sizeof(text), "%lld", (long long)number);
    command_add_text(c, text);
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

void command_add_age(struct command *c, int64_t age_ms)
{
    add(c)->age_ms = age_ms;
}

void command_add_list(struct command *c, const struct weir_list *list)
{
    struct weir_template *const *items = list->items;
    for (uint32_t i = 0; i < list->n; i++)
        command_add_template(c, items[i]);
}

void command_guard(struct command *c, int64_t once_ms)
{
    c->once_ms = once_ms;
}

/* Keeps what was put into b, and empties it. */
static struct weir_str keep(struct command *c, struct bytes *b)
{
    struct weir_str kept = c->h->arena_copy(c->arena, weir_str_n(b->ptr, b->len));
    c->failed = c->failed || b->failed || (kept.ptr == NULL && b->len > 0);
    b->len = 0;
    return kept;
}

static void put_number(struct bytes *b, size_t n)
{
    char text[24];
    snprintf(text, sizeof(text), "%zu", n);
    bytes_put_arg(b, weir_cstr(text));
}

/* In a script a command's arguments are counted by an argument, not by the protocol. */
static void put_count(const struct command *c, struct bytes *b, size_t n)
{
    if (c->once_ms > 0)
        put_number(b, n);
    else
        bytes_put_head(b, n);
}

void command_follow(struct command *c, const char *name, size_t n_args, const struct weir_str *args)
{
    struct bytes b = {.h = c->h};
    if (c->n_followers == FOLLOWERS_MAX) {
        c->failed = true;
        return;
    }
    struct follower *f = &c->followers[c->n_followers++];
    put_count(c, &b, n_args + 2);
    bytes_put_arg(&b, weir_cstr(name));
    f->before = keep(c, &b);
    for (size_t i = 0; i < n_args; i++)
        bytes_put_arg(&b, args[i]);
    f->after = keep(c, &b);
    c->failed = c->failed || b.failed;
    bytes_done(&b);
}

/* All arguments of the script's call: its name or text, the keys, the time, and for each command
 * its count and arguments. */
static size_t count_guarded(const struct command *c, size_t n_keys)
{
    size_t n = 3 + n_keys + 1 + 1 + c->n_args;
    for (unsigned i = 0; i < c->n_followers; i++) {
        const struct weir_str *after = &c->followers[i].after;
        size_t args = 0;
        for (size_t at = 0; at < after->len; at++)
            args += after->ptr[at] == '$'; /* they are numbers and words: none holds a $ */
        n += 1 + 2 + args;
    }
    return n;
}

static void seal_guard(struct command *c)
{
    struct bytes b = {.h = c->h};
    char hash[41];
    size_t n_keys = c->key > 0 ? 2 : 1;
    size_t n = count_guarded(c, n_keys);
    guard_hash(hash);
    const char *calls[2][2] = {{"EVALSHA", hash}, {"EVAL", guard_script}};
    for (int i = 0; i < 2; i++) {
        bytes_put_head(&b, n);
        bytes_put_arg(&b, weir_cstr(calls[i][0]));
        bytes_put_arg(&b, weir_cstr(calls[i][1]));
        put_number(&b, n_keys);
        *(i == 0 ? &c->guard_head : &c->guard_body) = keep(c, &b);
    }
    put_number(&b, (size_t)c->once_ms);
    c->guard_args = keep(c, &b);
    bytes_done(&b);
}

bool command_seal(struct command *c, size_t key, size_t route)
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
    c->key = key < c->n_args ? key : 0;
    c->route = route < c->n_args ? route : 0;
    put_count(c, &c->head, c->n_args);
    if (c->once_ms > 0)
        seal_guard(c);
    return !c->failed && !c->texts.failed && !c->head.failed;
}

/* ---- Encoding -------------------------------------------------------------------------------- */

/* One event on its way. */
struct work {
    const struct command *c;
    struct weir_batch *b;
    struct weir_event *ev;
    struct weir_arena *a;
    struct command_put *put;
};

static enum weir_verdict rejected(const struct work *w, const char *code, struct weir_str message)
{
    w->put->ret_result =
        (struct weir_result){.verdict = WEIR_VERDICT_REJECTED, .code = code, .message = message};
    return WEIR_VERDICT_REJECTED;
}

static enum weir_verdict no_memory(const struct work *w)
{
    w->put->ret_result = (struct weir_result){.verdict = WEIR_VERDICT_UNAVAILABLE,
                                              .code = "no_memory",
                                              .message = weir_cstr("no memory for the command")};
    return WEIR_VERDICT_UNAVAILABLE;
}

static enum weir_verdict render_age(const struct work *w, int64_t age_ms, struct weir_str *ret_text)
{
    const struct weir_host *h = w->c->h;
    int64_t then_ms = h->wall(h) / WEIR_NS_PER_MS - age_ms;
    *ret_text = h->arena_printf(w->a, "%lld", (long long)(then_ms > 0 ? then_ms : 0));
    return ret_text->ptr != NULL ? WEIR_VERDICT_OK : no_memory(w);
}

static enum weir_verdict render_payload(const struct work *w, struct weir_str *ret_text)
{
    if ((w->ev->flags & WEIR_EVENT_TOMB) != 0)
        return rejected(w, "tombstone", weir_cstr("a tombstone has no payload to store"));
    *ret_text = w->c->h->event_payload(w->c->h, w->b, w->ev);
    return WEIR_VERDICT_OK;
}

/* The argument's text for this event. */
static enum weir_verdict render(const struct work *w, const struct arg *arg,
                                struct weir_str *ret_text)
{
    const struct weir_host *h = w->c->h;
    if (arg->encoded.len > 0) {
        *ret_text = arg->literal;
        return WEIR_VERDICT_OK;
    }
    if (arg->age_ms > 0)
        return render_age(w, arg->age_ms, ret_text);
    if (arg->template == NULL)
        return render_payload(w, ret_text);
    struct weir_error err = {0};
    *ret_text = h->template_render(h, arg->template, w->b, w->ev, w->a, &err);
    if (ret_text->ptr != NULL)
        return WEIR_VERDICT_OK;
    if (err.status == WEIR_E_NOMEM)
        return no_memory(w);
    return rejected(w, err.code != NULL ? err.code : "missing_field",
                    h->arena_copy(w->a, weir_cstr(err.text)));
}

static enum weir_verdict too_long(const struct work *w, size_t which, size_t len)
{
    bool key = which == w->c->key;
    struct weir_str message =
        w->c->h->arena_printf(w->a, "the %s (argument %zu) has %zu bytes; at most %zu are sent",
                              key ? "key" : "value", which, len, key ? KEY_MAX : ARG_MAX);
    return rejected(w, key ? "key_too_long" : "value_too_long", message);
}

/* What stands in front of a guarded command. */
static enum weir_verdict put_guard(const struct work *w)
{
    const struct command *c = w->c;
    struct bytes *out = w->put->out;
    bool no_room;
    struct weir_str route = {NULL, 0};
    struct weir_str id = c->h->event_id(c->h, w->b, w->ev);
    enum weir_verdict v = c->route > 0 ? render(w, &c->args[c->route], &route) : WEIR_VERDICT_OK;
    if (v != WEIR_VERDICT_OK)
        return v;
    struct weir_str key = guard_key(c->h, w->a, route, c->cluster && c->route > 0, id, &no_room);
    if (key.ptr == NULL && no_room)
        return no_memory(w);
    if (key.ptr == NULL)
        return rejected(w, "key_brace",
                        weir_cstr("in a cluster a key with a } but no {tag} cannot be guarded by "
                                  "`once`: no other key is surely in its slot"));
    const struct weir_str *head = w->put->whole_script ? &c->guard_body : &c->guard_head;
    bytes_put(out, head->ptr, head->len);
    bytes_put_arg(out, key);
    if (c->key > 0)
        bytes_put_arg(out, route);
    if (c->route == 0)
        w->put->ret_route = key;
    bytes_put(out, c->guard_args.ptr, c->guard_args.len);
    return WEIR_VERDICT_OK;
}

static enum weir_verdict put_args(const struct work *w, struct weir_str *ret_key)
{
    const struct command *c = w->c;
    struct bytes *out = w->put->out;
    for (size_t i = 0; i < c->n_args; i++) {
        const struct arg *arg = &c->args[i];
        struct weir_str text;
        enum weir_verdict v = render(w, arg, &text);
        if (v != WEIR_VERDICT_OK)
            return v;
        if (text.len > (i == c->key && i > 0 ? KEY_MAX : ARG_MAX))
            return too_long(w, i, text.len);
        if (arg->encoded.len > 0)
            bytes_put(out, arg->encoded.ptr, arg->encoded.len);
        else
            bytes_put_arg(out, text);
        if (i == c->key)
            *ret_key = text;
        if (i == c->route && i > 0)
            w->put->ret_route = text;
    }
    return WEIR_VERDICT_OK;
}

static void put_asking(const struct work *w)
{
    if (w->put->asking)
        bytes_put_command(w->put->out, 1, (struct weir_str[]){weir_cstr("ASKING")});
}

static enum weir_verdict put_own(const struct work *w, struct weir_str *ret_key)
{
    const struct command *c = w->c;
    put_asking(w);
    enum weir_verdict v = c->once_ms > 0 ? put_guard(w) : WEIR_VERDICT_OK;
    if (v != WEIR_VERDICT_OK)
        return v;
    bytes_put(w->put->out, c->head.ptr, c->head.len);
    return put_args(w, ret_key);
}

/* The followers have their key from it. */
static enum weir_verdict skip_own(const struct work *w, struct weir_str *ret_key)
{
    enum weir_verdict v = render(w, &w->c->args[w->c->key], ret_key);
    w->put->ret_route = *ret_key;
    return v;
}

static enum weir_verdict put_all(const struct work *w)
{
    const struct command *c = w->c;
    struct bytes *out = w->put->out;
    unsigned first = w->put->first_part;
    struct weir_str key = {NULL, 0};
    enum weir_verdict v = first == 0 ? put_own(w, &key) : skip_own(w, &key);
    if (v != WEIR_VERDICT_OK)
        return v;
    for (unsigned i = first == 0 ? 0 : first - 1; i < c->n_followers; i++) {
        const struct follower *f = &c->followers[i];
        if (c->once_ms == 0)
            put_asking(w);
        bytes_put(out, f->before.ptr, f->before.len);
        bytes_put_arg(out, key);
        bytes_put(out, f->after.ptr, f->after.len);
    }
    return out->failed ? no_memory(w) : WEIR_VERDICT_OK;
}

enum weir_verdict command_put(const struct command *c, struct weir_batch *b, struct weir_event *ev,
                              struct command_put *put, struct weir_arena *a)
{
    const struct work w = {.c = c, .b = b, .ev = ev, .a = a, .put = put};
    size_t before = put->out->len;
    put->out->failed = false;
    put->ret_route = weir_str_n(NULL, 0);
    enum weir_verdict v = put_all(&w);
    if (v != WEIR_VERDICT_OK)
        put->out->len = before;
    return v;
}
