/* SPDX-License-Identifier: Apache-2.0
 *
 * Questions to Sentinels and cluster nodes, and the reading of their answers. For servers.c alone.
 */
#ifndef REDIS_DISCOVERY_H
#define REDIS_DISCOVERY_H

#include "servers.h"

#define DISCOVERY_REPLY_LIMIT ((size_t)4 << 20)

/* How many there are to ask. */
uint32_t discovery_count(const struct servers *s);
/* Whom to ask when n_tried of them (fewer than there are) had no answer: each in turn; nodes that
 * left the cluster or whose connection failed are the last resort. */
void discovery_target(struct servers *s, char *host, size_t cap, char port[8]);
void discovery_put_question(const struct servers *s, struct bytes *out);
/* Lists the servers; false, and s->ask BROKEN with the reason, where the answer has none. */
bool discovery_take_answer(struct servers *s, const struct reply *reply);
/* "MOVED slot host:port" or "ASK ..."; an empty host is that of the node that answered. False where
 * the text is none such. */
bool discovery_read_redirect(struct weir_str text, bool *ret_ask, unsigned *ret_slot,
                             char host[256], char port[8]);

/* servers.c: the one with that address, added where it is new; NULL when memory is used up. */
struct server *servers_at(struct servers *s, const char *host, const char *port);

#endif
