/* SPDX-License-Identifier: Apache-2.0
 *
 * Takes the guard's key first and gives it back where the command fails, so that a rejected event
 * can be tried again. All of it is one call, which Redis runs whole or, out of memory, not at all.
 * Errors leave it as they are (pcall): before Redis 7 those of redis.call begin with another word.
 *
 * The key names pipeline and component: several may each count the same event.
 */
#include "guard.h"

#include "slots.h"

#include <openssl/evp.h>
#include <string.h>

const char guard_script[] = "local r = redis.pcall('SET', KEYS[1], '1', 'NX', 'PX', ARGV[1])\n"
                            "if not r then\n"
                            "  return 0\n"
                            "elseif r.err then\n"
                            "  return r\n"
                            "end\n"
                            "local at = 2\n"
                            "while at <= #ARGV do\n"
                            "  local n = tonumber(ARGV[at])\n"
                            "  r = redis.pcall(unpack(ARGV, at + 1, at + n))\n"
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

/* Appends s at *at. */
static void put(char **at, struct weir_str s)
{
    if (s.len > 0)
        memcpy(*at, s.ptr, s.len);
    *at += s.len;
}

struct weir_str guard_key(const struct weir_host *h, struct weir_arena *a, struct weir_str route,
                          bool cluster, struct weir_str id, bool *ret_memory)
{
    struct weir_str part = cluster ? slot_part(route) : weir_str_n(NULL, 0);
    *ret_memory = false;
    if (cluster && route.ptr != NULL && (part.len == 0 || memchr(part.ptr, '}', part.len) != NULL))
        return weir_str_n(NULL, 0);
    const struct weir_str parts[] = {weir_cstr("weir:once:"),
                                     weir_cstr(part.len > 0 ? "{" : ""),
                                     part,
                                     weir_cstr(part.len > 0 ? "}:" : ""),
                                     h->pipeline,
                                     weir_cstr(":"),
                                     h->component,
                                     weir_cstr(":"),
                                     id};
    const size_t n_parts = sizeof(parts) / sizeof(parts[0]);
    size_t n = 0;
    for (size_t i = 0; i < n_parts; i++)
        n += parts[i].len;
    char *p = h->arena_alloc(a, n);
    *ret_memory = p == NULL;
    if (p == NULL)
        return weir_str_n(NULL, 0);
    char *at = p;
    for (size_t i = 0; i < n_parts; i++)
        put(&at, parts[i]);
    return weir_str_n(p, n);
}
