/* SPDX-License-Identifier: Apache-2.0
 *
 * File names made of events: text, `%Y` and the like of the event's time, `{{ fields }}`.
 *
 * What comes out of an event is one part of a name and no way out of the folder: no `/`, NUL or
 * other control character, and no part of the name is empty, `.` or `..`.
 */
#ifndef NAME_H
#define NAME_H

#include <weir/plugin.h>

#define NAME_LEN 1024u
#define NAME_WHY WEIR_ERROR_TEXT

struct piece;

struct name {
    struct piece *pieces;
    uint32_t n;
};

/* err->offset is the place in the text. [control] */
enum weir_status name_compile(const struct weir_host *h, struct weir_arena *a, struct weir_str text,
                              struct name *ret, struct weir_error *err);
/* The name of some event, whose fields are "x" and whose time is 1970: what of it names files
 * wrongly does so for every event. */
void name_sample(const struct name *name, char ret[NAME_LEN + 1]);
/* The name for that event, in `a`, a NUL behind. False with the reason in `why`, or an empty one
 * where memory is used up. */
bool name_make(const struct weir_host *h, const struct name *name, struct weir_batch *b,
               struct weir_event *ev, struct weir_arena *a, struct weir_str *ret,
               char why[NAME_WHY]);

#endif
