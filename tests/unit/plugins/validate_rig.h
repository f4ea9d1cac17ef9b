/* SPDX-License-Identifier: Apache-2.0
 *
 * The transform validate with one schema after the other, and tables of values that it allows or
 * not. In the tables ' stands for ".
 */
#ifndef TESTS_VALIDATE_RIG_H
#define TESTS_VALIDATE_RIG_H

#include "plugin_rig.h"

static struct rig rig;

static inline int setup(void **state)
{
    (void)state;
    rig_init(&rig, "validate", 0);
    return 0;
}

static inline int teardown(void **state)
{
    (void)state;
    rig_done(&rig);
    return 0;
}

static inline void use(const char *schema)
{
    *(const struct weir_value **)rig_option(&rig, "schema") = rig_json(&rig, schema);
    if (!rig_check(&rig))
        fail_msg("%s: %s", schema, rig.mistakes);
    if (rig_open(&rig) != WEIR_OK)
        fail_msg("%s: %s", schema, rig.message);
}

/* A schema, then values it allows (+) and values it does not (-), NULL at the end. */
static inline void table(const char *const *rows)
{
    uint32_t n = 0;
    for (; *rows != NULL; rows++) {
        const char *row = *rows;
        if (*row != '+' && *row != '-') {
            use(row);
            n++;
            continue;
        }
        if (rig_apply(&rig, rig_json(&rig, row + 1)) != (*row == '+'))
            fail_msg("schema %u, value %s: %s", n, row, rig.failed ? rig.message : "passed");
        if (*row == '-')
            assert_string_equal(rig.code, "invalid");
    }
}

/* n times open, n times close; free it. */
static inline char *nest(uint32_t n, const char *open, const char *close)
{
    size_t room = n * (strlen(open) + strlen(close)) + 3;
    char *text = malloc(room), *p = text;
    for (uint32_t i = 0; i < n; i++)
        p = stpcpy(p, open);
    p = stpcpy(p, "{}");
    for (uint32_t i = 0; i < n; i++)
        p = stpcpy(p, close);
    assert_true(p < text + room);
    return text;
}

#endif
