/* SPDX-License-Identifier: Apache-2.0
 *
 * weir.copy, type, meta, rename, drop, fail, hold, join, derive: what scripts do with events beyond
 * reading and writing fields.
 */
#include "api.h"

#include "convert.h"
#include "handle.h"
#include "hold.h"
#include "output.h"

#include <pthread.h>
#include <string.h>
#include <text.h>

/* ---- Looking ---- */

/* Plain Lua values that outlive the call. */
static int weir_copy(lua_State *L)
{
    luaL_checkany(L, 1);
    hold_resolve(L, 1);
    lua_settop(L, 1);
    struct node *n = handle_node(L, 1);
    if (n != NULL) {
        convert_push(L, node_value(L, n));
        return 1;
    }
    if (lua_istable(L, 1))
        convert_push(L, convert_from(L, 1, vm_tmp(vm_of(L)), "weir.copy"));
    return 1;
}

/* "object", "array", "null", "metadata", or Lua's own word. */
static int weir_type(lua_State *L)
{
    luaL_checkany(L, 1);
    hold_resolve(L, 1);
    const struct weir_host *h = vm_of(L)->h;
    if (!lua_islightuserdata(L, 1)) {
        lua_pushstring(L, luaL_typename(L, 1));
        return 1;
    }
    if (handle_is_null(L, 1)) {
        lua_pushliteral(L, "null");
        return 1;
    }
    static const char *const words[] = {"null",   "boolean", "number", "number", "number",
                                        "number", "string",  "array",  "object"};
    struct node *n = handle_node(L, 1);
    lua_pushstring(L, n != NULL ? words[h->value_type(node_value(L, n))] : "metadata");
    return 1;
}

static int weir_meta(lua_State *L)
{
    hold_resolve(L, 1);
    const struct slot *s = handle_slot(L, 1);
    handle_push(L, HANDLE_META, (uint32_t)(s - vm_of(L)->slots));
    return 1;
}

/* ---- Changing ---- */

/* A new name for a field, in its place and with its exact value. */
static int weir_rename(lua_State *L)
{
    struct vm *vm = vm_of(L);
    const struct weir_host *h = vm->h;
    struct weir_str from, to;
    hold_resolve(L, 1);
    from.ptr = luaL_checklstring(L, 2, &from.len);
    to.ptr = luaL_checklstring(L, 3, &to.len);
    struct node *n = handle_node(L, 1);
    luaL_argcheck(L, n != NULL && h->value_type(node_value(L, n)) == WEIR_OBJECT, 1,
                  "expected an event or an object in one");
    uint32_t node = (uint32_t)(n - vm->nodes);
    if (h->value_get(n->v, from) == NULL) {
        lua_pushboolean(L, 0);
        return 1;
    }
    vm_written(L, to.len);
    vm_charge(L, h->value_count(n->v) / 4);
    if (!h->object_rename(vm->b->arena, node_edit(L, node), from, to))
        return luaL_error(L, "cannot rename to '%s': it is not UTF-8, or memory is used up",
                          to.ptr);
    vm->slots[vm->nodes[node].slot].version++;
    lua_pushboolean(L, 1);
    return 1;
}

/* ---- Dropping and failing ---- */

#define REASON_MAX 40
#define REASONS_MAX 256

/* Reasons of drops and codes of failures live as long as the process: acks speak of them after
 * their state is gone. */
static struct {
    pthread_mutex_t mutex;
    uint32_t n;
    char texts[REASONS_MAX][REASON_MAX + 1];
} reasons = {.mutex = PTHREAD_MUTEX_INITIALIZER};

/* `other` when there are too many different ones. */
static const char *keep_reason(const char *text, const char *other)
{
    const char *kept = other;
    pthread_mutex_lock(&reasons.mutex);
    uint32_t i = 0;
    while (i < reasons.n && strcmp(reasons.texts[i], text) != 0)
        i++;
    if (i < REASONS_MAX) {
        if (i == reasons.n)
            memcpy(reasons.texts[reasons.n++], text, strlen(text) + 1);
        kept = reasons.texts[i];
    }
    pthread_mutex_unlock(&reasons.mutex);
    return kept;
}

static const char *check_reason(lua_State *L, int arg, const char *what)
{
    size_t len;
    const char *text = luaL_checklstring(L, arg, &len);
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.";
    luaL_argcheck(L, len != 0 && len <= REASON_MAX && strspn(text, allowed) == len, arg, what);
    return text;
}

/* The event at 1 that is to be ended, by whatever names it. Raises where something else becomes of it. */
static struct slot *ending_arg(lua_State *L)
{
    hold_resolve(L, 1);
    struct slot *s = handle_slot(L, 1);
    if (s->held != NULL)
        hold_use(L, s->holder, HOLD_GIVEN);
    if (s->wish == WISH_HOLD)
        (void)luaL_error(L, "the event is held already");
    return s;
}

static int weir_drop(lua_State *L)
{
    static const char what[] =
        "a reason is 1 to 40 letters, digits, '_', '-' or '.': it is a metric's label";
    const char *reason =
        lua_isnoneornil(L, 2) ? NULL : keep_reason(check_reason(L, 2, what), "lua_drop");
    struct slot *s = ending_arg(L);
    if (s->held != NULL && reason != NULL)
        return luaL_error(L, "a held event is dropped without a reason: it ends as filtered");
    s->wish = WISH_DROP;
    s->reason = reason;
    return 0;
}

#define FAIL_TEXT_MAX 1000

/* weir.fail(event, reason, code): as it entered it goes to on_error. */
static int weir_fail(lua_State *L)
{
    static const char what[] =
        "a code is 1 to 40 letters, digits, '_', '-' or '.': it is a metric's label";
    struct vm *vm = vm_of(L);
    struct weir_str text;
    text.ptr = luaL_checklstring(L, 2, &text.len);
    text.len = utf8_cut(text.ptr, text.len, FAIL_TEXT_MAX);
    const char *code =
        lua_isnoneornil(L, 3) ? "lua_fail" : keep_reason(check_reason(L, 3, what), "lua_fail");
    struct slot *s = ending_arg(L);
    vm_written(L, text.len);
    s->text = vm->h->arena_copy(vm_tmp(vm), text);
    if (s->text.ptr == NULL)
        vm_stop(L, VM_STOP_MEMORY);
    s->wish = WISH_FAIL;
    s->reason = code;
    return 0;
}

void api_events_open(lua_State *L)
{
    static const luaL_Reg readers[] = {
        {"copy", weir_copy}, {"type", weir_type}, {"meta", weir_meta}, {NULL, NULL}};
    static const luaL_Reg changers[] = {
        {"rename", weir_rename}, {"drop", weir_drop},     {"fail", weir_fail}, {"hold", hold_new},
        {"join", made_join},     {"derive", made_derive}, {NULL, NULL}};
    luaL_setfuncs(L, readers, 0);
    if (!vm_of(L)->opt.condition)
        luaL_setfuncs(L, changers, 0);
}
