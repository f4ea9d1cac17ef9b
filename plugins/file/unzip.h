/* SPDX-License-Identifier: Apache-2.0
 *
 * What is inside a gzip file, read as read(2) reads: piece by piece, members one after the other.
 */
#ifndef UNZIP_H
#define UNZIP_H

#include <sys/types.h>
#include <weir/plugin.h>

struct unzip;

/* Reads the descriptor from where it is. NULL when memory is used up. */
struct unzip *unzip_new(const struct weir_host *h, int fd);
void unzip_free(struct unzip *take_u);
/* So many bytes of the descriptor are all there is. */
void unzip_limit(struct unzip *u, int64_t n_bytes);

/* As read(2). Errors of its own: EBADMSG for what is no gzip, ENODATA where the file ends in the
 * middle (and may go on later). `arg` is a struct unzip. */
ssize_t unzip_read(void *arg, char *ptr, size_t len);

/* What was wrong, after EBADMSG. */
const char *unzip_reason(const struct unzip *u);

/* Bytes of the file up to the end of the last whole member. */
int64_t unzip_good(const struct unzip *u);
/* It begins as gzip does. */
bool unzip_begun(const struct unzip *u);

#endif
