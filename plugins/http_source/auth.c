/* SPDX-License-Identifier: Apache-2.0
 *
 * Who may send: a bearer token, a user with a password, a signature of the body. Secrets are
 * compared by digests of a fixed length and without a shortcut, so that the time it takes tells
 * nothing of them. `token_file` is read again when it changes, for new tokens without a restart.
 */
#include "http_source.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>
#include <sys/stat.h>

#define DIGEST 32
#define TOKENS_MAX 1000
#define TOKEN_FILE_MAX (256 << 10)
#define LOOK_NS WEIR_NS_PER_S

struct digest {
    unsigned char bytes[DIGEST];
};

static struct digest digest_of(struct weir_str a, struct weir_str b)
{
    struct digest d = {{0}};
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    unsigned n = 0;
    bool ok = md != NULL && EVP_DigestInit_ex(md, EVP_sha256(), NULL) == 1 &&
              EVP_DigestUpdate(md, a.ptr, a.len) == 1 && EVP_DigestUpdate(md, b.ptr, b.len) == 1 &&
              EVP_DigestFinal_ex(md, d.bytes, &n) == 1;
    EVP_MD_CTX_free(md);
    if (!ok)
        memset(&d, 0, sizeof(d));
    return d;
}

static bool digest_same(const struct digest *a, const struct digest *b)
{
    static const struct digest none = {{0}}; /* there was no memory to make one */
    return CRYPTO_memcmp(a, b, sizeof(*a)) == 0 && CRYPTO_memcmp(a, &none, sizeof(none)) != 0;
}

/* ---- Tokens of a file ---- */

struct tokens {
    const struct weir_host *h;
    void (*free)(void *take_p);
    const char *path;
    pthread_mutex_t mutex; /* of all below */
    struct stamp stamp;
    int64_t next_look_ns;
    uint32_t n;
    struct digest *items;
};

bool stamp_changed(const char *path, struct stamp *stamp)
{
    struct stat st;
    struct stamp found = {0};
    if (stat(path, &st) == 0)
        found = (struct stamp){st.st_mtim.tv_sec * WEIR_NS_PER_S + st.st_mtim.tv_nsec, st.st_size,
                               st.st_ino};
    bool changed = found.mtime_ns != stamp->mtime_ns || found.size != stamp->size ||
                   found.inode != stamp->inode;
    *stamp = found;
    return changed;
}

/* The bytes of a regular file, at most TOKEN_FILE_MAX; -1 with a text of what is wrong. */
static ssize_t read_file(const char *path, char *to, const char **ret_why)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    ssize_t n = fd < 0 || fstat(fd, &st) != 0 ? -1 : 0, len = 0;
    *ret_why = n < 0 ? strerrordesc_np(errno) : NULL;
    if (n == 0 && !S_ISREG(st.st_mode))
        *ret_why = "it is no regular file";
    while (*ret_why == NULL && (n = read(fd, to + len, (size_t)(TOKEN_FILE_MAX - len))) > 0)
        len += n;
    if (n < 0 && *ret_why == NULL)
        *ret_why = strerrordesc_np(errno);
    if (len == TOKEN_FILE_MAX)
        *ret_why = "it has 256 KiB or more";
    if (fd >= 0)
        close(fd);
    return *ret_why == NULL ? len : -1;
}

static bool is_token(struct weir_str token)
{
    for (size_t i = 0; i < token.len; i++)
        if (token.ptr[i] <= ' ' || token.ptr[i] > '~')
            return false;
    return token.len >= 16 && token.len <= 1024;
}

/* One token a line; empty lines and those that begin with '#' are passed over. items may be NULL:
 * then they are only checked. */
