/* SPDX-License-Identifier: Apache-2.0
 *
 * The state file: JSON, read whole, and written whole to a file beside it that is then renamed, so
 * that there is always one that is complete. See state.h.
 */
#include "state.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define STATE_MAX ((off_t)64 << 20)
#define PLACES_MAX 100000u
#define FORGET_S (INT64_C(7) * 86400) /* a file that nobody found for so long */

/* ---- The state file: reading ----------------------------------------------------------------- */

static struct weir_str read_whole(const struct weir_host *h, struct weir_arena *a, const char *path,
                                  struct weir_error *err)
{
    struct weir_str none = {NULL, 0};
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 && errno == ENOENT)
        return weir_str_n("", 0);
    char *text = NULL;
    size_t len = 0;
    if (fd < 0 || fstat(fd, &st) != 0) {
        h->error(err, WEIR_E_CONFIG, "state_unreadable",
                 "cannot read the positions in \"%s\": %s; check option `state`", path,
                 strerror(errno));
    } else if (!S_ISREG(st.st_mode) || st.st_size > STATE_MAX) {
        h->error(err, WEIR_E_CONFIG, "state_unreadable",
                 "\"%s\" is no state file: expected a regular file below 64 MiB; check option "
                 "`state`",
                 path);
    } else if ((text = h->arena_alloc(a, (size_t)st.st_size + 1)) == NULL) {
        h->error(err, WEIR_E_NOMEM, "no_memory", "no memory for the positions");
    } else {
        ssize_t n;
        while (len < (size_t)st.st_size &&
               (n = read(fd, text + len, (size_t)st.st_size - len)) != 0) {
            if (n > 0)
                len += (size_t)n;
            else if (errno != EINTR)
                break;
        }
    }
    if (fd >= 0)
        close(fd);
    return text != NULL ? weir_str_n(text, len) : none;
}

static const struct weir_value *member(const struct weir_host *h, const struct weir_value *v,
                                       const char *name, enum weir_value_type type)
{
    const struct weir_value *m = h->value_get(v, weir_cstr(name));
    return m != NULL && h->value_type(m) == type ? m : NULL;
}

/* Numbers of 64 bits are kept as hexadecimal text, readable by everything. */
static bool read_hex(const struct weir_host *h, const struct weir_value *v, const char *name,
                     uint64_t *ret)
{
    const struct weir_value *m = member(h, v, name, WEIR_STRING);
    struct weir_str text = m != NULL ? h->value_str(m) : weir_str_n("", 0);
    char digits[17] = "";
    char *end;
    if (text.len == 0 || text.len > 16 || memchr(text.ptr, '-', text.len) != NULL)
        return false;
    memcpy(digits, text.ptr, text.len);
    *ret = strtoull(digits, &end, 16);
    return *end == '\0' && end == digits + text.len;
}

static bool read_int(const struct weir_host *h, const struct weir_value *v, const char *name,
                     int64_t min, int64_t *ret)
{
    const struct weir_value *m = member(h, v, name, WEIR_INT);
    if (m == NULL || h->value_int(m) < min)
        return false;
    *ret = h->value_int(m);
    return true;
}

static bool read_place(struct places *p, const struct weir_host *h, const struct weir_value *v)
{
    struct place r = {0};
    int64_t head_len, gone, packed;
    const struct weir_value *path = member(h, v, "path", WEIR_STRING);
    if (path == NULL || !read_hex(h, v, "device", &r.dev) || !read_hex(h, v, "inode", &r.ino) ||
        !read_int(h, v, "born", 0, &r.born_ns) || !read_hex(h, v, "tag", &r.tag) ||
        !read_hex(h, v, "head", &r.head) || !read_int(h, v, "head_bytes", 0, &head_len) ||
        head_len > HEAD_MAX || !read_int(h, v, "offset", 0, &r.offset) ||
        !read_int(h, v, "tail_at", 0, &r.tail_at) || !read_hex(h, v, "tail", &r.tail) ||
        !read_int(h, v, "done", -1, &r.done) || !read_int(h, v, "gone", 0, &gone) ||
        !read_int(h, v, "gzip", 0, &packed) || !read_int(h, v, "seen", 0, &r.seen_s))
        return false;
    struct weir_str text = h->value_str(path);
    struct place *at = place_add(p, text.ptr, text.len);
    if (at == NULL)
        return false;
    r.next = at->next;
    r.path = at->path;
    r.head_len = (uint32_t)head_len;
    r.gone = gone != 0;
    r.unpacked = packed != 0;
    *at = r;
    return true;
}

