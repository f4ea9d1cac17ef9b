/* SPDX-License-Identifier: Apache-2.0
 *
 * Inflates a descriptor's bytes with zlib; see unzip.h. Never holds more than its two small buffers
 * and zlib's window, whatever the file claims to hold.
 */
#include "unzip.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#define INPUT_BYTES ((size_t)64 << 10)

struct unzip {
    const struct weir_host *h;
    z_stream z;
    int fd;
    bool between; /* members: a header may come, or the end, or zeros that pad */
    bool begun;
    bool ended;
    const char *reason;
    int64_t fed, good; /* bytes read, and up to the end of the last whole member */
    int64_t limit;     /* nothing is read behind it */
    unsigned char in[INPUT_BYTES];
};

static void *unzip_alloc(void *opaque, unsigned n, unsigned size)
{
    const struct unzip *u = opaque;
    return u->h->alloc((size_t)n * size);
}

static void unzip_release(void *opaque, void *p)
{
    const struct unzip *u = opaque;
    u->h->free(p);
}

struct unzip *unzip_new(const struct weir_host *h, int fd)
{
    struct unzip *u = h->alloc(sizeof(*u));
    if (u == NULL)
        return NULL;
    u->h = h;
    u->fd = fd;
    u->between = true;
    u->limit = INT64_MAX;
    u->z.zalloc = unzip_alloc;
    u->z.zfree = unzip_release;
    u->z.opaque = u;
    if (inflateInit2(&u->z, 16 + MAX_WBITS) == Z_OK)
        return u;
    h->free(u);
    return NULL;
}

void unzip_free(struct unzip *take_u)
{
    if (take_u == NULL)
        return;
    (void)inflateEnd(&take_u->z);
    take_u->h->free(take_u);
}

void unzip_limit(struct unzip *u, int64_t n_bytes)
{
    u->limit = n_bytes;
}

const char *unzip_reason(const struct unzip *u)
{
    return u->reason != NULL ? u->reason : "it is no gzip";
}

int64_t unzip_good(const struct unzip *u)
{
    return u->good;
}

bool unzip_begun(const struct unzip *u)
{
    return u->begun;
}

/* More compressed bytes. 1, 0 at the end of the file, or -1 with errno. */
static int refill(struct unzip *u)
{
    int64_t left = u->limit - u->fed;
    ssize_t n;
    do
        n = read(u->fd, u->in, left < (int64_t)sizeof(u->in) ? (size_t)left : sizeof(u->in));
    while (n < 0 && errno == EINTR);
    if (n <= 0)
        return (int)n;
    u->z.next_in = u->in;
    u->z.avail_in = (uInt)n;
    u->fed += n;
    return 1;
}

/* Between members: skips zeros that pad. False where what comes is no member. */
static bool next_member(struct unzip *u)
{
    while (u->begun && u->z.avail_in > 0 && *u->z.next_in == 0) {
        u->z.next_in++;
        u->z.avail_in--;
    }
    if (u->z.avail_in == 0)
        return true;
    if (*u->z.next_in != 0x1f) {
        u->reason = u->begun ? "bytes that are no gzip follow its end" : "it is no gzip";
        return false;
    }
    (void)inflateReset(&u->z);
    u->between = false;
    u->begun = true;
    return true;
}

static int damaged(struct unzip *u, int result)
{
    if (result == Z_MEM_ERROR)
        return ENOMEM;
    u->reason = u->z.msg != NULL ? u->z.msg : "it cannot be unpacked";
    return EBADMSG;
}

ssize_t unzip_read(void *arg, char *ptr, size_t len)
{
    struct unzip *u = arg;
    const size_t max = (size_t)1 << 30;
    u->z.next_out = (Bytef *)ptr;
    u->z.avail_out = (uInt)(len < max ? len : max);
    uInt room = u->z.avail_out;
    while (!u->ended && u->z.avail_out == room) {
        int more = u->z.avail_in > 0 ? 1 : refill(u);
        if (more < 0)
            return -1;
        if (more == 0 && !u->between) {
            errno = ENODATA;
            return -1;
        }
        u->ended = more == 0;
        if (u->between && !u->ended && !next_member(u)) {
            errno = EBADMSG;
            return -1;
        }
        if (u->between || u->ended)
            continue;
        int result = inflate(&u->z, Z_NO_FLUSH);
        u->between = result == Z_STREAM_END;
        if (u->between)
            u->good = u->fed - u->z.avail_in;
        if (result != Z_OK && result != Z_STREAM_END && result != Z_BUF_ERROR) {
            errno = damaged(u, result);
            return -1;
        }
    }
    return (ssize_t)(room - u->z.avail_out);
}
