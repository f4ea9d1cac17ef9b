/* SPDX-License-Identifier: Apache-2.0
 *
 * SASL OAUTHBEARER: where the token comes from. `file`: a JWT that somebody else keeps fresh (a
 * sidecar, a projected service account token); it is read again when four fifths of its life are
 * over. `url`: librdkafka's own OIDC client, where it was built with one. Another source of tokens
 * (MSK IAM) is one more way to fill in `struct token`.
 *
 * The library asks for tokens on its background thread, so that neither a lane nor an outlet waits
 * for a file, and a token is renewed also while nobody polls.
 */
#include "client.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TOKEN_MOST 65536
#define EXTENSIONS_MOST 16

const struct weir_option oauth_options[6] = {
    {.name = "file",
     .type = WEIR_OPT_PATH,
     .offset = offsetof(struct oauth_config, file),
     .doc = "File that holds the token, a JWT with the claims `sub` and `exp`; read again before "
            "it expires.",
     .example = "/var/run/secrets/kafka/token"},
    {.name = "url",
     .type = WEIR_OPT_STRING,
     .offset = offsetof(struct oauth_config, url),
     .doc = "Token endpoint (OpenID Connect, client credentials), where librdkafka was built with "
            "it.",
     .example = "https://login.example.com/oauth2/token"},
    {.name = "client_id",
     .type = WEIR_OPT_STRING,
     .offset = offsetof(struct oauth_config, client_id),
     .doc = "With `url`: who asks for the token.",
     .example = "weir"},
    {.name = "client_secret",
     .type = WEIR_OPT_STRING,
     .flags = WEIR_OPT_SECRET,
     .offset = offsetof(struct oauth_config, client_secret),
     .doc = "With `url`: the client's secret.",
     .example = "${env:KAFKA_CLIENT_SECRET}"},
    {.name = "scope",
     .type = WEIR_OPT_STRING,
     .offset = offsetof(struct oauth_config, scope),
     .doc = "With `url`: the scope to ask for.",
     .example = "kafka"},
    {.name = "extensions",
     .type = WEIR_OPT_MAP,
     .of = WEIR_OPT_STRING,
     .offset = offsetof(struct oauth_config, extensions),
     .doc = "SASL extensions to send with the token.",
     .example = "{logicalCluster: lkc-1}"},
};

/* ---- The token of a file ------------------------------------------------------------------- */

struct token {
    struct weir_str text;
    struct weir_str principal; /* a NUL behind */
    int64_t expires_ms;        /* since the epoch */
};

/* False with err. */
static bool read_file(const char *path, char *text, size_t size, size_t *ret_n,
                      const struct weir_host *h, struct weir_error *err)
{
    struct stat st;
    size_t n = 0;
    ssize_t got = 1;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        h->error(err, WEIR_E_CONFIG, "token", "token file '%s' cannot be opened: %s", path,
                 strerror(errno));
        return false;
    }
    bool regular = fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
    while (regular && n < size && (got = read(fd, text + n, size - n)) > 0)
        n += (size_t)got;
    close(fd);
    while (n > 0 && strchr(" \t\r\n", text[n - 1]) != NULL)
        n--;
    *ret_n = n;
    if (regular && got >= 0 && n > 0 && n < size)
        return true;
    h->error(err, WEIR_E_CONFIG, "token", "token file '%s' %s: expected a JWT of at most %d bytes",
             path,
             !regular  ? "is no regular file"
             : got < 0 ? "cannot be read"
             : n == 0  ? "is empty"
                       : "is too large",
             TOKEN_MOST - 1);
    return false;
}

static int sextet(char c)
{
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    const char *at = c != '\0' ? strchr(letters, c) : NULL;
    return at != NULL ? (int)(at - letters) : -1;
}

/* base64url without padding; {NULL, 0} where it is none. */
static struct weir_str decode(const struct weir_host *h, struct weir_arena *a, struct weir_str from)
{
    char *to = h->arena_alloc(a, from.len * 3 / 4 + 3);
    uint32_t bits = 0, n_bits = 0;
    size_t n = 0;
    for (size_t i = 0; i < from.len && to != NULL; i++) {
        int six = sextet(from.ptr[i]);
        if (six < 0)
            return weir_str_n(NULL, 0);
        bits = bits << 6 | (uint32_t)six;
        if ((n_bits += 6) < 8)
            continue;
        n_bits -= 8;
        to[n++] = (char)(bits >> n_bits & 0xff);
    }
    return weir_str_n(to, n);
}

/* The middle one of a JWT's three parts, parsed; NULL where it is none. */
static const struct weir_value *claims_of(const struct weir_host *h, struct weir_arena *a,
                                          struct weir_str jwt)
{
    const char *end = jwt.ptr + jwt.len;
    const char *first = memchr(jwt.ptr, '.', jwt.len);
    const char *second = first != NULL ? memchr(first + 1, '.', (size_t)(end - first - 1)) : NULL;
    if (second == NULL)
        return NULL;
    struct weir_str json = decode(h, a, weir_str_n(first + 1, (size_t)(second - first - 1)));
    return json.ptr != NULL ? h->value_parse(a, json, NULL) : NULL;
}

