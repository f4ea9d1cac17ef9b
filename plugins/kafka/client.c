/* SPDX-License-Identifier: Apache-2.0
 *
 * A running client: librdkafka's handle, its logs and errors as log lines and metrics of the
 * component, and the probe of `weir check --connect`.
 *
 * Errors reach us by error_cb (served by poll on the instance's own thread), logs by log_cb (any of
 * librdkafka's threads). Both end in host->log, which rate-limits repeats.
 */
#include "client.h"

#include <stdio.h>
#include <string.h>
#include <syslog.h>
#include <time.h>

#define BROKERS_TEXT 8192

void client_init(struct client *c, const struct weir_host *host, const struct client_config *cfg)
{
    static const char *const words[N_FAULTS] = {"connection",    "authentication", "authorization",
                                                "unknown_topic", "commit",         "fatal",
                                                "other"};
    c->host = host;
    c->cfg = cfg;
    c->ready = host->extension(host, WEIR_READY_EXTENSION);
    pthread_mutex_init(&c->tokens, NULL);
    pthread_mutex_init(&c->mutex, NULL);
    for (int i = 0; i < N_FAULTS; i++) {
        const char *labels[] = {"error", words[i], NULL};
        c->faults[i] =
            host->counter(host, "kafka_errors_total", "Errors that the Kafka client saw.", labels);
    }
}

void client_done(struct client *c)
{
    if (!c->muted)
        stats_done(c);
    pthread_mutex_destroy(&c->mutex);
    pthread_mutex_destroy(&c->tokens);
}

void client_mute(struct client *c)
{
    stats_done(c);
    pthread_mutex_lock(&c->tokens);
    pthread_mutex_lock(&c->mutex);
    c->muted = true;
    pthread_mutex_unlock(&c->mutex);
    pthread_mutex_unlock(&c->tokens);
}

int ms_until(const struct weir_host *host, int64_t deadline_ns, int most)
{
    int64_t now = host->now(host);
    if (deadline_ns <= now)
        return 0;
    int64_t ms = (deadline_ns - now - 1) / WEIR_NS_PER_MS + 1;
    return ms < most ? (int)ms : most;
}

/* ---- Bars ---------------------------------------------------------------------------------- */

void client_bar(struct client *c, enum bar bar, const char *text)
{
    if (text[0] == '\0' && !c->barred)
        return;
    snprintf(c->bars[bar], sizeof(c->bars[bar]), "%s", text);
    const char *first = c->bars[BAR_LOGIN][0] != '\0' ? c->bars[BAR_LOGIN] : c->bars[BAR_RIGHT];
    c->barred = first[0] != '\0';
    if (c->ready != NULL)
        c->ready->set(c->host, c->barred ? first : NULL);
}

void client_step(struct client *c)
{
    if (c->bars[BAR_LOGIN][0] != '\0' && atomic_load(&c->let_in))
        client_bar(c, BAR_LOGIN, "");
}

/* ---- Faults -------------------------------------------------------------------------------- */

