/* SPDX-License-Identifier: Apache-2.0
 *
 * engine/plan_buffer.c: a sink's buffer: which of its options belong to which type, whether the folder of
 * one on disk can be made, and that no two share one. Makes nothing: the folder is made at the start.
 */
#include <base/mem.h>
#include <base/str.h>
#include <engine/plan_private.h>

#include <errno.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#define DISK_SIZE (INT64_C(1) << 30)
#define DISK_SIZE_MIN (INT64_C(1) << 20)
#define DISK_MEMORY (INT64_C(32) << 20)

static const struct wr_node *buffer_node(const struct wr_node *sink)
{
    const struct wr_field *f = wr_node_field(sink, weir_cstr("buffer"));
    return f != NULL && f->value->kind == WR_NODE_MAP ? f->value : NULL;
}

static void wrong(struct wr_planner *p, const struct wr_draft *draft, const char *option,
                  struct weir_str message, const char *hint)
{
    const struct wr_node *map = buffer_node(draft->field->value);
    const struct wr_field *f = map != NULL ? wr_node_field(map, weir_cstr(option)) : NULL;
    struct wr_path buffer = {&draft->path, weir_cstr("buffer"), -1};
    struct wr_path path = {&buffer, weir_cstr(option), -1};
    struct wr_pos pos = f != NULL ? f->value->pos : map != NULL ? map->pos : draft->field->pos;

    wr_plan_error(p, "bad-buffer", pos, &path,
                  &(struct wr_diag){.message = message, .hint = weir_cstr(hint)});
}

/* ---- One buffer ---- */

static void check_memory(struct wr_planner *p, struct wr_draft *draft)
{
    static const char *const disk_only[] = {"path", "when_full", "sync", "keep_source", "drain_on_stop"};
    const struct wr_node *map = buffer_node(draft->field->value);

    for (size_t i = 0; map != NULL && i < sizeof(disk_only) / sizeof(disk_only[0]); i++) {
        if (wr_node_field(map, weir_cstr(disk_only[i])) != NULL)
            wrong(p, draft, disk_only[i],
                  wr_arena_xprintf(p->arena, "%s is an option of buffers on disk", disk_only[i]),
                  "add `type: disk`, or take the option out");
    }
}

/* The folder, or what is there of the way to it. */
static void check_folder(struct wr_planner *p, struct wr_draft *draft)
{
    char part[PATH_MAX];
    struct weir_str path = draft->common.opt.sink.buffer.path;
    struct stat st;
    size_t len = path.len;

    if (len >= sizeof(part)) {
        wrong(p, draft, "path", weir_cstr("the path is too long"), NULL);
        return;
    }
    for (;; len--) {
        memcpy(part, path.ptr, len);
        part[len] = '\0';
        if (stat(len != 0 ? part : "/", &st) == 0 || (errno != ENOENT && errno != ENOTDIR) || len == 0)
            break;
        while (len > 0 && path.ptr[len - 1] != '/')
            len--;
        if (len == 0)
            len = 1;
    }
    if (stat(len != 0 ? part : "/", &st) != 0)
        return; /* nobody may look there: the start will tell */
    if (!S_ISDIR(st.st_mode))
        wrong(p, draft, "path",
              wr_arena_xprintf(p->arena, "the folder cannot be made: %s is no folder", part), NULL);
    else if (access(len != 0 ? part : "/", W_OK | X_OK) != 0) {
        struct wr_path buffer = {&draft->path, weir_cstr("buffer"), -1};
        struct wr_path at = {&buffer, weir_cstr("path"), -1};
        wr_plan_warning(p, "bad-buffer",
                        wr_node_resolve(draft->field->value, draft->field->pos, "buffer.path", -1), &at,
                        &(struct wr_diag){
                            .message = wr_arena_xprintf(p->arena, "nothing can be written to %s here: %s",
                                                        len != 0 ? part : "/", strerror(errno)),
                            .hint = weir_cstr("check as the user that weir runs as")});
    }
}

void wr_plan_buffer(struct wr_planner *p, struct wr_draft *draft)
{
    struct wr_sink_options *o = &draft->common.opt.sink;
    bool disk = o->buffer.type == WR_BUFFER_DISK, given = o->buffer.size >= 0;

    if (!given)
        o->buffer.size = disk ? DISK_SIZE : WR_BUFFER_MEMORY_SIZE;
    if (!disk) {
        check_memory(p, draft);
        return;
    }
    o->buffer.memory = DISK_MEMORY;
    if (o->buffer.size < DISK_SIZE_MIN)
        wrong(p, draft, "size", weir_cstr("a disk buffer has at least 1MiB"), NULL);
    if (o->buffer.path.len == 0)
        wrong(p, draft, "path", weir_cstr("a disk buffer needs a folder"), "add `path: DIR`");
    else
        check_folder(p, draft);
    draft->c.needs |= WEIR_NEEDS_PAYLOAD | WEIR_NEEDS_ID; /* what is stored, and makes redelivery harmless */
}

