/* SPDX-License-Identifier: Apache-2.0
 *
 * app/command_buffer.c: `weir buffer inspect|repair PATH`: what is in the folder of a disk buffer, and
 * what a start would do with what is damaged there.
 */
#include <app/commands.h>
#include <base/buf.h>
#include <base/check.h>
#include <base/mem.h>
#include <base/str.h>
#include <engine/disk_recover.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct args {
    const char *records;
    int format;
};

enum { FORMAT_TEXT, FORMAT_JSON };
static const char *const format_words[] = {"text", "json", NULL};

static const struct wr_cli_option options[] = {
    {"records", WR_CLI_TEXT, offsetof(struct args, records), "N", NULL, NULL,
     "inspect: also print the first N records that have not ended"},
    {"format", WR_CLI_CHOICE, offsetof(struct args, format), NULL, format_words, "text",
     "text for people, json for scripts"},
};

/* ---- What was found ---- */

struct region {
    char file[WR_DISK_NAME];
    int64_t offset, bytes;
    bool torn;
};

struct picture {
    const char *path;
    int dir;
    int64_t owner; /* process that has the lock, 0 = nobody */
    struct wr_disk_segment *first;
    bool has_cursor;
    uint64_t cursor, first_seq, last_seq, n_records, n_left;
    uint64_t bytes, n_segments, max_records, n_shown;
    struct region *regions;
    uint32_t n_regions;
    struct wr_buf records; /* rendered */
    bool json;
};

static void add_region(struct picture *p, const char *file, int64_t offset, int64_t bytes, bool torn)
{
    p->regions = wr_xrealloc(p->regions, (p->n_regions + 1) * sizeof(*p->regions));
    struct region *r = &p->regions[p->n_regions++];
    *r = (struct region){.offset = offset, .bytes = bytes, .torn = torn};
    snprintf(r->file, sizeof(r->file), "%s", file);
}

/* ---- Records ---- */

static void show_json(struct picture *p, const struct wr_record *r, const struct weir_event *ev)
{
    struct wr_buf *out = &p->records;
    wr_buf_printf(out, "%s{\"seq\":%" PRIu64 ",\"id\":", p->n_shown != 0 ? "," : "", r->seq);
    wr_buf_json(out, ev->id);
    if (ev->key.ptr != NULL) {
        wr_buf_text(out, ",\"key\":");
        wr_buf_json(out, ev->key);
    }
    if (ev->origin != NULL) {
        wr_buf_text(out, ",\"origin\":");
        wr_buf_json(out, ev->origin->name);
        wr_buf_printf(out, ",\"partition\":%d,\"position\":%lld", ev->origin->partition,
                      (long long)ev->position);
    }
    wr_buf_printf(out, ",\"time_ns\":%lld,\"bytes\":%u,\"payload\":", (long long)ev->time_ns, r->length);
    if (ev->payload.ptr != NULL)
        wr_buf_json(out, ev->payload);
    else
        wr_buf_text(out, "null");
    wr_buf_text(out, "}");
}

#define SHOWN_BYTES 120u

static void show_text(struct picture *p, const struct wr_record *r, const struct weir_event *ev)
{
    struct weir_str text = ev->payload;
    bool cut = text.len > SHOWN_BYTES;
    text.len = cut ? SHOWN_BYTES : text.len;
    wr_buf_printf(&p->records, "  %" PRIu64 "  id ", r->seq);
    wr_buf_json(&p->records, ev->id);
    wr_buf_text(&p->records, "  ");
    if (text.ptr != NULL)
        wr_buf_json(&p->records, text);
    wr_buf_text(&p->records, text.ptr == NULL ? "(tombstone)\n" : cut ? " ...\n" : "\n");
}

static void show(struct picture *p, const struct wr_record *r)
{
    struct weir_arena a = {0};
    struct weir_event ev;
    if (wr_record_event(r, &a, NULL, &ev)) {
        if (p->json)
            show_json(p, r, &ev);
        else
            show_text(p, r, &ev);
        p->n_shown++;
    }
    wr_arena_done(&a);
}

static void count_record(struct picture *p, const struct wr_record *r)
{
    p->first_seq = p->n_records == 0 ? r->seq : p->first_seq;
    p->last_seq = r->seq;
    p->n_records++;
    if (p->has_cursor && r->seq < p->cursor)
        return;
    p->n_left++;
    if (p->n_shown < p->max_records)
        show(p, r);
}

