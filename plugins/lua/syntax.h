/* SPDX-License-Identifier: Apache-2.0
 *
 * syntax.h: where in a text an error is, for messages that point at it.
 */
#ifndef LUA_SYNTAX_H
#define LUA_SYNTAX_H

#include <weir/base.h>

/* Byte offset of the token that Lua's message names ("... near 'x'"), when `read` bytes of the text
 * had been read by then. */
int64_t syntax_offset(struct weir_str text, const char *message, size_t read);
/* The message without its "chunk:12: "; *ret_line is 12, or 0. */
const char *syntax_strip(const char *message, const char *chunk, unsigned *ret_line);
/* Where line number `line` begins. */
int64_t syntax_line_offset(struct weir_str text, unsigned line);
/* The token of "... near 'x'", empty where there is none. */
struct weir_str syntax_token(const char *message);
/* The first name in an expression that nobody defines; false where all are known. `known` ends with
 * NULL. Expressions with functions in them have names of their own and are not looked at. */
bool syntax_unknown_name(struct weir_str text, const char *const *known, struct weir_str *ret);

#endif
