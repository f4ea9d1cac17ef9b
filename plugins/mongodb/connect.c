/* SPDX-License-Identifier: Apache-2.0
 *
 * Connections for the sink `mongodb`. The pool is made at the first write, because the library
 * takes its time limits from the connection string and only then is it known how long a write may
 * take. After a failure the library's monitor threads look for the servers by themselves.
 */
#include "connect.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define SELECTION_MS 2000 /* to find a primary; the host tries again, for ever */
#define CONNECT_MS 5000
#define POOL_SIZE 100

struct store {
    void (*free)(void *p);
    pthread_mutex_t lock;
    mongoc_uri_t *uri;
    mongoc_client_pool_t *pool;
};

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
        if ((show_names || is_option_name(p + 1, len)) && n + len + 8 < CONNECT_TEXT) {
            memcpy(out + n, p + 1, len + 1);
            n += len + 1;
            p = next;
            continue;
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
    if (check_file(uri, MONGOC_URI_TLSCAFILE, why))
        (void)check_file(uri, MONGOC_URI_TLSCERTIFICATEKEYFILE, why);
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

/* ---- The pool ---- */

struct store *store_new(const struct weir_host *h, const char *uri, bool retry_writes,
                        struct weir_error *err)
{
    char why[CONNECT_TEXT];
    mongoc_uri_t *parsed = connect_uri(uri, why);
    if (parsed == NULL) {
        (void)h->error(err, WEIR_E_CONFIG, "bad_uri", "uri: %s", why);
        return NULL;
    }
    struct store *s = h->alloc(sizeof(*s));
    if (s == NULL) {
        mongoc_uri_destroy(parsed);
        (void)h->error(err, WEIR_E_NOMEM, "no_memory", "no memory for the connection pool");
        return NULL;
    }
    s->free = h->free;
    s->uri = parsed;
    (void)pthread_mutex_init(&s->lock, NULL);
    if (!mongoc_uri_has_option(parsed, MONGOC_URI_RETRYWRITES))
        (void)mongoc_uri_set_option_as_bool(parsed, MONGOC_URI_RETRYWRITES, retry_writes);
    if (mongoc_uri_get_appname(parsed) == NULL)
        (void)mongoc_uri_set_appname(parsed, "weir");
    return s;
}

void store_free(struct store *take_s)
{
    if (take_s == NULL)
        return;
    if (take_s->pool != NULL)
        mongoc_client_pool_destroy(take_s->pool);
    mongoc_uri_destroy(take_s->uri);
    (void)pthread_mutex_destroy(&take_s->lock);
    take_s->free(take_s);
}

/* What the uri says, else `def`; never more than `most`. */
static void limit_ms(mongoc_uri_t *uri, const char *option, int32_t def, int32_t most)
{
    int32_t ms = mongoc_uri_get_option_as_int32(uri, option, def);
    if (ms <= 0 || ms > most)
        ms = most;
    (void)mongoc_uri_set_option_as_int32(uri, option, ms);
}

static void set_limits(mongoc_uri_t *uri, int64_t budget_ns)
{
    int64_t ms = budget_ns / WEIR_NS_PER_MS;
    int32_t most = ms < 100 ? 100 : ms > 600000 ? 600000 : (int32_t)ms;
    limit_ms(uri, MONGOC_URI_SERVERSELECTIONTIMEOUTMS, SELECTION_MS, most);
    limit_ms(uri, MONGOC_URI_CONNECTTIMEOUTMS, CONNECT_MS, most);
    limit_ms(uri, MONGOC_URI_SOCKETTIMEOUTMS, most, most);
}

static mongoc_client_pool_t *make_pool(struct store *s, uint32_t shards, int64_t budget_ns,
                                       bson_error_t *ret_error)
{
    set_limits(s->uri, budget_ns);
    mongoc_client_pool_t *pool = mongoc_client_pool_new_with_error(s->uri, ret_error);
    if (pool == NULL)
        return NULL;
    (void)mongoc_client_pool_set_error_api(pool, MONGOC_ERROR_API_VERSION_2);
    int32_t size = mongoc_uri_get_option_as_int32(s->uri, MONGOC_URI_MAXPOOLSIZE, POOL_SIZE);
    if (size < 0 || (uint32_t)size < shards)
        mongoc_client_pool_max_size(pool, shards);
    return pool;
}

mongoc_client_t *store_client(struct store *s, uint32_t shards, int64_t budget_ns,
                              bson_error_t *ret_error)
{
    mongoc_client_t *client = NULL;
    (void)pthread_mutex_lock(&s->lock);
    if (s->pool == NULL)
        s->pool = make_pool(s, shards, budget_ns, ret_error);
    if (s->pool != NULL)
        client = mongoc_client_pool_pop(s->pool);
    (void)pthread_mutex_unlock(&s->lock);
    return client;
}

void store_give_back(struct store *s, mongoc_client_t *take_client)
{
    if (take_client != NULL)
        mongoc_client_pool_push(s->pool, take_client);
}

bool connect_ping(const char *text, int64_t budget_ns, bson_error_t *ret_error)
{
    char why[CONNECT_TEXT];
    mongoc_uri_t *uri = connect_uri(text, why);
    if (uri == NULL) {
        bson_set_error(ret_error, MONGOC_ERROR_CLIENT, 0, "uri: %s", why);
        return false;
    }
    set_limits(uri, budget_ns);
    mongoc_client_t *client = mongoc_client_new_from_uri_with_error(uri, ret_error);
    bool done = false;
    if (client != NULL) {
        bson_t ping = BSON_INITIALIZER;
        (void)mongoc_client_set_error_api(client, MONGOC_ERROR_API_VERSION_2);
        BSON_APPEND_INT32(&ping, "ping", 1);
        done = mongoc_client_command_simple(client, "admin", &ping, NULL, NULL, ret_error);
        bson_destroy(&ping);
        mongoc_client_destroy(client);
    }
    mongoc_uri_destroy(uri);
    return done;
}