static bool look_at_segment(struct picture *p, struct wr_disk_segment *seg, uint64_t limit)
{
    char name[WR_DISK_NAME];
    int fd = wr_segment_open(p->dir, seg);
    wr_segment_name(name, seg);
    if (fd < 0) {
        if (errno == ENOENT)
            return true; /* a running weir was done with it */
        fprintf(stderr, "weir buffer: %s/%s: %s\n", p->path, name, strerror(errno));
        return false;
    }
    struct wr_scan scan = {.fd = fd, .marker = seg->marker, .at = WR_SEGMENT_HEAD, .end = seg->bytes,
                           .seq = seg->first_seq, .limit = limit};
    struct wr_record r;
    struct wr_damage damage;
    enum wr_scan_state state;
    while ((state = wr_scan_next(&scan, &r, &damage)) != WR_SCAN_END && state != WR_SCAN_FAILED) {
        if (state == WR_SCAN_RECORD)
            count_record(p, &r);
        else if (!damage.torn || p->owner == 0) /* a running weir is in the middle of a write */
            add_region(p, name, damage.from, damage.to - damage.from, damage.torn);
    }
    if (state == WR_SCAN_FAILED)
        fprintf(stderr, "weir buffer: %s/%s: %s\n", p->path, name, strerror(errno));
    wr_scan_done(&scan);
    close(fd);
    return state != WR_SCAN_FAILED;
}

/* Segments with a header that cannot be read are looked through all the same. False: another format. */
static bool look_at_heads(struct picture *p)
{
    for (struct wr_disk_segment *seg = p->first; seg != NULL; seg = seg->next) {
        char name[WR_DISK_NAME];
        uint32_t format = 0;
        int fd = wr_segment_open(p->dir, seg);
        enum wr_head_state state = fd >= 0 ? wr_segment_head(fd, seg, &format) : WR_HEAD_OK;
        if (fd >= 0)
            close(fd);
        wr_segment_name(name, seg);
        if (state == WR_HEAD_OTHER) {
            fprintf(stderr, "weir buffer: %s/%s was written in format %u by another weir\n", p->path,
                    name, format);
            return false;
        }
        if (state == WR_HEAD_BAD)
            add_region(p, name, 0, seg->bytes < WR_SEGMENT_HEAD ? seg->bytes : WR_SEGMENT_HEAD,
                       seg->bytes < WR_SEGMENT_HEAD);
        p->bytes += (uint64_t)seg->bytes;
        p->n_segments++;
    }
    return true;
}

/* Where the records of the next segment begin that says so. */
static uint64_t limit_of(const struct wr_disk_segment *seg)
{
    for (seg = seg->next; seg != NULL; seg = seg->next)
        if (seg->first_seq != 0)
            return seg->first_seq;
    return WR_SEQ_MAX;
}

static int look(struct picture *p)
{
    struct wr_cursor cursor = {0};
    bool loaded = wr_cursor_load(p->dir, &p->has_cursor, &cursor);
    p->cursor = cursor.seq;
    if (!loaded) {
        fprintf(stderr, "weir buffer: cannot open %s/cursor: %s\n", p->path, strerror(errno));
        return WR_EXIT_PROBLEMS;
    }
    if (!wr_segments_list(p->dir, &p->first)) {
        fprintf(stderr, "weir buffer: cannot list %s: %s\n", p->path, strerror(errno));
        return WR_EXIT_PROBLEMS;
    }
    bool ok = look_at_heads(p);
    for (struct wr_disk_segment *seg = p->first; ok && seg != NULL; seg = seg->next)
        ok = look_at_segment(p, seg, limit_of(seg));
    return ok && p->n_regions == 0 ? WR_EXIT_OK : WR_EXIT_PROBLEMS;
}

/* ---- Printing ---- */

