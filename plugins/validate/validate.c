/* SPDX-License-Identifier: Apache-2.0
 *
 * Transform `validate`: events that a JSON Schema does not allow are failed with the place and the
 * reason; the others pass untouched. The schema is compiled once for all instances; what happens to
 * failed events is the host's option on_error.
 */
#include "schema.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_MAX ((int64_t)4 << 20)

struct config {
    const struct weir_value *schema;
    struct weir_str file;
};

/* A schema and what it is made of: of all instances of a component, and only read by them. */
struct program {
    struct weir_arena *arena;
    struct patterns *patterns;
    const struct schema *root;
    void (*arena_free)(struct weir_arena *take_a);
    void (*free)(void *p);
};

struct validate {
    const struct weir_host *h;
    const struct program *program;
    struct checker checker;
};

static const struct weir_option options[] = {
    {.name = "schema",
     .type = WEIR_OPT_VALUE,
     .offset = offsetof(struct config, schema),
     .doc = "The JSON Schema (draft 2020-12), written here as YAML.",
     .example = "{type: object, required: [type], properties: {type: {type: string}}}"},
    {.name = "file",
     .type = WEIR_OPT_PATH,
     .flags = WEIR_OPT_NONEMPTY | WEIR_OPT_CONTENT,
     .offset = offsetof(struct config, file),
     .doc = "Instead of schema: a file with the JSON Schema as JSON, up to 4 MiB.",
     .example = "schemas/event.json"},
};

/* ---- The schema's text ---- */

static bool read_whole(FILE *f, char *text, size_t size)
{
    return fread(text, 1, size, f) == size && fgetc(f) == EOF;
}

/* The file's JSON in `a`; NULL: err says why. */
static const struct weir_value *read_file(const struct weir_host *h, struct weir_arena *a,
                                          const char *path, struct weir_error *err)
{
    struct stat st;
    const struct weir_value *v = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe is not waited for */
    FILE *f = fd >= 0 ? fdopen(fd, "r") : NULL;
    if (f == NULL || fstat(fd, &st) != 0) {
        (void)h->error(err, WEIR_E_CONFIG, "bad_file", "cannot read %s: %s", path, strerror(errno));
    } else if (!S_ISREG(st.st_mode) || st.st_size > FILE_MAX) {
        (void)h->error(err, WEIR_E_CONFIG, "bad_file", "%s %s", path,
                       S_ISREG(st.st_mode) ? "is larger than 4 MiB" : "is no regular file");
    } else {
        size_t size = (size_t)st.st_size;
        char *text = h->arena_alloc(a, size + 1);
        if (text == NULL || !read_whole(f, text, size))
            (void)h->error(err, WEIR_E_CONFIG, "bad_file", "cannot read all of %s", path);
        else
            v = h->value_parse(a, weir_str_n(text, size), err);
    }
    if (f != NULL)
        (void)fclose(f);
    else if (fd >= 0)
        (void)close(fd);
    return v;
}

/* ---- The program ---- */

static void program_free(void *take_program)
{
    struct program *p = take_program;
    if (p == NULL)
        return;
    patterns_free(p->patterns);
    if (p->arena != NULL)
        p->arena_free(p->arena);
    p->free(p);
}

/* NULL: err says why, unless mistakes of the schema were reported (then err is untouched). */
static struct program *program_new(const struct weir_host *h, const struct config *cf,
                                   const struct schema_report *report, struct weir_error *err)
{
    struct program *p = h->alloc(sizeof(*p));
    if (p != NULL) {
        *p = (struct program){.arena_free = h->arena_free, .free = h->free};
        p->arena = h->arena_new(h);
        p->patterns = patterns_new(h);
    }
    if (p == NULL || p->arena == NULL || p->patterns == NULL) {
        (void)h->error(err, WEIR_E_NOMEM, "no_memory", "no memory for the schema");
        program_free(p);
        return NULL;
    }
    const struct weir_value *json =
        cf->schema != NULL ? cf->schema : read_file(h, p->arena, cf->file.ptr, err);
    if (json != NULL)
        p->root = schema_compile(h, p->arena, p->patterns, json, report);
    if (p->root != NULL)
        return p;
    program_free(p);
    return NULL;
}

/* ---- check ---- */

struct check_arg {
    const struct weir_report *report;
    const char *option;
};

