/* SPDX-License-Identifier: Apache-2.0
 *
 * Where an event goes: the url and the headers that its fields make.
 *
 * Events are not trusted. What they put into the url stays below its literal part, which holds the
 * host at least; what they put into a header stays one header.
 */
#include "http_sink.h"

#include <string.h>
#include <strings.h>

#define URL_MAX 8000

const char *url_prefix_problem(struct weir_str prefix, bool literal)
{
    size_t scheme = 0;
    if (prefix.len > 7 && memcmp(prefix.ptr, "http://", 7) == 0)
        scheme = 7;
    else if (prefix.len > 8 && memcmp(prefix.ptr, "https://", 8) == 0)
        scheme = 8;
    if (scheme == 0)
        return "it must begin with http:// or https:// and a host";
    size_t at = scheme;
    while (at < prefix.len && prefix.ptr[at] != '/' && prefix.ptr[at] != '?') {
        if (prefix.ptr[at] == '@')
            return "user and password have options of their own: write the url without them";
        if ((unsigned char)prefix.ptr[at] <= ' ' || prefix.ptr[at] == '\\')
            return "the host holds a space or a backslash";
        at++;
    }
    if (at == scheme)
        return "there is no host behind //";
    if (memchr(prefix.ptr, '#', prefix.len) != NULL)
        return "what is behind '#' is never sent to a server";
    if (at == prefix.len && !literal)
        return "a field may not change the host: write a '/' before the first placeholder";
    return NULL;
}

static const struct weir_pair *header_at(const struct config *cf, uint32_t i)
{
    return (const struct weir_pair *)cf->headers.items + i;
}

enum weir_status target_init(struct target *t, const struct weir_host *h, const struct config *cf,
                             struct weir_error *err)
{
    struct weir_str text = {NULL, 0};
    bool literal = h->template_is_literal(cf->url, &text);
    struct weir_str prefix = literal ? text : h->template_prefix(cf->url);
    const char *problem = url_prefix_problem(prefix, literal);
    t->h = h;
    t->config = cf;
    if (problem != NULL)
        return h->error(err, WEIR_E_CONFIG, "bad_url", "url: %s", problem);
    t->arena = h->arena_new(h);
    struct weir_str url = t->arena != NULL ? url_encode(h, prefix, t->arena) : weir_str_n(NULL, 0);
    if (url.ptr == NULL)
        return h->error(err, WEIR_E_NOMEM, "no_memory", "no memory for the http sink");
    t->url = url;
    t->n_prefix = prefix.len;
    t->url_differs = !literal;
    for (uint32_t i = 0; i < cf->headers.n; i++) {
        t->headers_differ |= !h->template_is_literal(header_at(cf, i)->value.ptr, &text);
        t->has_content_type |= strcasecmp(header_at(cf, i)->key.ptr, "content-type") == 0;
    }
    return WEIR_OK;
}

void target_done(struct target *t)
{
    if (t->arena != NULL)
        t->h->arena_free(t->arena);
}

/* ---- The url ---- */

/* Fields come percent-encoded, so they cannot add a part to the url; but dots stay dots, and '.' or
 * '..' alone between two slashes would lead out of the folder. */
static const char *url_problem(struct weir_str url, size_t prefix)
{
    if (url.len > URL_MAX)
        return "the url has more than 8000 bytes";
    if (memchr(url.ptr, '?', prefix) != NULL)
        return NULL;
    for (size_t i = prefix > 0 ? prefix - 1 : 0; i < url.len && url.ptr[i] != '?'; i++) {
        bool begins = url.ptr[i] == '/' && i + 1 < url.len && url.ptr[i + 1] == '.';
        if (!begins)
            continue;
        size_t dots = 1;
        while (i + 1 + dots < url.len && url.ptr[i + 1 + dots] == '.')
            dots++;
        size_t after = i + 1 + dots;
        if (dots <= 2 && (after == url.len || url.ptr[after] == '/' || url.ptr[after] == '?'))
            return "a field puts '.' or '..' as a folder into the url";
    }
    return NULL;
}

