/* SPDX-License-Identifier: Apache-2.0
 *
 * Transform `map`: fields renamed, filled, set, cast, hidden, removed and kept, in that order
 * whatever the order of the file. An event that none of it concerns passes byte for byte. What
 * cannot be done fails the event as it came; what becomes of it is the host's option on_error.
 */
#include "map.h"
#include "../common/text.h"

#include <stdio.h>
#include <string.h>

struct hash_config {
    struct weir_list fields; /* struct weir_str */
    struct weir_str key;
};

struct time_config {
    struct weir_str from, to;
};

struct config {
    struct weir_list rename;   /* STRING */
    struct weir_list defaults; /* VALUE */
    struct weir_list values;   /* VALUE */
    struct weir_list set;      /* TEMPLATE */
    struct weir_list cast;     /* ENUM */
    struct weir_list time;     /* struct time_config */
    struct hash_config hash;
    struct weir_list mask;   /* ENUM */
    struct weir_list remove; /* struct weir_str */
    struct weir_list keep;   /* struct weir_str */
};

static const struct weir_option hash_options[] = {
    {.name = "fields",
     .type = WEIR_OPT_LIST,
     .of = WEIR_OPT_STRING,
     .flags = WEIR_OPT_REQUIRED | WEIR_OPT_NONEMPTY,
     .offset = offsetof(struct hash_config, fields),
     .doc = "Fields to replace by their hash.",
     .example = "[user.email, \"devices[*].id\"]"},
    {.name = "key",
     .type = WEIR_OPT_STRING,
     .flags = WEIR_OPT_SECRET | WEIR_OPT_NONEMPTY,
     .offset = offsetof(struct hash_config, key),
     .doc = "Key of HMAC-SHA-256. Without it plain SHA-256, which everybody can compute for every "
            "telephone number there is.",
     .example = "${file:/run/secrets/pseudonyms}"},
};

static const struct weir_option time_options[] = {
    {.name = "from",
     .type = WEIR_OPT_STRING,
     .offset = offsetof(struct time_config, from),
     .def = "rfc3339",
     .doc = "How the time is written: rfc3339, epoch_s, epoch_ms, epoch_us, or directives.",
     .example = "\"%d/%b/%Y:%H:%M:%S %z\""},
    {.name = "to",
     .type = WEIR_OPT_STRING,
     .offset = offsetof(struct time_config, to),
     .def = "rfc3339",
     .doc = "How it is to be written, in UTC; the same choice.",
     .example = "\"%Y-%m-%d\""},
};

static const struct weir_option options[] = {
    {.name = "rename",
     .type = WEIR_OPT_MAP,
     .of = WEIR_OPT_STRING,
     .flags = WEIR_OPT_NONEMPTY,
     .offset = offsetof(struct config, rename),
     .doc =
         "1. Fields to rename or move: old path to new path. What is not there is left out; what "
         "was at the new path is replaced.",
     .example = "{userId: user_id, props.amt: amount}"},
    {.name = "default",
     .type = WEIR_OPT_MAP,
     .of = WEIR_OPT_VALUE,
     .flags = WEIR_OPT_NONEMPTY,
     .offset = offsetof(struct config, defaults),
     .doc = "2. Values for fields that are missing; null counts as there.",
     .example = "{country: unknown, props.amount: 0}"},
    {.name = "values",
     .type = WEIR_OPT_MAP,
     .of = WEIR_OPT_VALUE,
     .flags = WEIR_OPT_NONEMPTY,
     .offset = offsetof(struct config, values),
     .doc = "3. Constant values to set, of any type.",
     .example = "{version: 2, source: {name: web, tags: [a, b]}}"},
    {.name = "set",
     .type = WEIR_OPT_MAP,
     .of = WEIR_OPT_TEMPLATE,
     .flags = WEIR_OPT_NONEMPTY,
     .offset = offsetof(struct config, set),
     .doc =
         "4. Fields to set from templates, each seeing those before it. A bare {{ field }} copies "
         "the value with its type, all else gives text.",
     .example = "{name: \"{{ first }} {{ last }}\", user: \"{{ raw.user }}\"}"},
    {.name = "cast",
     .type = WEIR_OPT_MAP,
     .of = WEIR_OPT_ENUM,
     .choices = cast_words,
     .flags = WEIR_OPT_NONEMPTY,
     .offset = offsetof(struct config, cast),
     .doc = "5. Fields to give another type; missing and null stay as they are.",
     .example = "{user_id: string, age: int, ts: time}"},
    {.name = "time",
     .type = WEIR_OPT_MAP,
     .of = WEIR_OPT_TABLE,
     .flags = WEIR_OPT_NONEMPTY,
     .offset = offsetof(struct config, time),
     WEIR_FIELDS(time_options),
     .fields_size = sizeof(struct time_config),
     .doc = "6. Times to write in another format; missing and null stay as they are.",
     .example = "{ts: {from: epoch_ms}, born: {from: \"%d.%m.%Y\", to: \"%Y-%m-%d\"}}"},
    {.name = "hash",
     .type = WEIR_OPT_TABLE,
     .offset = offsetof(struct config, hash),
     WEIR_FIELDS(hash_options),
     .doc = "7. Fields to replace by 64 hexadecimal digits that are the same for the same value.",
     .example = "{fields: [user.email], key: \"${env:PSEUDONYM_KEY}\"}"},
    {.name = "mask",
     .type = WEIR_OPT_MAP,
     .of = WEIR_OPT_ENUM,
     .choices = mask_words,
     .flags = WEIR_OPT_NONEMPTY,
     .offset = offsetof(struct config, mask),
     .doc = "8. Fields of which all or most becomes ***: all, last4, email or ip.",
     .example = "{user.email: email, card: last4, \"sessions[*].addr\": ip}"},
    {.name = "remove",
     .type = WEIR_OPT_LIST,
     .of = WEIR_OPT_STRING,
     .flags = WEIR_OPT_NONEMPTY,
     .offset = offsetof(struct config, remove),
     .doc = "9. Fields to take out.",
     .example = "[password, props.debug]"},
    {.name = "keep",
     .type = WEIR_OPT_LIST,
     .of = WEIR_OPT_STRING,
     .flags = WEIR_OPT_NONEMPTY,
     .offset = offsetof(struct config, keep),
     .doc = "10. The only fields that stay; paths of names and [*].",
     .example = "[user_id, type, \"items[*].price\"]"},
};