static void report_mistake(void *arg, const char *path, const char *text)
{
    const struct check_arg *to = arg;
    char where[440];
    if (strcmp(to->option, "file") == 0) {
        to->report->error(to->report, "file", -1, "%s%s%s", path, path[0] != '\0' ? ": " : "",
                          text);
        return;
    }
    (void)snprintf(where, sizeof(where), "schema%s%s", path[0] != '\0' && path[0] != '[' ? "." : "",
                   path);
    to->report->error(to->report, where, -1, "%s", text);
}

static void validate_check(const void *config, const struct weir_report *report)
{
    const struct config *cf = config;
    const struct weir_host *h = report->host;
    struct weir_error err = {0};
    if ((cf->schema == NULL) == (cf->file.ptr == NULL)) {
        report->error(report, cf->schema == NULL ? "schema" : "file", -1,
                      cf->schema == NULL ? "a schema is missing: give it in schema or name its file"
                                         : "schema is given as well: use one of the two");
        return;
    }
    struct check_arg arg = {report, cf->schema != NULL ? "schema" : "file"};
    const struct schema_report to = {report_mistake, &arg, cf->schema == NULL};
    program_free(program_new(h, cf, &to, &err));
    if (err.status != WEIR_OK)
        report->error(report, arg.option, -1, "%s", err.text);
}

/* ---- Life ---- */

static void keep_first(void *arg, const char *path, const char *text)
{
    char *first = arg;
    if (first[0] == '\0')
        (void)snprintf(first, WEIR_ERROR_TEXT, "schema%s: %.200s", path, text);
}

static void *share(const struct weir_host *h, const void *config, struct weir_error *err)
{
    char first[WEIR_ERROR_TEXT] = "";
    const struct schema_report to = {keep_first, first, true};
    struct program *p = program_new(h, config, &to, err);
    if (first[0] != '\0')
        (void)h->error(err, WEIR_E_CONFIG, "bad_schema", "%s", first);
    return p;
}

static enum weir_status prepare(struct validate *self, struct weir_error *err)
{
    const struct weir_host *h = self->h;
    struct weir_error why = {0};
    self->program = h->shared(h, share, program_free, &why);
    if (self->program == NULL)
        return h->error(err, why.status, why.code, "%s", why.text);
    self->checker = (struct checker){.h = h, .seed = h->random(h), .matcher = matcher_new(h)};
    if (self->checker.matcher == NULL)
        return h->error(err, WEIR_E_NOMEM, "no_memory", "no memory to match patterns");
    return WEIR_OK;
}

static void validate_close(void *take_self)
{
    struct validate *self = take_self;
    if (self == NULL)
        return;
    matcher_free(self->checker.matcher);
    self->h->free(self);
}

static enum weir_status validate_open(const struct weir_host *h, const void *config,
                                      void **ret_self, struct weir_error *err)
{
    (void)config; /* read in share() */
    struct validate *self = h->alloc(sizeof(*self));
    if (self == NULL)
        return h->error(err, WEIR_E_NOMEM, "no_memory", "no memory for the transform");
    self->h = h;
    enum weir_status status = prepare(self, err);
    if (status != WEIR_OK) {
        validate_close(self);
        return status;
    }
    *ret_self = self;
    return WEIR_OK;
}

static enum weir_status validate_apply(void *self_, struct weir_batch *b, int64_t *ret_again_ns,
                                       struct weir_error *err)
{
    struct validate *self = self_;
    const struct weir_host *h = self->h;
    char text[FAILURE_TEXT];
    (void)ret_again_ns;
    (void)err;
    self->checker.scratch = h->scratch(h);
    for (uint32_t i = 0; i < b->n_events; i++) {
        struct weir_event *ev = weir_event_at(b, i);
        struct weir_result result = {.verdict = WEIR_VERDICT_REJECTED};
        if ((ev->flags & WEIR_EVENT_GONE) != 0)
            continue;
        /* What one event took is not kept for the others of a batch. */
        h->arena_clear(self->checker.scratch);
        const struct weir_value *v = h->event_value(h, b, ev);
        if (v == NULL || schema_check(&self->checker, self->program->root, v, &result.code, text))
            continue;
        result.message = weir_cstr(text);
        h->event_fail(h, b, ev, &result);
    }
    return WEIR_OK;
}

static const struct weir_transform transform = {
    .size = sizeof(transform),
    .apply = validate_apply,
};

