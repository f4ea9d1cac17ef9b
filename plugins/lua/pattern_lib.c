/* SPDX-License-Identifier: Apache-2.0
 *
 * string.find, match, gmatch and gsub over the counting matcher (pattern.h).
 */
#include "pattern.h"
#include "sandbox.h"

#include <string.h>

static struct weir_str check_str(lua_State *L, int arg)
{
    struct weir_str s;
    s.ptr = luaL_checklstring(L, arg, &s.len);
    return s;
}

/* The start index in argument 3, from 0; more than len where it lies behind the end. */
static size_t start_of(lua_State *L, size_t len)
{
    lua_Integer at = luaL_optinteger(L, 3, 1);
    if (at > 0)
        return (size_t)at - 1;
    if (at == 0 || at < -(lua_Integer)len)
        return 0;
    return (size_t)((lua_Integer)len + at);
}

/* ---- find and match ---- */

static bool is_plain(struct weir_str pattern)
{
    for (size_t i = 0; i < pattern.len; i++)
        if (pattern.ptr[i] != '\0' && strchr("^$*+?.([%-", pattern.ptr[i]) != NULL)
            return false;
    return true;
}

static int find_plain(lua_State *L, struct weir_str s, struct weir_str what, size_t from)
{
    vm_charge(L, (s.len - from) / 8);
    const char *at =
        what.len == 0 ? s.ptr + from : memmem(s.ptr + from, s.len - from, what.ptr, what.len);
    if (at == NULL) {
        lua_pushnil(L);
        return 1;
    }
    lua_pushinteger(L, at - s.ptr + 1);
    lua_pushinteger(L, at - s.ptr + (ptrdiff_t)what.len);
    return 2;
}

static int search(lua_State *L, bool find)
{
    struct weir_str s = check_str(L, 1), p = check_str(L, 2);
    size_t from = start_of(L, s.len);
    if (from > s.len) {
        lua_pushnil(L);
        return 1;
    }
    if (find && (lua_toboolean(L, 4) != 0 || is_plain(p)))
        return find_plain(L, s, p, from);
    struct matcher m;
    matcher_init(&m, L, s, p);
    bool anchor = p.len != 0 && p.ptr[0] == '^';
    const char *pattern = p.ptr + (anchor ? 1 : 0), *at = s.ptr + from;
    do {
        const char *e = matcher_match(&m, at, pattern);
        if (e == NULL)
            continue;
        if (!find)
            return matcher_push_all(&m, at, e);
        lua_pushinteger(L, at - s.ptr + 1);
        lua_pushinteger(L, e - s.ptr);
        return matcher_push_all(&m, NULL, NULL) + 2;
    } while (at++ < m.src_end && !anchor);
    lua_pushnil(L);
    return 1;
}

static int string_find(lua_State *L)
{
    return search(L, true);
}

static int string_match(lua_State *L)
{
    return search(L, false);
}

/* ---- gmatch ---- */

struct gmatch {
    struct matcher m;
    const char *at, *pattern, *last;
};

static int gmatch_next(lua_State *L)
{
    struct gmatch *g = lua_touserdata(L, lua_upvalueindex(3));
    g->m.L = L;
    for (const char *at = g->at; at <= g->m.src_end; at++) {
        const char *e = matcher_match(&g->m, at, g->pattern);
        if (e == NULL || e == g->last)
            continue;
        g->at = g->last = e;
        return matcher_push_all(&g->m, at, e);
    }
    return 0;
}

static int string_gmatch(lua_State *L)
{
    struct weir_str s = check_str(L, 1), p = check_str(L, 2);
    size_t from = start_of(L, s.len);
    lua_settop(L, 2);
    struct gmatch *g = lua_newuserdatauv(L, sizeof(*g), 0);
    matcher_init(&g->m, L, s, p);
    g->at = s.ptr + (from > s.len ? s.len + 1 : from);
    g->pattern = p.ptr;
    g->last = NULL;
    lua_pushcclosure(L, gmatch_next, 3);
    return 1;
}

