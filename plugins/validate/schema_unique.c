/* SPDX-License-Identifier: Apache-2.0
 *
 * uniqueItems, in the time that reading the items takes.
 */
#include "schema_run.h"
#include "../common/hash.h"

#include <stdio.h>
#include <string.h>

struct digest {
    uint64_t a, b;
};

static struct digest mix(struct digest d, uint64_t x)
{
    return (struct digest){hash_mix(d.a ^ x, UINT64_C(0xe7037ed1a0b428db)),
                           hash_mix(d.b ^ x, UINT64_C(0x8ebc6af09c88c6e3))};
}

static struct digest mix_bytes(struct digest d, struct weir_str s)
{
    const char *p = s.ptr != NULL ? s.ptr : "";
    return mix((struct digest){hash_bytes(p, s.len, d.a), hash_bytes(p, s.len, d.b)}, s.len);
}

/* Equal numbers of different types have the same digest: outside 64 bits that of their digits. */
static struct digest mix_number(const struct run *r, struct digest d, const struct weir_value *v)
{
    enum weir_value_type type = r->h->value_type(v);
    if (type == WEIR_BIGNUM)
        return mix_bytes(d, r->h->value_str(v));
    double real = r->h->value_real(v);
    char digits[320]; /* the largest double has 309 */
    uint64_t bits;
    if (type == WEIR_REAL && real >= -9223372036854775808.0 && real < 9223372036854775808.0 &&
        real == (double)(int64_t)real)
        return mix(d, (uint64_t)(int64_t)real);
    if (type == WEIR_REAL && real > 0 && real < 18446744073709551616.0 &&
        real == (double)(uint64_t)real)
        return mix(d, (uint64_t)real);
    if (type == WEIR_INT)
        return mix(d, (uint64_t)r->h->value_int(v));
    if (type == WEIR_UINT)
        return mix(d, r->h->value_uint(v));
    if (real >= 18446744073709551616.0 || real < -9223372036854775808.0) {
        int n = snprintf(digits, sizeof(digits), "%.0f", real); /* as large doubles are whole */
        return mix_bytes(d, weir_str_n(digits, (size_t)n));
    }
    memcpy(&bits, &real, sizeof(bits));
    return mix(mix(d, 1), bits);
}

/* 128 bits that two values share only if they are equal, under a seed that nobody outside knows. Of
 * objects the order of members does not count. The caller has spent the step for v itself. */
static struct digest digest_of(struct run *r, struct digest d, const struct weir_value *v)
{
    enum weir_value_type type = r->h->value_type(v);
    struct digest sum = {0, 0};
    struct weir_str key = {NULL, 0};
    r->steps += r->h->value_count(v);
    if (type == WEIR_STRING || type == WEIR_BIGNUM)
        r->steps += r->h->value_str(v).len / STEP_BYTES;
    if (r->steps > SCHEMA_STEPS_MAX || r->depth == VALUE_DEPTH_MAX)
        return sum;
    d = mix(d, value_is_number(type) ? (uint64_t)WEIR_REAL : (uint64_t)type);
    if (value_is_number(type))
        return mix_number(r, d, v);
    if (type == WEIR_STRING)
        return mix_bytes(d, r->h->value_str(v));
    if (type == WEIR_BOOL)
        return mix(d, r->h->value_bool(v));
    struct weir_value_iter it = r->h->value_iter(v);
    r->depth++;
    for (const struct weir_value *e; (e = r->h->value_next(&it, &key)) != NULL;) {
        r->steps += key.len / STEP_BYTES;
        struct digest one = digest_of(r, type == WEIR_OBJECT ? mix_bytes(d, key) : d, e);
        if (type == WEIR_ARRAY)
            d = mix(mix(d, one.a), one.b);
        sum.a += one.a;
        sum.b += one.b;
    }
    r->depth--;
    return type == WEIR_OBJECT ? mix(mix(d, sum.a), sum.b) : d;
}

/* Free places, at least twice as many as items; the same memory for each array of an event. */
static struct digest *table_for(struct run *r, uint32_t n, uint32_t *ret_size)
{
    uint32_t size = 16;
    while (size < n * 2)
        size *= 2;
    if (size > r->cap_places) {
        r->places = r->h->arena_alloc(r->c->scratch, size * sizeof(*r->places));
        r->cap_places = r->places != NULL ? size : 0;
    }
    if (r->places != NULL)
        memset(r->places, 0, size * sizeof(*r->places));
    *ret_size = size;
    return r->places;
}

bool run_check_unique(struct run *r, const struct schema *s, const struct weir_value *v)
{
    uint32_t n = r->h->value_count(v), size;
    if (n < 2)
        return true;
    if (!run_spend(r, n))
        return false;
    struct digest *table = table_for(r, n, &size);
    if (table == NULL)
        return run_stop(r, "no_memory", "no memory to compare the items");
    struct weir_value_iter it = r->h->value_iter(v);
    for (const struct weir_value *e; (e = r->h->value_next(&it, NULL)) != NULL;) {
        struct digest d = digest_of(r, (struct digest){r->c->seed, ~r->c->seed}, e);
        d.a |= 1; /* 0 is a free place */
        uint32_t i = (uint32_t)(d.b >> 32) & (size - 1);
        for (; table[i].a != 0; i = (i + 1) & (size - 1))
            if (table[i].a == d.a && table[i].b == d.b && r->steps <= SCHEMA_STEPS_MAX)
                return run_fail(r, s, "uniqueItems", e, "items that differ from each other, twice");
        table[i] = d;
    }
    return run_spend(r, 0);
}
