/* SPDX-License-Identifier: Apache-2.0
 *
 * pattern.h: Lua patterns (manual 6.4.1) with work that is counted.
 *
 * The matcher of the standard library cannot be interrupted, and some patterns take time that grows
 * exponentially with what an event holds. This one charges the instruction budget as it goes; in
 * all else it behaves as the original.
 */
#ifndef LUA_PATTERN_H
#define LUA_PATTERN_H

#include "vm.h"

#define PATTERN_CAPTURES 32

/* A capture's length, or: */
#define CAPTURE_OPEN (-1)
#define CAPTURE_PLACE (-2)

struct matcher {
    lua_State *L;
    const char *src, *src_end; /* a NUL stands at src_end */
    const char *pat_end;       /* and here */
    int depth;
    int n_captures;
    uint32_t work;
    struct {
        const char *at;
        ptrdiff_t len;
    } captures[PATTERN_CAPTURES];
};

void matcher_init(struct matcher *m, lua_State *L, struct weir_str src, struct weir_str pattern);
/* Where the match of p at s ends, NULL where it does not match. Raises for bad patterns. */
const char *matcher_match(struct matcher *m, const char *s, const char *p);
/* Pushes capture i; without captures, i = 0 is the whole match [s, e). */
void matcher_push(struct matcher *m, int i, const char *s, const char *e);
/* Pushes all captures, or the whole match where there are none and s is not NULL. Returns how many.
 */
int matcher_push_all(struct matcher *m, const char *s, const char *e);

#endif