enum weir_status state_read(struct places *p, const struct weir_host *h, struct weir_arena *a,
                            struct weir_error *err)
{
    struct weir_error why = {0};
    struct weir_str text = read_whole(h, a, p->path, err);
    if (text.ptr == NULL)
        return WEIR_E_CONFIG;
    if (text.len == 0)
        return WEIR_OK;
    const struct weir_value *v = h->value_parse(a, text, &why);
    const struct weir_value *list = member(h, v, "files", WEIR_ARRAY), *item;
    int64_t version = 0;
    if (v == NULL || list == NULL || !read_int(h, v, "version", 1, &version) || version != 1)
        return h->error(err, WEIR_E_CONFIG, "state_damaged",
                        "\"%s\" holds no positions (%s); option `state` names a file that weir "
                        "writes. Move it away to begin anew",
                        p->path, v == NULL ? why.text : "version 1 and a list \"files\" expected");
    struct weir_value_iter it = h->value_iter(list);
    struct weir_str key;
    for (uint32_t i = 0; (item = h->value_next(&it, &key)) != NULL; i++)
        if (!read_place(p, h, item))
            return h->error(err, WEIR_E_CONFIG, "state_damaged",
                            "\"%s\": entry %u of \"files\" is not one that weir wrote. Mend it, or "
                            "move the file away to begin anew",
                            p->path, i + 1);
    p->known = true;
    p->changed = false;
    return WEIR_OK;
}

/* ---- The state file: writing ----------------------------------------------------------------- */

static bool put_hex(const struct weir_host *h, struct weir_arena *a, struct weir_value *obj,
                    const char *name, uint64_t v)
{
    struct weir_str text = h->arena_printf(a, "%llx", (unsigned long long)v);
    return h->object_set(a, obj, weir_cstr(name), h->make_str(a, text));
}

static bool put_int(const struct weir_host *h, struct weir_arena *a, struct weir_value *obj,
                    const char *name, int64_t v)
{
    return h->object_set(a, obj, weir_cstr(name), h->make_int(a, v));
}

static bool put_place(const struct weir_host *h, struct weir_arena *a, struct weir_value *list,
                      const struct place *at)
{
    struct weir_value *obj = h->make_object(a);
    struct weir_value *path = h->make_str(a, weir_cstr(at->path));
    if (path == NULL) /* a name that is no UTF-8: it is for people, and for ids */
        path = h->make_str(a, weir_cstr("?"));
    return h->object_set(a, obj, weir_cstr("path"), path) &&
           put_hex(h, a, obj, "device", at->dev) && put_hex(h, a, obj, "inode", at->ino) &&
           put_int(h, a, obj, "born", at->born_ns) && put_hex(h, a, obj, "tag", at->tag) &&
           put_hex(h, a, obj, "head", at->head) && put_int(h, a, obj, "head_bytes", at->head_len) &&
           put_int(h, a, obj, "offset", at->offset) && put_int(h, a, obj, "tail_at", at->tail_at) &&
           put_hex(h, a, obj, "tail", at->tail) && put_int(h, a, obj, "done", at->done) &&
           put_int(h, a, obj, "gone", at->gone) && put_int(h, a, obj, "gzip", at->unpacked) &&
           put_int(h, a, obj, "seen", at->seen_s) && h->array_append(a, list, obj);
}

/* Files that nobody has found for long are forgotten. */
static void forget(struct places *p, int64_t now_s)
{
    for (struct place **at = &p->list, *old; (old = *at) != NULL;) {
        if (old->open || (now_s - old->seen_s < FORGET_S && p->n <= PLACES_MAX)) {
            at = &old->next;
            continue;
        }
        *at = old->next;
        p->n--;
        p->free(old->path);
        p->free(old);
    }
}

static struct weir_str state_text(const struct places *p, const struct weir_host *h,
                                  struct weir_arena *a)
{
    struct weir_value *root = h->make_object(a), *list = h->make_array(a);
    bool ok = put_int(h, a, root, "version", 1);
    for (const struct place *at = p->list; ok && at != NULL; at = at->next)
        ok = put_place(h, a, list, at);
    ok = ok && h->object_set(a, root, weir_cstr("files"), list);
    return ok ? h->value_write(a, root) : weir_str_n(NULL, 0);
}

/* 0 or an errno value. */
static int write_whole(const char *path, struct weir_str text)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
    if (fd < 0)
        return errno;
    int error = 0;
    for (size_t at = 0; at < text.len && error == 0;) {
        ssize_t n = write(fd, text.ptr + at, text.len - at);
        if (n > 0)
            at += (size_t)n;
        else if (n == 0 || errno != EINTR)
            error = n == 0 ? EIO : errno;
    }
    if (error == 0 && fdatasync(fd) != 0)
        error = errno;
    if (close(fd) != 0 && error == 0)
        error = errno;
    return error;
}

int state_test(const struct places *p)
{
    int error = write_whole(p->temp, weir_str_n("", 0));
    (void)unlink(p->temp);
    return error;
}

int state_write(struct places *p, const struct weir_host *h)
{
    struct weir_arena *a = h->arena_new(h);
    forget(p, h->wall(h) / WEIR_NS_PER_S);
    struct weir_str text = a != NULL ? state_text(p, h, a) : weir_str_n(NULL, 0);
    int error = text.ptr != NULL ? write_whole(p->temp, text) : ENOMEM;
    if (error == 0 && rename(p->temp, p->path) != 0)
        error = errno;
    if (a != NULL)
        h->arena_free(a);
    return error;
}