static const struct fault_row {
    rd_kafka_resp_err_t code;
    enum fault fault;
    enum weir_log_level level;
    const char *message;
} fault_rows[] = {
    {RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN, FAULT_CONNECTION, WEIR_LOG_ERROR,
     "no Kafka broker can be reached: trying again; check `brokers` and the network"},
    {RD_KAFKA_RESP_ERR__TRANSPORT, FAULT_CONNECTION, WEIR_LOG_WARN, "Kafka connection failed"},
    {RD_KAFKA_RESP_ERR__TIMED_OUT, FAULT_CONNECTION, WEIR_LOG_WARN, "Kafka request timed out"},
    {RD_KAFKA_RESP_ERR__RESOLVE, FAULT_CONNECTION, WEIR_LOG_WARN,
     "Kafka broker's name cannot be resolved"},
    {RD_KAFKA_RESP_ERR__SSL, FAULT_CONNECTION, WEIR_LOG_ERROR, "TLS with a Kafka broker failed"},
    {RD_KAFKA_RESP_ERR__AUTHENTICATION, FAULT_AUTHENTICATION, WEIR_LOG_ERROR,
     "Kafka refuses the login: check `sasl`"},
    {RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED, FAULT_AUTHENTICATION, WEIR_LOG_ERROR,
     "Kafka refuses the login: check `sasl`"},
    {RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, FAULT_AUTHORIZATION, WEIR_LOG_ERROR,
     "Kafka denies access to the topic: check its access rules"},
    {RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED, FAULT_AUTHORIZATION, WEIR_LOG_ERROR,
     "Kafka denies access to the consumer group: check its access rules"},
    {RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED, FAULT_AUTHORIZATION, WEIR_LOG_ERROR,
     "Kafka denies the idempotent producer: allow Write on the topic, or IdempotentWrite on the "
     "cluster"},
    {RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART, FAULT_TOPIC, WEIR_LOG_WARN,
     "Kafka topic does not exist: waiting until somebody creates it"},
    {RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC, FAULT_TOPIC, WEIR_LOG_WARN,
     "Kafka topic does not exist: waiting until somebody creates it"},
    {RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION, FAULT_TOPIC, WEIR_LOG_WARN,
     "Kafka partition is not known to the client yet"},
    {RD_KAFKA_RESP_ERR_INCONSISTENT_GROUP_PROTOCOL, FAULT_OTHER, WEIR_LOG_ERROR,
     "the other members of the consumer group use another assignment: set `assignment` to theirs"},
    {RD_KAFKA_RESP_ERR__MAX_POLL_EXCEEDED, FAULT_OTHER, WEIR_LOG_ERROR,
     "the lane did not poll for longer than max.poll.interval.ms: its partitions are lost"},
    {RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET, FAULT_OTHER, WEIR_LOG_WARN,
     "the committed offset is gone from the topic"},
    {RD_KAFKA_RESP_ERR__FATAL, FAULT_FATAL, WEIR_LOG_ERROR, "the Kafka client can do nothing more"},
};

static const struct fault_row other_fault = {RD_KAFKA_RESP_ERR_UNKNOWN, FAULT_OTHER, WEIR_LOG_ERROR,
                                             "Kafka reports an error"};

static void bar_login(struct client *c, const char *message, const char *reason)
{
    char text[WEIR_ERROR_TEXT / 2];
    atomic_store(&c->let_in, false);
    snprintf(text, sizeof(text), "%s: %s", message, reason);
    client_bar(c, BAR_LOGIN, text);
}

void client_fault(struct client *c, rd_kafka_resp_err_t code, const char *reason, const char *topic)
{
    const struct fault_row *row = &other_fault;
    /* A connection that ends in the middle of a login says nothing of the login. */
    if (code == RD_KAFKA_RESP_ERR__AUTHENTICATION &&
        strstr(reason, "failed: Local: Broker transport failure") != NULL)
        code = RD_KAFKA_RESP_ERR__TRANSPORT;
    /* What newer librdkafkas say where a broker hangs up on a handshake. */
    if (code == RD_KAFKA_RESP_ERR__TRANSPORT && strstr(reason, "SSL handshake failed") != NULL)
        code = RD_KAFKA_RESP_ERR__SSL;
    for (size_t i = 0; i < sizeof(fault_rows) / sizeof(fault_rows[0]); i++)
        if (fault_rows[i].code == code)
            row = &fault_rows[i];
    c->host->metric_add(c->faults[row->fault], 1);
    const char *message = row->message;
    if (row->fault == FAULT_AUTHENTICATION && scram_is_old(c->cfg))
        message = "Kafka refuses the login: check `sasl`; at Kafka 4 SCRAM needs librdkafka 2.6.1 "
                  "and later";
    struct weir_kv kv[4] = {weir_kv_text("error", rd_kafka_err2name(code)),
                            weir_kv_text("reason", reason)};
    uint32_t n = 2;
    bool refused = row->fault == FAULT_AUTHENTICATION || row->fault == FAULT_AUTHORIZATION;
    if (topic != NULL)
        kv[n++] = weir_kv_text("topic", topic);
    if (refused && c->cfg->sasl.user.len != 0)
        kv[n++] = weir_kv_str("user", c->cfg->sasl.user);
    c->host->log(c->host, row->level, message, kv, n);
    if (row->fault == FAULT_AUTHENTICATION)
        bar_login(c, message, reason);
}