static bool read_claims(const struct weir_host *h, struct weir_arena *a, const char *path,
                        struct token *t, struct weir_error *err)
{
    const struct weir_value *claims = claims_of(h, a, t->text);
    const struct weir_value *exp = h->value_get(claims, weir_cstr("exp"));
    enum weir_value_type type = exp != NULL ? h->value_type(exp) : WEIR_NULL;
    double seconds = type == WEIR_INT || type == WEIR_REAL ? h->value_real(exp) : 0;
    struct weir_str sub = h->value_str(h->value_get(claims, weir_cstr("sub")));
    t->principal = h->arena_copy(a, sub.len != 0 ? sub : weir_cstr("weir"));
    t->expires_ms = (int64_t)(seconds * 1000);
    bool in_range = seconds > 0 && seconds < 1e12;
    if (in_range && t->expires_ms > h->wall(h) / WEIR_NS_PER_MS && t->principal.ptr != NULL)
        return true;
    h->error(err, WEIR_E_CONFIG, "token", "token file '%s' %s", path,
             claims == NULL ? "holds no JWT: expected three parts in base64url, joined by '.', the "
                              "second one JSON"
             : !in_range    ? "holds a JWT without the claim exp, the time when it expires"
                            : "holds a token that has expired: renew it");
    return false;
}

static bool token_read(const struct weir_host *h, struct weir_arena *a, const char *path,
                       struct token *t, struct weir_error *err)
{
    size_t n;
    char *text = h->arena_alloc(a, TOKEN_MOST);
    if (text == NULL) {
        h->error(err, WEIR_E_NOMEM, "no_memory", "memory is used up");
        return false;
    }
    if (!read_file(path, text, TOKEN_MOST, &n, h, err))
        return false;
    text[n] = '\0';
    t->text = weir_str_n(text, n);
    return read_claims(h, a, path, t, err);
}

/* ---- The library's question ---------------------------------------------------------------- */

static void hand_over(rd_kafka_t *rk, const struct oauth_config *cfg, const struct token *t,
                      struct weir_error *err)
{
    const struct weir_pair *pairs = cfg->extensions.items;
    const char *extensions[2 * EXTENSIONS_MOST];
    char text[WEIR_ERROR_TEXT];
    for (uint32_t i = 0; i < cfg->extensions.n; i++) {
        extensions[2 * i] = pairs[i].key.ptr;
        extensions[2 * i + 1] = pairs[i].value.str.ptr;
    }
    if (rd_kafka_oauthbearer_set_token(rk, t->text.ptr, t->expires_ms, t->principal.ptr, extensions,
                                       2 * (size_t)cfg->extensions.n, text, sizeof(text)) == 0)
        return;
    snprintf(err->text, sizeof(err->text), "%s", text);
    err->status = WEIR_E_CONFIG;
}

static void answer(rd_kafka_t *rk, const struct client *c)
{
    const struct weir_host *h = c->host;
    const struct oauth_config *cfg = &c->cfg->sasl.oauth;
    struct weir_error err = {.status = WEIR_OK};
    struct token t = {.expires_ms = 0};
    struct weir_arena *a = h->arena_new(h);
    if (a == NULL)
        h->error(&err, WEIR_E_NOMEM, "no_memory", "memory is used up");
    else if (token_read(h, a, cfg->file.ptr, &t, &err))
        hand_over(rk, cfg, &t, &err);
    if (a != NULL)
        h->arena_free(a);
    /* The library asks again ten seconds later, and reports the text as a failed login. */
    if (err.status != WEIR_OK)
        rd_kafka_oauthbearer_set_token_failure(rk, err.text);
}

static void on_refresh(rd_kafka_t *rk, const char *config, void *opaque)
{
    struct client *c = opaque;
    (void)config;
    pthread_mutex_lock(&c->tokens);
    if (!c->muted)
        answer(rk, c);
    else
        rd_kafka_oauthbearer_set_token_failure(rk, "the client is being closed");
    pthread_mutex_unlock(&c->tokens);
}

/* ---- Configuration ------------------------------------------------------------------------- */

static bool has_oidc(const rd_kafka_conf_t *conf)
{
    char features[512];
    size_t size = sizeof(features);
    return rd_kafka_conf_get(conf, "builtin.features", features, &size) == RD_KAFKA_CONF_OK &&
           strstr(features, "oidc") != NULL;
}

