/* SPDX-License-Identifier: Apache-2.0
 *
 * Any bytes as an event's payload: read, walked, changed at random and written again. What is copied
 * from the text where nothing was changed has to be, byte for byte of the values, what the library writes.
 * The first bytes say what is changed: a byte a step, until a zero.
 */
#include <stddef.h>
#include <stdint.h>

#include <base/arena.h>
#include <base/check.h>
#include <base/str.h>
#include <model/value.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* ---- Walking ---- */

static uint32_t walk(const struct weir_value *v)
{
    struct weir_value_iter it = wr_value_iter(v);
    struct weir_str key;
    uint32_t n = 1, members = 0;
    for (const struct weir_value *m; (m = wr_value_next(&it, &key)) != NULL; members++) {
        if (wr_value_type(v) == WEIR_OBJECT)
            WR_BUG_ON(wr_value_get(v, key) == NULL);
        n += walk(m);
    }
    WR_BUG_ON(members != wr_value_count(v));
    return n;
}

/* ---- Changing ---- */

static struct weir_value *make(struct weir_arena *a, unsigned kind)
{
    switch (kind % 6) {
    case 0:
        return wr_make_int(a, (int64_t)kind - 100);
    case 1:
        return wr_make_real(a, kind / 3.0);
    case 2:
        return wr_make_str(a, weir_cstr("te\"xt \xc3\xa4\n"));
    case 3:
        return wr_make_array(a);
    case 4:
        return wr_make_object(a);
    default:
        return wr_make_null(a);
    }
}

/* The i-th member, or NULL; what was given by the edit may be written to. */
static struct weir_value *member(struct weir_value *v, uint32_t i, struct weir_str *ret_key)
{
    struct weir_value_iter it = wr_value_iter(v);
    const struct weir_value *m = NULL;
    for (uint32_t at = 0; at <= i; at++)
        m = wr_value_next(&it, ret_key);
    return (struct weir_value *)(uintptr_t)m;
}

static void change_object(struct weir_arena *a, struct weir_value *v, unsigned what, uint32_t i)
{
    struct weir_str key = {"k", 1};
    if (what % 4 != 0 && wr_value_count(v) != 0)
        (void)member(v, i % wr_value_count(v), &key);
    switch (what % 4) {
    case 0:
    case 1:
        WR_BUG_ON(!wr_object_set(a, v, key, make(a, what / 4)));
        return;
    case 2:
        (void)wr_object_remove(v, key);
        return;
    default:
        (void)wr_object_rename(a, v, key, weir_cstr(what % 8 == 3 ? "renamed" : "\"n\"\t"));
    }
}

static void change_array(struct weir_arena *a, struct weir_value *v, unsigned what, uint32_t i)
{
    uint32_t n = wr_value_count(v);
    if (what % 3 == 0 || n == 0)
        WR_BUG_ON(!wr_array_append(a, v, make(a, what / 3)));
    else if (what % 3 == 1)
        WR_BUG_ON(!wr_array_set(a, v, i % n, make(a, what / 3)));
    else
        (void)wr_array_remove(v, i % n);
}

/* One step: down into a member, or a change here. */
static struct weir_value *step(struct weir_arena *a, struct weir_value *v, unsigned op)
{
    uint32_t n = wr_value_count(v), i = op / 8;
    if (op % 2 == 1 && n != 0)
        return member(v, i % n, NULL);
    if (wr_value_type(v) == WEIR_OBJECT)
        change_object(a, v, op / 2, i);
    else if (wr_value_type(v) == WEIR_ARRAY)
        change_array(a, v, op / 2, i);
    return v;
}

/* ---- Comparing ---- */

static void check_same(struct weir_arena *a, const struct weir_value *changed, struct weir_str text)
{
    const struct weir_value *back = wr_value_parse(a, text, NULL);
    WR_BUG_ON(back == NULL);
    WR_BUG_ON(!wr_value_equal(changed, back));
}

static void use(struct weir_arena *a, const struct weir_value *from, struct weir_str text,
                const uint8_t *ops, size_t n_ops)
{
    struct weir_value *root = wr_make_edit(a, from), *at = root;
    WR_BUG_ON(root == NULL || walk(from) != walk(root) || !wr_value_equal(from, root));
    for (size_t i = 0; i < n_ops; i++)
        at = ops[i] == 255 ? root : step(a, at, ops[i]);
    struct weir_str patched = wr_value_write_edited(a, root, from, text);
    struct weir_str written = wr_value_write(a, root);
    WR_BUG_ON(patched.ptr == NULL || written.ptr == NULL);
    WR_BUG_ON(patched.ptr[patched.len] != '\0');
    if (!wr_value_depth_ok(root))
        return;
    check_same(a, root, patched);
    check_same(a, root, written);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct weir_arena a = {0};
    struct weir_error err = {.offset = -1};
    size_t n_ops = 0;
    while (n_ops < size && n_ops < 32 && data[n_ops] != 0)
        n_ops++;
    if (n_ops == size)
        return 0;
    struct weir_str text =
        wr_arena_copy(&a, weir_str_n((const char *)data + n_ops + 1, size - n_ops - 1));
    const struct weir_value *v = wr_value_parse(&a, text, &err);
    if (v == NULL)
        WR_BUG_ON(err.status != WEIR_E_REJECTED || err.offset < 0 || (size_t)err.offset > text.len);
    else
        use(&a, v, text, data, n_ops);
    wr_arena_done(&a);
    return 0;
}