/* ---- Reading the options ---- */

/* Hears of each mistake; where: "rename.userId". */
struct mistakes {
    void (*say)(struct mistakes *m, const char *where, const char *text);
    const struct weir_report *report;
    char first[WEIR_ERROR_TEXT];
    uint32_t n;
};

/* `key`: of the entry in a map; NULL in a list. */
static void bad_path(struct mistakes *m, const char *option, const struct weir_str *key,
                     uint32_t index, struct weir_str text, const char *why, size_t offset)
{
    char where[300], what[400];
    if (key == NULL)
        (void)snprintf(where, sizeof(where), "%s[%u]", option, index);
    else
        (void)snprintf(where, sizeof(where), "%s.%.*s", option,
                       (int)utf8_cut(key->ptr, key->len, 200), key->ptr);
    (void)snprintf(what, sizeof(what), "\"%.*s\" at byte %zu: %s",
                   (int)utf8_cut(text.ptr, text.len, 200), text.ptr != NULL ? text.ptr : "", offset,
                   why);
    m->n++;
    m->say(m, where, what);
}

/* Where a path may lead to several values. */
static bool may_be_each(const char *option)
{
    static const char *const options_of_each[] = {"rename", "cast",   "time", "hash.fields",
                                                  "mask",   "remove", "keep"};
    for (size_t i = 0; i < sizeof(options_of_each) / sizeof(options_of_each[0]); i++)
        if (strcmp(option, options_of_each[i]) == 0)
            return true;
    return false;
}

static bool read_path(const struct weir_host *h, struct weir_arena *a, struct mistakes *m,
                      const char *option, const struct weir_str *key, uint32_t index,
                      struct weir_str text, struct path *ret)
{
    size_t offset;
    const char *why = path_parse(h, a, text, ret, &offset);
    if (why == NULL && ret->each && !may_be_each(option))
        why = "[*] may stand in rename, cast, time, hash, mask, remove and keep only";
    bool each_last = why == NULL && ret->steps[ret->n - 1].name.ptr == NULL &&
                     ret->steps[ret->n - 1].index == PATH_EACH;
    if (each_last && strcmp(option, "remove") == 0)
        why = "all items would go: remove the array itself";
    if (each_last && strcmp(option, "rename") == 0)
        why = "an item has no name: expected a field behind [*]";
    if (why != NULL)
        bad_path(m, option, key, index, text, why, offset);
    return why == NULL;
}

static struct edit *make_edits(const struct weir_host *h, struct weir_arena *a, struct mistakes *m,
                               uint32_t n)
{
    struct edit *items = h->arena_alloc(a, (n + 1) * sizeof(*items));
    if (items != NULL) {
        memset(items, 0, (n + 1) * sizeof(*items));
    } else {
        m->n++;
        m->say(m, "", "no memory for the options");
    }
    return items;
}

