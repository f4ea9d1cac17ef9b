/* SPDX-License-Identifier: Apache-2.0
 *
 * The way of a connection from a host's name to a socket that is connected. For conn.c alone.
 */
#ifndef REDIS_CONNECT_H
#define REDIS_CONNECT_H

#include "conn.h"

/* RESOLVING or CONNECTING then, or BROKEN. */
void connect_begin(struct conn *c);
/* While RESOLVING or CONNECTING, when what it waits for is ready. True where the socket is
 * connected now. */
bool connect_go_on(struct conn *c);
void connect_close_socket(struct conn *c);

#endif
