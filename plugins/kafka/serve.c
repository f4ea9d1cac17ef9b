/* SPDX-License-Identifier: Apache-2.0
 *
 * What librdkafka has to say while the sink has nothing to write: the outlet does not call then,
 * and errors and statistics would pile up unheard. A thread looks once a second whether the outlet
 * is elsewhere, and serves in its place; never while messages are under way, whose reports are the
 * outlet's.
 */
#include "sink.h"

#include <string.h>
#include <time.h>

#define SERVE_INTERVAL WEIR_NS_PER_S

/* True where it is time to end. */
static bool sleep_a_while(struct sink *s)
{
    const struct weir_host *h = s->client.host;
    int64_t until = h->now(h) + SERVE_INTERVAL;
    struct timespec ts = {(time_t)(until / WEIR_NS_PER_S), (long)(until % WEIR_NS_PER_S)};
    pthread_mutex_lock(&s->server.mutex);
    int rc = 0;
    while (!s->server.stop && rc == 0)
        rc = pthread_cond_clockwait(&s->server.changed, &s->server.mutex, CLOCK_MONOTONIC, &ts);
    bool stop = s->server.stop;
    pthread_mutex_unlock(&s->server.mutex);
    return stop;
}

static void *serve(void *arg)
{
    struct sink *s = arg;
    while (!sleep_a_while(s)) {
        if (pthread_mutex_trylock(&s->polling) != 0)
            continue;
        if (s->n_pending == 0)
            rd_kafka_queue_poll_callback(s->main_queue, 0);
        client_step(&s->client);
        pthread_mutex_unlock(&s->polling);
    }
    return NULL;
}

void serve_init(struct sink *s)
{
    pthread_mutex_init(&s->polling, NULL);
    pthread_mutex_init(&s->server.mutex, NULL);
    pthread_cond_init(&s->server.changed, NULL);
}

bool serve_start(struct sink *s, struct weir_error *err)
{
    int code = pthread_create(&s->server.thread, NULL, serve, s);
    s->server.running = code == 0;
    if (code != 0)
        s->client.host->error(err, WEIR_E_FATAL, "no_thread", "cannot start a thread: %s",
                              strerror(code));
    return code == 0;
}

void serve_done(struct sink *s)
{
    pthread_mutex_lock(&s->server.mutex);
    s->server.stop = true;
    pthread_cond_signal(&s->server.changed);
    pthread_mutex_unlock(&s->server.mutex);
    if (s->server.running)
        pthread_join(s->server.thread, NULL);
    pthread_cond_destroy(&s->server.changed);
    pthread_mutex_destroy(&s->server.mutex);
    pthread_mutex_destroy(&s->polling);
}
