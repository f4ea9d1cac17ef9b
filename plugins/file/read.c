/* SPDX-License-Identifier: Apache-2.0
 *
 * Events from lines: one poll's work over the inputs; see source.h.
 *
 * A line is a view into its block, which the batch gets a reference of. Where memory is used up,
 * the same line comes again later; a file that cannot be read on is given up alone, unless it is
 * the only one.
 */
#include "source.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#define POLL_BYTES (1 << 20)
#define FILLS 256                    /* in one poll: some ten MiB, also where they hold no event */
#define ID_BYTES ((size_t)8 << 10)   /* for the ids of some hundred events */
#define FIRST_PART ((size_t)4 << 10) /* of a line that is too long, in its dead letter */
#define GROWS_NS                                                                                   \
    (60 * WEIR_NS_PER_S) /* a gzip file that ends in the middle may still be written               \
                          */

static bool attach_block(struct source *self, struct filling *f, const struct lines *l)
{
    if (f->attached == l->block)
        return true;
    block_ref(l->block);
    /* The charge is what this batch may take of the block, so that batches share its size. */
    if (!self->h->batch_attach(f->b, block_unref, l->block, l->end - l->at + 1))
        return false;
    f->attached = l->block;
    return true;
}

/* "TAG-OFFSET"; empty where memory is used up. */
static struct weir_str make_id(const struct source *self, struct filling *f, const struct input *in,
                               int64_t offset)
{
    char digits[20];
    size_t at = sizeof(digits);
    uint64_t v = (uint64_t)offset;
    do {
        digits[--at] = (char)('0' + v % 10);
        v /= 10;
    } while (v != 0);
    size_t n = sizeof(digits) - at, len = in->id_len + n;
    if (f->id_left < len) {
        f->id_at = self->h->arena_alloc(f->b->arena, ID_BYTES);
        f->id_left = f->id_at != NULL ? ID_BYTES : 0;
        if (f->id_at == NULL)
            return weir_str_n(NULL, 0);
    }
    char *id = f->id_at;
    f->id_at += len;
    f->id_left -= len;
    memcpy(id, in->id, in->id_len);
    memcpy(id + in->id_len, digits + at, n);
    return weir_str_n(id, len);
}

/* The number of the line as a header. False where memory is used up. */
static bool set_number(const struct source *self, const struct filling *f, struct weir_event *ev,
                       int64_t number)
{
    const struct weir_host *h = self->h;
    struct weir_header *header = h->arena_alloc(f->b->arena, sizeof(*header));
    struct weir_str text = h->arena_printf(f->b->arena, "%lld", (long long)number);
    if (header == NULL || text.ptr == NULL)
        return false;
    *header = (struct weir_header){self->config->line_header, text};
    ev->headers = header;
    ev->n_headers = 1;
    return true;
}

/* The event of that line; its text lives as long as the batch. NULL where memory is used up. */
static struct weir_event *add_event(struct source *self, struct filling *f, struct input *in,
                                    const struct line *line)
{
    struct weir_str id = {NULL, 0};
    if (in->id_len != 0) {
        id = make_id(self, f, in, line->offset);
        if (id.ptr == NULL)
            return NULL;
    }
    struct weir_event *ev = self->h->event_add(f->b);
    if (ev == NULL)
        return NULL;
    if (self->config->line_header.len != 0 && !set_number(self, f, ev, line->number)) {
        self->h->batch_truncate(f->b, f->b->n_events - 1);
        return NULL;
    }
    ev->payload = line->text;
    ev->id = id;
    ev->origin = f->origin;
    ev->stream = in->stream;
    ev->position = line->offset;
    ev->next = line->next;
    in->last_next = line->next;
    f->bytes += line->text.len;
    return ev;
}

static bool add_line(struct source *self, struct filling *f, struct input *in,
                     const struct line *line)
{
    return attach_block(self, f, &in->lines) && add_event(self, f, in, line) != NULL;
}

/* ---- Lines that are too long ----------------------------------------------------------------- */

/* Keeps the beginning of the line for its dead letter; false where memory is used up. */
static bool keep_first_part(const struct weir_host *h, struct input *in)
{
    struct weir_str part = lines_first_part(&in->lines, FIRST_PART);
    char *copy = h->alloc(part.len + 1);
    if (copy == NULL)
        return false;
    memcpy(copy, part.ptr, part.len);
    in->too_long = (struct long_line){.text = copy, .len = part.len};
    return true;
}

