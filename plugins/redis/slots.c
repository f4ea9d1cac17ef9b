/* SPDX-License-Identifier: Apache-2.0
 *
 * CRC-16/XMODEM of a key or of its hash tag, as the Cluster specification says.
 */
#include "slots.h"

#include <string.h>

static uint16_t crc_step(uint16_t crc, unsigned char byte)
{
    /* Of each half byte: the polynomial x^16 + x^12 + x^5 + 1. */
    static const uint16_t table[16] = {0x0000, 0x1021, 0x2042, 0x3063, 0x4084, 0x50a5,
                                       0x60c6, 0x70e7, 0x8108, 0x9129, 0xa14a, 0xb16b,
                                       0xc18c, 0xd1ad, 0xe1ce, 0xf1ef};
    crc = (uint16_t)(crc << 4) ^ table[(crc >> 12) ^ (byte >> 4)];
    return (uint16_t)((uint16_t)(crc << 4) ^ table[(crc >> 12) ^ (byte & 15u)]);
}

struct weir_str slot_part(struct weir_str key)
{
    const char *open = key.len > 0 ? memchr(key.ptr, '{', key.len) : NULL;
    if (open == NULL)
        return key;
    size_t left = key.len - (size_t)(open + 1 - key.ptr);
    const char *shut = left > 0 ? memchr(open + 1, '}', left) : NULL;
    if (shut == NULL || shut == open + 1)
        return key;
    return weir_str_n(open + 1, (size_t)(shut - open - 1));
}

unsigned slot_of(struct weir_str key)
{
    struct weir_str part = slot_part(key);
    uint16_t crc = 0;
    for (size_t i = 0; i < part.len; i++)
        crc = crc_step(crc, (unsigned char)part.ptr[i]);
    return crc % N_SLOTS;
}