/* ---- gsub ---- */

/* Adds the replacement text in argument 3 with its %0 to %9. */
static void add_text(struct matcher *m, luaL_Buffer *b, const char *s, const char *e)
{
    struct weir_str text;
    text.ptr = lua_tolstring(m->L, 3, &text.len);
    const char *end = text.ptr + text.len;
    for (const char *p = text.ptr; p < end; p++) {
        if (*p != '%') {
            luaL_addchar(b, *p);
            continue;
        }
        p++;
        if (p < end && *p == '%') {
            luaL_addchar(b, '%');
        } else if (p < end && *p == '0') {
            luaL_addlstring(b, s, (size_t)(e - s));
        } else if (p < end && *p >= '1' && *p <= '9') {
            matcher_push(m, *p - '1', s, e);
            (void)luaL_tolstring(m->L, -1, NULL); /* a place is a number */
            lua_remove(m->L, -2);
            luaL_addvalue(b);
        } else {
            (void)luaL_error(m->L, "invalid use of '%%' in replacement string");
        }
    }
}

/* False where the match stays as it is. */
static bool add_value(struct matcher *m, luaL_Buffer *b, const char *s, const char *e, int type)
{
    lua_State *L = m->L;
    if (type == LUA_TFUNCTION) {
        lua_pushvalue(L, 3);
        lua_call(L, matcher_push_all(m, s, e), 1);
    } else if (type == LUA_TTABLE) {
        matcher_push(m, 0, s, e);
        (void)lua_gettable(L, 3);
    } else {
        add_text(m, b, s, e);
        return true;
    }
    if (!lua_toboolean(L, -1)) {
        lua_pop(L, 1);
        luaL_addlstring(b, s, (size_t)(e - s));
        return false;
    }
    if (!lua_isstring(L, -1))
        (void)luaL_error(L, "invalid replacement value (a %s)", luaL_typename(L, -1));
    luaL_addvalue(b);
    return true;
}

static int string_gsub(lua_State *L)
{
    struct weir_str s = check_str(L, 1), p = check_str(L, 2);
    int type = lua_type(L, 3);
    lua_Integer max = luaL_optinteger(L, 4, (lua_Integer)s.len + 1), n = 0;
    luaL_argexpected(L,
                     type == LUA_TNUMBER || type == LUA_TSTRING || type == LUA_TFUNCTION ||
                         type == LUA_TTABLE,
                     3, "string/function/table");
    if (type == LUA_TNUMBER)
        (void)lua_tostring(L, 3); /* in place, before the buffer stands above it */
    struct matcher m;
    matcher_init(&m, L, s, p);
    bool anchor = p.len != 0 && p.ptr[0] == '^', changed = false;
    const char *pattern = p.ptr + (anchor ? 1 : 0), *at = s.ptr, *last = NULL;
    luaL_Buffer b;
    luaL_buffinit(L, &b);
    while (n < max) {
        const char *e = matcher_match(&m, at, pattern);
        if (e != NULL && e != last) {
            n++;
            changed = add_value(&m, &b, at, e, type) || changed;
            at = last = e;
        } else if (at < m.src_end) {
            luaL_addchar(&b, *at++);
        } else {
            break;
        }
        if (anchor)
            break;
    }
    luaL_addlstring(&b, at, (size_t)(m.src_end - at));
    luaL_pushresult(&b);
    if (!changed)
        lua_pushvalue(L, 1);
    lua_pushinteger(L, n);
    return 2;
}

void pattern_open(lua_State *L)
{
    static const luaL_Reg functions[] = {{"find", string_find},
                                         {"match", string_match},
                                         {"gmatch", string_gmatch},
                                         {"gsub", string_gsub},
                                         {NULL, NULL}};
    luaL_setfuncs(L, functions, 0);
}
