/* SPDX-License-Identifier: Apache-2.0
 *
 * base/secret.c: looks at each place of a text for each secret: there are few of both.
 */
#include <base/secret.h>

#include <string.h>

/* A URL's beginning, which is no secret, ends many a message; its secret parts are listed by themselves. */
static bool may_be_cut(struct weir_str secret)
{
    return memmem(secret.ptr, secret.len, "://", 3) == NULL;
}

static size_t length_at(struct weir_str secret, const char *at, size_t left)
{
    if (secret.len <= left)
        return memcmp(at, secret.ptr, secret.len) == 0 ? secret.len : 0;
    return left >= WR_SECRET_MIN && memcmp(at, secret.ptr, left) == 0 && may_be_cut(secret) ? left : 0;
}

size_t wr_secret_at(const struct wr_secret *list, struct weir_str s, size_t at)
{
    size_t longest = 0;
    for (; list != NULL; list = list->next) {
        if (list->text.ptr[0] != s.ptr[at])
            continue;
        size_t n = length_at(list->text, s.ptr + at, s.len - at);
        longest = n > longest ? n : longest;
    }
    return longest;
}

/* Secrets may overlap: a place is read before it is written, and what lies behind it is as it was. */
void wr_secrets_hide(const struct wr_secret *list, char *text, size_t len)
{
    size_t until = 0;
    for (size_t i = 0; i < len && list != NULL; i++) {
        size_t end = i + wr_secret_at(list, weir_str_n(text, len), i);
        until = end > until ? end : until;
        if (i < until)
            text[i] = '*';
    }
}

void wr_secrets_scrub(const struct wr_secret *list, struct wr_buf *io_text)
{
    struct weir_str s = wr_buf_view(io_text);
    struct wr_buf clean = {0};
    size_t until = 0;
    if (list == NULL || s.len == 0)
        return;
    for (size_t i = 0; i < s.len; i++) {
        size_t end = i + wr_secret_at(list, s, i);
        if (end > i && i >= until)
            wr_buf_text(&clean, "***");
        until = end > until ? end : until;
        if (i >= until)
            wr_buf_add(&clean, s.ptr + i, 1);
    }
    wr_buf_done(io_text);
    *io_text = clean;
}