static void on_error(rd_kafka_t *rk, int code, const char *reason, void *opaque)
{
    char text[WEIR_ERROR_TEXT];
    struct client *c = opaque;
    rd_kafka_resp_err_t fatal = RD_KAFKA_RESP_ERR_NO_ERROR;
    if (code == RD_KAFKA_RESP_ERR__FATAL)
        fatal = rd_kafka_fatal_error(rk, text, sizeof(text));
    if (fatal != RD_KAFKA_RESP_ERR_NO_ERROR)
        reason = text;
    if (fatal == RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED)
        code = fatal; /* which says what to do */
    client_fault(c, code, reason, NULL);
}

static void pass_log(struct client *c, int level, const char *fac, const char *text)
{
    enum weir_log_level to = WEIR_LOG_DEBUG;
    /* What on_error hears of as well is not said twice. */
    bool twice = strcmp(fac, "FAIL") == 0 || strcmp(fac, "ERROR") == 0 || strcmp(fac, "FATAL") == 0;
    if (!twice && level <= LOG_ERR)
        to = WEIR_LOG_ERROR;
    else if (!twice && level == LOG_WARNING)
        to = WEIR_LOG_WARN;
    else if (!twice && level <= LOG_INFO)
        to = WEIR_LOG_INFO;
    if (!c->host->log_enabled(c->host, to))
        return;
    struct weir_kv kv[2] = {weir_kv_text("about", fac), weir_kv_text("text", text)};
    if (to >= WEIR_LOG_DEBUG) {
        /* Whoever asks for these wants each of them: the text is the message, so that the limit on
         * repeats leaves them alone. */
        c->host->log(c->host, to, text, kv, 1);
        return;
    }
    char message[64];
    snprintf(message, sizeof(message), "librdkafka says %s", fac);
    c->host->log(c->host, to, message, kv + 1, 1);
}

static void on_log(const rd_kafka_t *rk, int level, const char *fac, const char *text)
{
    struct client *c = rd_kafka_opaque(rk);
    pthread_mutex_lock(&c->mutex);
    if (!c->muted)
        pass_log(c, level, fac, text);
    pthread_mutex_unlock(&c->mutex);
}

/* ---- Making one ---------------------------------------------------------------------------- */

/* The brokers as librdkafka wants them. False where they do not fit. */
static bool join_brokers(const struct weir_list *brokers, char *text, size_t size)
{
    const struct weir_str *items = brokers->items;
    size_t n = 0;
    for (uint32_t i = 0; i < brokers->n; i++) {
        if (n + items[i].len + 2 > size)
            return false;
        if (i > 0)
            text[n++] = ',';
        memcpy(text + n, items[i].ptr, items[i].len);
        n += items[i].len;
    }
    text[n] = '\0';
    return true;
}

static bool conf_name(rd_kafka_conf_t *conf, struct client *c, struct problems *p)
{
    char text[BROKERS_TEXT];
    if (!join_brokers(&c->cfg->brokers, text, sizeof(text)))
        problem(p, "brokers",
                "the addresses are longer than %d bytes together: name fewer, the "
                "client finds the others by itself",
                BROKERS_TEXT - 1);
    else
        set(conf, p, "brokers", "bootstrap.servers", text);
    if (c->cfg->client_id.len == 0) {
        const struct weir_host *h = c->host;
        snprintf(text, sizeof(text), "weir-%.*s-%.*s", (int)h->pipeline.len, h->pipeline.ptr,
                 (int)h->component.len, h->component.ptr);
        set(conf, p, "client_id", "client.id", text);
    }
    return p->n == 0;
}

static bool start_login(const struct client *c, rd_kafka_t *rk, struct weir_error *err)
{
    return c->cfg->sasl.mechanism != SASL_OAUTHBEARER ||
           oauth_start(rk, &c->cfg->sasl.oauth, c->host, err);
}

