/* SPDX-License-Identifier: Apache-2.0
 *
 * chaos_proxy: TCP links of the loopback that can be cut, stalled, delayed and throttled. One thread; what
 * passes is copied, never looked at. Commands come on standard input, a line each, and each is answered by
 * "ok" or "error ..." on standard output; it ends with its input.
 *
 *   link PORT TARGET   listen on PORT, connect each client to TARGET
 *   open PORT          as in the beginning: everything passes
 *   cut PORT           reset the connections of now
 *   down PORT          reset them, and each new one
 *   stall PORT         nothing passes, and no connection ends
 *   delay PORT MS      what passes comes so much later
 *   rate PORT BYTES    so many bytes a second pass, both directions together
 *   seen PORT          answers "ok CONNECTIONS BYTES": how many there are now, how much has passed
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define LINKS_MAX 128
#define PIECE (64u << 10)
#define QUEUED_MAX (512u << 10) /* a direction: then its sender waits */
#define TICK_MS 2
#define MS 1000000

enum mode { OPEN, DOWN, STALLED };

/* Bytes on their way. */
struct piece {
    struct piece *next;
    int64_t due_ns;
    size_t at, end;
    char data[];
};

/* One end of a connection, and what was read from it. */
struct end {
    struct conn *conn;
    int fd;
    bool readable, writable, ended, told_end;
    struct piece *first, *last;
    size_t queued;
};

struct conn {
    struct conn *next, *prev;
    struct link *link;
    struct end ends[2];
    bool dead;
};

struct link {
    int listener;
    uint16_t port, target;
    enum mode mode;
    int64_t delay_ns, rate, filled_ns;
    double tokens;
    uint64_t passed;
    struct conn *conns;
};

static struct link links[LINKS_MAX];
static size_t n_links;
static struct conn *dead;
static int epoll;

static int64_t now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static void die(const char *what)
{
    fprintf(stderr, "chaos_proxy: %s: %s\n", what, strerror(errno));
    exit(1);
}

static bool watch(int fd, void *ptr)
{
    struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = ptr};
    return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e) == 0;
}

/* ---- Connections ---- */

/* Freed once no event of this turn can name it. */
static void end_conn(struct conn *c, bool hard)
{
    struct linger linger = {hard, 0};
    if (c->dead)
        return;
    c->dead = true;
    for (int i = 0; i < 2; i++) {
        struct end *e = &c->ends[i];
        setsockopt(e->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
        close(e->fd);
        for (struct piece *p = e->first, *next; p != NULL; p = next) {
            next = p->next;
            free(p);
        }
    }
    if (c->prev != NULL)
        c->prev->next = c->next;
    else
        c->link->conns = c->next;
    if (c->next != NULL)
        c->next->prev = c->prev;
    c->next = dead;
    dead = c;
}

static void reset_all(struct link *l)
{
    while (l->conns != NULL)
        end_conn(l->conns, true);
}

static void accept_one(struct link *l, int client)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(l->target)};
    struct conn *c = calloc(1, sizeof(*c));
    int server = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;
    if (c == NULL || server < 0)
        die("a connection");
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    c->link = l;
    c->ends[0] = (struct end){.conn = c, .fd = client};
    c->ends[1] = (struct end){.conn = c, .fd = server};
    c->next = l->conns;
    if (c->next != NULL)
        c->next->prev = c;
    l->conns = c;
    setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    setsockopt(server, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (l->mode == DOWN || (connect(server, (struct sockaddr *)&to, sizeof(to)) != 0 && errno != EINPROGRESS)) {
        end_conn(c, true);
        return;
    }
    if (!watch(client, &c->ends[0]) || !watch(server, &c->ends[1]))
        die("epoll");
}

