/* SPDX-License-Identifier: Apache-2.0
 *
 * The connection string, and clients. A client belongs to one instance and has no threads: it looks
 * for its servers when it is used, by connections that keep to the deadline of the write. One that
 * has lost its server is thrown away, since the library would spare a server that had failed for
 * some seconds; when to try again is the host's to say.
 */
#include "connect.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#define CONNECT_MS 5000

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t log_key;

static void on_log(mongoc_log_level_t level, const char *domain, const char *message, void *arg)
{
    const struct connect_log *log = pthread_getspecific(log_key);
    (void)arg;
    if (log == NULL)
        return;
    if (log->text != NULL && level <= MONGOC_LOG_LEVEL_WARNING && log->text[0] == '\0')
        (void)snprintf(log->text, CONNECT_TEXT, "%s", message);
    const struct weir_host *h = log->host;
    if (h == NULL || !h->log_enabled(h, WEIR_LOG_DEBUG))
        return;
    const struct weir_kv kv[] = {weir_kv_text("domain", domain), weir_kv_text("text", message)};
    h->log(h, WEIR_LOG_DEBUG, "message of the MongoDB client", kv, 2);
}

static void start_library(void)
{
    (void)pthread_key_create(&log_key, NULL);
    mongoc_log_set_handler(on_log, NULL);
    mongoc_init();
}

void connect_init(void)
{
    (void)pthread_once(&once, start_library);
}

void connect_log_to(struct connect_log *log)
{
    (void)pthread_setspecific(log_key, log);
}

/* ---- The connection string ---- */

static bool is_option_name(const char *p, size_t len)
{
    char name[40];
    if (len == 0 || len >= sizeof(name))
        return false;
    memcpy(name, p, len);
    name[len] = '\0';
    return mongoc_uri_option_is_int32(name) || mongoc_uri_option_is_int64(name) ||
           mongoc_uri_option_is_bool(name) || mongoc_uri_option_is_utf8(name);
}

/* Copies the library's text without what it quotes: that may be a piece of a password. Names of
 * options stay; all names do where no password can have got among the options. */
static void scrub(char out[CONNECT_TEXT], const char *text, bool show_names)
{
    size_t n = 0;
    for (const char *p = text; *p != '\0' && *p != '\n' && n + 8 < CONNECT_TEXT; p++) {
        const char close = *p == '[' ? ']' : *p;
        out[n++] = *p;
        if (*p != '"' && *p != '\'' && *p != '[')
            continue;
        const char *end = strrchr(p + 1, close);
        const char *next = strchr(p + 1, close);
        if (end == NULL)
            break;
        size_t len = (size_t)(next - p - 1);
        bool pair = len > 1 && memchr(p + 1, '=', len) != NULL;
        bool name = is_option_name(p + 1, len) || (show_names && !pair);
        if (name && n + len + 8 < CONNECT_TEXT) {
            memcpy(out + n, p + 1, len + 1);
            n += len + 1;
            p = next;
            continue;
        }
        const char *equals = memchr(p + 1, '=', len);
        size_t before = equals != NULL ? (size_t)(equals - p) : 0; /* name= */
        if (before > 1 && is_option_name(p + 1, before - 1) && n + before + 8 < CONNECT_TEXT) {
            memcpy(out + n, p + 1, before);
            n += before;
        }
        memcpy(out + n, "***", 3);
        out[n + 3] = close;
        n += 4;
        p = end;
    }
    out[n] = '\0';
}

static void say_why(char why[CONNECT_TEXT], const char *uri, const char *message,
                    const char *logged)
{
    char first[CONNECT_TEXT], second[CONNECT_TEXT];
    const char *query = strchr(uri, '?');
    bool show_names = strchr(uri, '@') == NULL || (query != NULL && strchr(query, '@') == NULL);
    if (strncmp(message, "Password", 8) == 0 || strncmp(message, "Username", 8) == 0) {
        (void)snprintf(why, CONNECT_TEXT,
                       "user name and password must be percent-encoded: "
                       "%%3A for \":\", %%40 for \"@\", %%2F for \"/\", %%25 for \"%%\"");
        return;
    }
    scrub(first, message, show_names && strstr(message, "value") == NULL);
    scrub(second, logged, show_names && strstr(logged, "value") == NULL);
    (void)snprintf(why, CONNECT_TEXT, "%.150s%s%.140s", first,
                   first[0] != '\0' && second[0] != '\0' ? ": " : "", second);
}

static bool check_file(const mongoc_uri_t *uri, const char *option, char why[CONNECT_TEXT])
{
    const char *path = mongoc_uri_get_option_as_utf8(uri, option, NULL);
    if (path == NULL || access(path, R_OK) == 0)
        return true;
    (void)snprintf(why, CONNECT_TEXT, "the file that %s names cannot be read: %s", option,
                   strerror(errno));
    return false;
}

