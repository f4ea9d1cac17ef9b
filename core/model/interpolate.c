/* SPDX-License-Identifier: Apache-2.0
 *
 * model/interpolate.c: ${env:NAME}, ${env:NAME:-default}, ${env:NAME:?message}, ${file:PATH}.
 *
 * Works on the scalars of a parsed tree, once: what is put in is never looked at again, and its
 * ranges are kept so that templates take no braces from it. Names of variables and files may be
 * shown in messages, what they hold never.
 */
#include <base/buf.h>
#include <base/mem.h>
#include <base/str.h>
#include <errno.h>
#include <fcntl.h>
#include <model/conf.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_MAX (1024u * 1024u)
#define TOTAL_MAX (8u * 1024u * 1024u)

struct filler {
    struct weir_arena *a;
    struct wr_diags *d;
    const char *dir;
    struct wr_content_file **files;
    size_t total;
    bool ok;
    /* of the scalar at hand */
    struct wr_node *node;
    struct wr_buf out;
    struct wr_segment *segments;
    uint32_t n, cap;
};

static void complain(struct filler *f, const char *code, size_t from, struct weir_str message,
                     const char *hint)
{
    f->ok = false;
    f->node->broken = true;
    wr_diags_add(f->d, &(struct wr_diag){.code = code,
                                         .pos = wr_node_pos_at(f->node, from),
                                         .message = message,
                                         .hint = weir_cstr(hint)});
}

static void add(struct filler *f, struct weir_str s, size_t from, bool foreign)
{
    if (f->n == f->cap) {
        f->cap = f->cap ? f->cap * 2 : 4;
        f->segments = wr_xrealloc(f->segments, f->cap * sizeof(*f->segments));
    }
    f->segments[f->n++] = (struct wr_segment){f->out.len, s.len, from, foreign};
    if (foreign && (f->total += s.len) > TOTAL_MAX) {
        complain(f, "interpolation-size", from,
                 weir_cstr("what was put into this file has more than 8 MiB"), NULL);
        return;
    }
    wr_buf_str(&f->out, s);
}

static bool is_name_char(char c, bool first)
{
    return c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (!first && c >= '0' && c <= '9');
}

/* Index of the brace that closes the one before `at`, or s.len. */
static size_t closing(struct weir_str s, size_t at)
{
    uint32_t depth = 0;

    for (; at < s.len; at++) {
        if (s.ptr[at] == '{')
            depth++;
        else if (s.ptr[at] == '}' && depth-- == 0)
            break;
    }
    return at;
}

static void fill_env(struct filler *f, struct weir_str body, size_t from)
{
    size_t n = 0;
    struct weir_str name, rest, value;
    const char *env;

    while (n < body.len && is_name_char(body.ptr[n], n == 0))
        n++;
    name = wr_arena_xcopy(f->a, weir_str_n(body.ptr, n));
    rest = weir_str_n(body.ptr + n, body.len - n);
    if (n == 0 || (rest.len > 0 && (rest.len < 2 || rest.ptr[0] != ':' ||
                                    (rest.ptr[1] != '-' && rest.ptr[1] != '?')))) {
        complain(f, "bad-interpolation", from, weir_cstr("not the name of an environment variable"),
                 "write ${env:NAME}, ${env:NAME:-default} or ${env:NAME:?message}");
        return;
    }
    env = getenv(name.ptr);
    value = weir_cstr(env);
    if (env != NULL && (env[0] != '\0' || rest.len == 0)) {
        if (wr_utf8_check(value) != value.len)
            complain(
                f, "env-value", from,
                wr_arena_xprintf(f->a, "the environment variable %s is not UTF-8 text", name.ptr),
                NULL);
        else
            add(f, wr_arena_xcopy(f->a, value), from, true);
    } else if (rest.len > 0 && rest.ptr[1] == '-') {
        add(f, weir_str_n(rest.ptr + 2, rest.len - 2), from, true);
    } else if (rest.len > 2) {
        complain(f, "env-unset", from,
                 wr_arena_xprintf(f->a, "the environment variable %s is not set: %.*s", name.ptr,
                                  (int)rest.len - 2, rest.ptr + 2),
                 NULL);
    } else {
        complain(f, "env-unset", from,
                 wr_arena_xprintf(f->a, "the environment variable %s is not set", name.ptr),
                 "set it, or write a default: ${env:NAME:-default}");
    }
}

/* All of a regular file into b; an errno, 0 for fine, -1 for one that is not regular, -2 for one
 * that is too large. */
static int read_file(const char *path, struct wr_buf *b)
{
    char block[8192];
    struct stat st;
    ssize_t n = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY), rc = 0;

    if (fd < 0)
        return errno;
    if (fstat(fd, &st) != 0)
        rc = errno;
    else if (!S_ISREG(st.st_mode))
        rc = -1;
    while (rc == 0 && (n = read(fd, block, sizeof(block))) != 0) {
        if (n < 0)
            rc = errno;
        else if (b->len + (size_t)n > FILE_MAX)
            rc = -2;
        else
            wr_buf_add(b, block, (size_t)n);
    }
    close(fd);
    return rc;
}

static void trim_newline(struct wr_buf *b)
{
    if (b->len > 0 && b->ptr[b->len - 1] == '\n')
        b->len--;
    if (b->len > 0 && b->ptr[b->len - 1] == '\r')
        b->len--;
}

