/* SPDX-License-Identifier: Apache-2.0
 *
 * What an error reply of Redis means.
 */
#ifndef REDIS_ERRORS_H
#define REDIS_ERRORS_H

#include <weir/plugin.h>

/* Verdict, code and message of an error reply ("WRONGTYPE Operation against..."). The message is a
 * view of `text`. *ret_reconnect: another connection may do better. */
struct weir_result redis_error_result(struct weir_str text, bool *ret_reconnect);

#endif