/* An event that has failed already, of the line whose end is known now. False: no memory, and it
 * comes again. */
static bool reject_long_line(struct source *self, struct filling *f, struct input *in)
{
    const struct weir_host *h = self->h;
    struct long_line *l = &in->too_long;
    struct line line = {.text = h->arena_copy(f->b->arena, weir_str_n(l->text, l->len)),
                        .offset = l->offset,
                        .next = l->next,
                        .number = l->number};
    struct weir_str why = h->arena_printf(
        f->b->arena,
        "the line at byte %lld of \"%s\" has %lld bytes, more than `max_line` (%lld); its "
        "first %zu are here",
        (long long)l->offset, in->path.ptr, (long long)(l->next - l->offset),
        (long long)self->config->max_line, l->len);
    struct weir_event *ev =
        line.text.ptr != NULL && why.ptr != NULL ? add_event(self, f, in, &line) : NULL;
    if (ev == NULL)
        return false;
    struct weir_result r = {
        .verdict = WEIR_VERDICT_REJECTED, .code = "line_too_long", .message = why};
    h->event_fail(h, f->b, ev, &r);
    h->free(l->text);
    *l = (struct long_line){0};
    return true;
}

/* The end of a line that was too long. False: no memory now. */
static bool skipped_line(struct source *self, struct filling *f, struct input *in,
                         const struct line *line)
{
    if (in->too_long.text == NULL)
        return true;
    in->too_long.offset = line->offset;
    in->too_long.next = line->next;
    in->too_long.number = line->number;
    return reject_long_line(self, f, in);
}

/* False where nothing more can be read now, or ever. */
static bool long_line(struct source *self, struct filling *f, struct input *in)
{
    const struct weir_host *h = self->h;
    int64_t offset = in->lines.base + (int64_t)in->lines.at;
    f->starved = self->config->on_long == ON_LONG_REJECT && !keep_first_part(h, in);
    if (f->starved)
        return false;
    if (self->config->on_long == ON_LONG_ERROR) {
        h->error(&self->failed, WEIR_E_FATAL, "line_too_long",
                 "the line at byte %lld of \"%s\" is longer than `max_line` (%lld bytes); raise "
                 "it, or set `on_long` to `reject` (to the dead letter) or `skip`",
                 (long long)offset, in->path.ptr, (long long)self->config->max_line);
        return false;
    }
    h->metric_add(self->too_long, 1);
    if (self->config->on_long == ON_LONG_REJECT) {
        lines_skip(&in->lines);
        return true;
    }
    struct weir_kv kv[] = {weir_kv_str("path", in->path), weir_kv_i64("offset", offset),
                           weir_kv_i64("max_line", self->config->max_line)};
    h->log(h, WEIR_LOG_WARN, "line left out: longer than max_line", kv, 3);
    lines_skip(&in->lines);
    return true;
}

/* What is before the end of its last event, so that copies of the file can be known. */
static void learn_tail(struct source *self, struct input *in)
{
    unsigned char tail[HEAD_MAX];
    uint32_t len, want = in->last_next < HEAD_MAX ? (uint32_t)in->last_next : HEAD_MAX;
    if (in->last_next == 0 || in->place == NULL || in->unzip != NULL ||
        in->last_next == in->place->tail_at)
        return;
    if (input_tail(in, in->last_next, tail, &len) == 0 && len == want) /* else just truncated */
        places_tail(self->places, in->place, in->last_next, tail, len);
}

/* An end that is none: more may come. */
static void rest(struct source *self, struct input *in)
{
    learn_tail(self, in);
    lines_rest(&in->lines);
    in->at_end = true;
    in->ready = false;
}

/* A file that cannot be read on. Of several it is given up alone. */
static void give_up(struct source *self, struct input *in, int error)
{
    const struct weir_host *h = self->h;
    int64_t at = in->lines.base + (int64_t)in->lines.end;
    const char *reason = error == EBADMSG   ? unzip_reason(in->unzip)
                         : error == ENODATA ? "the gzip file ends in the middle"
                                            : strerror(error);
    if (self->plain) {
        h->error(&self->failed, WEIR_E_FATAL, "read_failed", "cannot read \"%s\" at byte %lld: %s",
                 in->path.ptr, (long long)at, reason);
        self->failed.number = error;
        return;
    }
    struct weir_kv kv[] = {weir_kv_str("path", in->path), weir_kv_i64("offset", at),
                           weir_kv_text("reason", reason)};
    h->log(h, WEIR_LOG_ERROR, "a file cannot be read on: what came before is delivered", kv, 3);
    h->metric_add(self->unreadable, 1);
    struct stat st;
    if (in->unzip != NULL && fstat(in->fd, &st) == 0)
        in->done = (int64_t)st.st_size;
    input_finish(self, in);
}

