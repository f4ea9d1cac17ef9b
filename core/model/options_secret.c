/* SPDX-License-Identifier: Apache-2.0
 *
 * model/options_secret.c: what of a file is secret: masked where its lines are shown, and kept so that
 * messages of others are cleared of it. A library or a server may well say only a part of what it was
 * given: of a URL the password, of a header its last word. Those parts are kept beside the whole.
 */
#include <base/str.h>
#include <model/options.h>

/* "${env:NAME}" and "${file:PATH}" alone may be shown: they hold no secret. */
static bool is_reference(struct weir_str s)
{
    bool known = s.len > 7 && (memcmp(s.ptr, "${env:", 6) == 0 || memcmp(s.ptr, "${file:", 7) == 0);

    return known && s.ptr[s.len - 1] == '}' && memchr(s.ptr, '}', s.len - 1) == NULL &&
           memmem(s.ptr, s.len, ":-", 2) == NULL;
}

/* True: it is one of ours now. */
static bool keep(struct wr_binder *b, struct weir_str text)
{
    struct wr_secret *s;

    if (text.len < WR_SECRET_MIN)
        return false;
    s = wr_arena_xalloc(b->arena, sizeof(*s));
    s->text = text;
    s->next = b->secrets;
    b->secrets = s;
    return true;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 32;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* With its %XX resolved. */
static struct weir_str resolved(struct wr_binder *b, struct weir_str part)
{
    char *plain = wr_arena_xalloc(b->arena, part.len + 1);
    size_t n = 0;

    for (size_t i = 0; i < part.len; i++) {
        int high = part.ptr[i] == '%' && i + 2 < part.len ? hex_digit(part.ptr[i + 1]) : -1;
        int low = high >= 0 ? hex_digit(part.ptr[i + 2]) : -1;
        plain[n++] = low >= 0 ? (char)(high * 16 + low) : part.ptr[i];
        i += low >= 0 ? 2 : 0;
    }
    return weir_str_n(plain, n);
}

/* As it stands, and resolved. */
static bool keep_part(struct wr_binder *b, struct weir_str part)
{
    struct weir_str plain = resolved(b, part);
    bool kept = keep(b, part);

    return plain.len != part.len ? keep(b, plain) || kept : kept;
}

/* As a login by HTTP's Basic or SASL's PLAIN sends them. */
static void keep_login(struct wr_binder *b, struct weir_str user, struct weir_str password)
{
    struct wr_buf login = {0}, text = {0};

    for (int sasl = 0; sasl < 2 && password.len >= WR_SECRET_MIN; sasl++) {
        login.len = text.len = 0;
        wr_buf_add(&login, "", sasl != 0 ? 1 : 0);
        wr_buf_str(&login, resolved(b, user));
        wr_buf_add(&login, sasl != 0 ? "" : ":", 1);
        wr_buf_str(&login, resolved(b, password));
        wr_buf_base64(&text, wr_buf_view(&login));
        (void)keep(b, wr_arena_xcopy(b->arena, wr_buf_view(&text)));
    }
    wr_buf_done(&login);
    wr_buf_done(&text);
}

/* Parameters such as `tlsCertificateKeyFilePassword=x`. */
static bool keep_parameters(struct wr_binder *b, const char *at, const char *end)
{
    bool kept = false;

    while (at < end) {
        const char *stop = memchr(at, '&', (size_t)(end - at));
        const char *next = stop != NULL ? stop : end;
        const char *equals = memchr(at, '=', (size_t)(next - at));
        if (equals != NULL && wr_sounds_secret(weir_str_n(at, (size_t)(next - at))))
            kept |= keep_part(b, weir_str_n(equals + 1, (size_t)(next - equals - 1)));
        at = next + 1;
    }
    return kept;
}

/* scheme://user:password@host/path?parameters; the last @ counts, as it does for those who read URLs
 * whose passwords hold one. */
static bool keep_url(struct wr_binder *b, struct weir_str url)
{
    bool kept = false;

    const char *end = url.ptr + url.len, *from = memmem(url.ptr, url.len, "://", 3);

    if (from == NULL)
        return false;
    from += 3;
    const char *query = memchr(from, '?', (size_t)(end - from));
    const char *authority_end = query != NULL ? query : end;
    const char *at = memrchr(from, '@', (size_t)(authority_end - from));
    const char *colon = at != NULL ? memchr(from, ':', (size_t)(at - from)) : NULL;
    if (colon != NULL) {
        struct weir_str password = weir_str_n(colon + 1, (size_t)(at - colon - 1));
        kept = keep(b, weir_str_n(from, (size_t)(at - from)));
        kept |= keep_part(b, password);
        keep_login(b, weir_str_n(from, (size_t)(colon - from)), password);
    }
    if (query != NULL)
        kept |= keep_parameters(b, query + 1, end);
    return kept;
}

void wr_bind_secret(struct wr_binder *b, const struct wr_node *scalar)
{
    struct weir_str text = scalar->text;
    const char *blank = text.len != 0 ? memrchr(text.ptr, ' ', text.len) : NULL;

    (void)keep(b, text);
    (void)keep_url(b, text);
    if (blank != NULL)
        (void)keep(b, weir_str_n(blank + 1, (size_t)(text.ptr + text.len - blank - 1)));
}

/* Only where the lines of the file are shown. */
static void mask(struct wr_binder *b, const struct wr_node *n)
{
    if (!is_reference(n->raw) && n->pos.text != NULL)
        wr_diags_mask(b->diags, n->pos.text, n->start, n->end);
}

void wr_options_hide(struct wr_binder *b, const struct wr_node *n)
{
    if (n->kind == WR_NODE_SCALAR) {
        wr_bind_secret(b, n);
        mask(b, n);
    }
    for (uint32_t i = 0; n->kind == WR_NODE_LIST && i < n->n; i++)
        wr_options_hide(b, n->items[i]);
    for (uint32_t i = 0; n->kind == WR_NODE_MAP && i < n->n; i++)
        wr_options_hide(b, n->fields[i].value);
}

void wr_options_hide_url(struct wr_binder *b, const struct wr_node *scalar)
{
    if (scalar->text.len != 0 && keep_url(b, scalar->text))
        mask(b, scalar);
}

void wr_options_hide_files(struct wr_binder *b, const struct wr_node *n)
{
    if (n->kind == WR_NODE_SCALAR && n->secret)
        wr_bind_secret(b, n);
    for (uint32_t i = 0; n->kind == WR_NODE_LIST && i < n->n; i++)
        wr_options_hide_files(b, n->items[i]);
    for (uint32_t i = 0; n->kind == WR_NODE_MAP && i < n->n; i++)
        wr_options_hide_files(b, n->fields[i].value);
}

void wr_options_hide_guess(struct wr_binder *b, const struct wr_node *n)
{
    for (uint32_t i = 0; n->kind == WR_NODE_LIST && i < n->n; i++)
        wr_options_hide_guess(b, n->items[i]);
    for (uint32_t i = 0; n->kind == WR_NODE_MAP && i < n->n; i++) {
        if (wr_sounds_secret(n->fields[i].key))
            wr_options_hide(b, n->fields[i].value);
        else
            wr_options_hide_guess(b, n->fields[i].value);
    }
}
