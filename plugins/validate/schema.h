/* SPDX-License-Identifier: Apache-2.0
 *
 * validate/schema.h: a JSON Schema as a tree of nodes: made once from its JSON, then only read.
 *
 *   schema_compile.c   JSON to nodes, with every mistake reported
 *   schema_keywords.c  the keywords of every value
 *   schema_rules.c     the keywords of strings, numbers, arrays and objects
 *   schema_check.c     a value against the nodes; parts of it in schema_unique.c and
 *                      schema_unevaluated.c
 *   number.c, format.c, pattern*.c   the parts that have a life of their own
 */
#ifndef VALIDATE_SCHEMA_H
#define VALIDATE_SCHEMA_H

#include "format.h"
#include "number.h"
#include "../common/text.h"
#include "pattern.h"

#define SCHEMA_NESTING_MAX 40     /* schemas that look at one value inside each other */
#define SCHEMA_STEPS_MAX 5000000u /* nodes visited for one event, long values counted as more */
#define VALUE_DEPTH_MAX 128

/* Where in the schema: a chain from the inside out. */
struct place {
    const struct place *outer;
    struct weir_str key;
    uint32_t index; /* where key.ptr is NULL */
};

/* Bits of the types that a value can have. */
#define TYPE_NULL 1u
#define TYPE_BOOLEAN 2u
#define TYPE_INTEGER 4u
#define TYPE_NUMBER 8u
#define TYPE_STRING 16u
#define TYPE_ARRAY 32u
#define TYPE_OBJECT 64u

#define NO_LIMIT (-1)

struct schema;

struct schema_list {
    struct schema **items;
    uint32_t n;
};

struct string_rules {
    int64_t min, max; /* code points */
    const struct pattern *pattern;
    enum format format;
};

struct number_rules {
    struct number minimum, maximum, above, below; /* kind NUMBER_NONE: no such rule */
    struct divisor multiple_of;
    const struct weir_value *multiple_of_value;
};

struct array_rules {
    struct schema_list prefix;
    struct schema *items;
    struct schema *contains;
    struct schema *unevaluated;
    int64_t min, max, min_contains, max_contains;
    bool unique;
};

struct property {
    struct weir_str name; /* ptr NULL: a free place of the table */
    struct schema *schema;
};

struct pattern_property {
    const struct pattern *pattern;
    struct schema *schema;
};

/* If `name` is there, then these must be, or then this holds of the object. */
struct dependent {
    struct weir_str name;
    struct weir_str *required;
    uint32_t n;
    struct schema *schema;
};

struct object_rules {
    struct property *table; /* open addressing */
    uint32_t mask, n_properties;
    struct pattern_property *patterns;
    uint32_t n_patterns;
    struct schema *additional, *names, *unevaluated;
    struct weir_str *required;
    uint32_t n_required;
    struct dependent *dependents;
    uint32_t n_dependents;
    int64_t min, max;
};

struct schema {
    const struct place *place;
    bool never;    /* the schema `false` */
    uint8_t types; /* 0: any */
    const struct weir_value *constant, *choices;
    struct string_rules *string;
    struct number_rules *number;
    struct array_rules *array;
    struct object_rules *object;
    struct schema *ref, *not_, *if_, *then_, *else_;
    struct schema_list all_of, any_of, one_of;
    uint8_t mark;  /* of the search for schemas that nest without end */
    uint8_t below; /* how deep schemas nest on the same value from here */
};

/* Hears of each mistake. `path` is the place inside the schema as a dotted path ("properties.age"),
 * or as a JSON pointer ("/properties/age"), as asked for. */
struct schema_report {
    void (*error)(void *arg, const char *path, const char *text);
    void *arg;
    bool pointers;
};

/* Compiles into `a` and `patterns`; `json` must outlive the result, which is only read from then
 * on, by any number of threads. NULL: at least one mistake was reported. */
const struct schema *schema_compile(const struct weir_host *h, struct weir_arena *a,
                                    struct patterns *patterns, const struct weir_value *json,
                                    const struct schema_report *report);

/* What checking needs besides the schema, for one thread. */
struct checker {
    const struct weir_host *h;
    struct weir_arena *scratch;
    struct matcher *matcher;
    uint64_t seed;
};

#define FAILURE_TEXT 512

/* True where v is valid. Else *ret_code is "invalid", "too_deep" or "too_complex", and text says
 * where, what was expected and what was found. */
bool schema_check(const struct checker *c, const struct schema *root, const struct weir_value *v,
                  const char **ret_code, char text[FAILURE_TEXT]);

/* ---- Between the files of the compiler ---- */

struct schema_compiler;

/* The node of a schema that stands at that place; it is filled in later. NULL after a mistake. */
struct schema *compile_at(struct schema_compiler *c, const struct weir_value *json,
                          const struct place *place);
void compile_error(struct schema_compiler *c, const struct place *place, const char *fmt, ...)
    WEIR_PRINTF(3, 4);
void *compile_alloc(struct schema_compiler *c, size_t size); /* zeroed; NULL was reported */
const struct place *place_key(struct schema_compiler *c, const struct place *outer,
                              struct weir_str key);
const struct place *place_index(struct schema_compiler *c, const struct place *outer, uint32_t i);
const struct weir_host *compile_host(const struct schema_compiler *c);
const struct pattern *compile_pattern(struct schema_compiler *c, const struct place *place,
                                      struct weir_str text);
const struct weir_value *compile_root(const struct schema_compiler *c);
/* s can be referred to by that name, as "#name"; and a reference that waits for it. */
void compile_anchor(struct schema_compiler *c, struct schema *s, struct weir_str name,
                    const struct place *place);
void compile_ref_later(struct schema_compiler *c, struct schema *s, struct weir_str name,
                       const struct place *place);
/* Takes one keyword of a schema; one that is not known is a mistake. */
void compile_keyword(struct schema_compiler *c, struct schema *s, struct weir_str key,
                     const struct weir_value *v, const struct place *outer);
/* Takes a keyword of a type's rules. False: it is none of them. */
bool compile_rule(struct schema_compiler *c, struct schema *s, struct weir_str keyword,
                  const struct weir_value *v, const struct place *place);
/* What fits together only as a whole, once all keywords are taken. */
void compile_finish(struct schema_compiler *c, struct schema *s);
bool compile_list(struct schema_compiler *c, const struct weir_value *v, const struct place *place,
                  struct schema_list *ret);

#define POINTER_NAME_MAX 80 /* bytes of a name that a message shows */

/* A name as a part of a JSON pointer: ~ as ~0, / as ~1. Returns out. */
const char *pointer_part(struct weir_str name, char out[2 * POINTER_NAME_MAX + 1]);
/* Writes a place; returns text. */
char *place_text(const struct place *p, bool pointer, char *text, size_t size);
/* A short description of a value: its type, and what it is where that is short. */
void value_describe(const struct weir_host *h, const struct weir_value *v, char *text, size_t size);

/* The place of `name` in the table of properties, or the free one where it would be. */
struct property *property_find(const struct object_rules *o, struct weir_str name);

#endif
