/* SPDX-License-Identifier: Apache-2.0
 *
 * Rates as text, and the hash behind `by`. The hash is part of what users rely on: two weirs that sample
 * by the same key keep the same events, and those of today are kept tomorrow. It must never change.
 */
#include "share.h"

#include <stdlib.h>
#include <string.h>

#define TEXT_MAX 40u

static const char expected[] = "expected a part of all events, such as 0.25, 25% or 1/4";

/* Digits and at most one dot between them. Returns how many bytes that are, 0 for none. */
static size_t number_len(const char *text)
{
    size_t whole = strspn(text, "0123456789");
    if (whole == 0 || text[whole] != '.')
        return whole;
    size_t fraction = strspn(text + whole + 1, "0123456789");
    return fraction == 0 ? whole : whole + 1 + fraction;
}

const char *share_parse(struct weir_str text, double *ret_share, size_t *ret_offset)
{
    char copy[TEXT_MAX + 1];
    *ret_offset = 0;
    if (text.len == 0 || text.len > TEXT_MAX)
        return expected;
    memcpy(copy, text.ptr, text.len);
    copy[text.len] = '\0';
    size_t at = number_len(copy), second = 0;
    double share = strtod(copy, NULL);
    if (at != 0 && copy[at] == '%') {
        share /= 100;
        at++;
    } else if (at != 0 && copy[at] == '/') {
        second = at + 1;
        size_t n = number_len(copy + second);
        double parts = strtod(copy + second, NULL);
        *ret_offset = second;
        if (n == 0)
            return expected;
        if (parts <= 0)
            return "nothing can be divided by this number";
        share /= parts;
        at = second + n;
    }
    *ret_offset = at;
    if (at == 0 || at != text.len)
        return expected;
    *ret_offset = 0;
    if (share > 1)
        return "this is more than all events; expected at most 1";
    *ret_share = share;
    return NULL;
}

double share_of_bits(uint64_t bits)
{
    return (double)(bits >> 11) * 0x1p-53;
}

/* FNV-1a over the seed's bytes, the lowest first, and the key, then the finalizer of MurmurHash3. */
double share_place(struct weir_str key, uint64_t seed)
{
    const uint64_t prime = UINT64_C(0x100000001b3);
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (int i = 0; i < 8; i++)
        hash = (hash ^ (seed >> (8 * i) & 0xff)) * prime;
    for (size_t i = 0; i < key.len; i++)
        hash = (hash ^ (unsigned char)key.ptr[i]) * prime;
    hash = (hash ^ hash >> 33) * UINT64_C(0xff51afd7ed558ccd);
    hash = (hash ^ hash >> 33) * UINT64_C(0xc4ceb9fe1a85ec53);
    return share_of_bits(hash ^ hash >> 33);
}
