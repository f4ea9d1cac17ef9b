/* SPDX-License-Identifier: Apache-2.0
 *
 * Resolves the name of a host without blocking its caller: getaddrinfo in a thread of its own.
 */
#ifndef REDIS_RESOLVE_H
#define REDIS_RESOLVE_H

#include <netdb.h>
#include <weir/plugin.h>

struct resolve;

/* Addresses that are numbers need no thread: 0 and *ret_infos, else an error of getaddrinfo. */
int resolve_number(const char *host, const char *port, struct addrinfo **ret_infos);

/* Starts; NULL where there is no memory, descriptor or thread. */
struct resolve *resolve_start(const struct weir_host *h, const char *host, const char *port);
/* Readable once it is done. */
int resolve_fd(const struct resolve *r);
bool resolve_is_done(const struct resolve *r);
/* Lets go of it, done or not: the thread ends by itself. NULL is allowed. */
void resolve_drop(struct resolve *take_r);
/* Of one that is done: 0 and *ret_infos, else an error of getaddrinfo. It is gone then. */
int resolve_end(struct resolve *take_r, struct addrinfo **ret_infos);

#endif