static void conf_oidc(rd_kafka_conf_t *conf, const struct oauth_config *cfg, struct problems *p)
{
    const struct weir_pair *pairs = cfg->extensions.items;
    char text[1024] = "";
    size_t n = 0;
    for (uint32_t i = 0; i < cfg->extensions.n && n < sizeof(text); i++)
        n += (size_t)snprintf(text + n, sizeof(text) - n, "%s%s=%s", i > 0 ? "," : "",
                              pairs[i].key.ptr, pairs[i].value.str.ptr);
    if (n >= sizeof(text))
        problem(p, "sasl.oauth.extensions", "are longer than %d bytes together",
                (int)sizeof(text) - 1);
    set(conf, p, "sasl.oauth.url", "sasl.oauthbearer.method", "oidc");
    set_text(conf, p, "sasl.oauth.url", "sasl.oauthbearer.token.endpoint.url", cfg->url);
    set_text(conf, p, "sasl.oauth.client_id", "sasl.oauthbearer.client.id", cfg->client_id);
    set_text(conf, p, "sasl.oauth.client_secret", "sasl.oauthbearer.client.secret",
             cfg->client_secret);
    set_text(conf, p, "sasl.oauth.scope", "sasl.oauthbearer.scope", cfg->scope);
    set_text(conf, p, "sasl.oauth.extensions", "sasl.oauthbearer.extensions", weir_cstr(text));
}

void oauth_conf(rd_kafka_conf_t *conf, const struct oauth_config *cfg, struct problems *p)
{
    if (cfg->url.len == 0) {
        rd_kafka_conf_set_oauthbearer_token_refresh_cb(conf, on_refresh);
        rd_kafka_conf_enable_sasl_queue(conf, 1);
    } else if (has_oidc(conf)) {
        conf_oidc(conf, cfg, p);
    } else {
        problem(p, "sasl.oauth.url",
                "librdkafka %s was built without OIDC: use sasl.oauth.file, with a token that "
                "another program renews",
                rd_kafka_version_str());
    }
}

bool oauth_start(rd_kafka_t *rk, const struct oauth_config *cfg, const struct weir_host *h,
                 struct weir_error *err)
{
    if (cfg->url.len != 0)
        return true;
    rd_kafka_error_t *error = rd_kafka_sasl_background_callbacks_enable(rk);
    if (error == NULL)
        return true;
    h->error(err, WEIR_E_FATAL, "token", "librdkafka cannot ask for tokens: %s",
             rd_kafka_error_string(error));
    rd_kafka_error_destroy(error);
    return false;
}

static void check_extensions(const struct oauth_config *cfg, struct problems *p)
{
    const struct weir_pair *pairs = cfg->extensions.items;
    if (cfg->extensions.n > EXTENSIONS_MOST)
        problem(p, "sasl.oauth.extensions", "are %u: expected at most %d",
                (unsigned)cfg->extensions.n, EXTENSIONS_MOST);
    for (uint32_t i = 0; i < cfg->extensions.n; i++) {
        bool good = pairs[i].key.len != 0;
        for (size_t k = 0; k < pairs[i].key.len; k++) {
            char c = pairs[i].key.ptr[k];
            good &= (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        }
        for (size_t k = 0; k < pairs[i].value.str.len; k++)
            good &=
                (unsigned char)pairs[i].value.str.ptr[k] >= ' ' && pairs[i].value.str.ptr[k] != ',';
        if (!good)
            problem(p, "sasl.oauth.extensions",
                    "'%.60s' is no SASL extension: expected a name of letters only, and a value "
                    "without commas and control characters",
                    pairs[i].key.ptr);
    }
}

void oauth_check(const struct oauth_config *cfg, bool used, struct problems *p)
{
    bool file = cfg->file.len != 0, url = cfg->url.len != 0;
    if (!used) {
        if (file || url || cfg->client_id.len != 0 || cfg->client_secret.len != 0 ||
            cfg->scope.len != 0 || cfg->extensions.n != 0)
            problem(p, "sasl.oauth", "has no effect: set sasl.mechanism to OAUTHBEARER");
        return;
    }
    if (file == url)
        problem(p, "sasl.oauth",
                "mechanism OAUTHBEARER needs one of sasl.oauth.file and "
                "sasl.oauth.url");
    if (url && strncmp(cfg->url.ptr, "https://", 8) != 0 &&
        strncmp(cfg->url.ptr, "http://", 7) != 0)
        problem(p, "sasl.oauth.url", "'%.100s' is no URL: expected https://host/path",
                cfg->url.ptr);
    if (url && (cfg->client_id.len == 0 || cfg->client_secret.len == 0))
        problem(p, "sasl.oauth", "url needs client_id and client_secret");
    if (file && (cfg->client_id.len != 0 || cfg->client_secret.len != 0 || cfg->scope.len != 0))
        problem(p, "sasl.oauth", "client_id, client_secret and scope go with url, not with file");
    /* Another program may still have to write it. */
    if (file && access(cfg->file.ptr, R_OK) != 0 && p->report != NULL)
        p->report->warning(p->report, "sasl.oauth.file", -1,
                           "'%s' cannot be read now: %s; while it cannot nobody is logged in",
                           cfg->file.ptr, strerror(errno));
    check_extensions(cfg, p);
}
