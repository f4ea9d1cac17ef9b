/* SPDX-License-Identifier: Apache-2.0
 *
 * validate/pattern.h: the regular expressions of JSON Schema: ECMA-262 with the flag u, matched by
 * PCRE2 (pattern.c, the one file that knows it) after pattern_ecma.c has put them into its words.
 *
 * A compiled pattern is only read, by any number of threads; what matching writes to is a matcher,
 * one for each thread. What a match may cost is counted, and ends in PATTERN_TOO_MUCH.
 */
#ifndef VALIDATE_PATTERN_H
#define VALIDATE_PATTERN_H

#include <weir/plugin.h>

/* Characters that the patterns may look at for one event: so many, and more for each byte of text
 * put before a pattern. So the time stays linear in the event's size. */
#define PATTERN_STEPS 1000000u
#define PATTERN_STEPS_BYTE 64u
#define PATTERN_WHY 160

struct patterns; /* owns all patterns of a schema */
struct pattern;
struct matcher;

struct patterns *patterns_new(const struct weir_host *h); /* NULL: no memory */
void patterns_free(struct patterns *take_p);

/* NULL: `why` says what is wrong at byte *ret_offset of the text. */
const struct pattern *pattern_compile(struct patterns *p, struct weir_str text,
                                      char why[PATTERN_WHY], size_t *ret_offset);
struct weir_str pattern_text(const struct pattern *p);

struct matcher *matcher_new(const struct weir_host *h); /* NULL: no memory */
void matcher_free(struct matcher *take_m);

enum pattern_result { PATTERN_NO, PATTERN_YES, PATTERN_TOO_MUCH };

/* Whether some part of the text (UTF-8) matches. *steps_left, PATTERN_STEPS for a new event, pays
 * for it. PATTERN_TOO_MUCH: it is 0 now, or the memory for going back is used up. [the matcher's
 * thread] */
enum pattern_result pattern_match(const struct pattern *p, struct matcher *m, struct weir_str text,
                                  uint64_t *steps_left);

/* ---- pattern_ecma.c ---- */

/* A pattern in PCRE2's words. from[i]: the byte of the pattern that byte i of text comes from; has
 * an entry for the end. */
struct ecma {
    char *text;
    uint32_t *from;
    size_t len;
    bool refers_back; /* has \1 or \k<name> */
};

/* False: `why` and *ret_offset say what is wrong; nothing needs to be freed. Else free text and
 * from. */
bool ecma_translate(const struct weir_host *h, struct weir_str text, struct ecma *ret,
                    char why[PATTERN_WHY], size_t *ret_offset);

#endif