/* Another one would fail at each write, as if the server had refused the user. */
static bool is_mechanism(const char *name)
{
    static const char *const known[] = {"SCRAM-SHA-1",  "SCRAM-SHA-256", "PLAIN",
                                        "MONGODB-X509", "MONGODB-AWS",   "GSSAPI"};
    for (size_t i = 0; name != NULL && i < sizeof(known) / sizeof(known[0]); i++)
        if (strcasecmp(name, known[i]) == 0)
            return true;
    return name == NULL;
}

static void check_promises(const mongoc_uri_t *uri, char why[CONNECT_TEXT])
{
    if (why[0] != '\0')
        return;
    const mongoc_write_concern_t *wc = mongoc_uri_get_write_concern(uri);
    if (wc != NULL && !mongoc_write_concern_is_acknowledged(wc)) {
        (void)snprintf(why, CONNECT_TEXT,
                       "w=0 asks the server for no answer, so that nothing could "
                       "be known of any event; use w=1 or w=majority");
        return;
    }
    if (!is_mechanism(mongoc_uri_get_auth_mechanism(uri))) {
        (void)snprintf(why, CONNECT_TEXT,
                       "its authMechanism is none of SCRAM-SHA-1, SCRAM-SHA-256, PLAIN, "
                       "MONGODB-X509, MONGODB-AWS, GSSAPI");
        return;
    }
    if (mongoc_uri_has_option(uri, MONGOC_URI_TLSDISABLEOCSPENDPOINTCHECK) ||
        mongoc_uri_has_option(uri, MONGOC_URI_TLSDISABLECERTIFICATEREVOCATIONCHECK)) {
        (void)snprintf(why, CONNECT_TEXT,
                       "tlsDisableOCSPEndpointCheck and tlsDisableCertificateRevocationCheck are "
                       "not supported: a certificate that was revoked is refused; leave them out");
        return;
    }
    if (check_file(uri, MONGOC_URI_TLSCAFILE, why))
        (void)check_file(uri, MONGOC_URI_TLSCERTIFICATEKEYFILE, why);
}

const char *connect_idle_option(const mongoc_uri_t *uri)
{
    /* by their names, since some of the library's versions have no word for some of them */
    static const char *const idle[] = {
        "maxpoolsize",
        "minpoolsize",
        "maxidletimems",
        "waitqueuemultiple",
        "waitqueuetimeoutms",
        "serverselectiontryonce",
        "serverselectiontimeoutms",
    };
    for (size_t i = 0; i < sizeof(idle) / sizeof(idle[0]); i++)
        if (mongoc_uri_has_option(uri, idle[i]))
            return idle[i];
    return NULL;
}

const char *connect_insecure_option(const mongoc_uri_t *uri)
{
    static const char *const insecure[] = {MONGOC_URI_TLSINSECURE,
                                           MONGOC_URI_TLSALLOWINVALIDCERTIFICATES,
                                           MONGOC_URI_TLSALLOWINVALIDHOSTNAMES};
    for (size_t i = 0; i < sizeof(insecure) / sizeof(insecure[0]); i++)
        if (mongoc_uri_get_option_as_bool(uri, insecure[i], false))
            return insecure[i];
    return NULL;
}

mongoc_uri_t *connect_uri(const char *text, char why[CONNECT_TEXT])
{
    char logged[CONNECT_TEXT] = "";
    bson_error_t error = {0};
    connect_init();
    why[0] = '\0';
    struct connect_log log = {.text = logged};
    connect_log_to(&log);
    mongoc_uri_t *uri = mongoc_uri_new_with_error(text, &error);
    connect_log_to(NULL);
    if (uri == NULL || logged[0] != '\0')
        say_why(why, text, uri == NULL ? error.message : "", logged);
    if (uri != NULL)
        check_promises(uri, why);
    else if (why[0] == '\0')
        (void)snprintf(why, CONNECT_TEXT, "it is no connection string");
    return uri;
}

mongoc_write_concern_t *connect_concern(const char *text)
{
    char why[CONNECT_TEXT];
    mongoc_uri_t *uri = connect_uri(text, why);
    const mongoc_write_concern_t *given = uri != NULL ? mongoc_uri_get_write_concern(uri) : NULL;
    mongoc_write_concern_t *wc =
        given != NULL ? mongoc_write_concern_copy(given) : mongoc_write_concern_new();
    mongoc_uri_destroy(uri);
    return wc;
}

/* ---- The client ---- */

