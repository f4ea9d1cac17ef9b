/* SPDX-License-Identifier: Apache-2.0
 *
 * Recovery: see disk_recover.h. It always ends with a folder that can be used, but where the disk does not
 * let it, or where a weir that knows another format has been at work.
 */
#include <engine/disk_recover.h>

#include <base/error.h>
#include <base/mem.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

struct recovery {
    int dir;
    const char *path;
    struct wr_disk_state *state;
    void (*tell)(void *arg, const struct wr_find *find);
    void *arg;
    struct weir_error *err;
};

static bool cannot(struct recovery *r, const struct wr_disk_segment *seg, const char *what)
{
    char name[WR_DISK_NAME];
    wr_segment_name(name, seg);
    (void)wr_error(r->err, WEIR_E_FATAL, "disk", "buffer '%s': cannot %s %s: %s", r->path, what, name,
                   strerror(errno));
    return false;
}

static void tell(struct recovery *r, enum wr_find_kind kind, const struct wr_disk_segment *seg,
                 int64_t offset, int64_t bytes)
{
    char name[WR_DISK_NAME] = "cursor";
    if (seg != NULL)
        wr_segment_name(name, seg);
    struct wr_find find = {.kind = kind, .file = name, .offset = offset, .bytes = bytes};
    if (r->tell != NULL)
        r->tell(r->arg, &find);
}

void wr_disk_set_aside(int dir, struct wr_disk_segment *seg, const struct wr_damage *damage,
                       void (*tell_find)(void *arg, const struct wr_find *find), void *arg)
{
    char name[WR_DISK_NAME];
    wr_segment_name(name, seg);
    struct wr_find find = {.kind = WR_FIND_DAMAGED, .file = name, .offset = damage->from,
                           .bytes = damage->to - damage->from, .saved = true};
    if (!wr_damage_save(dir, seg, damage)) {
        find.error = errno;
        find.saved = false;
        wr_segment_keep(dir, seg);
    }
    if (tell_find != NULL)
        tell_find(arg, &find);
}

/* ---- Headers ---- */

/* The header is no help: the first whole record says where the segment begins. */
static enum wr_scan_state first_record(int fd, struct wr_disk_segment *seg, struct wr_damage *ret)
{
    struct wr_scan scan = {.fd = fd, .marker = seg->marker, .end = seg->bytes, .limit = WR_SEQ_MAX};
    struct wr_record r;
    enum wr_scan_state state = wr_scan_next(&scan, &r, ret);
    if (state == WR_SCAN_DAMAGE && ret->to < seg->bytes)
        state = wr_scan_next(&scan, &r, &(struct wr_damage){0});
    else if (state == WR_SCAN_DAMAGE)
        state = WR_SCAN_END;
    if (state == WR_SCAN_RECORD)
        seg->first_seq = r.seq;
    wr_scan_done(&scan);
    return state;
}

enum fate { STAYS, GONE, FATAL };

static enum fate fatal(struct recovery *r, const struct wr_disk_segment *seg, const char *what)
{
    (void)cannot(r, seg, what);
    return FATAL;
}

static enum fate without_header(struct recovery *r, int fd, struct wr_disk_segment *seg)
{
    struct wr_damage damage = {0};
    enum wr_scan_state state = first_record(fd, seg, &damage);
    if (state == WR_SCAN_FAILED)
        return fatal(r, seg, "read");
    if (state == WR_SCAN_RECORD) {
        tell(r, WR_FIND_NO_HEADER, seg, 0, WR_SEGMENT_HEAD);
        return STAYS; /* what lies between it and the first record is met when it is read */
    }
    /* A crash between a file's birth and its header leaves nothing or zeros. */
    bool torn = seg->bytes <= WR_SEGMENT_HEAD || damage.torn;
    if (!(torn ? wr_segment_remove(r->dir, seg) : wr_segment_set_aside(r->dir, seg)))
        return fatal(r, seg, "set aside");
    tell(r, torn ? WR_FIND_TORN : WR_FIND_NO_SEGMENT, seg, 0, seg->bytes);
    return GONE;
}

static enum fate look_at_head(struct recovery *r, struct wr_disk_segment *seg, uint64_t least_seq)
{
    uint32_t format;
    int fd = wr_segment_open(r->dir, seg);
    if (fd < 0)
        return fatal(r, seg, "open");
    enum fate fate = STAYS;
    switch (wr_segment_head(fd, seg, &format)) {
    case WR_HEAD_OK:
        break;
    case WR_HEAD_BAD:
        fate = without_header(r, fd, seg);
        break;
    case WR_HEAD_OTHER:
        (void)wr_error(r->err, WEIR_E_FATAL, "other_format",
                       "buffer '%s' was written in format %u by another weir; this one knows format %u: "
                       "let that one empty it, or give another path",
                       r->path, format, WR_DISK_FORMAT);
        fate = FATAL;
    }
    close(fd);
    if (fate == STAYS && seg->first_seq < least_seq) { /* of another buffer, by its number */
        if (!wr_segment_set_aside(r->dir, seg))
            return fatal(r, seg, "set aside");
        tell(r, WR_FIND_NO_SEGMENT, seg, 0, seg->bytes);
        fate = GONE;
    }
    return fate;
}

