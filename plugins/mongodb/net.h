/* SPDX-License-Identifier: Apache-2.0
 *
 * mongodb/net.h: the client's connections. The library's own wait as long as they like and cannot
 * be interrupted; these keep to the deadline of the running write, and end when it is canceled.
 */
#ifndef MONGODB_NET_H
#define MONGODB_NET_H

#include "later.h"

#include <mongoc/mongoc.h>

/* A mongoc_stream_initiator_t; user_data is a const struct patience *, which lives as long as the
 * client. */
mongoc_stream_t *net_connect(const mongoc_uri_t *uri, const mongoc_host_list_t *host,
                             void *user_data, bson_error_t *error);

/* A stream over a connected, or connecting, non-blocking socket. Takes fd in any case. */
mongoc_stream_t *net_stream(const struct patience *p, int take_fd);

#endif
