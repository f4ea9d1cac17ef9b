/* SPDX-License-Identifier: Apache-2.0
 *
 * Takes the guard's key first and gives it back where the command fails, so that a rejected event
 * can be tried again. All of it is one call, which Redis runs whole or, out of memory, not at all.
 */
#include "guard.h"

#include "slots.h"

#include <openssl/evp.h>
#include <string.h>

const char guard_script[] = "if not redis.call('SET', KEYS[1], '1', 'NX', 'PX', ARGV[1]) then\n"
                            "  return 0\n"
                            "end\n"
                            "local at = 2\n"
                            "while at <= #ARGV do\n"
                            "  local n = tonumber(ARGV[at])\n"
                            "  local r = redis.pcall(unpack(ARGV, at + 1, at + n))\n"
                            "  if type(r) == 'table' and r.err then\n"
                            "    redis.call('DEL', KEYS[1])\n"
                            "    return r\n"
                            "  end\n"
                            "  at = at + n + 1\n"
                            "end\n"
                            "return 1\n";

void guard_hash(char ret_hex[41])
{
    static const char digits[] = "0123456789abcdef";
    unsigned char sum[EVP_MAX_MD_SIZE] = {0};
    unsigned int n = 0;
    (void)EVP_Digest(guard_script, strlen(guard_script), sum, &n, EVP_sha1(), NULL);
    for (unsigned i = 0; i < 20; i++) {
        ret_hex[2 * i] = digits[sum[i] >> 4];
        ret_hex[2 * i + 1] = digits[sum[i] & 15u];
    }
    ret_hex[40] = '\0';
}

struct weir_str guard_key(const struct weir_host *h, struct weir_arena *a, struct weir_str route,
                          bool cluster, struct weir_str id, bool *ret_memory)
{
    static const char name[] = "weir:once:{";
    struct weir_str part = cluster ? slot_part(route) : weir_str_n(NULL, 0);
    *ret_memory = false;
    if (cluster && route.ptr != NULL && (part.len == 0 || memchr(part.ptr, '}', part.len) != NULL))
        return weir_str_n(NULL, 0);
    size_t n = sizeof(name) - 1;
    char *p = h->arena_alloc(a, n + part.len + id.len + 2);
    *ret_memory = p == NULL;
    if (p == NULL)
        return weir_str_n(NULL, 0);
    char *at = p;
    memcpy(at, name, n);
    at += part.len > 0 ? n : n - 1; /* without a part there are no braces */
    if (part.len > 0) {
        memcpy(at, part.ptr, part.len);
        at += part.len;
        *at++ = '}';
        *at++ = ':';
    }
    if (id.len > 0)
        memcpy(at, id.ptr, id.len);
    return weir_str_n(p, (size_t)(at - p) + id.len);
}
