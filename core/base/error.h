/* SPDX-License-Identifier: Apache-2.0
 *
 * base/error.h: filling struct weir_error.
 */
#ifndef WR_BASE_ERROR_H
#define WR_BASE_ERROR_H

#include <weir/base.h>

/* Fills err (NULL allowed) and returns status. Texts too long are cut. */
enum weir_status wr_error(struct weir_error *err, enum weir_status status, const char *code,
                          const char *fmt, ...) WEIR_PRINTF(4, 5);
/* Puts "context: " in front of err's text. */
void wr_error_context(struct weir_error *err, const char *fmt, ...) WEIR_PRINTF(2, 3);

#endif