static void fill_file(struct filler *f, struct weir_str body, size_t from)
{
    struct wr_buf content = {0};
    struct weir_str path;
    const char *why = NULL;
    int rc;

    if (body.len == 0 || memchr(body.ptr, '\0', body.len) != NULL) {
        complain(f, "bad-interpolation", from, weir_cstr("${file:...} names no file"),
                 "write ${file:PATH}");
        return;
    }
    path = body.ptr[0] == '/' ? wr_arena_xcopy(f->a, body)
                              : wr_arena_xprintf(f->a, "%s/%.*s", f->dir, WR_STR(body));
    if (f->files != NULL) {
        struct wr_content_file *file = wr_arena_xalloc(f->a, sizeof(*file));
        *file = (struct wr_content_file){*f->files, path, false};
        *f->files = file;
    }
    rc = read_file(path.ptr, &content);
    trim_newline(&content);
    if (rc != 0)
        why = rc == -1   ? "it is not a regular file"
              : rc == -2 ? "it has more than 1 MiB"
                         : strerror(rc);
    else if (wr_utf8_check(wr_buf_view(&content)) != content.len)
        why = "it is not UTF-8 text";
    else if (content.len > 0 && memchr(content.ptr, '\0', content.len) != NULL)
        why = "it holds a NUL character";
    if (why != NULL)
        complain(f, "file-value", from,
                 wr_arena_xprintf(f->a, "cannot take the file %s: %s", path.ptr, why), NULL);
    else
        add(f, wr_buf_view(&content), from, true);
    f->node->secret = true;
    if (content.ptr != NULL)
        explicit_bzero(content.ptr, content.cap);
    wr_buf_done(&content);
}

static const char *unknown_hint(struct filler *f, struct weir_str body)
{
    size_t n = 0;

    while (n < body.len && is_name_char(body.ptr[n], n == 0))
        n++;
    if (n > 0 && (n == body.len || body.ptr[n] == ':'))
        return wr_arena_xprintf(f->a,
                                "did you mean ${env:%.*s}? write $${ for the characters themselves",
                                WR_STR(body))
            .ptr;
    return "write ${env:NAME} or ${file:PATH}, or $${ for the characters themselves";
}

/* s.ptr[from..] begins with "${". Returns the index behind it. */
static size_t fill_one(struct filler *f, struct weir_str s, size_t from)
{
    size_t end = closing(s, from + 2);
    struct weir_str body = weir_str_n(s.ptr + from + 2, end - from - 2);

    if (end == s.len) {
        complain(f, "bad-interpolation", from, weir_cstr("${ without a closing }"),
                 "write $${ for the characters themselves");
        return s.len;
    }
    if (body.len >= 4 && memcmp(body.ptr, "env:", 4) == 0)
        fill_env(f, weir_str_n(body.ptr + 4, body.len - 4), from);
    else if (body.len >= 5 && memcmp(body.ptr, "file:", 5) == 0)
        fill_file(f, weir_str_n(body.ptr + 5, body.len - 5), from);
    else
        complain(f, "bad-interpolation", from, weir_cstr("unknown interpolation"),
                 unknown_hint(f, body));
    return end + 1;
}

static void fill(struct filler *f, struct wr_node *node)
{
    struct weir_str s = node->text;
    size_t at = 0, plain = 0;

    f->node = node;
    f->out.len = 0;
    f->n = 0;
    while (at < s.len && !node->broken) {
        bool dollar = s.ptr[at] == '$' && at + 1 < s.len;
        bool escaped = dollar && s.ptr[at + 1] == '$' && at + 2 < s.len && s.ptr[at + 2] == '{';
        if (!escaped && !(dollar && s.ptr[at + 1] == '{')) {
            at++;
            continue;
        }
        if (at > plain)
            add(f, weir_str_n(s.ptr + plain, at - plain), plain, false);
        if (escaped) {
            add(f, weir_str_n("${", 2), at + 1, false);
            at += 3;
        } else {
            at = fill_one(f, s, at);
        }
        plain = at;
    }
    if (f->n == 0 || node->broken)
        return;
    if (s.len > plain)
        add(f, weir_str_n(s.ptr + plain, s.len - plain), plain, false);
    node->text = wr_arena_xcopy(f->a, wr_buf_view(&f->out));
    node->n_segments = f->n;
    node->segments = wr_arena_xalloc(f->a, f->n * sizeof(*f->segments));
    memcpy(node->segments, f->segments, f->n * sizeof(*f->segments));
}

bool wr_conf_interpolate(struct weir_arena *a, const struct wr_conf *conf, const char *dir,
                         struct wr_diags *d, struct wr_content_file **ret_files)
{
    struct filler f = {.a = a, .d = d, .dir = dir, .files = ret_files, .ok = true};

    for (struct wr_node *n = conf->scalars; n != NULL; n = n->next_scalar) {
        if (memchr(n->text.ptr, '$', n->text.len) != NULL)
            fill(&f, n);
    }
    if (f.out.ptr != NULL)
        explicit_bzero(f.out.ptr, f.out.cap);
    wr_buf_done(&f.out);
    wr_free(f.segments);
    return f.ok;
}
