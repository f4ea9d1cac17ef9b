/* SPDX-License-Identifier: Apache-2.0
 *
 * The transform validate against the official tests of JSON Schema 2020-12, which are in
 * json_schema_suite.json with their license. What is not supported is listed here, with the words
 * that the refusal says: neither can change unseen.
 */
#include "validate_rig.h"

#define ELSEWHERE "only references inside this schema are supported"
#define INNER_ID "$id is supported at the top only"
#define DYNAMIC "keyword \"$dynamic"
#define NO_IF "have no effect without if"
#define NO_CONTAINS "have no effect without contains"

#define N_TESTS 1340 /* of the groups whose schema is taken */

/* A group whose schema is refused: "file: description", or "file: " for all of a file. */
static const struct refused {
    const char *group, *words;
} refused[] = {
    {"anchor.json: Location-independent identifier with absolute URI", ELSEWHERE},
    {"anchor.json: Location-independent identifier with base URI change in subschema", ELSEWHERE},
    {"anchor.json: same $anchor with different base uri", ELSEWHERE},
    {"content.json: ", "\"content"},
    {"defs.json: ", ELSEWHERE},
    {"dynamicRef.json: A $dynamicRef to a $dynamicAnchor in the same schema resource behaves like "
     "a normal $ref to an $anchor",
     DYNAMIC},
    {"dynamicRef.json: A $dynamicRef to an $anchor in the same schema resource behaves like a "
     "normal $ref to an $anchor",
     DYNAMIC},
    {"dynamicRef.json: A $ref to a $dynamicAnchor in the same schema resource behaves like a "
     "normal $ref to an $anchor",
     DYNAMIC},
    {"dynamicRef.json: A $dynamicRef resolves to the first $dynamicAnchor still in scope that is "
     "encountered when the schema is evaluated",
     ELSEWHERE},
    {"dynamicRef.json: A $dynamicRef without anchor in fragment behaves identical to $ref",
     ELSEWHERE},
    {"dynamicRef.json: A $dynamicRef with intermediate scopes that don't include a matching "
     "$dynamicAnchor does not affect dynamic scope resolution",
     ELSEWHERE},
    {"dynamicRef.json: An $anchor with the same name as a $dynamicAnchor is not used for dynamic "
     "scope resolution",
     ELSEWHERE},
    {"dynamicRef.json: A $dynamicRef without a matching $dynamicAnchor in the same schema resource "
     "behaves like a normal $ref to $anchor",
     ELSEWHERE},
    {"dynamicRef.json: A $dynamicRef with a non-matching $dynamicAnchor in the same schema "
     "resource behaves like a normal $ref to $anchor",
     ELSEWHERE},
    {"dynamicRef.json: A $dynamicRef that initially resolves to a schema with a matching "
     "$dynamicAnchor resolves to the first $dynamicAnchor in the dynamic scope",
     DYNAMIC},
    {"dynamicRef.json: A $dynamicRef that initially resolves to a schema without a matching "
     "$dynamicAnchor behaves like a normal $ref to $anchor",
     DYNAMIC},
    {"dynamicRef.json: multiple dynamic paths to the $dynamicRef keyword", ELSEWHERE},
    {"dynamicRef.json: after leaving a dynamic scope, it is not used by a $dynamicRef", INNER_ID},
    {"dynamicRef.json: strict-tree schema, guards against misspelled properties", DYNAMIC},
    {"dynamicRef.json: tests for implementation dynamic anchor and reference link", ELSEWHERE},
    {"dynamicRef.json: $ref and $dynamicAnchor are independent of order - $defs first", ELSEWHERE},
    {"dynamicRef.json: $ref and $dynamicAnchor are independent of order - $ref first", ELSEWHERE},
    {"dynamicRef.json: $ref to $dynamicRef finds detached $dynamicAnchor", ELSEWHERE},
    {"dynamicRef.json: $dynamicRef points to a boolean schema", DYNAMIC},
    {"dynamicRef.json: $dynamicRef skips over intermediate resources - direct reference",
     ELSEWHERE},
    {"if-then-else.json: ignore then without if", NO_IF},
    {"if-then-else.json: ignore else without if", NO_IF},
    {"if-then-else.json: non-interference across combined schemas", NO_IF},
    {"maxContains.json: maxContains without contains is ignored", NO_CONTAINS},
    {"minContains.json: minContains without contains is ignored", NO_CONTAINS},
    {"minContains.json: maxContains < minContains", "exclude every value"},
    {"ref.json: remote ref, containing refs itself", ELSEWHERE},
    {"ref.json: Recursive references between schemas", INNER_ID},
    {"ref.json: refs with relative uris and defs", ELSEWHERE},
    {"ref.json: relative refs with absolute uris and defs", ELSEWHERE},
    {"ref.json: $id must be resolved against nearest parent, not just immediate parent", INNER_ID},
    {"ref.json: order of evaluation: $id and $ref", ELSEWHERE},
    {"ref.json: order of evaluation: $id and $anchor and $ref", INNER_ID},
    {"ref.json: simple URN base URI with $ref via the URN", ELSEWHERE},
    {"ref.json: URN base URI with URN and JSON pointer ref", ELSEWHERE},
    {"ref.json: URN base URI with URN and anchor ref", ELSEWHERE},
    {"ref.json: URN ref with nested pointer ref", ELSEWHERE},
    {"ref.json: ref to if", ELSEWHERE},
    {"ref.json: ref to then", ELSEWHERE},
    {"ref.json: ref to else", ELSEWHERE},
    {"ref.json: ref with absolute-path-reference", ELSEWHERE},
    {"refRemote.json: remote ref", ELSEWHERE},
    {"refRemote.json: fragment within remote ref", ELSEWHERE},
    {"refRemote.json: anchor within remote ref", ELSEWHERE},
    {"refRemote.json: ref within remote ref", ELSEWHERE},
    {"refRemote.json: base URI change", INNER_ID},
    {"refRemote.json: base URI change - change folder", ELSEWHERE},
    {"refRemote.json: base URI change - change folder in subschema", ELSEWHERE},
    {"refRemote.json: root ref in remote ref", ELSEWHERE},
    {"refRemote.json: remote ref with ref to defs", ELSEWHERE},
    {"refRemote.json: Location-independent identifier in remote ref", ELSEWHERE},
    {"refRemote.json: retrieved nested refs resolve relative to their URI not $id", ELSEWHERE},
    {"refRemote.json: remote HTTP ref with different $id", ELSEWHERE},
    {"refRemote.json: remote HTTP ref with different URN $id", ELSEWHERE},
    {"refRemote.json: remote HTTP ref with nested absolute ref", ELSEWHERE},
    {"refRemote.json: $ref to $ref finds detached $anchor", ELSEWHERE},
    {"unevaluatedItems.json: unevaluatedItems with $dynamicRef", ELSEWHERE},
    {"unevaluatedProperties.json: unevaluatedProperties with $dynamicRef", ELSEWHERE},
    {"vocabulary.json: ", "only draft 2020-12"},
    {"optional/id.json: ", INNER_ID},
};