static void print_json(struct picture *p)
{
    struct wr_buf out = {0};
    wr_buf_text(&out, "{\"path\":");
    wr_buf_json(&out, weir_cstr(p->path));
    wr_buf_printf(&out, ",\"process\":%lld,\"segments\":%" PRIu64 ",\"bytes\":%" PRIu64
                  ",\"records\":%" PRIu64 ",\"not_ended\":%" PRIu64,
                  (long long)p->owner, p->n_segments, p->bytes, p->n_records, p->n_left);
    if (p->has_cursor)
        wr_buf_printf(&out, ",\"cursor\":%" PRIu64, p->cursor);
    if (p->n_records != 0)
        wr_buf_printf(&out, ",\"first_seq\":%" PRIu64 ",\"last_seq\":%" PRIu64, p->first_seq, p->last_seq);
    wr_buf_text(&out, ",\"damaged\":[");
    for (uint32_t i = 0; i < p->n_regions; i++) {
        wr_buf_printf(&out, "%s{\"file\":", i != 0 ? "," : "");
        wr_buf_json(&out, weir_cstr(p->regions[i].file));
        wr_buf_printf(&out, ",\"offset\":%lld,\"bytes\":%lld,\"torn\":%s}",
                      (long long)p->regions[i].offset, (long long)p->regions[i].bytes,
                      p->regions[i].torn ? "true" : "false");
    }
    wr_buf_text(&out, "]");
    if (p->max_records != 0)
        wr_buf_printf(&out, ",\"first_records\":[%.*s]", WR_STR(wr_buf_view(&p->records)));
    wr_buf_text(&out, "}\n");
    fwrite(out.ptr, 1, out.len, stdout);
    wr_buf_done(&out);
}

static void print_text(struct picture *p)
{
    printf("%s\n", p->path);
    if (p->owner != 0)
        printf("  process %lld uses it: what is said here may be old by now\n", (long long)p->owner);
    printf("  segments   %" PRIu64 ", %" PRIu64 " bytes\n", p->n_segments, p->bytes);
    printf("  records    %" PRIu64, p->n_records);
    if (p->n_records != 0)
        printf(", seq %" PRIu64 " to %" PRIu64, p->first_seq, p->last_seq);
    printf("\n  not ended  %" PRIu64 "\n", p->n_left);
    if (p->has_cursor)
        printf("  cursor     %" PRIu64 "\n", p->cursor);
    else
        printf("  cursor     none: all records are given again\n");
    printf("  damaged    %u %s\n", p->n_regions, p->n_regions == 1 ? "place" : "places");
    for (uint32_t i = 0; i < p->n_regions; i++)
        printf("    %s, offset %lld, %lld bytes%s\n", p->regions[i].file,
               (long long)p->regions[i].offset, (long long)p->regions[i].bytes,
               p->regions[i].torn ? ", a write that was cut short" : "");
    fwrite(p->records.ptr != NULL ? p->records.ptr : "", 1, p->records.len, stdout);
}

static int inspect(struct picture *p)
{
    p->owner = wr_disk_locked_by(p->dir);
    int code = look(p);
    if (p->json)
        print_json(p);
    else
        print_text(p);
    return code;
}

/* ---- Repair ---- */

struct repairs {
    struct wr_buf list;
    uint32_t n;
    bool json, failed;
};

static void tell_repair(void *arg, const struct wr_find *find)
{
    static const char *const words[] = {
        [WR_FIND_TORN] = "torn", [WR_FIND_DAMAGED] = "damaged", [WR_FIND_NO_HEADER] = "no_header",
        [WR_FIND_NO_SEGMENT] = "no_segment", [WR_FIND_NO_CURSOR] = "no_cursor"};
    static const char *const texts[] = {
        [WR_FIND_TORN] = "a write that was cut short, cut off",
        [WR_FIND_DAMAGED] = "damaged, set aside",
        [WR_FIND_NO_HEADER] = "the header is damaged; the records are read all the same",
        [WR_FIND_NO_SEGMENT] = "no record in it, the file was set aside",
        [WR_FIND_NO_CURSOR] = "no cursor: all records are given again"};
    struct repairs *r = arg;
    r->failed |= find->error != 0;
    if (r->json) {
        wr_buf_printf(&r->list, "%s{\"what\":\"%s\",\"file\":\"%s\",\"offset\":%lld,\"bytes\":%lld,"
                      "\"done\":%s}", r->n != 0 ? "," : "", words[find->kind], find->file,
                      (long long)find->offset, (long long)find->bytes, find->error == 0 ? "true" : "false");
    } else {
        wr_buf_printf(&r->list, "  %s, offset %lld, %lld bytes: %s", find->file, (long long)find->offset,
                      (long long)find->bytes, texts[find->kind]);
        wr_buf_printf(&r->list, "%s%s\n", find->error != 0 ? "; it cannot be copied: " : "",
                      find->error != 0 ? strerror(find->error) : "");
    }
    r->n++;
}

