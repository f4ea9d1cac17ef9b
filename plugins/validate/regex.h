/* SPDX-License-Identifier: Apache-2.0
 *
 * validate/regex.h: the regular expressions of JSON Schema (ECMA-262 with flag u), matched in time
 * linear in text and pattern, whatever the text is.
 *
 * There: . [a-z] [^a-z] ( ) (?: ) (?<name> ) | * + ? {n} {n,} {n,m} and their lazy forms, ^ $ \b
 * \B, \d \w \s \D \W \S, \t \n \r \f \v \0 \cX \xHH \uHHHH \u{H...}, escaped punctuation. Not
 * there, and refused: look-ahead and look-behind, back references, \p{...}. A pattern is searched
 * for anywhere in the text, unless ^ and $ say otherwise.
 */
#ifndef VALIDATE_REGEX_H
#define VALIDATE_REGEX_H

#include <weir/plugin.h>

#define REGEX_STATES_MAX 8000u

struct regex;

/* Memory for matching, shared by all expressions of one thread. */
struct regex_scratch {
    uint16_t *lists[2]; /* dense lists of states */
    uint16_t *place;    /* where in the list a state is, if it is */
    uint16_t *stack;
};

/* NULL: *ret_why says what is wrong at byte *ret_offset of the pattern. */
struct regex *regex_compile(const struct weir_host *h, struct weir_arena *a,
                            struct weir_str pattern, const char **ret_why, size_t *ret_offset);
uint32_t regex_states(const struct regex *re);

/* Room for expressions of up to n_states. */
bool regex_scratch_init(const struct weir_host *h, struct weir_arena *a, uint32_t n_states,
                        struct regex_scratch *ret);

/* Whether some part of the text (UTF-8) matches. Allocates nothing. */
bool regex_match(const struct regex *re, const struct regex_scratch *scratch, struct weir_str text);

#endif
