/* SPDX-License-Identifier: Apache-2.0
 *
 * weir.log and weir.metric: what a script shows to the outside.
 */
#include "api.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The string at idx in memory of the call, cut at `max`, a NUL behind. */
static struct weir_str keep_text(lua_State *L, int idx, size_t max)
{
    struct vm *vm = vm_of(L);
    struct weir_str text;
    text.ptr = lua_tolstring(L, idx, &text.len);
    if (text.len > max)
        text.len = max;
    vm_written(L, text.len);
    text = vm->h->arena_copy(vm_tmp(vm), text);
    if (text.ptr == NULL)
        vm_stop(L, VM_STOP_MEMORY);
    return text;
}

/* ---- Logs ---- */

#define KV_MAX 16u
#define KEY_MAX 64u
#define TEXT_MAX 1024u

/* The pair on top: key, value. Leaves the stack as it is. */
static struct weir_kv kv_of(lua_State *L)
{
    if (lua_type(L, -2) != LUA_TSTRING)
        (void)luaL_error(L, "the keys of a log line are strings");
    const char *key = keep_text(L, -2, KEY_MAX).ptr;
    switch (lua_type(L, -1)) {
    case LUA_TBOOLEAN:
        return weir_kv_bool(key, lua_toboolean(L, -1) != 0);
    case LUA_TNUMBER:
        return lua_isinteger(L, -1) ? weir_kv_i64(key, lua_tointeger(L, -1))
                                    : weir_kv_f64(key, lua_tonumber(L, -1));
    default:
        (void)luaL_tolstring(L, -1, NULL);
        struct weir_kv kv = weir_kv_str(key, keep_text(L, -1, TEXT_MAX));
        lua_pop(L, 1);
        return kv;
    }
}

static int by_key(const void *a, const void *b)
{
    const struct weir_kv *x = a, *y = b;
    return strcmp(x->key, y->key);
}

/* weir.log.LEVEL(message, {key = value}) */
static int log_line(lua_State *L)
{
    const struct weir_host *h = vm_of(L)->h;
    enum weir_log_level level = (enum weir_log_level)lua_tointeger(L, lua_upvalueindex(1));
    struct weir_kv kv[KV_MAX];
    uint32_t n = 0;
    (void)luaL_checkstring(L, 1);
    lua_settop(L, 2);
    if (!lua_isnil(L, 2))
        luaL_checktype(L, 2, LUA_TTABLE);
    if (!h->log_enabled(h, level))
        return 0;
    const char *message = keep_text(L, 1, TEXT_MAX).ptr;
    lua_pushnil(L);
    for (; n < KV_MAX && lua_istable(L, 2) && lua_next(L, 2) != 0; lua_pop(L, 1))
        kv[n++] = kv_of(L);
    qsort(kv, n, sizeof(kv[0]), by_key);
    h->log(h, level, message, kv, n);
    return 0;
}

/* ---- Metrics ---- */

#define METRICS "weir.metrics"
#define METRICS_MAX 1000
#define LABELS_MAX 4u
#define NAME_MAX_LEN 60u

enum metric_kind { COUNTER, GAUGE, HISTOGRAM };

struct label {
    const char *name, *value;
};

static bool is_metric_name(const char *s, size_t len)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz_";
    return len != 0 && len <= NAME_MAX_LEN && strchr(letters, s[0]) != NULL &&
           strspn(s, "abcdefghijklmnopqrstuvwxyz_0123456789") == len;
}

static const char *check_name(lua_State *L, int idx, const char *what)
{
    size_t len;
    const char *name = lua_type(L, idx) == LUA_TSTRING ? lua_tolstring(L, idx, &len) : NULL;
    if (name == NULL || !is_metric_name(name, len))
        (void)luaL_error(L, "%s is 1 to 60 of a-z, 0-9 and '_', no digit first", what);
    return name;
}

static int by_name(const void *a, const void *b)
{
    const struct label *x = a, *y = b;
    return strcmp(x->name, y->name);
}

static uint32_t read_labels(lua_State *L, int idx, struct label labels[LABELS_MAX])
{
    uint32_t n = 0;
    if (lua_isnoneornil(L, idx))
        return 0;
    luaL_checktype(L, idx, LUA_TTABLE);
    for (lua_pushnil(L); lua_next(L, idx) != 0; lua_pop(L, 1)) {
        if (n == LABELS_MAX)
            (void)luaL_error(L, "a metric has at most %d labels", (int)LABELS_MAX);
        (void)check_name(L, -2, "a label's name");
        (void)luaL_tolstring(L, -1, NULL);
        labels[n].value = keep_text(L, -1, 128).ptr;
        lua_pop(L, 1);
        labels[n++].name = keep_text(L, -2, NAME_MAX_LEN).ptr;
    }
    qsort(labels, n, sizeof(labels[0]), by_name);
    return n;
}