/* Reads on; false where there is nothing now, or ever. */
static bool read_on(struct source *self, struct filling *f, struct input *in)
{
    const struct weir_host *h = self->h;
    bool have_events = f->b->n_events > 0;
    /* A wake-up is taken once: whoever waited on would miss it, however much comes without a line's
     * end. */
    if (self->woken || f->n_fills++ == FILLS)
        return false;
    if (self->waits && !wait_for(self, in->fd, have_events ? 0 : f->deadline_ns))
        return false;
    int error = lines_fill(&in->lines);
    if (error == 0) {
        in->at_end = false;
        if (in->place != NULL)
            in->moved_ns = h->now(h);
        return true;
    }
    if (error == EAGAIN || error == EWOULDBLOCK) {
        if (!self->waits)
            rest(self, in);
        return false;
    }
    if (error == ENOMEM) { /* batches that are under way give memory back */
        f->starved = true;
        return false;
    }
    if (error == ENODATA && self->config->follow && h->now(h) - in->moved_ns < GROWS_NS)
        rest(self, in);
    else
        give_up(self, in, error);
    return false;
}

/* The file is read to its end, and no more is expected. */
static void finish(struct source *self, struct input *in)
{
    learn_tail(self, in);
    struct stat st;
    if (in->unzip != NULL && fstat(in->fd, &st) == 0)
        in->done = (int64_t)st.st_size;
    input_finish(self, in);
}

/* Adds lines until the batch has enough, nothing is there, or the end. */
static void read_lines(struct source *self, struct filling *f, struct input *in, uint32_t room)
{
    uint64_t n_empty = 0;
    if (in->too_long.next != 0 && !reject_long_line(self, f, in)) {
        f->starved = true;
        return;
    }
    while (f->b->n_events < room && f->bytes < POLL_BYTES) {
        struct line line;
        enum line_result result = lines_next(&in->lines, &line);
        if (result == LINE_OK) {
            if (!add_line(self, f, in, &line)) {
                lines_back(&in->lines, &line); /* no memory: the same line again later */
                f->starved = true;
                break;
            }
        } else if (result == LINE_EMPTY) {
            n_empty++;
        } else if (result == LINE_TOO_LONG) {
            if (!long_line(self, f, in))
                break;
        } else if (result == LINE_SKIPPED) {
            if (!skipped_line(self, f, in, &line)) {
                f->starved = true;
                break;
            }
        } else if (result == LINE_END) {
            finish(self, in);
            break;
        } else if (!read_on(self, f, in)) {
            break;
        }
    }
    self->h->metric_add(self->empty, n_empty);
}

/* False: memory is used up. */
static bool prepare(struct source *self, struct filling *f, struct input *in)
{
    const struct weir_host *h = self->h;
    struct weir_origin about = {in->path, self->plain && h->count > 1 ? (int32_t)h->index : -1};
    struct weir_origin *origin = h->arena_alloc(f->b->arena, sizeof(*origin));
    if (in->stream == NULL)
        in->stream = h->stream_open(h, &about, in->place);
    if (origin == NULL || in->stream == NULL)
        return false;
    *origin = (struct weir_origin){h->arena_copy(f->b->arena, in->path), about.partition};
    f->origin = origin;
    return origin->name.ptr != NULL;
}

static void read_input(struct source *self, struct filling *f, struct input *in, uint32_t room)
{
    if (!in->ready || in->over || !input_check(self, in)) {
        in->ready = false;
        return;
    }
    if (prepare(self, f, in))
        read_lines(self, f, in, room);
    else
        f->starved = true;
}

void fill_batch(struct source *self, struct filling *f, uint32_t room)
{
    uint32_t skip = self->n_inputs != 0 ? self->turn++ % self->n_inputs : 0, i = 0;
    for (int round = 0; round < 2; round++, i = 0) {
        for (struct input *in = self->inputs; in != NULL; in = in->next, i++) {
            if (f->b->n_events >= room || f->bytes >= POLL_BYTES || f->starved ||
                self->failed.status != WEIR_OK)
                return;
            if ((round == 0) == (i >= skip))
                read_input(self, f, in, room);
        }
    }
}
