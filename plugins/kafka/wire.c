/* SPDX-License-Identifier: Apache-2.0
 *
 * What the library tells by its interceptors alone: which kinds of requests go out, and that they
 * are answered. From that follow three things that it keeps to itself: whether this member is
 * joining its group anew, since when the group's coordinator has not been heard of, and that a
 * broker has let us in.
 *
 * Called on the library's broker threads, between which `mutex` of the client stands.
 */
#include "client.h"

/* Kinds of requests, as the protocol numbers them. */
enum { JOIN_GROUP = 11, HEARTBEAT = 12, SYNC_GROUP = 14 };
enum { SASL_HANDSHAKE = 17, API_VERSIONS = 18, SASL_AUTHENTICATE = 36 };

/* When the last request of that kind was sent; NULL for a kind that no session counts from. There
 * is one of a kind under way, and what comes too late is not of any. */
static int64_t *asked(struct wire *w, int16_t kind)
{
    return kind == HEARTBEAT ? &w->heartbeat_ns : kind == SYNC_GROUP ? &w->sync_ns : NULL;
}

static rd_kafka_resp_err_t on_request(rd_kafka_t *rk, int fd, const char *broker, int32_t id,
                                      int16_t kind, int16_t version, int32_t number, size_t size,
                                      void *opaque)
{
    (void)rk, (void)fd, (void)broker, (void)id, (void)version, (void)number, (void)size;
    struct client *c = opaque;
    int64_t *at = asked(&c->wire, kind);
    if (kind == JOIN_GROUP)
        atomic_store(&c->wire.joining, true);
    if (at == NULL)
        return RD_KAFKA_RESP_ERR_NO_ERROR;
    pthread_mutex_lock(&c->mutex);
    if (!c->muted)
        *at = c->host->now(c->host);
    if (kind == HEARTBEAT && c->wire.late_ns != 0)
        atomic_store(&c->wire.heard_ns, c->wire.late_ns);
    c->wire.late_ns = 0;
    pthread_mutex_unlock(&c->mutex);
    return RD_KAFKA_RESP_ERR_NO_ERROR;
}

/* A session counts from when the coordinator got the request, which was not before it was sent.
 * That it answered does not mean that it agreed, where the session may have been over by then: that
 * counts once the library has read the answer and goes on, with the next heartbeat; by then it has
 * marked its partitions as lost, if they are. */
static void heard_of_group(struct wire *w, int16_t kind, int64_t asked_ns)
{
    int64_t heard = atomic_load(&w->heard_ns);
    if (kind == HEARTBEAT && asked_ns >= heard + w->session_ns)
        w->late_ns = asked_ns;
    else if (asked_ns > heard)
        atomic_store(&w->heard_ns, asked_ns);
    if (kind == SYNC_GROUP)
        atomic_store(&w->joining, false);
}

static rd_kafka_resp_err_t on_response(rd_kafka_t *rk, int fd, const char *broker, int32_t id,
                                       int16_t kind, int16_t version, int32_t number, size_t size,
                                       int64_t rtt, rd_kafka_resp_err_t code, void *opaque)
{
    (void)rk, (void)fd, (void)broker, (void)id, (void)version, (void)number, (void)size, (void)rtt;
    struct client *c = opaque;
    const int64_t *at = asked(&c->wire, kind);
    bool login = kind == SASL_HANDSHAKE || kind == API_VERSIONS || kind == SASL_AUTHENTICATE;
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
        return RD_KAFKA_RESP_ERR_NO_ERROR;
    if (at != NULL) {
        pthread_mutex_lock(&c->mutex);
        heard_of_group(&c->wire, kind, *at);
        pthread_mutex_unlock(&c->mutex);
    }
    if (!login && !atomic_load_explicit(&c->let_in, memory_order_relaxed))
        atomic_store(&c->let_in, true);
    return RD_KAFKA_RESP_ERR_NO_ERROR;
}

static rd_kafka_resp_err_t on_new(rd_kafka_t *rk, const rd_kafka_conf_t *conf, void *opaque,
                                  char *text, size_t size)
{
    (void)conf, (void)text, (void)size;
    rd_kafka_resp_err_t code =
        rd_kafka_interceptor_add_on_request_sent(rk, "weir", on_request, opaque);
    if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
        code = rd_kafka_interceptor_add_on_response_received(rk, "weir", on_response, opaque);
    return code;
}

bool wire_init(struct client *c, rd_kafka_conf_t *conf, struct weir_error *err)
{
    rd_kafka_resp_err_t code = rd_kafka_conf_interceptor_add_on_new(conf, "weir", on_new, c);
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
        c->host->error(err, WEIR_E_FATAL, "kafka_config", "librdkafka takes no interceptor: %s",
                       rd_kafka_err2str(code));
    return code == RD_KAFKA_RESP_ERR_NO_ERROR;
}

bool wire_joining(const struct client *c)
{
    return atomic_load(&c->wire.joining);
}

int64_t wire_lease(const struct client *c)
{
    int64_t heard = atomic_load(&c->wire.heard_ns);
    return heard == 0 || atomic_load(&c->wire.joining) ? WEIR_NEVER : heard + c->wire.session_ns;
}
