/* SPDX-License-Identifier: Apache-2.0
 *
 * map/redact.h: personal data made unreadable: hashes, and masks that leave a part to be seen.
 */
#ifndef MAP_REDACT_H
#define MAP_REDACT_H

#include <weir/plugin.h>

enum mask { MASK_ALL, MASK_LAST4, MASK_EMAIL, MASK_IP };

/* The words of the option, NULL at the end. */
extern const char *const mask_words[];

/* SHA-256 of a string, or of another value's JSON, as 64 hexadecimal digits; with a key
 * HMAC-SHA-256. NULL: no memory. */
struct weir_value *hash_value(const struct weir_host *h, struct weir_arena *a, struct weir_str key,
                              const struct weir_value *v);

/* What is not of the mask's kind is masked whole: nothing is shown by accident. NULL: no memory. */
struct weir_value *mask_value(const struct weir_host *h, struct weir_arena *a, enum mask mask,
                              const struct weir_value *v);

#endif