rd_kafka_t *client_new(struct client *c, rd_kafka_type_t type, rd_kafka_conf_t *take_conf,
                       struct weir_error *err)
{
    struct problems p = {.host = c->host, .err = err};
    char text[WEIR_ERROR_TEXT];
    if (!conf_name(take_conf, c, &p)) {
        rd_kafka_conf_destroy(take_conf);
        return NULL;
    }
    rd_kafka_conf_set_opaque(take_conf, c);
    rd_kafka_conf_set_log_cb(take_conf, on_log);
    rd_kafka_conf_set_error_cb(take_conf, on_error);
    if (!stats_init(c, type == RD_KAFKA_CONSUMER ? WEIR_SOURCE : WEIR_SINK, take_conf, err) ||
        !wire_init(c, take_conf, err)) {
        rd_kafka_conf_destroy(take_conf);
        return NULL;
    }
    rd_kafka_t *rk = rd_kafka_new(type, take_conf, text, sizeof(text));
    if (rk == NULL) {
        rd_kafka_conf_destroy(take_conf);
        c->host->error(err, WEIR_E_CONFIG, "kafka_config", "librdkafka cannot start a client: %s",
                       text);
    } else if (!start_login(c, rk, err)) {
        rd_kafka_destroy(rk);
        rk = NULL;
    }
    return rk;
}

/* ---- Ending one ---------------------------------------------------------------------------- */

/* Belongs to whoever of both is through with it last: the thread that ends the handle, and the one
 * that waits for it. */
struct burial {
    rd_kafka_t *rk;
    void (*then)(void *arg);
    void *arg;
    void (*free)(void *);
    pthread_mutex_t mutex; /* guards what follows */
    pthread_cond_t changed;
    bool ended, left;
};

static void burial_free(struct burial *take_b)
{
    pthread_cond_destroy(&take_b->changed);
    pthread_mutex_destroy(&take_b->mutex);
    take_b->free(take_b);
}

static void *bury(void *arg)
{
    struct burial *b = arg;
    rd_kafka_destroy_flags(b->rk, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
    b->then(b->arg);
    pthread_mutex_lock(&b->mutex);
    b->ended = true;
    bool last = b->left;
    pthread_cond_signal(&b->changed);
    pthread_mutex_unlock(&b->mutex);
    if (last)
        burial_free(b);
    return NULL;
}

static void await_burial(struct burial *take_b, int64_t deadline_ns)
{
    struct burial *b = take_b;
    struct timespec ts = {(time_t)(deadline_ns / WEIR_NS_PER_S),
                          (long)(deadline_ns % WEIR_NS_PER_S)};
    pthread_mutex_lock(&b->mutex);
    int rc = 0;
    while (!b->ended && rc == 0)
        rc = pthread_cond_clockwait(&b->changed, &b->mutex, CLOCK_MONOTONIC, &ts);
    b->left = true;
    bool last = b->ended;
    pthread_mutex_unlock(&b->mutex);
    if (last)
        burial_free(b);
}

/* The library's end can take long: it waits for answers of a broker that is away, for messages that
 * a sink which did not end its write still points into, and with 2.0 for ever where a topic was
 * deleted and made again. So it has a thread of its own, which knows nothing of the host any more;
 * the process may end meanwhile. */
void client_end(struct client *c, rd_kafka_t *take_rk, void (*then)(void *arg), void *take_arg,
                int64_t deadline_ns)
{
    const struct weir_host *h = c->host;
    struct burial *b = h->alloc(sizeof(*b));
    pthread_t thread;
    client_mute(c);
    if (b == NULL)
        return;
    *b = (struct burial){.rk = take_rk, .then = then, .arg = take_arg, .free = h->free};
    pthread_mutex_init(&b->mutex, NULL);
    pthread_cond_init(&b->changed, NULL);
    if (pthread_create(&thread, NULL, bury, b) == 0)
        pthread_detach(thread);
    else
        bury(b);
    await_burial(b, deadline_ns);
}

/* ---- Probe --------------------------------------------------------------------------------- */

static const rd_kafka_metadata_topic_t *find_topic(const rd_kafka_metadata_t *md,
                                                   struct weir_str name)
{
    for (int i = 0; i < md->topic_cnt; i++) {
        const char *found = md->topics[i].topic;
        if (strlen(found) == name.len && memcmp(found, name.ptr, name.len) == 0)
            return &md->topics[i];
    }
    return NULL;
}

static enum weir_status probe_topics(const struct weir_host *h, const rd_kafka_metadata_t *md,
                                     const struct weir_str *topics, uint32_t n,
                                     struct weir_error *err)
{
    for (uint32_t i = 0; i < n; i++) {
        const rd_kafka_metadata_topic_t *t = find_topic(md, topics[i]);
        if (t == NULL || t->err == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART)
            return h->error(err, WEIR_E_UNAVAILABLE, "unknown_topic",
                            "topic '%.*s' does not exist on this cluster: create it",
                            (int)topics[i].len, topics[i].ptr);
        if (t->err != RD_KAFKA_RESP_ERR_NO_ERROR)
            return h->error(err, WEIR_E_UNAVAILABLE, "topic_error", "topic '%.*s': %s",
                            (int)topics[i].len, topics[i].ptr, rd_kafka_err2str(t->err));
    }
    return WEIR_OK;
}

/* A probe keeps the last error instead of logging it. */
struct probe {
    struct client client;
    enum weir_kind kind;
    rd_kafka_resp_err_t code;
    char reason[WEIR_ERROR_TEXT];
};

static void on_probe_error(rd_kafka_t *rk, int code, const char *reason, void *opaque)
{
    (void)rk;
    struct probe *p = opaque;
    if (code == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN)
        return;
    p->code = code;
    snprintf(p->reason, sizeof(p->reason), "%s", reason);
}

static void on_probe_log(const rd_kafka_t *rk, int level, const char *fac, const char *text)
{
    (void)rk, (void)level, (void)fac, (void)text;
}

static rd_kafka_t *probe_client(struct probe *p, struct weir_error *err)
{
    struct problems problems = {.host = p->client.host, .err = err};
    char text[WEIR_ERROR_TEXT];
    struct client_config cfg = *p->client.cfg;
    cfg.statistics = 0;
    rd_kafka_conf_t *conf = client_conf(&cfg, &problems);
    client_conf_raw(conf, p->client.cfg, p->kind, &problems);
    if (!conf_name(conf, &p->client, &problems)) {
        rd_kafka_conf_destroy(conf);
        return NULL;
    }
    rd_kafka_conf_set_opaque(conf, p);
    rd_kafka_conf_set_error_cb(conf, on_probe_error);
    rd_kafka_conf_set_log_cb(conf, on_probe_log);
    /* A consumer's requests never create a topic. */
    rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_CONSUMER, conf, text, sizeof(text));
    if (rk == NULL) {
        rd_kafka_conf_destroy(conf);
        p->client.host->error(err, WEIR_E_CONFIG, "kafka_config",
                              "librdkafka cannot start a client: %s", text);
    } else if (!start_login(&p->client, rk, err)) {
        rd_kafka_destroy(rk);
        rk = NULL;
    }
    return rk;
}