static bool parse_tokens(struct weir_str text, struct digest *items, uint32_t *ret_n, char *ret_why,
                         size_t cap)
{
    struct weir_str line;
    int number = 0;
    *ret_n = 0;
    while (str_next(&text, '\n', &line)) {
        number++;
        if (line.len != 0 && line.ptr[line.len - 1] == '\r')
            line.len--;
        if (line.len == 0 || line.ptr[0] == '#')
            continue;
        bool ok = is_token(line) && *ret_n < TOKENS_MAX;
        if (!ok) {
            (void)snprintf(ret_why, cap,
                           *ret_n == TOKENS_MAX
                               ? "line %d: it has more than 1000 tokens"
                               : "line %d: a token has 16 to 1024 visible ASCII characters, and "
                                 "no space",
                           number);
            return false;
        }
        if (items != NULL)
            items[*ret_n] = digest_of(line, weir_str_n(NULL, 0));
        (*ret_n)++;
    }
    if (*ret_n == 0)
        (void)snprintf(ret_why, cap, "it has no token: expected one a line");
    return *ret_n != 0;
}

static bool read_tokens(const char *path, struct digest *items, uint32_t *ret_n, char *ret_why,
                        size_t cap)
{
    const char *why = "no memory";
    char *text = OPENSSL_zalloc(TOKEN_FILE_MAX);
    ssize_t len = text != NULL ? read_file(path, text, &why) : -1;
    (void)snprintf(ret_why, cap, "%s", len < 0 ? why : "");
    bool ok = len >= 0 && parse_tokens(weir_str_n(text, (size_t)len), items, ret_n, ret_why, cap);
    OPENSSL_clear_free(text, TOKEN_FILE_MAX);
    return ok;
}

bool tokens_file_check(const char *path, char *ret_why, size_t cap)
{
    uint32_t n;
    return read_tokens(path, NULL, &n, ret_why, cap);
}

/* Takes the file's tokens over; what was there stays where it cannot be read. */
static bool tokens_load(struct tokens *t, char *ret_why, size_t cap)
{
    struct digest *items = t->h->alloc(TOKENS_MAX * sizeof(*items));
    uint32_t n = 0;
    (void)snprintf(ret_why, cap, "no memory");
    if (items == NULL || !read_tokens(t->path, items, &n, ret_why, cap)) {
        t->free(items);
        return false;
    }
    t->free(t->items);
    t->items = items;
    t->n = n;
    return true;
}

struct tokens *tokens_open(const struct weir_host *h, struct weir_str path, struct weir_error *err)
{
    struct tokens *t = h->alloc(sizeof(*t));
    char why[160] = "no memory";
    if (t != NULL) {
        *t = (struct tokens){.h = h, .free = h->free, .path = path.ptr};
        (void)pthread_mutex_init(&t->mutex, NULL);
        (void)stamp_changed(t->path, &t->stamp);
        if (tokens_load(t, why, sizeof(why)))
            return t;
    }
    (void)h->error(err, WEIR_E_CONFIG, "token_file", "token_file '%s': %s", path.ptr, why);
    tokens_close(t);
    return NULL;
}

void tokens_close(struct tokens *take_t)
{
    if (take_t == NULL)
        return;
    pthread_mutex_destroy(&take_t->mutex);
    take_t->free(take_t->items);
    take_t->free(take_t);
}

static void tokens_look(struct tokens *t, const struct lane *s)
{
    char why[160];
    if (s->now < t->next_look_ns)
        return;
    t->next_look_ns = s->now + LOOK_NS;
    if (!stamp_changed(t->path, &t->stamp))
        return;
    bool ok = tokens_load(t, why, sizeof(why));
    struct weir_kv kv[] = {weir_kv_text("file", t->path), weir_kv_text("error", ok ? "" : why)};
    if (ok)
        s->h->log(s->h, WEIR_LOG_INFO, "tokens read again", kv, 1);
    else
        s->h->log(s->h, WEIR_LOG_WARN, "tokens cannot be read again: the old ones stay", kv, 2);
}

static bool tokens_have(const struct lane *s, const struct digest *given)
{
    struct tokens *t = s->shared->tokens;
    bool found = false;
    pthread_mutex_lock(&t->mutex);
    tokens_look(t, s);
    for (uint32_t i = 0; i < t->n; i++)
        found |= digest_same(given, &t->items[i]);
    pthread_mutex_unlock(&t->mutex);
    return found;
}

/* ---- Bearer and basic ---- */

