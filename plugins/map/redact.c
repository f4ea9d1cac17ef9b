/* SPDX-License-Identifier: Apache-2.0
 *
 * Hashes by libcrypto, masks of our own.
 */
#include "redact.h"

#include <arpa/inet.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <string.h>

#define STARS "***"
#define LAST4_FROM 8 /* characters that a text must have for four of them to be shown */

const char *const mask_words[] = {"all", "last4", "email", "ip", NULL};

static struct weir_str text_of(const struct weir_host *h, struct weir_arena *a,
                               const struct weir_value *v)
{
    struct weir_str s;
    if (h->value_type(v) != WEIR_STRING)
        return h->value_write(a, v);
    s = h->value_str(v);
    return s.ptr != NULL ? s : weir_str_n("", 0);
}

struct weir_value *hash_value(const struct weir_host *h, struct weir_arena *a, struct weir_str key,
                              const struct weir_value *v)
{
    static const char hex[] = "0123456789abcdef";
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    char out[2 * EVP_MAX_MD_SIZE];
    struct weir_str s = text_of(h, a, v);
    if (s.ptr == NULL)
        return NULL;
    const unsigned char *data = (const unsigned char *)s.ptr;
    bool done = key.len != 0
                    ? HMAC(EVP_sha256(), key.ptr, (int)key.len, data, s.len, digest, &n) != NULL
                    : EVP_Digest(data, s.len, digest, &n, EVP_sha256(), NULL) == 1;
    if (!done)
        return NULL;
    for (unsigned i = 0; i < n; i++) {
        out[2 * i] = hex[digest[i] >> 4];
        out[2 * i + 1] = hex[digest[i] & 15];
    }
    return h->make_str(a, weir_str_n(out, 2 * (size_t)n));
}

/* The last four characters of s where it is long enough, else none. */
static struct weir_str last4(struct weir_str s)
{
    size_t at = s.len, n = 0, from = s.len;
    while (at > 0 && n < LAST4_FROM) {
        at--;
        if (((unsigned char)s.ptr[at] & 0xC0u) == 0x80u)
            continue;
        if (++n == 4)
            from = at;
    }
    return n == LAST4_FROM ? weir_str_n(s.ptr + from, s.len - from) : weir_str_n("", 0);
}

static struct weir_value *join(const struct weir_host *h, struct weir_arena *a,
                               struct weir_str first, struct weir_str last)
{
    size_t stars = strlen(STARS);
    char *out = h->arena_alloc(a, first.len + stars + last.len + 1);
    if (out == NULL)
        return NULL;
    memcpy(out, first.ptr, first.len);
    memcpy(out + first.len, STARS, stars);
    memcpy(out + first.len + stars, last.ptr, last.len);
    return h->make_str(a, weir_str_n(out, first.len + stars + last.len));
}

static struct weir_value *mask_email(const struct weir_host *h, struct weir_arena *a,
                                     struct weir_str s)
{
    const char *at = memchr(s.ptr, '@', s.len);
    size_t local = at != NULL ? (size_t)(at - s.ptr) : 0, first = 1;
    if (local == 0 || s.len - local < 2 || memchr(at + 1, '@', s.len - local - 1) != NULL)
        return h->make_str(a, weir_cstr(STARS));
    while (first < local && ((unsigned char)s.ptr[first] & 0xC0u) == 0x80u)
        first++;
    return join(h, a, weir_str_n(s.ptr, first < local ? first : 0), weir_str_n(at, s.len - local));
}

/* The network: 24 bits of an IPv4 address, 48 of an IPv6 one. */
static struct weir_value *mask_ip(const struct weir_host *h, struct weir_arena *a,
                                  struct weir_str s)
{
    static const unsigned char mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    char text[INET6_ADDRSTRLEN];
    unsigned char address[16];
    int family = AF_INET;
    if (s.len >= sizeof(text) || memchr(s.ptr, 0, s.len) != NULL)
        return h->make_str(a, weir_cstr(STARS));
    memcpy(text, s.ptr, s.len);
    text[s.len] = '\0';
    if (inet_pton(AF_INET, text, address) == 1) {
        address[3] = 0;
    } else if (inet_pton(AF_INET6, text, address) == 1) {
        family = AF_INET6;
        if (memcmp(address, mapped, sizeof(mapped)) == 0)
            address[15] = 0;
        else
            memset(address + 6, 0, 10);
    } else {
        return h->make_str(a, weir_cstr(STARS));
    }
    if (inet_ntop(family, address, text, sizeof(text)) == NULL)
        return h->make_str(a, weir_cstr(STARS));
    return h->make_str(a, weir_cstr(text));
}

struct weir_value *mask_value(const struct weir_host *h, struct weir_arena *a, enum mask mask,
                              const struct weir_value *v)
{
    enum weir_value_type type = h->value_type(v);
    bool number = type == WEIR_INT || type == WEIR_UINT || type == WEIR_BIGNUM;
    if (mask == MASK_ALL || (type != WEIR_STRING && !(number && mask == MASK_LAST4)))
        return h->make_str(a, weir_cstr(STARS));
    struct weir_str s = text_of(h, a, v);
    if (s.ptr == NULL)
        return NULL;
    if (mask == MASK_EMAIL)
        return mask_email(h, a, s);
    if (mask == MASK_IP)
        return mask_ip(h, a, s);
    return join(h, a, weir_str_n("", 0), last4(s));
}