enum weir_status client_probe(const struct weir_host *host, enum weir_kind kind,
                              const struct client_config *cfg, const struct weir_str *topics,
                              uint32_t n, int64_t deadline_ns, struct weir_error *err)
{
    struct probe p = {.client = {.host = host, .cfg = cfg}, .kind = kind};
    pthread_mutex_init(&p.client.tokens, NULL);
    rd_kafka_t *rk = probe_client(&p, err);
    if (rk == NULL) {
        pthread_mutex_destroy(&p.client.tokens);
        return WEIR_E_CONFIG;
    }
    const rd_kafka_metadata_t *md = NULL;
    rd_kafka_resp_err_t code;
    do {
        int ms = ms_until(host, deadline_ns, 1000);
        code = rd_kafka_metadata(rk, n > 0, NULL, &md, ms > 0 ? ms : 1);
        rd_kafka_poll(rk, 0);
    } while (code != RD_KAFKA_RESP_ERR_NO_ERROR && host->now(host) < deadline_ns &&
             p.code != RD_KAFKA_RESP_ERR__AUTHENTICATION);
    enum weir_status status;
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
        status = host->error(err, WEIR_E_UNAVAILABLE, "unreachable",
                             "no answer from the Kafka brokers: %s",
                             p.code != 0 ? p.reason : rd_kafka_err2str(code));
    else
        status = probe_topics(host, md, topics, n, err);
    if (md != NULL)
        rd_kafka_metadata_destroy(md);
    rd_kafka_destroy(rk);
    pthread_mutex_destroy(&p.client.tokens);
    return status;
}
