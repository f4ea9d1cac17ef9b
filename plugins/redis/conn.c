/* SPDX-License-Identifier: Apache-2.0
 *
 * Connecting, logging in, sending and receiving. Contracts in conn.h.
 *
 * All bytes go through transport_send and transport_recv, the place where TLS will stand.
 */
#include "conn.h"
#include "errors.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define STEP_BYTES ((size_t)1 << 20) /* received in one step at most */
#define KEEP_BYTES ((size_t)8 << 20) /* a larger send buffer is freed when it is empty */

void conn_init(struct conn *c, const struct weir_host *h, const struct conn_config *config,
               size_t reply_limit)
{
    size_t offset;
    *c = (struct conn){.h = h, .config = config, .fd = -1, .login = {.h = h}, .out = {.h = h}};
    (void)address_parse(config->url, &c->address, &offset); /* check() has refused wrong ones */
    resp_init(&c->in, h, reply_limit);
    if (c->address.host[0] == '\0')
        snprintf(c->where, sizeof(c->where), "%s", c->address.path);
    else
        snprintf(c->where, sizeof(c->where), "%s:%s", c->address.host, c->address.port);
}

static void close_socket(struct conn *c)
{
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
}

void conn_close(struct conn *c)
{
    close_socket(c);
    if (c->infos != NULL)
        freeaddrinfo(c->infos);
    c->infos = NULL;
    c->info = NULL;
    c->out.len = 0;
    c->out.failed = false;
    c->out_at = 0;
    c->send_error = 0;
    c->login.len = 0;
    resp_reset(&c->in);
    c->state = CONN_DOWN;
}

void conn_done(struct conn *c)
{
    if (c->h == NULL)
        return;
    conn_close(c);
    resp_done(&c->in);
    bytes_done(&c->out);
    if (c->login.ptr != NULL)
        explicit_bzero(c->login.ptr, c->login.cap); /* it held the password */
    bytes_done(&c->login);
    explicit_bzero(c->address.password, sizeof(c->address.password));
}

static void set_broken(struct conn *c, struct weir_result error)
{
    close_socket(c);
    if (c->state != CONN_READY)
        resp_reset(&c->in); /* replies to the login: nobody else may take them for theirs */
    error.message = weir_cstr(c->text);
    c->error = error;
    c->state = CONN_BROKEN;
}

void conn_break(struct conn *c, const char *code, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vsnprintf(c->text, sizeof(c->text), fmt, args);
    va_end(args);
    set_broken(c, (struct weir_result){.verdict = WEIR_VERDICT_UNAVAILABLE, .code = code});
}

/* ---- Transport ------------------------------------------------------------------------------- */

/* As send(2) and recv(2) on a non-blocking socket. */
static ssize_t transport_send(const struct conn *c, const char *ptr, size_t len)
{
    return send(c->fd, ptr, len, MSG_NOSIGNAL);
}

static ssize_t transport_recv(const struct conn *c, char *ptr, size_t len)
{
    return recv(c->fd, ptr, len, 0);
}

/* ---- Connecting ------------------------------------------------------------------------------ */

static void lost(struct conn *c, int error)
{
    if (error == 0)
        conn_break(c, "connection_lost", "redis at %s closed the connection", c->where);
    else
        conn_break(c, "connection_lost", "connection to redis at %s lost: %s", c->where,
                   strerror(error));
    c->error.number = error;
}

static void put_login(struct conn *c, size_t n, const struct weir_str *args)
{
    resp_put_head(&c->login, n);
    for (size_t i = 0; i < n; i++)
        resp_put_arg(&c->login, args[i]);
    c->n_login++;
}

/* AUTH, SELECT and a name that CLIENT LIST shows, as far as they are wanted. */
static void build_login(struct conn *c)
{
    const struct address *a = &c->address;
    struct weir_str user = a->has_user ? weir_cstr(a->user) : c->config->user;
    struct weir_str password = a->has_password ? weir_cstr(a->password) : c->config->password;
    int64_t database = a->database != 0 ? a->database : c->config->database;
    c->login.len = 0;
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
}

static void connected(struct conn *c)
{
    build_login(c);
    c->out_at = 0;
    c->state = CONN_LOGIN;
    if (c->login.failed)
        conn_break(c, "no_memory", "no memory to log in to redis at %s", c->where);
}

