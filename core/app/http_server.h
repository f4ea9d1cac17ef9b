/* SPDX-License-Identifier: Apache-2.0
 *
 * app/http_server.h: the listener of --metrics: /metrics, /livez, /readyz and nothing else. One
 * thread of its own. The one home of libmicrohttpd in the core.
 */
#ifndef WR_APP_HTTP_SERVER_H
#define WR_APP_HTTP_SERVER_H

#include <base/buf.h>
#include <weir/base.h>

/* Where the answers come from; called on the listener's thread. */
struct wr_http_answers {
    void (*metrics)(void *arg, struct wr_buf *out);
    /* True where ready; `out` gets one JSON object either way. */
    bool (*ready)(void *arg, struct wr_buf *out);
    void *arg;
};

struct wr_http_server;

/* Listens on `addr`: host:port, [ipv6]:port or :port for all addresses; port 0 takes a free one.
 * NULL with err: E_CONFIG where addr cannot be read, E_UNAVAILABLE where it cannot be had. */
struct wr_http_server *wr_http_server_new(const char *addr, const struct wr_http_answers *answers,
                                          struct weir_error *err);
/* Ends the thread; no answer is asked for afterwards. */
void wr_http_server_free(struct wr_http_server *s);
/* host:port as it is bound. */
const char *wr_http_server_addr(const struct wr_http_server *s);
/* The library's version. */
const char *wr_http_server_library(void);

#endif
