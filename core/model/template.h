/* SPDX-License-Identifier: Apache-2.0
 *
 * model/template.h: "session:{{ user.id | anonymous }}", compiled once, rendered an event.
 *
 * {{ a.b[0] }} a field of the value, {{ ["any key"] }} one whose name is no plain word; {{ @key }}
 * {{ @id }} {{ @topic }} {{ @partition }} {{ @offset }} {{ @time }} (RFC 3339, UTC) {{ @header.name
 * }} metadata; `| text` or `| 'text'` a default. "{{ '{{' }}" writes two braces. A field that is
 * null counts as missing.
 */
#ifndef WR_MODEL_TEMPLATE_H
#define WR_MODEL_TEMPLATE_H

#include <weir/host.h>

/* Compiles text into `a` (control path). NULL on error: err->offset is the position in the text. */
struct weir_template *wr_template_compile(struct weir_arena *a, struct weir_str text,
                                          struct weir_error *err);
/* Bytes [start, end) of a text. */
struct wr_text_range {
    size_t start, end;
};
/* The same where some ranges of the text (in order) came from outside: braces in them are text, and
 * no placeholder may hold a part of them. */
struct weir_template *wr_template_compile_ranges(struct weir_arena *a, struct weir_str text,
                                                 const struct wr_text_range *foreign, uint32_t n,
                                                 struct weir_error *err);
/* WEIR_NEEDS_*: VALUE where a field is read, ID where @id is. */
uint32_t wr_template_needs(const struct weir_template *t);
/* Literal text at the start; empty where it begins with a placeholder. */
struct weir_str wr_template_prefix(const struct weir_template *t);

/* As struct weir_host's functions of the same names. `value` is the event's parsed value (NULL
 * where it has none); the caller made sure that the id is there where it is needed. Thread: any. */
struct weir_str wr_template_render(const struct weir_template *t, const struct weir_event *ev,
                                   struct weir_arena *a, struct weir_error *err);
struct weir_str wr_template_render_with(const struct weir_template *t, const struct weir_event *ev,
                                        struct weir_arena *a, enum weir_escape how,
                                        struct weir_error *err);
bool wr_template_is_literal(const struct weir_template *t, struct weir_str *ret_text);
const struct weir_value *wr_template_value(const struct weir_template *t,
                                           const struct weir_event *ev);

#endif
