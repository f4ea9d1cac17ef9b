/* SPDX-License-Identifier: Apache-2.0
 *
 * mongodb/typed.h: types that JSON does not have, where a path (option `types`) or a wrapper of a
 * template ({$oid: ...}) asks for them.
 *
 *   date         string of RFC 3339             UTC milliseconds; what is finer is dropped
 *   date_ms      integer, milliseconds          the same; date_s: seconds, also with a fraction
 *   object_id    string of 24 hex digits        ObjectId
 *   decimal128   number, or a number as string  exact, or refused
 *   binary       string of base64               binary, subtype 0
 *   uuid         string of a UUID               binary, subtype 4
 *
 * null stays null. Everything else is refused.
 */
#ifndef MONGODB_TYPED_H
#define MONGODB_TYPED_H

#include "put.h"

/* Words of the option, in the order of enum doc_type from TYPE_DATE on; NULL at the end. */
extern const char *const typed_words[];

bool typed_put(struct doc_writer *w, enum doc_type type, struct weir_str key,
               const struct weir_value *v);
bool typed_put_object_id(struct doc_writer *w, struct weir_str key, const uint8_t bytes[12]);
/* A number beyond 64 bits or a double. */
bool typed_put_bignum(struct doc_writer *w, struct weir_str key, struct weir_str text);
/* The wrapper's type ("$oid", "$date", "$numberDecimal", "$binary", "$uuid"); TYPE_PLAIN: none. */
enum doc_type typed_of_wrapper(struct weir_str key);

#endif