static struct weir_metric *make(lua_State *L, const char *name, enum metric_kind kind,
                                const struct label *labels, uint32_t n)
{
    const struct weir_host *h = vm_of(L)->h;
    static const char *const endings[] = {"_total", "", "_seconds"};
    const char *pairs[2 * LABELS_MAX + 1] = {NULL};
    for (uint32_t i = 0; i < n; i++) {
        pairs[(size_t)2 * i] = labels[i].name;
        pairs[(size_t)2 * i + 1] = labels[i].value;
    }
    if (h->counter == NULL) /* the host of check() */
        return NULL;
    name = lua_pushfstring(L, "lua_%s%s", name, endings[kind]);
    struct weir_metric *(*const makers[])(const struct weir_host *, const char *, const char *,
                                          const char *const *) = {h->counter, h->gauge,
                                                                  h->histogram};
    struct weir_metric *m = makers[kind](h, name, "Kept by a Lua script.", pairs);
    lua_pop(L, 1);
    return m;
}

/* The metric of that name, kind and labels; remembered in the registry by all of them. */
static struct weir_metric *metric_of(lua_State *L, const char *name, enum metric_kind kind)
{
    struct label labels[LABELS_MAX];
    uint32_t n = read_labels(L, 4, labels);
    luaL_Buffer b;
    luaL_buffinit(L, &b);
    luaL_addchar(&b, (char)('0' + (int)kind));
    luaL_addstring(&b, name);
    for (uint32_t i = 0; i < n; i++) {
        luaL_addlstring(&b, "\0", 1);
        luaL_addstring(&b, labels[i].name);
        luaL_addlstring(&b, "\0", 1);
        luaL_addstring(&b, labels[i].value);
    }
    luaL_pushresult(&b);
    (void)luaL_getsubtable(L, LUA_REGISTRYINDEX, METRICS);
    lua_insert(L, -2);
    lua_pushvalue(L, -1);
    if (lua_rawget(L, -3) != LUA_TNIL)
        return lua_touserdata(L, -1);
    lua_pop(L, 1);
    lua_Integer count = luaL_len(L, lua_upvalueindex(1)); /* a list with one entry a metric */
    if (count >= METRICS_MAX)
        (void)luaL_error(L, "more than %d different metrics: labels are for a few values each",
                         METRICS_MAX);
    lua_pushboolean(L, 1);
    lua_rawseti(L, lua_upvalueindex(1), count + 1);
    struct weir_metric *m = make(L, name, kind, labels, n);
    lua_pushlightuserdata(L, m);
    lua_rawset(L, -3);
    return m;
}

/* weir.metric(name, value, kind, labels) */
static int weir_metric(lua_State *L)
{
    static const char *const kinds[] = {"counter", "gauge", "histogram", NULL};
    const struct weir_host *h = vm_of(L)->h;
    lua_settop(L, 4);
    const char *name = check_name(L, 1, "a metric's name");
    lua_Number value = luaL_optnumber(L, 2, 1);
    enum metric_kind kind = (enum metric_kind)luaL_checkoption(L, 3, "counter", kinds);
    luaL_argcheck(L, kind != COUNTER || (value >= 0 && value < 0x1p53 && value == floor(value)), 2,
                  "a counter only goes up, by whole numbers");
    struct weir_metric *m = metric_of(L, name, kind);
    if (m == NULL)
        return 0; /* the host's limit of series is reached, and it counts that */
    if (kind == COUNTER)
        h->metric_add(m, (uint64_t)value);
    else if (kind == GAUGE)
        h->metric_set(m, value);
    else
        h->metric_observe(m, value);
    return 0;
}

void api_observe_open(lua_State *L)
{
    static const struct {
        const char *name;
        enum weir_log_level level;
    } levels[] = {{"error", WEIR_LOG_ERROR},
                  {"warn", WEIR_LOG_WARN},
                  {"info", WEIR_LOG_INFO},
                  {"debug", WEIR_LOG_DEBUG}};
    lua_newtable(L);
    for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++) {
        lua_pushinteger(L, levels[i].level);
        lua_pushcclosure(L, log_line, 1);
        lua_setfield(L, -2, levels[i].name);
    }
    lua_setfield(L, -2, "log");
    lua_newtable(L);
    lua_pushcclosure(L, weir_metric, 1);
    lua_setfield(L, -2, "metric");
}
