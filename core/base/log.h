/* SPDX-License-Identifier: Apache-2.0
 *
 * base/log.h: structured logs on standard error: a constant message and key=value.
 *
 * logfmt on a terminal, JSON lines otherwise (or as told). Repeats of one message in one scope are
 * rate-limited (the first 5 in 10 s pass, then one summary with `suppressed=N`). Thread: any; a
 * line is one write(2).
 */
#ifndef WR_BASE_LOG_H
#define WR_BASE_LOG_H

#include <base/clock.h>
#include <base/secret.h>
#include <weir/base.h>

enum wr_log_format { WR_LOG_AUTO, WR_LOG_LOGFMT, WR_LOG_JSON };

struct wr_log; /* where lines go, the level, the clock */
struct wr_log_scope; /* fields added to each line, and the repeats' counts */

/* fd is borrowed. */
struct wr_log *wr_log_new(int fd, enum wr_log_format format, enum weir_log_level level,
                          struct wr_clock *clock);
/* After its last scope. */
void wr_log_free(struct wr_log *log);
/* Writes the summaries whose 10 s are over. Every written line does it too; a caller with a timer
 * does it for logs that fell silent. */
void wr_log_flush(struct wr_log *log);

/* A scope with fixed fields (copied). NULL log gives a scope that swallows everything: tests. */
struct wr_log_scope *wr_log_scope_new(struct wr_log *log, const struct weir_kv *fields, uint32_t n);
void wr_log_scope_free(struct wr_log_scope *scope);
/* Shows *** for these in messages and values, but not in the fixed fields. The list stays the caller's, and
 * as long as the scope. Before the first line. */
void wr_log_scope_hide(struct wr_log_scope *scope, const struct wr_secret *secrets);

bool wr_log_enabled(const struct wr_log_scope *scope, enum weir_log_level level);
/* `message`: lower case, no full stop. Its first 119 bytes identify it for the rate limit, so what varies
 * belongs into kv. */
void wr_log_write(struct wr_log_scope *scope, enum weir_log_level level, const char *message,
                  const struct weir_kv *kv, uint32_t n);

#define WR_LOG(scope, level, message, ...)                                             \
    do {                                                                               \
        const struct weir_kv wr_kv_[] = {weir_kv_text("", ""), ##__VA_ARGS__};         \
        wr_log_write((scope), (level), (message), wr_kv_ + 1,                          \
                     (uint32_t)(sizeof(wr_kv_) / sizeof(wr_kv_[0])) - 1);              \
    } while (0)

#endif
