/* SPDX-License-Identifier: Apache-2.0
 *
 * simple.h: conditions that need no Lua. Most compare fields of the event with constants; those are
 * evaluated here, by the same rules (see condition.c). Whatever is not plainly one of them stays with Lua:
 * a text with anything else in it is not compiled, and an event on which the rules go on (an error, the
 * functions of strings, numbers that a double does not hold) is left to it.
 */
#ifndef LUA_SIMPLE_H
#define LUA_SIMPLE_H

#include <weir/plugin.h>

struct simple;

enum simple_result { SIMPLE_FALSE = 0, SIMPLE_TRUE = 1, SIMPLE_ASK_LUA, SIMPLE_GONE };

/* `text` is a valid expression and outlives the result. NULL: it is for Lua (or there is no memory). */
struct simple *simple_compile(const struct weir_host *h, struct weir_str text);
void simple_free(const struct weir_host *h, struct simple *take_s);
/* SIMPLE_GONE: the event is not JSON, and has failed. */
enum simple_result simple_eval(const struct simple *s, const struct weir_host *h,
                               struct weir_batch *b, struct weir_event *ev);

#endif
