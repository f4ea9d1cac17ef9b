/* SPDX-License-Identifier: Apache-2.0
 *
 * base/check.h: checks for our own bugs, never for input.
 */
#ifndef WR_BASE_CHECK_H
#define WR_BASE_CHECK_H

#include <stdbool.h>

/* Prints what and where, then aborts. */
_Noreturn void wr_bug(const char *what, const char *file, int line);

/* Always on. */
#define WR_BUG_ON(cond)                              \
    do {                                             \
        if (__builtin_expect(!!(cond), 0))           \
            wr_bug(#cond, __FILE__, __LINE__);       \
    } while (0)

/* For what is too dear on the hot path; debug builds only. */
#ifdef WEIR_DEBUG
#define WR_DEBUG_ON(cond) WR_BUG_ON(cond)
#else
#define WR_DEBUG_ON(cond) ((void)sizeof(cond))
#endif

#define WR_COUNT(array) (sizeof(array) / sizeof((array)[0]))

#endif
