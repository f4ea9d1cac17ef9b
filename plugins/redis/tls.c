/* SPDX-License-Identifier: Apache-2.0
 *
 * OpenSSL as a client. Contracts in tls.h.
 *
 * The certificate is verified against the host's name or address unless the user has said not to.
 * Bytes go by send(2) and recv(2) of our own, since OpenSSL's write to a closed socket is a
 * SIGPIPE.
 */
#include "tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

struct tls {
    void *(*alloc)(size_t size);
    void (*release)(void *take_p);
    SSL_CTX *context;
    BIO_METHOD *bio;
    char server_name[256];
    bool verify;
};

struct tls_link {
    struct tls *tls;
    SSL *ssl;
    int fd;
    bool wants_write;
    char error[200];
};

/* ---- Bytes ----------------------------------------------------------------------------------- */

static int bio_result(BIO *bio, ssize_t n)
{
    BIO_clear_retry_flags(bio);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
        BIO_set_flags(bio, BIO_FLAGS_SHOULD_RETRY);
    return (int)n;
}

static int bio_write(BIO *bio, const char *ptr, int len)
{
    const struct tls_link *l = BIO_get_data(bio);
    int result = bio_result(bio, send(l->fd, ptr, (size_t)len, MSG_NOSIGNAL));
    if (BIO_should_retry(bio))
        BIO_set_retry_write(bio);
    return result;
}

static int bio_read(BIO *bio, char *ptr, int len)
{
    const struct tls_link *l = BIO_get_data(bio);
    int result = bio_result(bio, recv(l->fd, ptr, (size_t)len, 0));
    if (BIO_should_retry(bio))
        BIO_set_retry_read(bio);
    return result;
}

static long bio_control(BIO *bio, int command, long number, void *ptr)
{
    (void)bio;
    (void)number;
    (void)ptr;
    return command == BIO_CTRL_FLUSH ? 1 : 0;
}

static BIO_METHOD *make_bio(void)
{
    BIO_METHOD *m = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "weir socket");
    if (m == NULL)
        return NULL;
    BIO_meth_set_write(m, bio_write);
    BIO_meth_set_read(m, bio_read);
    BIO_meth_set_ctrl(m, bio_control);
    return m;
}

/* ---- What connections share ------------------------------------------------------------------ */

/* The oldest error in OpenSSL's queue, which is the one that says most; empties it. */
static void take_error(char *text, size_t cap)
{
    unsigned long code = ERR_get_error();
    const char *reason = code != 0 ? ERR_reason_error_string(code) : NULL;
    if (code != 0 && ERR_SYSTEM_ERROR(code))
        reason = strerror(ERR_GET_REASON(code));
    snprintf(text, cap, "%s", reason != NULL ? reason : "unknown error");
    ERR_clear_error();
}

static bool load_failed(const char *option, const char *what, struct weir_str path,
                        const char **ret_option, char *text, size_t cap)
{
    char reason[150];
    take_error(reason, sizeof(reason));
    *ret_option = option;
    snprintf(text, cap, "cannot use \"%.*s\" as %s: %s", (int)(path.len < 100 ? path.len : 100),
             path.ptr, what, reason);
    return false;
}

static bool load_files(SSL_CTX *context, const struct tls_config *cf, const char **ret_option,
                       char *text, size_t cap)
{
    if (cf->ca.len > 0 && SSL_CTX_load_verify_locations(context, cf->ca.ptr, NULL) != 1)
        return load_failed("tls.ca", "certificates to trust", cf->ca, ret_option, text, cap);
    if (cf->ca.len == 0)
        (void)SSL_CTX_set_default_verify_paths(context);
    if (cf->cert.len == 0)
        return true;
    if (SSL_CTX_use_certificate_chain_file(context, cf->cert.ptr) != 1)
        return load_failed("tls.cert", "the client's certificate", cf->cert, ret_option, text, cap);
    if (SSL_CTX_use_PrivateKey_file(context, cf->key.ptr, SSL_FILETYPE_PEM) != 1)
        return load_failed("tls.key", "the key of `cert`", cf->key, ret_option, text, cap);
    return true;
}

/* An encrypted key is refused: OpenSSL would ask at the terminal. */
static int no_passphrase(char *ptr, int len, int writing, void *arg)
{
    (void)ptr;
    (void)len;
    (void)writing;
    (void)arg;
    return 0;
}

