/* SPDX-License-Identifier: Apache-2.0
 *
 * load_http PORT CONNECTIONS SECONDS PER_REQUEST: posts events to 127.0.0.1 over kept-alive connections, the
 * next request of a connection as soon as its answer is there. One thread; bodies are made beforehand, so that
 * it costs little beside the server. Prints one line: requests answered 2xx, others, broken connections,
 * seconds, p50, p99 and longest answer in microseconds, its own CPU seconds.
 *
 * The first tenth of the time is not counted.
 */
#include "limit.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define BODIES 64
#define ANSWER_MAX 65536
#define SLOTS (64 * 40)

struct request {
    char *text;
    size_t size;
};

struct client {
    int fd;
    const struct request *request;
    size_t sent, got;
    double since;
    char answer[4096];
};

static struct {
    struct sockaddr_in to;
    struct request requests[BODIES];
    size_t next;
    bool counting;
    uint64_t ok, other, broken, latency[SLOTS];
    double longest;
    int epoll;
} load;

/* Latencies in slots of 1/32 of their magnitude. */
static size_t slot_of(uint64_t us)
{
    size_t shift = 0;
    while (us >> shift >= 64)
        shift++;
    size_t slot = shift * 32 + (size_t)(us >> shift);
    return slot < SLOTS ? slot : SLOTS - 1;
}

static double slot_us(size_t slot)
{
    if (slot < 64)
        return (double)slot;
    size_t shift = slot / 32 - 1;
    return (double)((uint64_t)(slot - shift * 32) << shift);
}

static double percentile(double share)
{
    uint64_t n = 0, seen = 0;
    for (size_t i = 0; i < SLOTS; i++)
        n += load.latency[i];
    for (size_t i = 0; i < SLOTS; i++)
        if ((seen += load.latency[i]) >= (uint64_t)((double)n * share) && seen > 0)
            return slot_us(i);
    return 0;
}

static void make_requests(unsigned long port, unsigned long per_request)
{
    for (size_t i = 0; i < BODIES; i++) {
        size_t room = per_request * (LIMIT_EVENT_MAX + 1), size = 0;
        char *body = malloc(room), head[256];
        for (size_t e = 0; body != NULL && e < per_request; e++) {
            size += (size_t)limit_event(body + size, i * per_request + e);
            body[size++] = '\n';
        }
        int n = snprintf(head, sizeof(head),
                         "POST /events HTTP/1.1\r\nHost: 127.0.0.1:%lu\r\nContent-Type: application/%s\r\n"
                         "Content-Length: %zu\r\n\r\n",
                         port, per_request == 1 ? "json" : "x-ndjson", size);
        struct request r = {malloc((size_t)n + size), (size_t)n + size};
        if (body == NULL || r.text == NULL)
            limit_die("load_http", "no memory");
        memcpy(r.text, head, (size_t)n);
        memcpy(r.text + n, body, size);
        load.requests[i] = r;
        free(body);
    }
}

static void send_more(struct client *c)
{
    while (c->sent < c->request->size) {
        ssize_t n = send(c->fd, c->request->text + c->sent, c->request->size - c->sent, MSG_NOSIGNAL);
        if (n < 0)
            return; /* full, or broken, which the next read tells */
        c->sent += (size_t)n;
    }
}

static void begin_request(struct client *c)
{
    c->request = &load.requests[load.next++ % BODIES];
    c->sent = c->got = 0;
    c->since = limit_now();
    send_more(c);
}

static void connect_client(struct client *c)
{
    int on = 1;
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&load.to, sizeof(load.to)) != 0)
        limit_die("load_http", "nobody listens there");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = c};
    if (epoll_ctl(load.epoll, EPOLL_CTL_ADD, c->fd, &e) != 0)
        limit_die("load_http", "epoll");
}

static void count(const struct client *c, bool ok)
{
    if (!load.counting)
        return;
    double took = (limit_now() - c->since) * 1e6;
    load.ok += ok;
    load.other += !ok;
    load.latency[slot_of((uint64_t)took)]++;
    if (took > load.longest)
        load.longest = took;
}

/* Whether the whole answer is there: a head, and as many bytes as it says. */
static bool complete(struct client *c)
{
    c->answer[c->got] = '\0';
    const char *body = strstr(c->answer, "\r\n\r\n");
    const char *length = body != NULL ? strcasestr(c->answer, "content-length:") : NULL;
    if (length == NULL)
        return false;
    return c->got >= (size_t)(body + 4 - c->answer) + strtoul(length + 15, NULL, 10);
}

static void on_ready(struct client *c)
{
    send_more(c);
    for (;;) {
        ssize_t n = recv(c->fd, c->answer + c->got, sizeof(c->answer) - 1 - c->got, MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0) {
            load.broken++;
            close(c->fd);
            connect_client(c);
            begin_request(c);
            return;
        }
        c->got += (size_t)n;
        if (!complete(c))
            continue;
        count(c, memcmp(c->answer, "HTTP/1.1 2", 10) == 0);
        begin_request(c);
    }
}

static void run_until(double end)
{
    struct epoll_event events[256];
    while (limit_now() < end) {
        int n = epoll_wait(load.epoll, events, 256, 20);
        for (int i = 0; i < n; i++)
            on_ready(events[i].data.ptr);
    }
}

int main(int argc, char **argv)
{
    if (argc != 5)
        limit_die("load_http", "usage: load_http PORT CONNECTIONS SECONDS PER_REQUEST");
    unsigned long port = strtoul(argv[1], NULL, 10), n = strtoul(argv[2], NULL, 10);
    double seconds = strtod(argv[3], NULL);
    load.to = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)port),
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    load.epoll = epoll_create1(0);
    make_requests(port, strtoul(argv[4], NULL, 10));
    struct client *clients = calloc(n, sizeof(*clients));
    if (clients == NULL)
        limit_die("load_http", "no memory");
    for (size_t i = 0; i < n; i++)
        connect_client(&clients[i]);
    for (size_t i = 0; i < n; i++)
        begin_request(&clients[i]);
    run_until(limit_now() + seconds / 10);
    struct limit_clock began = limit_start();
    load.counting = true;
    run_until(began.wall + seconds);
    printf("%llu %llu %llu %.6f %.0f %.0f %.0f %.6f\n", (unsigned long long)load.ok,
           (unsigned long long)load.other, (unsigned long long)load.broken, limit_now() - began.wall,
           percentile(0.5), percentile(0.99), load.longest, limit_cpu() - began.cpu);
    return 0;
}