mongoc_uri_t *connect_settings(const struct weir_host *h, const char *text, struct weir_error *err)
{
    char why[CONNECT_TEXT];
    mongoc_uri_t *uri = connect_uri(text, why);
    if (uri == NULL) {
        (void)h->error(err, WEIR_E_CONFIG, "bad_uri", "uri: %s", why);
        return NULL;
    }
    if (!mongoc_uri_has_option(uri, MONGOC_URI_CONNECTTIMEOUTMS))
        (void)mongoc_uri_set_option_as_int32(uri, MONGOC_URI_CONNECTTIMEOUTMS, CONNECT_MS);
    (void)mongoc_uri_set_option_as_bool(uri, MONGOC_URI_SERVERSELECTIONTRYONCE, true);
    if (mongoc_uri_get_appname(uri) == NULL)
        (void)mongoc_uri_set_appname(uri, "weir");
    return uri;
}

/* Making a client of mongodb+srv:// asks a name server. */
struct making {
    void (*free_memory)(void *p);
    mongoc_uri_t *uri;
    mongoc_client_t *client;
    bson_error_t error;
};

static void making_run(void *arg)
{
    struct making *m = arg;
    m->client = mongoc_client_new_from_uri_with_error(m->uri, &m->error);
}

static void making_drop(void *take_arg)
{
    struct making *m = take_arg;
    mongoc_client_destroy(m->client);
    mongoc_uri_destroy(m->uri);
    m->free_memory(m);
}

static mongoc_client_t *make_later(const mongoc_uri_t *uri, const struct patience *p,
                                   bson_error_t *ret_error)
{
    struct making *m = p->h->alloc(sizeof(*m));
    mongoc_client_t *client = NULL;
    int failed = ENOMEM;
    if (m != NULL) {
        m->free_memory = p->h->free;
        m->uri = mongoc_uri_copy(uri);
        failed = later_run(p, making_run, making_drop, m);
    }
    if (failed == 0) {
        client = m->client;
        m->client = NULL;
        *ret_error = m->error;
        making_drop(m);
    } else {
        bson_set_error(ret_error, MONGOC_ERROR_STREAM, MONGOC_ERROR_STREAM_NAME_RESOLUTION,
                       "cannot look up the SRV record of %.200s: %s",
                       mongoc_uri_get_srv_hostname(uri), strerror(failed));
    }
    return client;
}

/* Looking for a primary waits for the slowest server. One that hangs must leave time for the
 * write, or no write ever reached the others. */
static mongoc_uri_t *share_time(const mongoc_uri_t *uri, const struct patience *p)
{
    int64_t n = 1, ms = (p->deadline_ns - p->h->now(p->h)) / WEIR_NS_PER_MS;
    for (const mongoc_host_list_t *host = mongoc_uri_get_hosts(uri); host != NULL;
         host = host->next)
        n++;
    int32_t own = mongoc_uri_get_option_as_int32(uri, MONGOC_URI_CONNECTTIMEOUTMS, CONNECT_MS);
    int64_t share = ms / n < 50 ? 50 : ms / n;
    mongoc_uri_t *copy = mongoc_uri_copy(uri);
    if (own <= 0 || own > share)
        (void)mongoc_uri_set_option_as_int32(copy, MONGOC_URI_CONNECTTIMEOUTMS,
                                             share > INT32_MAX ? INT32_MAX : (int32_t)share);
    return copy;
}

mongoc_client_t *connect_client(const mongoc_uri_t *uri, struct patience *p,
                                bson_error_t *ret_error)
{
    mongoc_uri_t *mine = share_time(uri, p);
    mongoc_client_t *client = mongoc_uri_get_srv_hostname(mine) != NULL
                                  ? make_later(mine, p, ret_error)
                                  : mongoc_client_new_from_uri_with_error(mine, ret_error);
    mongoc_uri_destroy(mine);
    if (client == NULL)
        return NULL;
    (void)mongoc_client_set_error_api(client, MONGOC_ERROR_API_VERSION_2);
    mongoc_client_set_stream_initiator(client, net_connect, p);
    return client;
}

void connect_drop(mongoc_client_t *take_client)
{
    if (take_client == NULL)
        return;
    mongoc_client_reset(take_client); /* which says no goodbye to the server */
    mongoc_client_destroy(take_client);
}

bool connect_ping(const struct weir_host *h, const char *text, int64_t deadline_ns,
                  bson_error_t *ret_error)
{
    struct patience p = {h, deadline_ns, -1};
    struct weir_error err = {0};
    mongoc_uri_t *uri = connect_settings(h, text, &err);
    if (uri == NULL) {
        bson_set_error(ret_error, MONGOC_ERROR_CLIENT, 0, "%s", err.text);
        return false;
    }
    mongoc_client_t *client = connect_client(uri, &p, ret_error);
    bool done = false;
    if (client != NULL) {
        bson_t ping = BSON_INITIALIZER;
        BSON_APPEND_INT32(&ping, "ping", 1);
        done = mongoc_client_command_simple(client, "admin", &ping, NULL, NULL, ret_error);
        bson_destroy(&ping);
        connect_drop(client);
    }
    mongoc_uri_destroy(uri);
    return done;
}