static bool look_at_heads(struct recovery *r)
{
    struct wr_disk_state *state = r->state;
    uint64_t least_seq = 0;
    for (struct wr_disk_segment **at = &state->first; *at != NULL;) {
        struct wr_disk_segment *seg = *at;
        state->next_number = seg->number + 1;
        enum fate fate = look_at_head(r, seg, least_seq);
        if (fate == FATAL)
            return false;
        if (fate == GONE) {
            *at = seg->next;
            wr_free(seg);
            continue;
        }
        least_seq = seg->first_seq;
        at = &seg->next;
    }
    return true;
}

/* ---- The tail ---- */

static bool cut(struct recovery *r, struct wr_disk_segment *seg, int64_t bytes)
{
    char name[WR_DISK_NAME];
    wr_segment_name(name, seg);
    int fd = openat(r->dir, name, O_WRONLY | O_NOFOLLOW | O_CLOEXEC);
    bool ok = fd >= 0 && ftruncate(fd, bytes) == 0 && fdatasync(fd) == 0;
    int why = errno;
    if (fd >= 0)
        close(fd);
    errno = why;
    seg->bytes = ok ? bytes : seg->bytes;
    return ok || cannot(r, seg, "cut the tail of");
}

static bool end_of_last(struct recovery *r, struct wr_disk_segment *seg)
{
    int fd = wr_segment_open(r->dir, seg);
    if (fd < 0)
        return cannot(r, seg, "open");
    struct wr_scan scan = {.fd = fd, .marker = seg->marker, .at = WR_SEGMENT_HEAD, .end = seg->bytes,
                           .seq = seg->first_seq, .limit = WR_SEQ_MAX};
    struct wr_record record;
    struct wr_damage damage = {0};
    enum wr_scan_state state;
    while ((state = wr_scan_next(&scan, &record, &damage)) == WR_SCAN_RECORD ||
           (state == WR_SCAN_DAMAGE && damage.to < seg->bytes))
        continue;
    r->state->next_seq = scan.seq;
    bool ok = true;
    if (state == WR_SCAN_DAMAGE) {
        if (damage.torn)
            tell(r, WR_FIND_TORN, seg, damage.from, damage.to - damage.from);
        else
            wr_disk_set_aside(r->dir, seg, &damage, r->tell, r->arg);
        /* Damage that could not be copied stays where it is, and in front of what comes. */
        ok = seg->keep || cut(r, seg, damage.from);
    } else if (state == WR_SCAN_FAILED) {
        ok = cannot(r, seg, "read");
    }
    wr_scan_done(&scan);
    close(fd);
    return ok;
}

/* ---- The cursor ---- */

/* Where to read on: at the cursor's record, or at the damage that is in its place. */
static bool find_cursor(struct recovery *r, struct wr_disk_segment *seg)
{
    struct wr_disk_state *state = r->state;
    int fd = wr_segment_open(r->dir, seg);
    if (fd < 0)
        return cannot(r, seg, "open");
    struct wr_scan scan = {.fd = fd, .marker = seg->marker, .at = WR_SEGMENT_HEAD, .end = seg->bytes,
                           .seq = seg->first_seq, .limit = WR_SEQ_MAX};
    struct wr_record record;
    struct wr_damage damage;
    state->cursor_at = scan.at;
    while (scan.seq < state->cursor) {
        enum wr_scan_state at = wr_scan_next(&scan, &record, &damage);
        if (at == WR_SCAN_FAILED) {
            wr_scan_done(&scan);
            close(fd);
            return cannot(r, seg, "read");
        }
        if (at == WR_SCAN_END)
            break;
        if (at == WR_SCAN_RECORD && record.seq >= state->cursor)
            break; /* damage stands where the cursor's record was */
        if (at == WR_SCAN_RECORD)
            state->cursor_at = scan.at;
    }
    wr_scan_done(&scan);
    close(fd);
    return true;
}

/* What the next start finds missing behind the cursor that it reads was lost. The one that was read here may be
 * in no more than the cache: a run that was killed has not made it durable. */
