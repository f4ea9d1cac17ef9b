/* SPDX-License-Identifier: Apache-2.0
 *
 * limit_http PORT once|suspend: libmicrohttpd, one thread on epoll, that takes bodies and answers each
 * request with 200, at once or after another thread has resumed it, as whoever waits for an ack must.
 * Bodies are read and thrown away. Runs until SIGTERM.
 */
#include "limit.h"

#include <arpa/inet.h>
#include <microhttpd.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <unistd.h>

#define WAITING_MAX 65536

static bool suspend_first;
static struct MHD_Response *response;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t some = PTHREAD_COND_INITIALIZER;
static struct MHD_Connection *waiting[WAITING_MAX];
static size_t n_waiting;

/* The three calls of a request find what the last one left in *state. */
static char began, suspended;

static void put_aside(struct MHD_Connection *c)
{
    MHD_suspend_connection(c);
    pthread_mutex_lock(&lock);
    if (n_waiting == WAITING_MAX)
        limit_die("limit_http", "too many connections");
    waiting[n_waiting++] = c;
    pthread_cond_signal(&some);
    pthread_mutex_unlock(&lock);
}

static enum MHD_Result answer(void *cls, struct MHD_Connection *c, const char *url, const char *method,
                              const char *version, const char *data, size_t *size, void **state)
{
    (void)cls;
    (void)url;
    (void)method;
    (void)version;
    (void)data;
    if (*state == NULL) {
        *state = &began;
        return MHD_YES;
    }
    if (*size > 0) {
        *size = 0;
        return MHD_YES;
    }
    if (suspend_first && *state == &began) {
        *state = &suspended;
        put_aside(c);
        return MHD_YES;
    }
    return MHD_queue_response(c, 200, response);
}

static void *resume_all(void *arg)
{
    static struct MHD_Connection *mine[WAITING_MAX];
    (void)arg;
    for (;;) {
        pthread_mutex_lock(&lock);
        while (n_waiting == 0)
            pthread_cond_wait(&some, &lock);
        size_t n = n_waiting;
        memcpy(mine, waiting, n * sizeof(mine[0]));
        n_waiting = 0;
        pthread_mutex_unlock(&lock);
        for (size_t i = 0; i < n; i++)
            MHD_resume_connection(mine[i]);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    static char body[] = "{\"accepted\":1}";
    if (argc != 3)
        limit_die("limit_http", "usage: limit_http PORT once|suspend");
    suspend_first = strcmp(argv[2], "suspend") == 0;
    sigset_t end;
    sigemptyset(&end);
    sigaddset(&end, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &end, NULL);
    response = MHD_create_response_from_buffer(sizeof(body) - 1, body, MHD_RESPMEM_PERSISTENT);
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)strtoul(argv[1], NULL, 10)),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct MHD_Daemon *d = MHD_start_daemon(
        MHD_USE_EPOLL | MHD_USE_INTERNAL_POLLING_THREAD | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL, answer,
        NULL, MHD_OPTION_SOCK_ADDR, &at, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)131072,
        MHD_OPTION_END);
    if (d == NULL)
        limit_die("limit_http", "cannot listen");
    pthread_t thread;
    if (suspend_first && pthread_create(&thread, NULL, resume_all, NULL) != 0)
        limit_die("limit_http", "no thread");
    int got;
    sigwait(&end, &got);
    /* Not stopped: what is suspended would be a panic of the library, and the process ends anyway. */
    _exit(0);
}