static const struct weir_type type_validate = {
    .size = sizeof(type_validate),
    .kind = WEIR_TRANSFORM,
    .name = "validate",
    .summary = "Passes the events that a JSON Schema allows and fails the others.",
    .doc =
        "An event that the schema does not allow fails with code `invalid` and a message such as "
        "`/age: expected a number >= 0, found -1 (#/properties/age/minimum)`; it goes where "
        "`on_error` "
        "says. Valid events pass byte for byte.\n"
        "\n"
        "**Supported** of draft 2020-12: `type` `enum` `const` - `properties` `patternProperties` "
        "`additionalProperties` `unevaluatedProperties` `propertyNames` `required` `minProperties` "
        "`maxProperties` "
        "`dependentRequired` `dependentSchemas` - `items` `prefixItems` `unevaluatedItems` "
        "`contains` `minContains` "
        "`maxContains` `minItems` `maxItems` `uniqueItems` - `minLength` `maxLength` (in "
        "characters) "
        "`pattern` `format` - `minimum` `maximum` `exclusiveMinimum` `exclusiveMaximum` "
        "`multipleOf` - "
        "`allOf` `anyOf` `oneOf` `not` `if` `then` `else` - `$ref` to `#`, `#/...` and `#name` (an "
        "`$anchor`), `$defs` (and `definitions`) - `true` and `false` as schemas. `title`, "
        "`description`, `default`, "
        "`examples`, `deprecated`, `readOnly`, `writeOnly`, `$comment`, `$id` (at the top) and "
        "`$schema` (2020-12) may be there and check nothing. Every other keyword is an error of "
        "`weir check`; nothing is ignored. So are: an `$id` further in, references to other "
        "documents, `$dynamicRef` and `$dynamicAnchor`, `$vocabulary`, `content...`; and what "
        "could "
        "have no effect: `then` and `else` without `if`, `minContains` and `maxContains` without "
        "`contains`, a minimum above its maximum. All else answers as the official tests of the "
        "draft ask.\n"
        "\n"
        "**Numbers** are exact: 1.0 is an integer and equals 1, 64-bit integers are compared as "
        "such, "
        "`multipleOf: 0.01` counts in decimals. Beyond 64 bits numbers are compared as the nearest "
        "doubles, and for equality digit by digit: 1e20 equals 100000000000000000000. What no "
        "double "
        "holds, such as 1e400, equals only what is written the same.\n"
        "\n"
        "**Formats** are checked: `date-time`, `date`, `time` (RFC 3339), `email` (ASCII, "
        "unquoted), "
        "`hostname`, `ipv4`, `ipv6`, `uri` (with a scheme), `uuid`.\n"
        "\n"
        "**Patterns** are ECMA-262 expressions with the flag `u`, matched by PCRE2 anywhere in the "
        "string unless `^` and `$` say otherwise. There: `.` `[a-z]` `[^a-z]` `|` `( )` `(?: )` "
        "`(?<name> )` `(?= )` `(?! )` `(?<= )` and `(?<! )` (each alternative of a fixed length) "
        "`* + ? {n} {n,} {n,m}` (up to 1000) and their lazy forms, `^ $ \\b \\B`, `\\d \\w` "
        "(ASCII) "
        "`\\s` (Unicode) `\\D \\W \\S`, `\\p{Lu}` `\\p{Letter}` `\\p{Script=Greek}` `\\P{...}`, "
        "`\\1` `\\k<name>`, `\\t \\n \\r \\f \\v \\0 \\cX \\xHH \\uHHHH \\u{H}` and escaped "
        "punctuation. "
        "What else PCRE2 knows, such as `(?i)`, `(*VERB)`, `\\K`, `\\A` or `a++`, is an error of "
        "`weir check`, with its place in the pattern.\n"
        "\n"
        "Limits: 40 schemas on one value (`allOf`, `$ref`, ... inside each other), 128 levels of "
        "values (`too_deep`), 5,000,000 schemas visited for one event, where one more counts for "
        "64 "
        "bytes of a text and for 4 members (`too_complex`). Its "
        "patterns may look at 1,000,000 characters and 64 for every byte they are given, going "
        "back included; one that would go back and forth for ever ends there (`too_complex`).",
    .needs_always = WEIR_NEEDS_VALUE,
    .options = WEIR_OPTIONS(options, struct config),
    .transform = &transform,
    .check = validate_check,
    .open = validate_open,
    .close = validate_close,
};

static const struct weir_type *const types[] = {&type_validate, NULL};

WEIR_PLUGIN = {WEIR_PLUGIN_ABI, "validate", "0.1.0", "Events checked against a JSON Schema.",
               "Apache-2.0",    types,      NULL};