enum content { TO_PATH, TO_VALUE, TO_TEMPLATE, TO_CAST, TO_TIME, TO_MASK };

/* Where items are renamed, it is within each item. */
static bool read_rename(const struct weir_host *h, struct weir_arena *a, struct mistakes *m,
                        const struct weir_pair *pair, struct edit *e, bool good)
{
    struct weir_str text = pair->value.str;
    if (!read_path(h, a, m, "rename", &pair->key, 0, text, &e->by.to) || !good)
        return false;
    struct path from = path_until_each(&e->path), to = path_until_each(&e->by.to);
    if (path_equal(&from, &to))
        return true;
    bad_path(m, "rename", &pair->key, 0, text,
             "both paths must be the same up to their last [*]: fields stay in their item", 0);
    return false;
}

static bool read_time(const struct weir_host *h, struct weir_arena *a, struct mistakes *m,
                      const struct weir_pair *pair, struct time_change *ret)
{
    const struct time_config *cf = pair->value.ptr;
    const struct weir_str texts[] = {cf->from, cf->to};
    static const char *const names[] = {"from", "to"};
    struct time_format *const formats[] = {&ret->from, &ret->to};
    bool good = true;
    for (int i = 0; i < 2; i++) {
        char option[300];
        size_t offset;
        const char *why = time_format_parse(h, a, texts[i], i == 0, formats[i], &offset);
        if (why == NULL)
            continue;
        struct weir_str key = weir_cstr(names[i]);
        (void)snprintf(option, sizeof(option), "time.%.*s",
                       (int)utf8_cut(pair->key.ptr, pair->key.len, 200), pair->key.ptr);
        bad_path(m, option, &key, 0, texts[i], why, offset);
        good = false;
    }
    return good;
}

static void read_map(const struct weir_host *h, struct weir_arena *a, struct mistakes *m,
                     const char *option, const struct weir_list *map, enum content content,
                     struct edits *ret)
{
    const struct weir_pair *pairs = map->items;
    *ret = (struct edits){make_edits(h, a, m, map->n), 0};
    for (uint32_t i = 0; ret->items != NULL && i < map->n; i++) {
        struct edit *e = &ret->items[ret->n];
        bool good = read_path(h, a, m, option, &pairs[i].key, i, pairs[i].key, &e->path);
        if (content == TO_PATH)
            good = read_rename(h, a, m, &pairs[i], e, good);
        else if (content == TO_VALUE)
            e->by.value = pairs[i].value.ptr;
        else if (content == TO_TEMPLATE)
            e->by.template = pairs[i].value.ptr;
        else if (content == TO_CAST)
            e->by.cast = (enum cast)pairs[i].value.num;
        else if (content == TO_TIME)
            good = read_time(h, a, m, &pairs[i], &e->by.time) && good;
        else
            e->by.mask = (enum mask)pairs[i].value.num;
        ret->n += good;
    }
}

static void read_list(const struct weir_host *h, struct weir_arena *a, struct mistakes *m,
                      const char *option, const struct weir_list *list, struct edits *ret)
{
    const struct weir_str *texts = list->items;
    *ret = (struct edits){make_edits(h, a, m, list->n), 0};
    for (uint32_t i = 0; ret->items != NULL && i < list->n; i++)
        ret->n += read_path(h, a, m, option, NULL, i, texts[i], &ret->items[ret->n].path);
}

static void read_keep(const struct weir_host *h, struct weir_arena *a, struct mistakes *m,
                      const struct weir_list *list, struct keep_node *root)
{
    const struct weir_str *texts = list->items;
    for (uint32_t i = 0; i < list->n; i++) {
        struct path p;
        bool single = false;
        if (!read_path(h, a, m, "keep", NULL, i, texts[i], &p))
            continue;
        for (uint32_t k = 0; k < p.n; k++)
            single |= p.steps[k].name.ptr == NULL && p.steps[k].index != PATH_EACH;
        if (single)
            bad_path(m, "keep", NULL, i, texts[i],
                     "items of arrays cannot be kept one by one: name them all, [*]", 0);
        else if (!keep_add(h, a, root, &p))
            bad_path(m, "keep", NULL, i, texts[i], "no memory", 0);
    }
}