static bool make_cursor_durable(struct recovery *r)
{
    int fd = openat(r->dir, "cursor", O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return true; /* nothing is known to have ended */
    bool ok = fd >= 0 && fdatasync(fd) == 0;
    int why = errno;
    if (fd >= 0)
        close(fd);
    if (!ok)
        (void)wr_error(r->err, WEIR_E_FATAL, "disk", "buffer '%s': cannot keep its cursor: %s", r->path,
                       strerror(why));
    return ok;
}

static bool remove_ended(struct recovery *r)
{
    struct wr_disk_state *state = r->state;
    while (state->first != NULL) {
        struct wr_disk_segment *seg = state->first;
        uint64_t end = seg->next != NULL ? seg->next->first_seq : state->next_seq;
        if (end > state->cursor)
            return true;
        if (state->n_removed == 0 && !make_cursor_durable(r))
            return false;
        if (!wr_segment_remove(r->dir, seg))
            return cannot(r, seg, "delete");
        state->first = seg->next;
        state->n_removed++;
        wr_free(seg);
    }
    return true;
}

static bool place_cursor(struct recovery *r)
{
    struct wr_disk_state *state = r->state;
    const struct wr_disk_segment *first = state->first;
    uint64_t begin = first != NULL ? first->first_seq : 0;
    bool found;
    struct wr_cursor kept = {0};
    if (!wr_cursor_load(r->dir, &found, &kept)) {
        (void)wr_error(r->err, WEIR_E_FATAL, "disk", "buffer '%s': cannot open its cursor: %s", r->path,
                       strerror(errno));
        return false;
    }
    if (!found && first != NULL)
        tell(r, WR_FIND_NO_CURSOR, NULL, 0, 0);
    /* What is missing between it and the first segment is met, and counted, by the reader. */
    state->cursor = found ? kept.seq : begin;
    state->dropped_from = kept.dropped_from;
    state->dropped_to = kept.dropped_to;
    if (state->next_seq < state->cursor)
        state->next_seq = state->cursor;
    if (state->next_seq < state->dropped_to)
        state->next_seq = state->dropped_to; /* the last ones were: what comes has no number of theirs */
    if (first == NULL)
        state->cursor = state->next_seq;
    return true;
}

bool wr_disk_recover(int dir, const char *path, struct wr_disk_state *ret,
                     void (*tell_find)(void *arg, const struct wr_find *find), void *arg,
                     struct weir_error *err)
{
    struct recovery r = {dir, path, ret, tell_find, arg, err};
    *ret = (struct wr_disk_state){.cursor_at = WR_SEGMENT_HEAD};
    if (!wr_segments_list(dir, &ret->first)) {
        (void)wr_error(err, WEIR_E_FATAL, "disk", "buffer '%s': cannot list its files: %s", path,
                       strerror(errno));
        return false;
    }
    bool ok = look_at_heads(&r);
    struct wr_disk_segment *last = ret->first;
    while (ok && last != NULL && last->next != NULL)
        last = last->next;
    ok = ok && (last == NULL || end_of_last(&r, last));
    ok = ok && place_cursor(&r) && remove_ended(&r) &&
         (ret->first == NULL || find_cursor(&r, ret->first));
    if (!ok) {
        wr_segments_free(ret->first);
        ret->first = NULL;
    }
    return ok;
}

/* ---- All of it ---- */

static bool look_through(struct recovery *r, struct wr_disk_segment *seg, int64_t at, uint64_t limit,
                         uint64_t *io_records)
{
    int fd = wr_segment_open(r->dir, seg);
    if (fd < 0)
        return cannot(r, seg, "open");
    struct wr_scan scan = {.fd = fd, .marker = seg->marker, .at = at, .end = seg->bytes,
                           .seq = seg->first_seq, .limit = limit};
    struct wr_record record;
    struct wr_damage damage;
    enum wr_scan_state state;
    while ((state = wr_scan_next(&scan, &record, &damage)) != WR_SCAN_END && state != WR_SCAN_FAILED) {
        if (state == WR_SCAN_DAMAGE)
            wr_disk_set_aside(r->dir, seg, &damage, r->tell, r->arg);
        else
            (*io_records)++;
    }
    wr_scan_done(&scan);
    close(fd);
    return state != WR_SCAN_FAILED || cannot(r, seg, "read");
}

bool wr_disk_look_through(int dir, const struct wr_disk_state *state, uint64_t *ret_records,
                          void (*tell_find)(void *arg, const struct wr_find *find), void *arg,
                          struct weir_error *err)
{
    struct recovery r = {.dir = dir, .path = ".", .tell = tell_find, .arg = arg, .err = err};
    uint64_t records = 0;
    for (struct wr_disk_segment *seg = state->first; seg != NULL; seg = seg->next) {
        int64_t at = seg == state->first ? state->cursor_at : WR_SEGMENT_HEAD;
        uint64_t limit = seg->next != NULL ? seg->next->first_seq : state->next_seq;
        if (!look_through(&r, seg, at, limit, &records))
            return false;
    }
    *ret_records = records;
    return true;
}
