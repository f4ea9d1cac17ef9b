/* SPDX-License-Identifier: Apache-2.0
 *
 * base/secret.h: texts that must never be shown, and how other texts are cleared of them.
 *
 * Whatever the engine shows of a message that a plugin, a library or a server wrote goes through here:
 * log lines, reasons of dead letters, answers, diagnostics. Thread: any; lists are never changed once
 * something shows texts by them.
 */
#ifndef WR_BASE_SECRET_H
#define WR_BASE_SECRET_H

#include <base/buf.h>

#define WR_SECRET_MIN 4u /* shorter texts stand in many words by chance */

struct wr_secret {
    struct weir_str text; /* WR_SECRET_MIN bytes at least */
    const struct wr_secret *next;
};

/* How many bytes at s[at] are a secret, the longest of those that stand there; 0: none. The beginning of
 * a secret that the end of s cuts off counts as well. */
size_t wr_secret_at(const struct wr_secret *list, struct weir_str s, size_t at);
/* Stars in the place of every secret, byte for byte. */
void wr_secrets_hide(const struct wr_secret *list, char *text, size_t len);
/* The same, *** for each. */
void wr_secrets_scrub(const struct wr_secret *list, struct wr_buf *io_text);

#endif