static bool bearer_known(const struct lane *s, struct weir_str token)
{
    const struct config *cf = s->config;
    struct digest given = digest_of(token, weir_str_n(NULL, 0));
    bool found = cf->token_file.len != 0 && tokens_have(s, &given);
    for (uint32_t i = 0; i < cf->tokens.n; i++) {
        struct digest one = digest_of(list_str(&cf->tokens, i), weir_str_n(NULL, 0));
        found |= digest_same(&given, &one);
    }
    return found;
}

/* "user:password" among those of the configuration. */
static bool user_known(const struct lane *s, struct weir_str text)
{
    const struct weir_pair *pairs = s->config->basic.items;
    struct digest given = digest_of(text, weir_str_n(NULL, 0));
    bool found = false;
    for (uint32_t i = 0; i < s->config->basic.n; i++) {
        char name[300]; /* with the colon, which a user's name never has */
        int n = snprintf(name, sizeof(name), "%.*s:", (int)pairs[i].key.len, pairs[i].key.ptr);
        struct digest one = digest_of(weir_str_n(name, (size_t)n), pairs[i].value.str);
        found |= digest_same(&given, &one);
    }
    return found;
}

static bool basic_known(const struct lane *s, struct weir_str encoded)
{
    char text[1024];
    size_t len = 0;
    bool known = encoded.len / 4 * 3 <= sizeof(text) && base64_decode(encoded, text, &len) &&
                 user_known(s, weir_str_n(text, len));
    OPENSSL_cleanse(text, sizeof(text));
    return known;
}

static bool after_word(struct weir_str value, const char *word, struct weir_str *ret)
{
    size_t n = strlen(word);
    if (value.len <= n || strncasecmp(value.ptr, word, n) != 0 || value.ptr[n] != ' ')
        return false;
    *ret = str_trim(weir_str_n(value.ptr + n, value.len - n));
    return ret->len != 0;
}

bool auth_check(struct request *q)
{
    const struct config *cf = q->lane->config;
    bool bearer = cf->tokens.n != 0 || cf->token_file.len != 0, basic = cf->basic.n != 0;
    struct weir_str given, header = q->head.authorization;
    if (!bearer && !basic)
        return true;
    if (bearer && after_word(header, "Bearer", &given) && bearer_known(q->lane, given))
        return true;
    if (basic && after_word(header, "Basic", &given) && basic_known(q->lane, given))
        return true;
    q->had_token = header.ptr != NULL;
    refuse(&q->refusal, HTTP_UNAUTHORIZED, "unauthorized", "%s: send Authorization: %s",
           header.ptr == NULL ? "there is no Authorization header"
                              : "what the Authorization header has is not known",
           bearer && basic ? "Bearer and a token, or Basic with a user and a password"
           : bearer        ? "Bearer and a token that this server knows"
                           : "Basic with a user and a password that this server knows");
    return false;
}

/* ---- Signatures ---- */

static bool header_find(const struct request *q, struct weir_str name, struct weir_str *ret)
{
    struct weir_str lines = q->head.lines, found, value;
    uint32_t n = 0;
    while (header_next(&lines, &found, &value)) {
        if (!str_same(found, name))
            continue;
        *ret = value;
        n++;
    }
    return n == 1;
}

/* HMAC of "time.body", or of the body alone; 0 on no memory. */
static size_t hmac_of(const struct hmac_config *cf, struct weir_str secret, struct weir_str time,
                      struct weir_str body, unsigned char *out)
{
    char sha256[] = "SHA256", sha512[] = "SHA512";
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST,
                                         cf->algorithm == HMAC_SHA512 ? sha512 : sha256, 0),
        OSSL_PARAM_construct_end()};
    EVP_MAC *mac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    EVP_MAC_CTX *ctx = mac != NULL ? EVP_MAC_CTX_new(mac) : NULL;
    size_t n = 0;
    bool ok = ctx != NULL &&
              EVP_MAC_init(ctx, (const unsigned char *)secret.ptr, secret.len, params) == 1;
    if (ok && time.ptr != NULL)
        ok = EVP_MAC_update(ctx, (const unsigned char *)time.ptr, time.len) == 1 &&
             EVP_MAC_update(ctx, (const unsigned char *)".", 1) == 1;
    ok = ok && EVP_MAC_update(ctx, (const unsigned char *)body.ptr, body.len) == 1 &&
         EVP_MAC_final(ctx, out, &n, EVP_MAX_MD_SIZE) == 1;
    EVP_MAC_CTX_free(ctx);
    EVP_MAC_free(mac);
    return ok ? n : 0;
}

