/* SPDX-License-Identifier: Apache-2.0
 *
 * map/path.h: places inside an event's value, written as in templates: user.name, items[0].price,
 * ["odd.name"].
 */
#ifndef MAP_PATH_H
#define MAP_PATH_H

#include <weir/plugin.h>

#define PATH_STEPS_MAX 32

#define PATH_EACH UINT32_MAX /* index of [*] */

struct step {
    struct weir_str name; /* ptr NULL: index */
    uint32_t index;
};

struct path {
    struct weir_str text; /* as written */
    struct step *steps;
    uint32_t n;
    bool each; /* has [*]: leads to any number of values */
};

/* Reads text into ret; its memory is `a`, or the text's. NULL, or what is wrong at byte
 * *ret_offset. */
const char *path_parse(const struct weir_host *h, struct weir_arena *a, struct weir_str text,
                       struct path *ret, size_t *ret_offset);

/* The value there, NULL where there is none. */
const struct weir_value *path_get(const struct weir_host *h, const struct weir_value *root,
                                  const struct path *p);

/* Puts a value there. Objects are made on the way where there is nothing or null; an array takes an
 * index that it has, or its length to append. False: `why` says what is in the way (or, empty: no
 * memory), and part of the way may have been made. */
bool path_set(const struct weir_host *h, struct weir_arena *a, struct weir_value *root,
              const struct path *p, struct weir_value *take_v, char why[200]);

/* What to do with a value that a path with [*] leads to: *ret is what takes its place, NULL leaves
 * it (always so in path_visit). False ends the walk. */
typedef bool path_fn(void *arg, const struct weir_value *v, struct weir_value **ret);

/* Every value that the path leads to; places where a step fits nothing are passed over. Linear in
 * the value's size. */
bool path_visit(const struct weir_host *h, const struct weir_value *root, const struct path *p,
                path_fn *fn, void *arg);
/* The same in a root that can be changed, replacing; made values are of `a`. False also on no
 * memory. */
bool path_replace(const struct weir_host *h, struct weir_arena *a, struct weir_value *root,
                  const struct path *p, path_fn *fn, void *arg);
/* Takes out the member or item that the last step, no [*], names below each. */
void path_remove_each(const struct weir_host *h, struct weir_value *root, const struct path *p);

/* Paths lead to the first of duplicate keys, and what is written may show the others again. Whether
 * there are any on the way of this path; and their end in a root that can be changed (false: no
 * memory). */
bool path_has_twins(const struct weir_host *h, const struct weir_value *root, const struct path *p);
bool path_drop_twins(const struct weir_host *h, struct weir_arena *a, struct weir_value *root,
                     const struct path *p);

/* The steps up to the last [*], none where there is no [*]; and those behind it. */
struct path path_until_each(const struct path *p);
struct path path_below_each(const struct path *p);

/* False where nothing was there. */
bool path_remove(const struct weir_host *h, struct weir_value *root, const struct path *p);

bool path_equal(const struct path *a, const struct path *b);
/* The same parent, and names at the end: then a field can be renamed in its place. */
bool path_siblings(const struct path *a, const struct path *b);
/* Gives the last name of `from` the last name of `to`, in its place. */
bool path_rename(const struct weir_host *h, struct weir_arena *a, struct weir_value *root,
                 const struct path *from, const struct path *to);

const char *type_words(enum weir_value_type type);

#endif
