/* SPDX-License-Identifier: Apache-2.0
 *
 * model/value_impl.h: what the files value*.c share, and the one home of yyjson. A handle is a
 * yyjson_val (parsed, immutable) or, with its lowest bit set, a yyjson_mut_val. Both begin with the same
 * tag and payload, so scalars are read alike; only walking a container differs. An arena has one mutable
 * document, whose pools draw from the arena; freeing a value is freeing its arena.
 */
#ifndef WR_MODEL_VALUE_IMPL_H
#define WR_MODEL_VALUE_IMPL_H

#include <base/arena.h>
#include <model/value.h>

#include <string.h>
#include <yyjson.h>

/* Of the bits of a tag that the library leaves free: this container was changed since it was made. */
#define TAG_CHANGED ((uint64_t)0x20)

static inline bool is_mut(const struct weir_value *v)
{
    return ((uintptr_t)v & 1u) != 0;
}

static inline yyjson_val *val_of(const struct weir_value *v)
{
    return (yyjson_val *)((uintptr_t)v & ~(uintptr_t)1);
}

static inline yyjson_mut_val *mut_of(const struct weir_value *v)
{
    return (yyjson_mut_val *)((uintptr_t)v & ~(uintptr_t)1);
}

static inline const struct weir_value *from_val(const yyjson_val *val)
{
    return (const struct weir_value *)(const void *)val;
}

static inline struct weir_value *from_mut(const yyjson_mut_val *val)
{
    return val == NULL ? NULL : (struct weir_value *)((uintptr_t)val | 1u);
}

/* As memcmp for what is mostly short: names of fields. */
static inline bool same_bytes(const char *a, const char *b, size_t n)
{
    uint64_t x = 0, y = 0;
    size_t half = n / 2;
    if (n > 16)
        return memcmp(a, b, n) == 0;
    if (n >= 8) { /* the first eight and the last eight */
        uint64_t p, q;
        memcpy(&x, a, 8);
        memcpy(&y, b, 8);
        memcpy(&p, a + n - 8, 8);
        memcpy(&q, b + n - 8, 8);
        return x == y && p == q;
    }
    if (n >= 4) {
        uint32_t p, q;
        memcpy(&x, a, 4);
        memcpy(&y, b, 4);
        memcpy(&p, a + n - 4, 4);
        memcpy(&q, b + n - 4, 4);
        return x == y && p == q;
    }
    return n == 0 || (a[0] == b[0] && a[half] == b[half] && a[n - 1] == b[n - 1]);
}

/* The arena as yyjson's allocator. */
yyjson_alc wr_arena_alc(struct weir_arena *a);

#endif