struct weir_str url_encode(const struct weir_host *h, struct weir_str url, struct weir_arena *a)
{
    static const char hex[] = "0123456789ABCDEF";
    char *out = h->arena_alloc(a, url.len * 3 + 1);
    if (out == NULL)
        return weir_str_n(NULL, 0);
    size_t len = 0;
    for (size_t i = 0; i < url.len; i++) {
        unsigned char c = (unsigned char)url.ptr[i];
        if (c > ' ' && c < 0x7f && strchr("\"#<>\\^`{|}", c) == NULL) {
            out[len++] = (char)c;
            continue;
        }
        out[len++] = '%';
        out[len++] = hex[c >> 4];
        out[len++] = hex[c & 15];
    }
    out[len] = '\0';
    return weir_str_n(out, len);
}

static bool reject(const struct target *t, struct weir_result *ret, const char *code,
                   struct weir_arena *a, const char *where, const char *why)
{
    *ret = (struct weir_result){.verdict = WEIR_VERDICT_REJECTED,
                                .code = code,
                                .message = t->h->arena_printf(a, "%s: %s", where, why)};
    return false;
}

static bool render_url(const struct target *t, struct weir_batch *b, struct item *it,
                       struct weir_arena *a, struct weir_result *ret)
{
    struct weir_error err = {.offset = -1};
    it->url = t->url;
    if (!t->url_differs)
        return true;
    struct weir_str url =
        t->h->template_render_with(t->h, t->config->url, b, it->ev, a, WEIR_ESCAPE_URL, &err);
    if (url.ptr == NULL)
        return reject(t, ret, "template", a, "url", err.text);
    const char *problem = url_problem(url, t->n_prefix);
    if (problem != NULL)
        return reject(t, ret, "bad_url", a, "url", problem);
    it->url = url_encode(t->h, url, a);
    return it->url.ptr != NULL;
}

/* ---- Headers ---- */

bool header_value_valid(struct weir_str value)
{
    for (size_t i = 0; i < value.len; i++)
        if (((unsigned char)value.ptr[i] < ' ' && value.ptr[i] != '\t') || value.ptr[i] == 0x7f)
            return false;
    return true;
}

/* `lines` and one more; ptr NULL on no memory. */
static struct weir_str add_line(const struct target *t, struct weir_arena *a, struct weir_str lines,
                                const char *name, struct weir_str value)
{
    return t->h->arena_printf(a, "%.*s%s:%s%.*s\n", (int)lines.len, lines.ptr, name,
                              value.len != 0 ? " " : "", (int)value.len, value.ptr);
}

static bool render_headers(const struct target *t, struct weir_batch *b, struct item *it,
                           struct weir_arena *a, struct weir_result *ret)
{
    struct weir_error err = {.offset = -1};
    struct weir_str lines = {"", 0}, literal;
    if (t->config->format == FORMAT_SINGLE && it->ev->id.len != 0 && header_value_valid(it->ev->id))
        lines = add_line(t, a, lines, "weir-id", it->ev->id);
    for (uint32_t i = 0; t->headers_differ && i < t->config->headers.n && lines.ptr != NULL; i++) {
        const struct weir_pair *pair = header_at(t->config, i);
        if (t->h->template_is_literal(pair->value.ptr, &literal))
            continue;
        struct weir_str value = t->h->template_render(t->h, pair->value.ptr, b, it->ev, a, &err);
        struct weir_str where = t->h->arena_printf(a, "headers.%s", pair->key.ptr);
        if (where.ptr == NULL)
            return false;
        if (value.ptr == NULL)
            return reject(t, ret, "template", a, where.ptr, err.text);
        if (!header_value_valid(value))
            return reject(t, ret, "bad_header", a, where.ptr,
                          "the value holds a control character");
        lines = add_line(t, a, lines, pair->key.ptr, value);
    }
    it->headers = lines;
    return lines.ptr != NULL;
}

bool target_find(const struct target *t, struct weir_batch *b, struct item *it,
                 struct weir_arena *a, struct weir_result *ret)
{
    return render_url(t, b, it, a, ret) && render_headers(t, b, it, a, ret);
}
