/* SPDX-License-Identifier: Apache-2.0
 *
 * weir/option.h: the option table, the one place where a component's options are described.
 *
 * From it come parsing, validation, `weir plugins NAME`, the reference, the JSON Schema and the
 * printed effective configuration. The host allocates the config struct, zeroes it, fills in
 * defaults (texts read by the same parser as the user's) and then what the file says; `open` sees
 * only valid values. All of the struct is the host's, and outlives instances and a source's events.
 */
#ifndef WEIR_OPTION_H
#define WEIR_OPTION_H

#include <weir/base.h>

/* type            C type at the offset                   in YAML
 * BOOL            bool                                   true, false
 * INT             int64_t                                12, -3
 * FLOAT           double                                 0.5
 * STRING          struct weir_str, NUL behind            text
 * DURATION        int64_t, nanoseconds                   50ms, 1.5s, 2m, 1h, 7d
 * SIZE            int64_t, bytes                         512, 64KiB, 4MiB, 1GiB, 10MB
 * ENUM            int, index into `choices`              one of the words
 * PATH            struct weir_str, absolute, NUL behind  relative to the pipeline file's folder
 * TEMPLATE        struct weir_template *                 "user:{{ user_id }}"; NULL where not given
 * CONDITION       struct weir_condition *                event.type == "login"; NULL where not given
 * VALUE           const struct weir_value *              any YAML, as a JSON value; NULL where not given
 * TABLE           the nested struct itself               a map with the keys of `fields`
 * LIST            struct weir_list of `of`               [a, b]; a single scalar is a list of one
 * MAP             struct weir_list of struct weir_pair   {key: value}, in the order of the file
 */
enum weir_option_type {
    WEIR_OPT_BOOL = 1,
    WEIR_OPT_INT,
    WEIR_OPT_FLOAT,
    WEIR_OPT_STRING,
    WEIR_OPT_DURATION,
    WEIR_OPT_SIZE,
    WEIR_OPT_ENUM,
    WEIR_OPT_PATH,
    WEIR_OPT_TEMPLATE,
    WEIR_OPT_CONDITION,
    WEIR_OPT_VALUE,
    WEIR_OPT_TABLE,
    WEIR_OPT_LIST,
    WEIR_OPT_MAP
};

struct weir_template;
struct weir_condition;
struct weir_host;

/* Option flags. */
#define WEIR_OPT_REQUIRED 1u
#define WEIR_OPT_SECRET 2u       /* never printed, logged or shown */
#define WEIR_OPT_MULTILINE 4u    /* code: positions inside it matter (a block scalar) */
#define WEIR_OPT_PREFIXED 8u     /* TEMPLATE: must start with literal text (topic, collection, key) */
#define WEIR_OPT_ADVANCED 16u    /* listed after the others */
#define WEIR_OPT_NONEMPTY 32u    /* "" and empty lists and maps are errors */
#define WEIR_OPT_TEMPLATES 64u   /* VALUE: each string in it is a template, checked as one; the plugin
                                    makes it with host->template_compile */
/* SIZE: memory that each instance of the component may take. It counts in the process's memory, and where
 * the file does not give it and memory is scarce the host lowers it, to a 16th of the default at least. */
#define WEIR_OPT_MEMORY 128u
#define WEIR_OPT_SHARED 256u     /* with MEMORY: so much for all instances of the component together */
#define WEIR_OPT_ALONG 512u      /* SIZE: lowered by as much as those with MEMORY are, and not counted */
#define WEIR_OPT_CONTENT 1024u   /* PATH: what the file holds is part of the configuration; where it has
                                    changed a reload opens the component anew */
#define WEIR_OPT_MODULES 2048u   /* with CONTENT: files with the same ending beside it, and in folders below,
                                    belong to it */

/* One option. `min` and `max` hold for INT, SIZE (bytes), DURATION (ns) and, as whole numbers,
 * FLOAT; both 0 = no limits; for LIST and MAP they hold for each element. `def` NULL: not given
 * leaves zero. */
struct weir_option {
    const char *name;
    enum weir_option_type type;
    enum weir_option_type of;   /* element type of LIST and MAP; 0 elsewhere */
    uint32_t flags;
    size_t offset;              /* into the config struct */
    const char *def;            /* default as it would stand in YAML */
    int64_t min, max;
    const char *const *choices; /* ENUM (also as `of`): words, NULL at the end */
    const struct weir_option *fields; /* TABLE (also as `of`): its options */
    uint32_t n_fields;
    size_t fields_size;         /* TABLE as `of`: sizeof of the nested struct */
    const char *deprecated_by;  /* name of the option to use instead; NULL = current */
    const char *doc;            /* one line */
    const char *example;        /* as it would stand in YAML; may be NULL */
    uint32_t percent;           /* MEMORY: of its value, what is really taken; 0 = 100 */
};

/* Option tables are reached by stride, so that struct weir_option can grow. */
struct weir_options {
    const struct weir_option *items;
    uint32_t n;
    uint32_t stride;    /* sizeof(struct weir_option) */
    size_t config_size; /* sizeof of the struct that they fill */
};

/* LIST: `items` is an array of the element's C type. MAP: an array of struct weir_pair. */
struct weir_list {
    void *items;
    uint32_t n;
};

/* One entry of a MAP. `value` is read by the element type:
 * BOOL, INT, ENUM, DURATION, SIZE in `num`, FLOAT in `real`, STRING and PATH in `str`,
 * TEMPLATE, CONDITION, VALUE in `ptr`, TABLE in `ptr` (a pointer to the nested struct). */
struct weir_pair {
    struct weir_str key;
    union {
        int64_t num;
        double real;
        struct weir_str str;
        const void *ptr;
    } value;
};

/* A plugin's own checks report here, and never stop at the first.
 *
 * path    dotted, below the component: "routes.purchase", "command[2]"
 * offset  byte position inside that option's text, -1 = the whole value
 * Thread  [control] */
struct weir_report {
    uint32_t size;
    void (*error)(const struct weir_report *r, const char *path, int64_t offset, const char *fmt, ...)
        WEIR_PRINTF(4, 5);
    void (*warning)(const struct weir_report *r, const char *path, int64_t offset, const char *fmt,
                    ...) WEIR_PRINTF(4, 5);
    void *priv;
    /* Of the host's functions the ones for errors, memory, values and template_is_literal; pipeline
     * and component are set. */
    const struct weir_host *host;
    /* A file that the configuration names in another way than by a PATH with CONTENT, in a URL for example:
     * its content belongs to the configuration as if it did. NULL: nobody asks now. */
    void (*file)(const struct weir_report *r, struct weir_str path);
};

#endif
