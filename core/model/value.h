/* SPDX-License-Identifier: Apache-2.0
 *
 * model/value.h: JSON values behind opaque handles. The one home of yyjson.
 *
 * Contracts are those of the functions of the same names in weir/host.h. A handle is a yyjson_val,
 * or a yyjson_mut_val with its lowest bit set.
 */
#ifndef WR_MODEL_VALUE_H
#define WR_MODEL_VALUE_H

#include <base/error.h>
#include <weir/host.h>

#define WR_VALUE_DEPTH_MAX 128
#define WR_VALUE_TOO_DEEP "the value is nested deeper than 128 levels"

const struct weir_value *wr_value_parse(struct weir_arena *a, struct weir_str text,
                                        struct weir_error *err);
struct weir_str wr_value_write(struct weir_arena *a, const struct weir_value *v);
enum weir_value_type wr_value_type(const struct weir_value *v);
bool wr_value_bool(const struct weir_value *v);
int64_t wr_value_int(const struct weir_value *v);
uint64_t wr_value_uint(const struct weir_value *v);
double wr_value_real(const struct weir_value *v);
struct weir_str wr_value_str(const struct weir_value *v);
uint32_t wr_value_count(const struct weir_value *v);
const struct weir_value *wr_value_get(const struct weir_value *v, struct weir_str key);
const struct weir_value *wr_value_at(const struct weir_value *v, uint32_t i);
struct weir_value_iter wr_value_iter(const struct weir_value *v);
const struct weir_value *wr_value_next(struct weir_value_iter *it, struct weir_str *ret_key);
bool wr_value_equal(const struct weir_value *a, const struct weir_value *b);

/* As wr_value_write of v, which wr_make_edit made of `from` (parsed from text) and which may have been
 * changed since: what was not changed is copied from the text. */
struct weir_str wr_value_write_edited(struct weir_arena *a, const struct weir_value *v,
                                      const struct weir_value *from, struct weir_str text);

/* Made or copied, not parsed: object_set and the like work on it. */
bool wr_value_is_mutable(const struct weir_value *v);
/* Not nested deeper than WR_VALUE_DEPTH_MAX. What is parsed or copied never is; what is put together
 * may be until the border of its component, where wr_arena of it says `nested`. */
bool wr_value_depth_ok(const struct weir_value *v);

struct weir_value *wr_make_null(struct weir_arena *a);
struct weir_value *wr_make_bool(struct weir_arena *a, bool v);
struct weir_value *wr_make_int(struct weir_arena *a, int64_t v);
struct weir_value *wr_make_uint(struct weir_arena *a, uint64_t v);
struct weir_value *wr_make_real(struct weir_arena *a, double v);
struct weir_value *wr_make_str(struct weir_arena *a, struct weir_str s);
struct weir_value *wr_make_array(struct weir_arena *a);
struct weir_value *wr_make_object(struct weir_arena *a);
struct weir_value *wr_make_copy(struct weir_arena *a, const struct weir_value *v);
/* As wr_make_copy, but a parsed value's strings are shared, not copied: v must outlive the copy. */
struct weir_value *wr_make_edit(struct weir_arena *a, const struct weir_value *v);
bool wr_object_set(struct weir_arena *a, struct weir_value *obj, struct weir_str key,
                   struct weir_value *take_v);
bool wr_object_remove(struct weir_value *obj, struct weir_str key);
bool wr_object_rename(struct weir_arena *a, struct weir_value *obj, struct weir_str key,
                      struct weir_str to);
bool wr_array_append(struct weir_arena *a, struct weir_value *arr, struct weir_value *take_v);
bool wr_array_set(struct weir_arena *a, struct weir_value *arr, uint32_t i,
                  struct weir_value *take_v);
bool wr_array_remove(struct weir_value *arr, uint32_t i);

#endif