static void set_options(const struct conn *c)
{
    const int on = 1;
    if (c->address.host[0] == '\0')
        return;
    (void)setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    (void)setsockopt(c->fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
}

/* Starts one connect(2). 0, or an errno value. */
static int try_connect(struct conn *c, const struct sockaddr *to, socklen_t len)
{
    close_socket(c);
    c->fd = socket(to->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0)
        return errno;
    set_options(c);
    if (connect(c->fd, to, len) == 0 || errno == EINPROGRESS)
        return 0;
    return errno;
}

static void connect_failed(struct conn *c, int error)
{
    conn_break(c, "connect_failed", "cannot connect to redis at %s: %s", c->where, strerror(error));
    c->error.number = error;
}

/* Tries the host's addresses from c->info on, until one can be waited for. */
static void try_addresses(struct conn *c)
{
    int error = EADDRNOTAVAIL;
    for (; c->info != NULL; c->info = c->info->ai_next) {
        error = try_connect(c, c->info->ai_addr, c->info->ai_addrlen);
        if (error == 0)
            return;
    }
    connect_failed(c, error);
}

static void open_unix(struct conn *c)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    memcpy(to.sun_path, c->address.path, sizeof(to.sun_path));
    int error = try_connect(c, (const struct sockaddr *)(const void *)&to, sizeof(to));
    if (error != 0)
        connect_failed(c, error);
}

static void open_tcp(struct conn *c)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    int error = getaddrinfo(c->address.host, c->address.port, &hints, &c->infos);
    if (error != 0) {
        c->infos = NULL;
        conn_break(c, "resolve_failed", "cannot resolve the host of redis at %s: %s", c->where,
                   gai_strerror(error));
        return;
    }
    c->info = c->infos;
    try_addresses(c);
}

void conn_open(struct conn *c)
{
    conn_close(c);
    c->state = CONN_CONNECTING;
    c->deadline_ns = c->h->now(c->h) + c->config->connect_timeout_ns;
    if (c->address.host[0] == '\0')
        open_unix(c);
    else
        open_tcp(c);
}

static void finish_connect(struct conn *c)
{
    int error = 0;
    socklen_t len = sizeof(error);
    if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0)
        error = errno;
    if (error == 0) {
        connected(c);
        return;
    }
    if (c->info == NULL || c->info->ai_next == NULL) {
        connect_failed(c, error);
        return;
    }
    c->info = c->info->ai_next;
    try_addresses(c);
}

/* ---- Login ----------------------------------------------------------------------------------- */

static void login_refused(struct conn *c, struct weir_str text, bool name)
{
    bool reconnect;
    struct weir_result error = redis_error_result(text, &reconnect);
    if (name && strcmp(error.code, "noauth") != 0)
        return; /* a name is a comfort; NOAUTH means that nothing else would work either */
    const char *hint = "check `user` and `password`";
    if (strcmp(error.code, "noauth") == 0)
        hint = "the server wants a `password`";
    else if (strcmp(error.code, "bad_database") == 0)
        hint = "check `database`";
    else if (strcmp(error.code, "loading") == 0 || strcmp(error.code, "busy") == 0 ||
             strcmp(error.code, "max_clients") == 0)
        hint = "try again later";
    snprintf(c->text, sizeof(c->text), "redis at %s refused the login: %.*s; %s", c->where,
             (int)error.message.len, error.message.ptr, hint);
    error.verdict = WEIR_VERDICT_UNAVAILABLE;
    set_broken(c, error);
}

static void take_login_replies(struct conn *c)
{
    struct resp_reply reply;
    while (c->state == CONN_LOGIN && c->n_login_done < c->n_login) {
        enum resp_result result = resp_next(&c->in, &reply);
        if (result == RESP_MORE)
            return;
        if (result == RESP_MALFORMED) {
            conn_break(c, "protocol", "%s does not speak Redis's protocol", c->where);
            return;
        }
        bool name = (int)c->n_login_done == c->login_name;
        c->n_login_done++;
        if (reply.type == RESP_ERROR)
            login_refused(c, reply.text, name);
    }
    if (c->state != CONN_LOGIN)
        return;
    if (resp_pending(&c->in)) {
        conn_break(c, "protocol", "redis at %s sent a reply that nobody asked for", c->where);
        return;
    }
    c->state = CONN_READY;
    c->out_at = 0;
    conn_send(c);
}

/* ---- Sending and receiving ------------------------------------------------------------------- */

