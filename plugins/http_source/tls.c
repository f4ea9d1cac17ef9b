/* SPDX-License-Identifier: Apache-2.0
 *
 * TLS: one context for all lanes, from a certificate chain, its key and, for clients that must show
 * a certificate, the authorities that sign those. The files are looked at once a second when a
 * connection comes: where one has changed a new context is made, and connections from then on use
 * it. Where the new files do not fit together the old context stays, and a warning says why.
 */
#include "http_source.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <string.h>

#define LOOK_NS WEIR_NS_PER_S
#define N_FILES 3

struct tls {
    void (*free)(void *take_p);
    const struct tls_config *config;
    pthread_mutex_t mutex; /* of all below */
    SSL_CTX *context;
    struct stamp stamps[N_FILES];
    int64_t next_look_ns;
};

/* ---- A context ---- */

/* The library's first words on what went wrong. */
static void say_why(char *ret_why, size_t cap, const char *option, const char *path)
{
    char text[160] = "";
    unsigned long error = ERR_peek_error();
    const char *reason = error != 0 ? ERR_reason_error_string(error) : NULL;
    if (reason != NULL)
        (void)snprintf(text, sizeof(text), "%s", reason);
    else if (error != 0)
        ERR_error_string_n(error, text, sizeof(text));
    (void)snprintf(ret_why, cap, "%s '%s': %s", option, path, text[0] != '\0' ? text : "failed");
}

/* No terminal is asked for a passphrase. */
static int no_passphrase(char *out, int cap, int writing, void *arg)
{
    (void)out;
    (void)cap;
    (void)writing;
    (void)arg;
    return 0;
}

static bool load_client_ca(SSL_CTX *ctx, const struct tls_config *cf)
{
    int mode = SSL_VERIFY_PEER;
    if (cf->client_auth == CLIENT_REQUIRE)
        mode |= SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
    STACK_OF(X509_NAME) *names = SSL_load_client_CA_file(cf->client_ca.ptr);
    if (names == NULL || SSL_CTX_load_verify_file(ctx, cf->client_ca.ptr) != 1) {
        sk_X509_NAME_pop_free(names, X509_NAME_free);
        return false;
    }
    SSL_CTX_set_client_CA_list(ctx, names);
    SSL_CTX_set_verify(ctx, mode, NULL);
    return true;
}

static bool load_files(SSL_CTX *ctx, const struct tls_config *cf, const char **ret_option,
                       struct weir_str *ret_path)
{
    *ret_option = "cert";
    *ret_path = cf->cert;
    if (SSL_CTX_use_certificate_chain_file(ctx, cf->cert.ptr) != 1)
        return false;
    *ret_option = "key";
    *ret_path = cf->key;
    if (SSL_CTX_use_PrivateKey_file(ctx, cf->key.ptr, SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_check_private_key(ctx) != 1)
        return false;
    *ret_option = "client_ca";
    *ret_path = cf->client_ca;
    return cf->client_ca.len == 0 || load_client_ca(ctx, cf);
}

/* NULL with a text of what is wrong, and of which option. */
static SSL_CTX *context_new(const struct tls_config *cf, const char **ret_option, char *ret_why,
                            size_t cap)
{
    struct weir_str path = cf->cert;
    ERR_clear_error();
    *ret_option = "cert";
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    if (ctx != NULL) {
        (void)SSL_CTX_set_min_proto_version(ctx, cf->min_version == TLS_1_3 ? TLS1_3_VERSION
                                                                            : TLS1_2_VERSION);
        (void)SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_RELEASE_BUFFERS |
                                        SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
        (void)SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_IGNORE_UNEXPECTED_EOF |
                                           SSL_OP_CIPHER_SERVER_PREFERENCE);
        /* Sessions go on by tickets, which the clients keep: a cache here would grow with them. */
        (void)SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
        SSL_CTX_set_default_passwd_cb(ctx, no_passphrase);
        (void)SSL_CTX_set_session_id_context(ctx, (const unsigned char *)"weir", 4);
        if (load_files(ctx, cf, ret_option, &path))
            return ctx;
    }
    say_why(ret_why, cap, *ret_option, path.ptr);
    SSL_CTX_free(ctx);
    ERR_clear_error();
    return NULL;
}

void tls_check(const struct tls_config *cf, const struct weir_report *report)
{
    const char *option = "cert";
    char why[600], at[32];
    if (cf->cert.len == 0)
        return;
    SSL_CTX *ctx = context_new(cf, &option, why, sizeof(why));
    (void)snprintf(at, sizeof(at), "tls.%s", option);
    if (ctx == NULL)
        report->error(report, at, -1, "cannot use %s", why);
    SSL_CTX_free(ctx);
}

/* ---- The one in use ---- */

static bool files_changed(struct tls *t)
{
    const struct weir_str files[N_FILES] = {t->config->cert, t->config->key, t->config->client_ca};
    bool changed = false;
    for (int i = 0; i < N_FILES; i++)
        if (files[i].len != 0)
            changed |= stamp_changed(files[i].ptr, &t->stamps[i]);
    return changed;
}

struct tls *tls_open(const struct weir_host *h, const struct tls_config *cf, struct weir_error *err)
{
    struct tls *t = h->alloc(sizeof(*t));
    const char *option;
    char why[600] = "no memory";
    if (t != NULL) {
        *t = (struct tls){.free = h->free, .config = cf};
        (void)pthread_mutex_init(&t->mutex, NULL);
        (void)files_changed(t);
        t->context = context_new(cf, &option, why, sizeof(why));
        if (t->context != NULL)
            return t;
    }
    (void)h->error(err, WEIR_E_CONFIG, "tls", "tls: cannot use %s", why);
    tls_close(t);
    return NULL;
}

void tls_close(struct tls *take_t)
{
    if (take_t == NULL)
        return;
    pthread_mutex_destroy(&take_t->mutex);
    SSL_CTX_free(take_t->context);
    take_t->free(take_t);
}

static void look(struct tls *t, const struct weir_host *h)
{
    const char *option;
    char why[600] = "";
    int64_t now = h->now(h);
    if (now < t->next_look_ns)
        return;
    t->next_look_ns = now + LOOK_NS;
    if (!files_changed(t))
        return;
    SSL_CTX *ctx = context_new(t->config, &option, why, sizeof(why));
    struct weir_kv kv[] = {weir_kv_text("cert", t->config->cert.ptr), weir_kv_text("error", why)};
    if (ctx == NULL) {
        h->log(h, WEIR_LOG_WARN, "certificates cannot be read again: the old ones stay", kv, 2);
        return;
    }
    SSL_CTX_free(t->context);
    t->context = ctx;
    h->log(h, WEIR_LOG_INFO, "certificates read again", kv, 1);
}

void *tls_session(struct tls *t, const struct weir_host *h, int fd)
{
    pthread_mutex_lock(&t->mutex);
    look(t, h);
    SSL *ssl = SSL_new(t->context);
    pthread_mutex_unlock(&t->mutex);
    if (ssl == NULL || SSL_set_fd(ssl, fd) != 1) {
        SSL_free(ssl);
        return NULL;
    }
    SSL_set_accept_state(ssl);
    return ssl;
}
