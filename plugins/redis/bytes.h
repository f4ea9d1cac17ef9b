/* SPDX-License-Identifier: Apache-2.0
 *
 * A growing buffer, and Redis commands put into it.
 */
#ifndef REDIS_BYTES_H
#define REDIS_BYTES_H

#include <weir/plugin.h>

/* All-zero but `h` is empty. */
struct bytes {
    const struct weir_host *h;
    char *ptr;
    size_t len, cap;
    bool failed; /* memory was used up: what was put since is not there */
};

void bytes_put(struct bytes *b, const char *ptr, size_t len);
void bytes_done(struct bytes *b);

/* "*<n_args>\r\n", then that many bytes_put_arg. */
void bytes_put_head(struct bytes *b, size_t n_args);
void bytes_put_arg(struct bytes *b, struct weir_str arg);
/* A whole command. */
void bytes_put_command(struct bytes *b, size_t n_args, const struct weir_str *args);

#endif
