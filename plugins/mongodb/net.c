/* SPDX-License-Identifier: Apache-2.0
 *
 * A socket as a stream of the library, at the bottom of its TLS and buffering.
 */
#include "net.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#define STREAM_TYPE 120 /* none of the library's */
#define IOV_MAX_OURS 16

struct net {
    mongoc_stream_t vtable; /* first */
    const struct patience *p;
    int fd;
    int error; /* of the last call */
};

static struct net *net_of(mongoc_stream_t *stream)
{
    return (struct net *)(void *)stream;
}

static int net_close(mongoc_stream_t *stream)
{
    struct net *s = net_of(stream);
    if (s->fd >= 0)
        (void)close(s->fd);
    s->fd = -1;
    return 0;
}

static void net_destroy(mongoc_stream_t *stream)
{
    (void)net_close(stream);
    bson_free(stream);
}

static int net_flush(mongoc_stream_t *stream)
{
    (void)stream;
    return 0;
}

static ssize_t net_fail(struct net *s, int error)
{
    s->error = error;
    errno = error;
    return -1;
}

/* Waits for the events. 0, or an errno; EAGAIN where the caller did not want to wait. */
static int net_wait(struct net *s, short events, int32_t timeout_ms)
{
    if (timeout_ms == 0)
        return EAGAIN;
    return patience_wait(s->p, s->fd, events, timeout_ms);
}

/* The part of iov from byte `done` on, as far as it goes into out. */
static size_t rest_of(const mongoc_iovec_t *iov, size_t n, size_t done,
                      struct iovec out[IOV_MAX_OURS])
{
    size_t used = 0;
    for (size_t i = 0; i < n && used < IOV_MAX_OURS; i++) {
        if (done >= iov[i].iov_len) {
            done -= iov[i].iov_len;
            continue;
        }
        out[used].iov_base = (char *)iov[i].iov_base + done;
        out[used++].iov_len = iov[i].iov_len - done;
        done = 0;
    }
    return used;
}

static size_t size_of(const mongoc_iovec_t *iov, size_t n)
{
    size_t size = 0;
    for (size_t i = 0; i < n; i++)
        size += iov[i].iov_len;
    return size;
}

/* What was sent until the time was over, -1 where it is nothing. */
static ssize_t net_writev(mongoc_stream_t *stream, mongoc_iovec_t *iov, size_t n,
                          int32_t timeout_ms)
{
    struct net *s = net_of(stream);
    size_t size = size_of(iov, n), done = 0;
    s->error = 0;
    while (done < size) {
        struct iovec rest[IOV_MAX_OURS];
        struct msghdr m = {.msg_iov = rest, .msg_iovlen = rest_of(iov, n, done, rest)};
        ssize_t sent = sendmsg(s->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
        int error = sent < 0 ? errno : 0;
        if (sent >= 0)
            done += (size_t)sent;
        else if (error == EAGAIN)
            error = net_wait(s, POLLOUT, timeout_ms);
        if (error != 0 && error != EINTR) {
            s->error = error;
            return done > 0 ? (ssize_t)done : net_fail(s, error);
        }
    }
    return (ssize_t)done;
}

/* At least min_bytes (0: whatever comes first); the end of the stream reads as 0 bytes. */
static ssize_t net_readv(mongoc_stream_t *stream, mongoc_iovec_t *iov, size_t n, size_t min_bytes,
                         int32_t timeout_ms)
{
    struct net *s = net_of(stream);
    size_t size = size_of(iov, n), done = 0;
    s->error = 0;
    do {
        struct iovec rest[IOV_MAX_OURS];
        struct msghdr m = {.msg_iov = rest, .msg_iovlen = rest_of(iov, n, done, rest)};
        ssize_t got = recvmsg(s->fd, &m, MSG_DONTWAIT);
        int error = got < 0 ? errno : 0;
        if (got > 0)
            done += (size_t)got;
        else if (got == 0)
            return done >= min_bytes ? (ssize_t)done : net_fail(s, ECONNRESET);
        else if (error == EAGAIN)
            error = net_wait(s, POLLIN, timeout_ms);
        if (error != 0 && error != EINTR)
            return net_fail(s, error);
    } while (done == 0 || (done < min_bytes && done < size));
    return (ssize_t)done;
}

static int net_setsockopt(mongoc_stream_t *stream, int level, int name, void *value,
                          mongoc_socklen_t len)
{
    return setsockopt(net_of(stream)->fd, level, name, value, len);
}

static bool net_check_closed(mongoc_stream_t *stream)
{
    char byte;
    ssize_t got = recv(net_of(stream)->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR);
}

static bool net_timed_out(mongoc_stream_t *stream)
{
    return net_of(stream)->error == ETIMEDOUT;
}

static bool net_should_retry(mongoc_stream_t *stream)
{
    return net_of(stream)->error == EAGAIN;
}

/* Ends the waiting for all of them: the library takes no word but "broken". */
static ssize_t break_all(mongoc_stream_poll_t *streams, size_t n)
{
    for (size_t i = 0; i < n; i++)
        streams[i].revents = POLLERR;
    return (ssize_t)n;
}

static ssize_t net_poll(mongoc_stream_poll_t *streams, size_t n, int32_t timeout_ms)
{
    const struct patience *p = net_of(streams[0].stream)->p;
    struct pollfd *fds = bson_malloc0((n + 1) * sizeof(*fds));
    for (size_t i = 0; i < n; i++)
        fds[i] = (struct pollfd){net_of(streams[i].stream)->fd, (short)streams[i].events, 0};
    fds[n] = (struct pollfd){p->cancel_fd, POLLIN, 0};
    int left_ms = patience_ms(p, p->deadline_ns);
    ssize_t ready =
        poll(fds, n + 1, timeout_ms >= 0 && timeout_ms < left_ms ? timeout_ms : left_ms);
    if (ready > 0)
        for (size_t i = 0; i < n; i++)
            streams[i].revents = fds[i].revents;
    if (patience_over(p) != 0)
        ready = break_all(streams, n);
    bson_free(fds);
    return ready;
}

mongoc_stream_t *net_stream(const struct patience *p, int take_fd)
{
    struct net *s = bson_malloc0(sizeof(*s));
    s->p = p;
    s->fd = take_fd;
    s->vtable.type = STREAM_TYPE;
    s->vtable.destroy = net_destroy;
    s->vtable.failed = net_destroy;
    s->vtable.close = net_close;
    s->vtable.flush = net_flush;
    s->vtable.writev = net_writev;
    s->vtable.readv = net_readv;
    s->vtable.setsockopt = net_setsockopt;
    s->vtable.check_closed = net_check_closed;
    s->vtable.timed_out = net_timed_out;
    s->vtable.should_retry = net_should_retry;
    s->vtable.poll = net_poll;
    return &s->vtable;
}
