/* SPDX-License-Identifier: Apache-2.0
 *
 * common/hash.h: a fast hash of bytes, seeded, for tables whose keys come from outside.
 *
 * With a random seed nobody outside can aim at one bucket. Not for secrets, not to be stored.
 */
#ifndef WEIR_COMMON_HASH_H
#define WEIR_COMMON_HASH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Both halves of the 128-bit product, folded. */
static inline uint64_t hash_mix(uint64_t a, uint64_t b)
{
    __extension__ unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static inline uint64_t hash_bytes(const void *data, size_t len, uint64_t seed)
{
    const unsigned char *p = data;
    uint64_t h = hash_mix(seed ^ UINT64_C(0x9e3779b97f4a7c15), UINT64_C(0xe7037ed1a0b428db) ^ len);
    uint64_t word;
    size_t left = len;
    for (; left >= 8; left -= 8, p += 8) {
        memcpy(&word, p, 8);
        h = hash_mix(h ^ word, UINT64_C(0xa0761d6478bd642f) ^ seed);
    }
    word = 0;
    if (left > 0)
        memcpy(&word, p, left);
    return hash_mix(h ^ word ^ UINT64_C(0x8ebc6af09c88c6e3), UINT64_C(0x589965cc75374cc3) ^ h);
}

#endif
