/* SPDX-License-Identifier: Apache-2.0
 *
 * validate/schema_run.h: one check under way, between schema_check.c and the files that take a part
 * of it: schema_unique.c, schema_unevaluated.c.
 */
#ifndef VALIDATE_SCHEMA_RUN_H
#define VALIDATE_SCHEMA_RUN_H

#include "schema.h"

#define STEP_BYTES 64u  /* of text that are looked at in the time of a step */
#define STEP_MEMBERS 4u /* of an object or an array */

struct step {
    struct weir_str key; /* ptr NULL: index */
    uint32_t index;
};

struct digest;

struct run {
    const struct checker *c;
    const struct weir_host *h;
    uint32_t quiet, depth;
    uint64_t steps;
    uint64_t pattern_steps; /* left */
    const char *code;       /* why it failed; also in `quiet` where it is not about the schema */
    char *text;
    struct digest *places; /* of uniqueItems */
    uint32_t cap_places;
    struct step path[VALUE_DEPTH_MAX];
};

/* Puts the failure into words, but for `quiet`: "/age: expected a number >= 0, found -1
 * (#/properties/age/minimum)"; v NULL: without "found". Always false, as the next. */
bool run_fail(struct run *r, const struct schema *s, const char *keyword,
              const struct weir_value *v, const char *fmt, ...) WEIR_PRINTF(5, 6);
/* Ends the whole check. */
bool run_stop(struct run *r, const char *code, const char *text);
/* False: the steps are used up, and the check has ended. */
bool run_spend(struct run *r, uint64_t steps);

/* A member or an item. s NULL: valid. */
bool run_inside(struct run *r, const struct schema *s, const struct weir_value *v,
                struct step step);
/* Whether it is valid, without a word. */
bool run_holds(struct run *r, const struct schema *s, const struct weir_value *v);
/* False also where it cannot be known; the check ends then. */
bool run_matches(struct run *r, const struct pattern *p, struct weir_str text);

/* ---- schema_unique.c ---- */

bool run_check_unique(struct run *r, const struct schema *s, const struct weir_value *v);

/* ---- schema_unevaluated.c: unevaluatedProperties and unevaluatedItems, after all else of s ----
 */

bool run_check_unevaluated(struct run *r, const struct schema *s, const struct weir_value *v);

#endif
