/* SPDX-License-Identifier: Apache-2.0
 *
 * What a connection says first: AUTH, SELECT, CLIENT SETNAME. For conn.c alone.
 */
#ifndef REDIS_LOGIN_H
#define REDIS_LOGIN_H

#include "conn.h"

/* The socket is connected: LOGIN then, or BROKEN. */
void login_begin(struct conn *c);
/* Takes what has come in: READY after the last reply, or BROKEN. */
void login_go_on(struct conn *c);

#endif