static bool setup(struct tls *t, const struct tls_config *cf, const char **ret_option, char *text,
                  size_t cap)
{
    ERR_clear_error();
    *ret_option = "tls";
    snprintf(text, cap, "no memory for TLS");
    t->context = SSL_CTX_new(TLS_client_method());
    t->bio = make_bio();
    if (t->context == NULL || t->bio == NULL)
        return false;
    SSL_CTX_set_min_proto_version(t->context, TLS1_2_VERSION);
    SSL_CTX_set_mode(t->context,
                     SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_verify(t->context, cf->insecure_skip_verify ? SSL_VERIFY_NONE : SSL_VERIFY_PEER, NULL);
    /* An end without a farewell is told from a whole reply by Redis's protocol. */
    SSL_CTX_set_options(t->context, SSL_OP_IGNORE_UNEXPECTED_EOF);
    SSL_CTX_set_default_passwd_cb(t->context, no_passphrase);
    return load_files(t->context, cf, ret_option, text, cap);
}

struct tls *tls_new(const struct weir_host *h, const struct tls_config *cf, const char **ret_option,
                    char *text, size_t cap)
{
    struct tls *t = h->alloc(sizeof(*t));
    *ret_option = "tls";
    snprintf(text, cap, "no memory for TLS");
    if (t == NULL)
        return NULL;
    t->alloc = h->alloc;
    t->release = h->free;
    t->verify = !cf->insecure_skip_verify;
    snprintf(t->server_name, sizeof(t->server_name), "%.*s", (int)cf->server_name.len,
             cf->server_name.len > 0 ? cf->server_name.ptr : "");
    if (setup(t, cf, ret_option, text, cap))
        return t;
    tls_free(t);
    return NULL;
}

void tls_free(struct tls *take_t)
{
    if (take_t == NULL)
        return;
    SSL_CTX_free(take_t->context);
    BIO_meth_free(take_t->bio);
    take_t->release(take_t);
}

/* ---- One connection -------------------------------------------------------------------------- */

static bool is_address(const char *host)
{
    unsigned char out[16];
    return inet_pton(AF_INET, host, out) == 1 || inet_pton(AF_INET6, host, out) == 1;
}

static bool expect_host(SSL *ssl, const char *host)
{
    char name[256]; /* OpenSSL wants one that is not const */
    snprintf(name, sizeof(name), "%s", host);
    if (is_address(name))
        return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), name) == 1;
    return SSL_set_tlsext_host_name(ssl, name) == 1 && SSL_set1_host(ssl, name) == 1;
}

struct tls_link *tls_open(struct tls *t, int fd, const char *host)
{
    struct tls_link *l = t->alloc(sizeof(*l));
    if (l == NULL)
        return NULL;
    const char *name = t->server_name[0] != '\0' ? t->server_name : host;
    l->tls = t;
    l->fd = fd;
    ERR_clear_error();
    l->ssl = SSL_new(t->context);
    BIO *bio = l->ssl != NULL ? BIO_new(t->bio) : NULL;
    if (bio == NULL) {
        tls_close(l);
        return NULL;
    }
    BIO_set_data(bio, l);
    BIO_set_init(bio, 1);
    SSL_set_bio(l->ssl, bio, bio);
    SSL_set_connect_state(l->ssl);
    if (expect_host(l->ssl, name))
        return l;
    tls_close(l);
    return NULL;
}

void tls_close(struct tls_link *take_l)
{
    if (take_l == NULL)
        return;
    SSL_free(take_l->ssl);
    take_l->tls->release(take_l);
}

/* Why OpenSSL did nothing: errno is set. Returns -1, or 0 where the other side has ended it. */
static ssize_t failed(struct tls_link *l, int result, int saved_errno)
{
    int why = SSL_get_error(l->ssl, result);
    l->wants_write = why == SSL_ERROR_WANT_WRITE;
    if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE) {
        errno = EAGAIN;
        return -1;
    }
    if (why == SSL_ERROR_ZERO_RETURN)
        return 0;
    if (why == SSL_ERROR_SYSCALL && ERR_peek_error() == 0) {
        snprintf(l->error, sizeof(l->error), "%s",
                 saved_errno != 0 ? strerror(saved_errno) : "the connection was closed");
        errno = saved_errno;
        return saved_errno != 0 ? -1 : 0;
    }
    take_error(l->error, sizeof(l->error));
    errno = EPROTO;
    return -1;
}

int tls_handshake(struct tls_link *l)
{
    ERR_clear_error();
    errno = 0;
    int result = SSL_do_handshake(l->ssl);
    if (result == 1)
        return 1;
    ssize_t n = failed(l, result, errno);
    if (n < 0 && errno == EAGAIN)
        return 0;
    long verified = SSL_get_verify_result(l->ssl);
    if (l->tls->verify && verified != X509_V_OK)
        snprintf(l->error, sizeof(l->error), "the server's certificate is not accepted: %s",
                 X509_verify_cert_error_string(verified));
    else if (n == 0)
        snprintf(l->error, sizeof(l->error), "the server closed the connection");
    return -1;
}

ssize_t tls_send(struct tls_link *l, const char *ptr, size_t len)
{
    size_t n;
    ERR_clear_error();
    errno = 0;
    int result = SSL_write_ex(l->ssl, ptr, len, &n);
    if (result == 1)
        return (ssize_t)n;
    ssize_t r = failed(l, result, errno);
    l->wants_write = false; /* who sends waits for that anyway */
    if (r == 0)
        errno = EPIPE;
    return -1;
}

ssize_t tls_recv(struct tls_link *l, char *ptr, size_t len)
{
    size_t n;
    ERR_clear_error();
    errno = 0;
    l->wants_write = false;
    int result = SSL_read_ex(l->ssl, ptr, len, &n);
    return result == 1 ? (ssize_t)n : failed(l, result, errno);
}

bool tls_has_more(const struct tls_link *l)
{
    return SSL_pending(l->ssl) > 0;
}

bool tls_wants_write(const struct tls_link *l)
{
    return l->wants_write;
}

const char *tls_error(const struct tls_link *l)
{
    return l->error[0] != '\0' ? l->error : "unknown error";
}