/* Fills all but h of *ret. */
static void read_options(const struct weir_host *h, struct weir_arena *a, const struct config *cf,
                         struct mistakes *m, struct map *ret)
{
    ret->arena = a;
    read_map(h, a, m, "rename", &cf->rename, TO_PATH, &ret->rename);
    read_map(h, a, m, "default", &cf->defaults, TO_VALUE, &ret->defaults);
    read_map(h, a, m, "values", &cf->values, TO_VALUE, &ret->values);
    read_map(h, a, m, "set", &cf->set, TO_TEMPLATE, &ret->set);
    read_map(h, a, m, "cast", &cf->cast, TO_CAST, &ret->cast);
    read_map(h, a, m, "time", &cf->time, TO_TIME, &ret->time);
    read_list(h, a, m, "hash.fields", &cf->hash.fields, &ret->hash);
    ret->hash_key = cf->hash.key;
    read_map(h, a, m, "mask", &cf->mask, TO_MASK, &ret->mask);
    read_list(h, a, m, "remove", &cf->remove, &ret->remove);
    read_keep(h, a, m, &cf->keep, &ret->keep);
    ret->keeps = cf->keep.n > 0;
}

/* ---- check ---- */

static void report_mistake(struct mistakes *m, const char *where, const char *text)
{
    m->report->error(m->report, where, -1, "%s", text);
}

static bool same(struct weir_str a, struct weir_str b)
{
    return a.len == b.len && memcmp(a.ptr, b.ptr, a.len) == 0;
}

static void check_twice(const struct config *cf, const struct weir_report *report)
{
    const struct weir_pair *set = cf->set.items, *values = cf->values.items;
    for (uint32_t i = 0; i < cf->set.n; i++)
        for (uint32_t k = 0; k < cf->values.n; k++) {
            char where[300];
            if (!same(set[i].key, values[k].key))
                continue;
            (void)snprintf(where, sizeof(where), "set.%.*s",
                           (int)utf8_cut(set[i].key.ptr, set[i].key.len, 200), set[i].key.ptr);
            report->error(
                report, where, -1,
                "values sets this field as well, and would be overwritten: leave out one");
        }
}

/* A hash of a hash, or a mask that shows a part of one. */
static void check_hidden_twice(const struct config *cf, const struct weir_report *report)
{
    const struct weir_str *fields = cf->hash.fields.items;
    const struct weir_pair *masks = cf->mask.items;
    for (uint32_t i = 0; i < cf->hash.fields.n; i++) {
        char where[40];
        (void)snprintf(where, sizeof(where), "hash.fields[%u]", i);
        for (uint32_t k = 0; k < i; k++)
            if (same(fields[i], fields[k]))
                report->error(report, where, -1, "the field is there twice: remove one");
        for (uint32_t k = 0; k < cf->mask.n; k++)
            if (same(fields[i], masks[k].key))
                report->error(report, where, -1,
                              "mask has this field as well, and would mask the hash: keep one");
    }
}

static void map_check(const void *config, const struct weir_report *report)
{
    const struct config *cf = config;
    const struct weir_host *h = report->host;
    struct mistakes m = {.say = report_mistake, .report = report};
    struct map map = {0};
    struct weir_arena *a = h->arena_new(h);
    if (a == NULL) {
        report->error(report, "", -1, "no memory to check the options");
        return;
    }
    if (cf->rename.n + cf->defaults.n + cf->values.n + cf->set.n + cf->cast.n + cf->time.n +
            cf->hash.fields.n + cf->mask.n + cf->remove.n + cf->keep.n ==
        0)
        report->error(report, "", -1,
                      "nothing to do: expected at least one of rename, default, values, set, cast, "
                      "time, hash, mask, remove and keep");
    read_options(h, a, cf, &m, &map);
    check_twice(cf, report);
    check_hidden_twice(cf, report);
    h->arena_free(a);
}

/* ---- Life ---- */

static void keep_first(struct mistakes *m, const char *where, const char *text)
{
    if (m->n == 1)
        (void)snprintf(m->first, sizeof(m->first), "%.150s: %.200s", where, text);
}

static void map_close(void *take_self)
{
    struct map *self = take_self;
    if (self == NULL)
        return;
    if (self->arena != NULL)
        self->h->arena_free(self->arena);
    self->h->free(self);
}

static enum weir_status map_open(const struct weir_host *h, const void *config, void **ret_self,
                                 struct weir_error *err)
{
    struct mistakes m = {.say = keep_first};
    struct map *self = h->alloc(sizeof(*self));
    struct weir_arena *a = self != NULL ? h->arena_new(h) : NULL;
    if (a == NULL) {
        h->free(self);
        return h->error(err, WEIR_E_NOMEM, "no_memory", "no memory for the transform");
    }
    self->h = h;
    read_options(h, a, config, &m, self);
    if (m.n > 0) {
        map_close(self);
        return h->error(err, WEIR_E_CONFIG, "bad_path", "%s", m.first);
    }
    *ret_self = self;
    return WEIR_OK;
}

