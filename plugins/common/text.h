/* SPDX-License-Identifier: Apache-2.0
 *
 * common/text.h: cutting text from outside for messages.
 */
#ifndef WEIR_COMMON_TEXT_H
#define WEIR_COMMON_TEXT_H

#include <stddef.h>

/* Bytes of UTF-8 text that fit in `max` without cutting a character in two. */
static inline size_t utf8_cut(const char *text, size_t len, size_t max)
{
    if (len <= max)
        return len;
    size_t n = max;
    while (n > 0 && ((unsigned char)text[n] & 0xC0u) == 0x80u)
        n--;
    return n;
}

#endif