static int repair(struct picture *p)
{
    struct weir_error err = {0};
    struct wr_disk_state state;
    struct repairs r = {.json = p->json};
    struct wr_buf path = {0};
    uint64_t records = 0;
    int lock = wr_disk_lock(p->dir, p->path, wr_clock_system(), &err);
    bool ok = lock >= 0 && wr_disk_recover(p->dir, p->path, &state, tell_repair, &r, &err);
    if (ok) {
        ok = wr_disk_look_through(p->dir, &state, &records, tell_repair, &r, &err);
        wr_segments_free(state.first);
    }
    if (lock >= 0)
        close(lock);
    if (!ok) {
        fprintf(stderr, "weir buffer: %s\n", err.text);
    } else if (p->json) {
        wr_buf_json(&path, weir_cstr(p->path));
        printf("{\"path\":%.*s,\"records\":%" PRIu64 ",\"cursor\":%" PRIu64 ",\"deleted_segments\":%u,"
               "\"repairs\":[%.*s]}\n", WR_STR(wr_buf_view(&path)), records, state.cursor,
               state.n_removed, WR_STR(wr_buf_view(&r.list)));
    } else {
        printf("%s\n%.*s  %" PRIu64 " records are left from cursor %" PRIu64
               " on; %u segments that had ended were deleted\n",
               p->path, WR_STR(wr_buf_view(&r.list)), records, state.cursor, state.n_removed);
    }
    wr_buf_done(&path);
    wr_buf_done(&r.list);
    return ok && !r.failed ? WR_EXIT_OK : WR_EXIT_PROBLEMS;
}

/* ---- The command ---- */

static int run(const void *args_, const struct wr_cli_list *operands)
{
    const struct args *args = args_;
    const char *word = operands->items[0];
    bool repairs = strcmp(word, "repair") == 0;
    char *end = NULL;
    struct picture p = {.path = operands->items[1], .json = args->format == FORMAT_JSON};
    if (!repairs && strcmp(word, "inspect") != 0)
        return wr_cli_usage("buffer", "\"%s\" is neither inspect nor repair", word);
    if (args->records != NULL) {
        errno = 0;
        p.max_records = strtoull(args->records, &end, 10);
        if (repairs)
            return wr_cli_usage("buffer", "--records is an option of inspect");
        if (*end != '\0' || errno != 0 || args->records[0] < '0' || args->records[0] > '9')
            return wr_cli_usage("buffer", "--records: \"%s\" is no number", args->records);
    }
    p.dir = open(p.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (p.dir < 0) {
        fprintf(stderr, "weir buffer: cannot open the folder %s: %s\n", p.path, strerror(errno));
        return WR_EXIT_PROBLEMS;
    }
    int code = repairs ? repair(&p) : inspect(&p);
    wr_segments_free(p.first);
    wr_buf_done(&p.records);
    wr_free(p.regions);
    close(p.dir);
    return code;
}

const struct wr_command wr_command_buffer = {
    .name = "buffer",
    .summary = "Look into the folder of a disk buffer, or repair what is damaged there.",
    .operands = "inspect|repair PATH",
    .min_operands = 2,
    .max_operands = 2,
    .text = "PATH is what a sink's buffer.path names.\n"
            "\n"
            "inspect  tells segments, records, the cursor (all before it has ended) and damaged places.\n"
            "         Changes nothing, and reads beside a weir that uses the buffer.\n"
            "repair   does now what a start and the reading would do: cuts off a write that was cut\n"
            "         short, copies damaged places into files damaged-..., deletes what has ended. A\n"
            "         start does not need it. Refuses while a process uses the buffer.\n",
    .examples = "  weir buffer inspect buffers/store\n"
                "  weir buffer inspect buffers/store --records 10 --format json\n"
                "  weir buffer repair buffers/store\n",
    .exits = "  0  nothing is damaged, or it was repaired\n"
             "  1  something is damaged, in use, or cannot be read or written\n",
    .options = options,
    .n_options = WR_COUNT(options),
    .args_size = sizeof(struct args),
    .run = run,
};