static const struct weir_transform transform = {
    .size = sizeof(transform),
    .apply = map_apply,
};

static const struct weir_type type_map = {
    .size = sizeof(type_map),
    .kind = WEIR_TRANSFORM,
    .name = "map",
    .summary = "Renames, fills, sets, casts, removes and keeps fields.",
    .doc =
        "The steps run in this order, whatever their order in the file: `rename`, `default`, "
        "`values`, `set`, `cast`, `time`, `hash`, `mask`, `remove`, `keep`; within a step in the "
        "order of the file. For "
        "another order use two `map`s. Events that nothing changes pass byte for byte.\n"
        "\n"
        "**Paths** are written as in templates: `user.name`, `items[0].price`, `[\"odd.name\"]`. "
        "Where "
        "something is set, objects and arrays are made on the way where there is nothing or null; "
        "an "
        "array takes the index behind its last one to append. A parent of another type fails the "
        "event (`bad_path`). `items[*].price` leads to each item; it may stand in `rename` (within "
        "the item: `items[*].amt: items[*].amount`), `cast`, `time`, `hash`, `mask`, `remove` and "
        "`keep`. A path that fits nothing in an event changes nothing: where other shapes may "
        "come, "
        "`validate` first.\n"
        "\n"
        "**Casts.** `string`: numbers and booleans as JSON writes them. `int`: numbers without a "
        "fraction in 64 bits, numeric strings, booleans as 0 and 1. `float`: numbers and numeric "
        "strings, to the nearest double. `bool`: 0, 1, and the strings true, false, 0, 1. `json`: "
        "anything, as its JSON text. `time`: RFC 3339 in any offset, to UTC. `time_from_s`, "
        "`time_from_ms`, `time_from_us`: seconds, milliseconds or microseconds since 1970, to RFC "
        "3339 in UTC. `epoch_s`, `epoch_ms`, `epoch_us`: the other way, whole. What cannot be cast "
        "fails "
        "the event (`bad_cast`); missing and null stay as they are.\n"
        "\n"
        "**Times.** `time` reads a field as `from` says and writes it as `to` says, in UTC; what "
        "cannot be read so fails the event (`bad_time`). Directives: `%Y %m %d`, `%y` (69 to 99: "
        "1900s), `%e` (day, a blank for its zero), `%j` (day of the year), `%b %B %a %A` (English, "
        "short or whole), `%H %M %S` (60 where UTC can have a leap second: the next day begins), "
        "`%I %p`, `%L %f %N` (a fraction in 3, 6 or 9 digits; read in "
        "1 to 9), `%z` (`+0100`, `+01:00`, `Z`; without it UTC), `%s` (seconds since 1970, "
        "rounded down; beside a fraction its sign counts for both: `-1.500`), `%F %T "
        "%R`, `%%`. All else stands for itself, and every byte counts.\n"
        "\n"
        "**Personal data.** `hash` takes a string's bytes, or another value's JSON text. `mask`: "
        "`all` "
        "leaves `***`; `last4` the last four characters of a text or number with eight or more; "
        "`email` the first character and the domain; `ip` the network (24 bits of IPv4, 48 of "
        "IPv6). What is not of that kind becomes `***`: nothing is shown by accident. null stays. "
        "Of duplicate keys "
        "the first is hidden and the others go, so that none passes unseen; so they do on the old "
        "path "
        "of a `rename`, whose value may be hidden under the new one. Keys, headers and ids "
        "of "
        "events stay as they are. Dead letters hold the "
        "payload as its source gave it, with all that is hidden later: keep them as safe as the "
        "source's.\n"
        "\n"
        "**Fails** also: an event that is no object (`not_object`), a template whose field is "
        "missing and has no default (`no_field`). A failed event goes on as it came, to where "
        "`on_error` says.",
    .needs_always = WEIR_NEEDS_VALUE,
    .options = WEIR_OPTIONS(options, struct config),
    .transform = &transform,
    .check = map_check,
    .open = map_open,
    .close = map_close,
};

static const struct weir_type *const types[] = {&type_map, NULL};

WEIR_PLUGIN = {WEIR_PLUGIN_ABI, "map", "0.1.0", "Fields renamed, set, cast, removed.",
               "Apache-2.0",    types, NULL};