/* ---- Two of them ---- */

/* Without what leads nowhere: "//", "/." and "/..". */
static void put_in_shape(struct weir_str path, struct wr_buf *out)
{
    for (size_t at = 0; at < path.len;) {
        size_t len = 0;
        while (at + len < path.len && path.ptr[at + len] != '/')
            len++;
        struct weir_str name = weir_str_n(path.ptr + at, len);
        at += len + 1;
        if (name.len == 0 || wr_str_is(name, "."))
            continue;
        if (wr_str_is(name, "..")) {
            while (out->len > 0 && out->ptr[--out->len] != '/')
                continue;
            continue;
        }
        wr_buf_text(out, "/");
        wr_buf_str(out, name);
    }
}

bool wr_same_folder(struct weir_str a, struct weir_str b)
{
    struct wr_buf x = {0}, y = {0};
    struct stat of_a, of_b;
    put_in_shape(a, &x);
    put_in_shape(b, &y);
    bool same = wr_str_eq(wr_buf_view(&x), wr_buf_view(&y)) ||
                (stat(a.ptr, &of_a) == 0 && stat(b.ptr, &of_b) == 0 && of_a.st_dev == of_b.st_dev &&
                 of_a.st_ino == of_b.st_ino);
    wr_buf_done(&x);
    wr_buf_done(&y);
    return same;
}

static bool is_disk(const struct wr_sink_options *o)
{
    return o->buffer.type == WR_BUFFER_DISK && o->buffer.path.len != 0;
}

void wr_plan_buffers(struct wr_planner *p)
{
    for (uint32_t i = 0; i < p->n; i++) {
        struct wr_draft *b = &p->drafts[i];
        if (b->kind != WEIR_SINK || !b->bound || !is_disk(&b->common.opt.sink))
            continue;
        if (b->c.is_dead_letter && b->common.opt.sink.buffer.when_full != WR_FULL_BLOCK)
            wrong(p, b, "when_full",
                  weir_cstr("what the buffer of a dead-letter sink has no room for must wait, or it would be lost"),
                  "write block, or take the option out");
        for (uint32_t k = 0; k < i; k++) {
            const struct wr_draft *a = &p->drafts[k];
            if (a->kind == WEIR_SINK && a->bound && is_disk(&a->common.opt.sink) &&
                wr_same_folder(a->common.opt.sink.buffer.path, b->common.opt.sink.buffer.path))
                wrong(p, b, "path",
                      wr_arena_xprintf(p->arena, "the buffer of sink \"%.*s\" has the same folder",
                                       WR_STR(a->field->key)),
                      "give each buffer a folder of its own");
        }
    }
}

static bool has_disk(const struct wr_component *c)
{
    return c->type->kind == WEIR_SINK && is_disk(&c->opt.sink);
}

static void report_shared(const struct wr_plan *a, const struct wr_component *of_a, struct wr_plan *b,
                          const struct wr_component *of_b, struct wr_diags *d)
{
    struct wr_diag diag = {
        .code = "bad-buffer",
        .severity = WR_ERROR,
        .pos = wr_node_resolve(of_b->node, of_b->pos, "buffer.path", -1),
        .path = wr_arena_xprintf(b->arena, "sinks.%.*s.buffer.path", WR_STR(of_b->id)),
        .message = wr_arena_xprintf(b->arena, "the buffer of sink \"%.*s\" in %.*s has the same folder",
                                    WR_STR(of_a->id), WR_STR(a->file)),
        .hint = weir_cstr("give each buffer a folder of its own")};
    const struct wr_text *text = diag.pos.text;
    diag.pos.text = wr_diags_text(d, text->name, text->text); /* the plan goes first */
    wr_diags_add(d, &diag);
}

static void check_pair(const struct wr_plan *a, struct wr_plan *b, struct wr_diags *d)
{
    for (uint32_t i = 0; i < b->n_components; i++)
        for (uint32_t k = 0; k < a->n_components; k++) {
            const struct wr_component *of_a = &a->components[k], *of_b = &b->components[i];
            if (has_disk(of_a) && has_disk(of_b) &&
                wr_same_folder(of_a->opt.sink.buffer.path, of_b->opt.sink.buffer.path))
                report_shared(a, of_a, b, of_b, d);
        }
}

void wr_plan_check_buffers(struct wr_plan *plan, const struct wr_plan *const *others, uint32_t n,
                           struct wr_diags *d)
{
    for (uint32_t i = 0; i < n; i++)
        if (others[i] != NULL)
            check_pair(others[i], plan, d);
}
