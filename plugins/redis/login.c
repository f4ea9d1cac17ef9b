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

void login_begin(struct conn *c)
{
    const struct address *a = &c->address;
    struct weir_str user = a->has_user ? weir_cstr(a->user) : c->config->user;
    struct weir_str password = a->has_password ? weir_cstr(a->password) : c->config->password;
    int64_t database = a->database != 0 ? a->database : c->config->database;
    c->login.len = 0;
    c->login.failed = false;
    c->n_login = 0;
    c->n_login_done = 0;
    if (user.len > 0)
        put_login(c, 3, (struct weir_str[]){weir_cstr("AUTH"), user, password});
    else if (password.len > 0)
        put_login(c, 2, (struct weir_str[]){weir_cstr("AUTH"), password});
    if (database != 0) {
        char text[24];
        snprintf(text, sizeof(text), "%lld", (long long)database);
        put_login(c, 2, (struct weir_str[]){weir_cstr("SELECT"), weir_cstr(text)});
    }
    c->login_name = (int)c->n_login;
    put_login(c, 3,
              (struct weir_str[]){weir_cstr("CLIENT"), weir_cstr("SETNAME"), weir_cstr("weir")});
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
        bool name = (int)c->n_login_done == c->login_name;
        c->n_login_done++;
        if (reply.type == REPLY_ERROR)
            refused(c, reply.text, name);
    }
    if (c->state != CONN_LOGIN)
        return;
    if (replies_pending(&c->in)) {
        conn_break(c, "protocol", "redis at %s sent a reply that nobody asked for", c->where);
        return;
    }
    c->state = CONN_READY;
    c->out_at = 0;
    conn_send(c);
}