static void accept_all(struct link *l)
{
    for (;;) {
        int client = accept4(l->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (client >= 0)
            accept_one(l, client);
        else if (errno != EINTR && errno != ECONNABORTED)
            return;
    }
}

/* ---- What passes ---- */

static bool take(struct end *e, int64_t now)
{
    while (e->readable && !e->ended && e->queued < QUEUED_MAX) {
        struct piece *p = malloc(sizeof(*p) + PIECE);
        if (p == NULL)
            die("memory");
        ssize_t n = read(e->fd, p->data, PIECE);
        if (n <= 0) {
            free(p);
            e->ended = n == 0;
            e->readable = n < 0 && errno == EINTR;
            if (n < 0 && errno != EAGAIN && errno != EINTR)
                return false;
            continue;
        }
        p->next = NULL;
        p->at = 0;
        p->end = (size_t)n;
        p->due_ns = now + e->conn->link->delay_ns;
        *(e->first != NULL ? &e->last->next : &e->first) = p;
        e->last = p;
        e->queued += p->end;
    }
    return true;
}

/* How many bytes may pass now. */
static size_t allowed(struct link *l, int64_t now)
{
    if (l->rate == 0)
        return SIZE_MAX;
    l->tokens += (double)(now - l->filled_ns) * (double)l->rate / 1e9;
    l->filled_ns = now;
    if (l->tokens > (double)l->rate / 10)
        l->tokens = (double)l->rate / 10;
    return l->tokens >= 1 ? (size_t)l->tokens : 0;
}

static bool give(struct end *from, struct end *to, int64_t now)
{
    struct link *l = from->conn->link;
    for (struct piece *p; (p = from->first) != NULL && to->writable && p->due_ns <= now;) {
        size_t most = allowed(l, now), n = p->end - p->at;
        if (most == 0)
            return true;
        ssize_t sent = send(to->fd, p->data + p->at, n < most ? n : most, MSG_NOSIGNAL);
        if (sent < 0) {
            to->writable = errno == EINTR;
            if (errno != EAGAIN && errno != EINTR)
                return false;
            continue;
        }
        p->at += (size_t)sent;
        from->queued -= (size_t)sent;
        l->passed += (uint64_t)sent;
        l->tokens -= l->rate != 0 ? (double)sent : 0;
        if (p->at == p->end) {
            from->first = p->next;
            free(p);
        }
    }
    if (from->ended && from->first == NULL && !from->told_end) {
        from->told_end = true;
        shutdown(to->fd, SHUT_WR);
    }
    return true;
}

static void pump(struct conn *c, int64_t now)
{
    struct end *a = &c->ends[0], *b = &c->ends[1];
    if (c->dead || c->link->mode == STALLED)
        return;
    /* What was given makes room to take: until nothing passes, since nobody tells again what has come already. */
    bool fine;
    uint64_t before;
    do {
        before = c->link->passed;
        fine = take(a, now) && take(b, now) && give(a, b, now) && give(b, a, now);
    } while (fine && c->link->passed != before);
    if (!fine || (a->told_end && b->told_end))
        end_conn(c, !fine);
}

static void pump_all(struct link *l, int64_t now)
{
    for (struct conn *c = l->conns, *next; c != NULL; c = next) {
        next = c->next;
        pump(c, now);
    }
}

/* ---- Commands ---- */

static struct link *find(uint16_t port)
{
    for (size_t i = 0; i < n_links; i++)
        if (links[i].port == port)
            return &links[i];
    return NULL;
}

static const char *add_link(uint16_t port, uint16_t target)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;
    if (n_links == LINKS_MAX || fd < 0)
        return "too many links";
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    struct link *l = &links[n_links];
    *l = (struct link){.listener = fd, .port = port, .target = target};
    if (bind(fd, (struct sockaddr *)&at, sizeof(at)) != 0 || listen(fd, 512) != 0 || !watch(fd, l)) {
        close(fd);
        return strerror(errno);
    }
    n_links++;
    return NULL;
}

/* What was to come later comes now: nobody would look at it again. */
static void hurry(struct link *l)
{
    for (struct conn *c = l->conns; c != NULL; c = c->next)
        for (int i = 0; i < 2; i++)
            for (struct piece *p = c->ends[i].first; p != NULL; p = p->next)
                p->due_ns = 0;
}