/* Addresses with a quoted local part or an address in brackets: as documented, no `email` here. */
static const char *const other_answers[] = {
    "a quoted string with a space in the local part is valid",
    "a quoted string with a double dot in the local part is valid",
    "a quoted string with a @ in the local part is valid",
    "an IPv4-address-literal after the @ is valid",
    "an IPv6-address-literal after the @ is valid",
};

static bool met[sizeof(refused) / sizeof(refused[0])];
static uint32_t n_tests;

static const struct weir_value *member(const struct weir_value *v, const char *name)
{
    return rig.host.value_get(v, weir_cstr(name));
}

static const char *text_of(const struct weir_value *v)
{
    struct weir_str s = rig.host.value_str(v);
    return s.ptr != NULL ? s.ptr : "";
}

static void expect_refusal(const char *group)
{
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        const char *name = refused[i].group;
        size_t n = strlen(name);
        bool all = n > 2 && strcmp(name + n - 2, ": ") == 0;
        if (all ? strncmp(group, name, n) != 0 : strcmp(group, name) != 0)
            continue;
        met[i] = true;
        if (strstr(rig.mistakes, refused[i].words) == NULL)
            fail_msg("%s: refused with other words than %s: %s", group, refused[i].words,
                     rig.mistakes);
        return;
    }
    fail_msg("%s: refused: %s", group, rig.mistakes);
}

static bool answers_otherwise(const char *group, const char *test)
{
    for (size_t i = 0; i < sizeof(other_answers) / sizeof(other_answers[0]); i++)
        if (strstr(group, "format/email.json") != NULL && strcmp(test, other_answers[i]) == 0)
            return true;
    return false;
}

static void run_group(const char *file, const struct weir_value *group)
{
    char name[400];
    snprintf(name, sizeof(name), "%s: %s", file, text_of(member(group, "description")));
    *(const struct weir_value **)rig_option(&rig, "schema") = member(group, "schema");
    if (!rig_check(&rig)) {
        expect_refusal(name);
        return;
    }
    assert_int_equal(rig_open(&rig), WEIR_OK);
    struct weir_value_iter it = rig.host.value_iter(member(group, "tests"));
    for (const struct weir_value *t; (t = rig.host.value_next(&it, NULL)) != NULL; n_tests++) {
        const char *test = text_of(member(t, "description"));
        bool valid = rig.host.value_bool(member(t, "valid")) != answers_otherwise(name, test);
        if (rig_apply(&rig, member(t, "data")) != valid)
            fail_msg("%s: %s: %s", name, test, rig.failed ? rig.message : "passed");
    }
}

static char *read_suite(size_t *ret_size)
{
    const size_t max = 1u << 20;
    char *text = malloc(max);
    FILE *f = fopen(WEIR_SOURCE_DIR "/tests/unit/plugins/json_schema_suite.json", "r");
    assert_non_null(f);
    *ret_size = fread(text, 1, max, f);
    assert_true(*ret_size < max);
    fclose(f);
    return text;
}

static void the_official_tests(void **state)
{
    (void)state;
    struct weir_error err = {0};
    struct weir_str file;
    size_t size;
    char *text = read_suite(&size);
    const struct weir_value *v = rig.host.value_parse(rig.arena, weir_str_n(text, size), &err);
    if (v == NULL)
        fail_msg("%s", err.text);
    struct weir_value_iter files = rig.host.value_iter(member(v, "files"));
    for (const struct weir_value *f; (f = rig.host.value_next(&files, &file)) != NULL;) {
        struct weir_value_iter groups = rig.host.value_iter(f);
        for (const struct weir_value *g; (g = rig.host.value_next(&groups, NULL)) != NULL;)
            run_group(file.ptr, g);
    }
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
        if (!met[i])
            fail_msg("%s is listed as refused, and is not", refused[i].group);
    assert_int_equal(n_tests, N_TESTS);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_official_tests, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