/* The signature as it must stand behind the prefix; false on no memory. */
static bool sign(const struct hmac_config *cf, struct weir_str secret, struct weir_str time,
                 struct weir_str body, char *out, size_t *ret_len)
{
    static const char digits[] = "0123456789abcdef";
    unsigned char mac[EVP_MAX_MD_SIZE];
    size_t n = hmac_of(cf, secret, time, body, mac);
    if (cf->encoding == ENCODING_BASE64) {
        *ret_len = (size_t)EVP_EncodeBlock((unsigned char *)out, mac, (int)n);
        return n != 0;
    }
    for (size_t i = 0; i < n; i++) {
        out[2 * i] = digits[mac[i] >> 4];
        out[2 * i + 1] = digits[mac[i] & 15];
    }
    *ret_len = 2 * n;
    return n != 0;
}

static bool time_fits(const struct lane *s, struct weir_str text)
{
    int64_t seconds = 0, now = s->h->wall(s->h) / WEIR_NS_PER_S;
    if (text.len == 0 || text.len > 12)
        return false;
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] < '0' || text.ptr[i] > '9')
            return false;
        seconds = seconds * 10 + (text.ptr[i] - '0');
    }
    int64_t away = seconds > now ? seconds - now : now - seconds;
    return away <= s->config->hmac.tolerance / WEIR_NS_PER_S;
}

static bool signature_refuse(struct request *q, const char *why)
{
    refuse(&q->refusal, HTTP_UNAUTHORIZED, "bad_signature", "%s", why);
    return false;
}

static bool signature_known(const struct request *q, struct weir_str given, struct weir_str time)
{
    const struct hmac_config *cf = &q->lane->config->hmac;
    bool found = false;
    for (uint32_t i = 0; i < cf->secrets.n; i++) {
        char made[2 * EVP_MAX_MD_SIZE + 4], seen[2 * EVP_MAX_MD_SIZE + 4];
        size_t len = 0;
        bool ok = sign(cf, list_str(&cf->secrets, i), time, request_bytes(q), made, &len);
        if (given.len != len)
            continue;
        for (size_t c = 0; c < len; c++) /* hex digits of either case */
            seen[c] = (char)(cf->encoding == ENCODING_HEX ? given.ptr[c] | 0x20 : given.ptr[c]);
        found |= ok && CRYPTO_memcmp(made, seen, len) == 0;
    }
    return found;
}

bool signature_check(struct request *q)
{
    const struct hmac_config *cf = &q->lane->config->hmac;
    struct weir_str given = {NULL, 0}, time = {NULL, 0};
    if (cf->secrets.n == 0 || q->path < 0 || cors_is_preflight(q))
        return true;
    if (!header_find(q, cf->header, &given))
        return signature_refuse(q, "the header with the signature is missing, or there twice");
    if (cf->timestamp_header.len != 0 && !header_find(q, cf->timestamp_header, &time))
        return signature_refuse(q, "the header with the time is missing, or there twice");
    if (cf->timestamp_header.len != 0 && !time_fits(q->lane, time))
        return signature_refuse(q, "the time is not seconds since 1970, or too far from now: sign "
                                   "the request when it is sent");
    if (given.len < cf->prefix.len ||
        (cf->prefix.len != 0 && memcmp(given.ptr, cf->prefix.ptr, cf->prefix.len) != 0))
        return signature_refuse(q,
                                "the signature does not begin with the prefix that it must have");
    given = weir_str_n(given.ptr + cf->prefix.len, given.len - cf->prefix.len);
    return signature_known(q, given, time) ||
           signature_refuse(q, "the signature is not that of the body as it was sent");
}
