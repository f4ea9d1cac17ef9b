/* SPDX-License-Identifier: Apache-2.0
 *
 * TLS over a connected, non-blocking socket that somebody else owns, by OpenSSL.
 *
 * A `struct tls` is what all connections of a component share, a `struct tls_link` one connection.
 */
#ifndef REDIS_TLS_H
#define REDIS_TLS_H

#include "conn_config.h"

#include <sys/types.h>

struct tls;
struct tls_link;

/* Reads the files of the configuration. NULL with a text in `text` and in *ret_option the option
 * that is wrong ("tls.ca"). */
struct tls *tls_new(const struct weir_host *h, const struct tls_config *cf, const char **ret_option,
                    char *text, size_t cap);
void tls_free(struct tls *take_t); /* NULL is allowed */

/* Begins as the client of that host; NULL when memory is used up. */
struct tls_link *tls_open(struct tls *t, int fd, const char *host);
void tls_close(struct tls_link *take_l); /* NULL is allowed; the socket stays open */

/* 1: shaken hands; 0: call it again when the socket is ready; -1: failed, see tls_error. */
int tls_handshake(struct tls_link *l);
/* As send(2) and recv(2); errno EPROTO: see tls_error. */
ssize_t tls_send(struct tls_link *l, const char *ptr, size_t len);
ssize_t tls_recv(struct tls_link *l, char *ptr, size_t len);
/* Whether tls_recv has bytes that poll(2) knows nothing of, and what reading waits for is that the
 * socket can be written to. */
bool tls_has_more(const struct tls_link *l);
bool tls_wants_write(const struct tls_link *l);
/* What went wrong last, for people. */
const char *tls_error(const struct tls_link *l);

#endif