static void set_mode(struct link *l, enum mode mode, int64_t delay_ns, int64_t rate)
{
    l->mode = mode;
    l->delay_ns = delay_ns;
    l->rate = rate;
    l->tokens = 0;
    l->filled_ns = now_ns();
    if (mode == DOWN)
        reset_all(l);
    if (delay_ns == 0)
        hurry(l);
    pump_all(l, now_ns());
}

static const char *carry_out(const char *verb, uint16_t port, long number)
{
    struct link *l = find(port);
    if (strcmp(verb, "link") == 0)
        return l != NULL ? "there is such a link" : add_link(port, (uint16_t)number);
    if (l == NULL)
        return "no such link";
    if (strcmp(verb, "open") == 0)
        set_mode(l, OPEN, 0, 0);
    else if (strcmp(verb, "cut") == 0)
        reset_all(l);
    else if (strcmp(verb, "down") == 0)
        set_mode(l, DOWN, 0, 0);
    else if (strcmp(verb, "stall") == 0)
        set_mode(l, STALLED, 0, 0);
    else if (strcmp(verb, "delay") == 0 && number > 0)
        set_mode(l, OPEN, number * MS, 0);
    else if (strcmp(verb, "rate") == 0 && number > 0)
        set_mode(l, OPEN, 0, number);
    else
        return "unknown command";
    return NULL;
}

static void see(uint16_t port)
{
    const struct link *l = find(port);
    unsigned n = 0;
    for (const struct conn *c = l != NULL ? l->conns : NULL; c != NULL; c = c->next)
        n++;
    printf("ok %u %llu\n", n, (unsigned long long)(l != NULL ? l->passed : 0));
}

/* False at the end of the input. */
static bool read_commands(void)
{
    static char text[4096];
    static size_t have;
    ssize_t n = read(0, text + have, sizeof(text) - 1 - have);
    if (n <= 0)
        return n < 0 && (errno == EAGAIN || errno == EINTR);
    have += (size_t)n;
    text[have] = '\0';
    for (char *end; (end = strchr(text, '\n')) != NULL;) {
        char verb[16] = "";
        unsigned port = 0;
        long number = 0;
        *end = '\0';
        int words = sscanf(text, "%15s %u %ld", verb, &port, &number);
        if (words >= 2 && strcmp(verb, "seen") == 0) {
            see((uint16_t)port);
        } else {
            const char *wrong = words < 2 ? "a command and a port expected" : carry_out(verb, (uint16_t)port, number);
            printf("%s%s\n", wrong != NULL ? "error " : "ok", wrong != NULL ? wrong : "");
        }
        have -= (size_t)(end + 1 - text);
        memmove(text, end + 1, have + 1);
    }
    fflush(stdout);
    return true;
}

static bool any_waits(void)
{
    for (size_t i = 0; i < n_links; i++)
        if (links[i].delay_ns != 0 || links[i].rate != 0)
            return true;
    return false;
}

static void turn(const struct epoll_event *e, int64_t now)
{
    struct link *l = e->data.ptr;
    if (l >= links && l < links + LINKS_MAX) {
        accept_all(l);
        return;
    }
    struct end *end = e->data.ptr;
    end->readable |= (e->events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
    end->writable |= (e->events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) != 0;
    pump(end->conn, now);
}

static void free_dead(void)
{
    for (struct conn *next; dead != NULL; dead = next) {
        next = dead->next;
        free(dead);
    }
}

int main(void)
{
    struct epoll_event events[64], input = {.events = EPOLLIN};
    epoll = epoll_create1(EPOLL_CLOEXEC);
    fcntl(0, F_SETFL, fcntl(0, F_GETFL) | O_NONBLOCK);
    if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, 0, &input) != 0)
        die("epoll");
    for (;;) {
        int n = epoll_wait(epoll, events, 64, any_waits() ? TICK_MS : -1);
        int64_t now = now_ns();
        for (int i = 0; i < n; i++) {
            if (events[i].data.ptr == NULL && !read_commands())
                return 0;
            if (events[i].data.ptr != NULL)
                turn(&events[i], now);
        }
        for (size_t i = 0; i < n_links; i++)
            if (links[i].delay_ns != 0 || links[i].rate != 0)
                pump_all(&links[i], now);
        free_dead();
    }
}