void conn_send(struct conn *c)
{
    struct bytes *from = c->state == CONN_LOGIN ? &c->login : &c->out;
    if ((c->state != CONN_LOGIN && c->state != CONN_READY) || c->send_error != 0)
        return;
    while (c->out_at < from->len) {
        ssize_t n = transport_send(c, from->ptr + c->out_at, from->len - c->out_at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return;
        if (n < 0) {
            c->send_error = errno;
            return;
        }
        c->out_at += (size_t)n;
    }
    if (c->state != CONN_READY)
        return;
    c->out.len = 0;
    c->out_at = 0;
    if (c->out.cap > KEEP_BYTES)
        bytes_done(&c->out);
}

#define STILL_OPEN (-1)

/* STILL_OPEN, or why there is no more to come: 0 = the server closed it, else an errno value. */
static int receive(struct conn *c)
{
    for (size_t total = 0; total < STEP_BYTES;) {
        size_t room;
        char *p = resp_space(&c->in, &room);
        if (p == NULL)
            return ENOMEM;
        ssize_t n = transport_recv(c, p, room);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return STILL_OPEN;
        if (n <= 0)
            return n == 0 ? c->send_error : errno;
        resp_filled(&c->in, (size_t)n);
        total += (size_t)n;
        if ((size_t)n < room)
            return STILL_OPEN;
    }
    return STILL_OPEN;
}

static int timeout_ms(const struct weir_host *h, int64_t deadline_ns)
{
    if (deadline_ns == WEIR_NEVER)
        return -1;
    int64_t left_ns = deadline_ns - h->now(h);
    if (left_ns <= 0)
        return 0;
    int64_t ms = (left_ns + WEIR_NS_PER_MS - 1) / WEIR_NS_PER_MS;
    return ms > 3600000 ? 3600000 : (int)ms;
}

static short wanted_events(const struct conn *c)
{
    if (c->state == CONN_CONNECTING)
        return POLLOUT;
    size_t len = c->state == CONN_LOGIN ? c->login.len : c->out.len;
    return c->out_at < len && c->send_error == 0 ? POLLIN | POLLOUT : POLLIN;
}

short conn_wait(struct conn *c, int wake_fd, int64_t deadline_ns)
{
    struct pollfd fds[2] = {{.fd = wake_fd, .events = POLLIN},
                            {.fd = c->fd, .events = wanted_events(c)}};
    bool linking = c->state == CONN_CONNECTING || c->state == CONN_LOGIN;
    int64_t until_ns = linking && c->deadline_ns < deadline_ns ? c->deadline_ns : deadline_ns;
    int n = poll(fds, 2, timeout_ms(c->h, until_ns)); /* a descriptor of -1 is left out */
    if (n > 0 && fds[0].revents != 0) {
        uint64_t count;
        ssize_t got = read(wake_fd, &count, sizeof(count));
        (void)got; /* EAGAIN only */
    }
    if (linking && c->h->now(c->h) >= c->deadline_ns && (n <= 0 || fds[1].revents == 0)) {
        conn_break(c, "connect_timeout", "redis at %s let no connection in within %lld ms",
                   c->where, (long long)(c->config->connect_timeout_ns / WEIR_NS_PER_MS));
        return 0;
    }
    return n > 0 ? fds[1].revents : 0;
}

void conn_step(struct conn *c, short events)
{
    int end = STILL_OPEN;
    if (c->state == CONN_CONNECTING && events != 0)
        finish_connect(c);
    if ((c->state == CONN_LOGIN || c->state == CONN_READY) && (events & ~POLLOUT) != 0)
        end = receive(c);
    conn_send(c);
    if (c->state == CONN_LOGIN)
        take_login_replies(c); /* before the end is looked at: they may say why */
    if (end != STILL_OPEN && c->state != CONN_BROKEN)
        lost(c, end);
}

void conn_check_idle(struct conn *c)
{
    char byte;
    if (c->state != CONN_READY)
        return;
    ssize_t n = recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    if (n == 0)
        lost(c, 0);
    else if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)
        lost(c, errno);
}

bool conn_next(struct conn *c, struct resp_reply *ret)
{
    if (c->state != CONN_READY && c->state != CONN_BROKEN)
        return false;
    enum resp_result result = resp_next(&c->in, ret);
    if (result == RESP_MALFORMED)
        conn_break(c, "protocol", "%s does not speak Redis's protocol", c->where);
    return result == RESP_REPLY;
}

enum weir_status conn_probe(const struct weir_host *h, const struct conn_config *config,
                            int64_t deadline_ns, struct weir_error *err)
{
    struct conn c;
    struct resp_reply reply = {0};
    conn_init(&c, h, config, 64 << 10);
    conn_open(&c);
    resp_put_head(&c.out, 1);
    resp_put_arg(&c.out, weir_cstr("PING"));
    bool answered = false;
    while (!answered && c.state != CONN_BROKEN && h->now(h) < deadline_ns) {
        conn_step(&c, conn_wait(&c, -1, deadline_ns));
        answered = conn_next(&c, &reply);
    }
    enum weir_status st = WEIR_OK;
    if (!answered && c.state != CONN_BROKEN)
        st = h->error(err, WEIR_E_UNAVAILABLE, "timeout", "redis at %s did not answer in time",
                      c.where);
    else if (!answered)
        st = h->error(err, WEIR_E_UNAVAILABLE, c.error.code, "%s", c.text);
    else if (reply.type == RESP_ERROR)
        st = h->error(err, WEIR_E_UNAVAILABLE, "refused", "redis at %s answered: %.*s", c.where,
                      (int)(reply.text.len < 200 ? reply.text.len : 200), reply.text.ptr);
    conn_done(&c);
    return st;
}
