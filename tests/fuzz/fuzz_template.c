/* SPDX-License-Identifier: Apache-2.0
 *
 * Any bytes as a template, a part of them as if it had come from outside: compiled, and rendered
 * for an event with everything and for one with nothing.
 */
#include <stddef.h>
#include <stdint.h>

#include <base/arena.h>
#include <base/check.h>
#include <base/str.h>
#include <model/template.h>
#include <model/value.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void render(const struct weir_template *t, const struct weir_event *ev, struct weir_arena *a)
{
    struct weir_error err = {.offset = -1};
    struct weir_str s = wr_template_render(t, ev, a, &err);

    WR_BUG_ON(s.ptr == NULL && err.status != WEIR_E_REJECTED);
    WR_BUG_ON(s.ptr != NULL && s.ptr[s.len] != '\0');
    (void)wr_template_value(t, ev);
}

static void use(const struct weir_template *t, struct weir_arena *a)
{
    static const char json[] = "{\"a\":{\"b\":[1,\"x\",null]},\"b\":\"text\",\"c\":1.5}";
    static const struct weir_header header = {{"h", 1}, {"v", 1}};
    static const struct weir_origin origin = {{"topic", 5}, 1};
    struct weir_event bare = {.time_ns = 0};
    struct weir_event full = {.value = wr_value_parse(a, weir_str_n(json, sizeof(json) - 1), NULL),
                              .key = {"k", 1},
                              .id = {"i", 1},
                              .time_ns = 1,
                              .headers = &header,
                              .n_headers = 1,
                              .origin = &origin,
                              .stream = (struct weir_stream *)(void *)&bare};
    struct weir_str literal;

    if (wr_template_is_literal(t, &literal))
        WR_BUG_ON(wr_template_needs(t) != 0 || literal.ptr[literal.len] != '\0');
    render(t, &full, a);
    render(t, &bare, a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct weir_arena a = {0};
    struct weir_error err = {.offset = -1};
    struct wr_text_range foreign = {0, 0};
    struct weir_template *t;
    struct weir_str text;

    if (size < 2)
        return 0;
    text = weir_str_n((const char *)data + 2, size - 2);
    foreign.start = data[0] < text.len ? data[0] : text.len;
    foreign.end = foreign.start + data[1] < text.len ? foreign.start + data[1] : text.len;
    t = wr_template_compile_ranges(&a, text, &foreign, foreign.end > foreign.start, &err);
    if (t == NULL)
        WR_BUG_ON(err.status != WEIR_E_CONFIG || err.offset < 0 || (size_t)err.offset > text.len);
    else
        use(t, &a);
    wr_arena_done(&a);
    return 0;
}
