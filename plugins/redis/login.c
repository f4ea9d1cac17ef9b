/* SPDX-License-Identifier: Apache-2.0
 *
 * Sends the whole login in one go and reads its replies. Contracts in login.h.
 */
#include "login.h"

#include "errors.h"

#include <stdio.h>
#include <string.h>

static void put_login(struct conn *c, size_t n, const struct weir_str *args)
{
    bytes_put_command(&c->login, n, args);
    c->n_login++;
}

static void put_auth(struct conn *c, struct weir_str user, struct weir_str password)
{
    if (user.len > 0)
        put_login(c, 3, (struct weir_str[]){weir_cstr("AUTH"), user, password});
    else if (password.len > 0)
        put_login(c, 2, (struct weir_str[]){weir_cstr("AUTH"), password});
}

static void put_select(struct conn *c)
{
    int64_t database = c->address.database != 0 ? c->address.database : c->config->database;
    char text[24];
    if (database == 0)
        return;
    snprintf(text, sizeof(text), "%lld", (long long)database);
    put_login(c, 2, (struct weir_str[]){weir_cstr("SELECT"), weir_cstr(text)});
}

static void put_all(struct conn *c)
{
    if (c->role == CONN_TO_SENTINEL) {
        put_auth(c, c->config->sentinel.user, c->config->sentinel.password);
    } else {
        put_auth(c, conn_config_user(c->config, &c->address),
                 conn_config_password(c->config, &c->address));
        put_select(c);
    }
    c->login_name = (int)c->n_login;
    put_login(c, 3,
              (struct weir_str[]){weir_cstr("CLIENT"), weir_cstr("SETNAME"), weir_cstr("weir")});
    if (c->role != CONN_TO_MASTER)
        return;
    c->login_role = (int)c->n_login;
    put_login(c, 1, (struct weir_str[]){weir_cstr("ROLE")});
}

void login_begin(struct conn *c)
{
    c->login.len = 0;
    c->login.failed = false;
    c->n_login = 0;
    c->n_login_done = 0;
    c->login_role = -1;
    put_all(c);
    c->out_at = 0;
    c->state = CONN_LOGIN;
    if (c->login.failed)
        conn_break(c, "no_memory", "no memory to log in to redis at %s", c->where);
}

static const char *hint_for(const char *code)
{
    static const char *const later[] = {"loading", "busy", "max_clients", "masterdown"};
    if (strcmp(code, "noauth") == 0)
        return "the server wants a `password`";
    if (strcmp(code, "bad_database") == 0)
        return "check `database`";
    for (size_t i = 0; i < sizeof(later) / sizeof(later[0]); i++) {
        if (strcmp(code, later[i]) == 0)
            return "try again later";
    }
    return "check `user` and `password`";
}

static void refused(struct conn *c, struct weir_str text, bool name)
{
    bool reconnect;
    struct weir_result error = redis_error_result(text, &reconnect);
    if (name && strcmp(error.code, "noauth") != 0)
        return; /* a name is a comfort; NOAUTH means that nothing else would work either */
    conn_break(c, error.code, "redis at %s refused the login: %.*s; %s", c->where,
               (int)error.message.len, error.message.ptr, hint_for(error.code));
}

/* The reply to ROLE begins with one of master, slave and sentinel. */
static void check_role(struct conn *c, const struct reply *reply)
{
    struct weir_str role = reply->text;
    if (reply->type == REPLY_ARRAY && role.len == 6 && memcmp(role.ptr, "master", 6) == 0)
        return;
    conn_break(
        c, "not_master",
        "the Sentinels call %s the master, but it says it is \"%.*s\"; it is asked for again",
        c->where, (int)(role.len < 40 ? role.len : 40), role.ptr);
}

static void take_reply(struct conn *c, const struct reply *reply)
{
    int which = (int)c->n_login_done++;
    if (reply->type == REPLY_ERROR)
        refused(c, reply->text, which == c->login_name);
    else if (which == c->login_role)
        check_role(c, reply);
}

void login_go_on(struct conn *c)
{
    struct reply reply;
    while (c->state == CONN_LOGIN && c->n_login_done < c->n_login) {
        enum reply_result result = replies_next(&c->in, &reply);
        if (result == REPLY_MORE)
            return;
        if (result == REPLY_MALFORMED || reply.type > REPLY_ARRAY) {
            conn_break(c, "protocol", "%s does not speak Redis's protocol", c->where);
            return;
        }
        take_reply(c, &reply);
    }
    if (c->state != CONN_LOGIN)
        return;
    if (replies_pending(&c->in)) {
        conn_break(c, "protocol", "redis at %s sent a reply that nobody asked for", c->where);
        return;
    }
    c->error = (struct weir_result){0};
    c->state = CONN_READY;
    c->out_at = 0;
    conn_send(c);
}
