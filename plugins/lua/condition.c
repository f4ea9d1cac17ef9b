/* SPDX-License-Identifier: Apache-2.0
 *
 * Conditions: Lua expressions over `event` and `meta`, compiled once. The service weir.condition/1.
 *
 * One state for all texts of an instance. In it a missing field is nil all the way down: nil,
 * numbers, booleans and JSON null can be indexed, called and computed with (which gives nil), and
 * compared (which gives false), so that only what is truly wrong, such as a number compared with a
 * string, is an error, and fails the event.
 */
#include "condition.h"

#include "handle.h"
#include "simple.h"
#include "syntax.h"
#include "vm.h"

#include <stdio.h>
#include <string.h>
#include <text.h>

#define MEMORY (INT64_C(64) << 20)
#define INSTRUCTIONS INT64_C(10000000)
#define TEXT_MAX 65536u
#define CHUNK "condition"
#define FIRST 2 /* stack index of the first compiled text */

static const char before[] = "local event, meta = ...; return (";
static const char after[] = "\n)";

/* What an expression may name. */
static const char *const known[] = {"event",  "meta",   "weir",     "string",   "table",
                                    "math",   "utf8",   "tostring", "tonumber", "type",
                                    "select", "ipairs", "pairs",    NULL};

struct conditions {
    struct vm *vm;
    struct weir_str *texts;
    struct simple **simple; /* NULL entries: for Lua */
    uint32_t n;
};

/* ---- Compiling ---- */

static const char *hint_for(struct weir_str token)
{
    static const struct {
        const char *token, *hint;
    } hints[] = {{"=", "; to compare, write =="},
                 {"!", "; Lua writes ~= for not equal, and `not` for negation"},
                 {"&", "; Lua writes `and`"},
                 {"|", "; Lua writes `or`"}};
    for (size_t i = 0; i < sizeof(hints) / sizeof(hints[0]); i++)
        if (token.len == 1 && token.ptr[0] == hints[i].token[0])
            return hints[i].hint;
    return "";
}

static enum weir_status say(struct weir_error *err, int64_t offset, const char *text,
                            const char *more)
{
    if (err == NULL)
        return WEIR_E_CONFIG;
    err->status = WEIR_E_CONFIG;
    err->code = "bad_condition";
    err->number = 0;
    err->offset = offset;
    (void)snprintf(err->text, sizeof(err->text), "%s%s", text, more);
    return WEIR_E_CONFIG;
}

static enum weir_status say_syntax(struct weir_error *err, struct weir_str text,
                                   const char *message, size_t read)
{
    unsigned line;
    char words[256];
    size_t n_before = sizeof(before) - 1;
    int64_t offset = syntax_offset(text, message, read > n_before ? read - n_before : 0);
    struct weir_str token = syntax_token(message);
    bool at_end = read > n_before + text.len && token.len == 1 && token.ptr[0] == ')';
    bool twice = token.len == 1 && (token.ptr[0] == '&' || token.ptr[0] == '|') && offset > 0 &&
                 text.ptr[offset - 1] == token.ptr[0];
    message = syntax_strip(message, CHUNK, &line);
    if (at_end)
        return say(err, (int64_t)text.len, "the expression is not complete", "");
    if (token.len != 0 && strncmp(message, "')' expected near", 17) == 0)
        (void)snprintf(words, sizeof(words), "unexpected '%.*s' behind the expression",
                       (int)(token.len < 60 ? token.len : 60), token.ptr);
    else
        (void)snprintf(words, sizeof(words), "%s", message);
    return say(err, twice ? offset - 1 : offset, words, hint_for(token));
}

static enum weir_status check_text(struct weir_str text, struct weir_error *err)
{
    struct weir_str name;
    size_t blank = 0;
    while (blank < text.len && (unsigned char)text.ptr[blank] <= ' ')
        blank++;
    if (blank == text.len)
        return say(err, 0,
                   "the condition is empty: a Lua expression over `event` and `meta` expected", "");
    if (text.len > TEXT_MAX)
        return say(err, 0, "the condition is longer than 64 KiB", "");
    if (!syntax_unknown_name(text, known, &name))
        return WEIR_OK;
    char words[200];
    (void)snprintf(words, sizeof(words),
                   "unknown name '%.*s': a condition knows event, meta, weir, string, table, math, "
                   "utf8, tostring, tonumber and type",
                   (int)(name.len < 60 ? name.len : 60), name.ptr);
    return say(err, name.ptr - text.ptr, words,
               name.len == 4 && memcmp(name.ptr, "null", 4) == 0 ? "; JSON null is weir.null" : "");
}

/* Pushes the compiled text, or its message. */
static bool compile(lua_State *L, struct weir_str text, size_t *ret_read)
{
    luaL_Buffer b;
    luaL_buffinit(L, &b);
    luaL_addlstring(&b, before, sizeof(before) - 1);
    luaL_addlstring(&b, text.ptr, text.len);
    luaL_addlstring(&b, after, sizeof(after) - 1);
    luaL_pushresult(&b);
    struct weir_str chunk;
    chunk.ptr = lua_tolstring(L, -1, &chunk.len);
    bool ok = vm_load(L, chunk, "=" CHUNK, ret_read);
    lua_remove(L, -2);
    return ok;
}

struct compile_call {
    struct weir_str text;
    size_t read;
    bool ok;
};

/* Protected: leaves the function or the message on the stack. */
static int compile_protected(lua_State *L)
{
    struct compile_call *call = lua_touserdata(L, 1);
    call->ok = compile(L, call->text, &call->read);
    return 1;
}

/* Result on the stack of L. */
static enum weir_status compile_text(lua_State *L, struct weir_str text, struct weir_error *err)
{
    struct compile_call call = {.text = text};
    enum weir_status status = check_text(text, err);
    if (status != WEIR_OK)
        return status;
    lua_pushcfunction(L, compile_protected);
    lua_pushlightuserdata(L, &call);
    if (lua_pcall(L, 1, 1, 0) != LUA_OK) {
        lua_pop(L, 1);
        return say(err, -1, "no memory to compile the condition", "");
    }
    if (call.ok)
        return WEIR_OK;
    status = say_syntax(err, text, lua_tostring(L, -1), call.read);
    lua_pop(L, 1);
    return status;
}

static enum weir_status condition_check(struct weir_str text, struct weir_error *err)
{
    lua_State *L = luaL_newstate(); /* there is no host here to ask for memory */
    if (L == NULL)
        return say(err, -1, "no memory to compile the condition", "");
    enum weir_status status = compile_text(L, text, err);
    lua_close(L);
    return status;
}

/* ---- What makes nil safe ---- */

static int to_nil(lua_State *L)
{
    lua_pushnil(L);
    return 1;
}

static int to_false(lua_State *L)
{
    lua_pushboolean(L, 0);
    return 1;
}

static bool is_nothing(lua_State *L, int arg)
{
    return lua_isnoneornil(L, arg) || handle_is_null(L, arg);
}

/* Arithmetic and the like: nothing with anything is nothing. */
static int compute(lua_State *L)
{
    if (!is_nothing(L, 1) && !is_nothing(L, 2))
        return luaL_error(L, "attempt to compute with %s of the event",
                          luaL_tolstring(L, lua_islightuserdata(L, 1) ? 1 : 2, NULL));
    lua_pushnil(L);
    return 1;
}

/* Adds the arithmetic events to the table on top. */
static void add_arithmetic(lua_State *L)
{
    static const char *const events[] = {"__add", "__sub",  "__mul",    "__div", "__mod",  "__pow",
                                         "__unm", "__idiv", "__band",   "__bor", "__bxor", "__shl",
                                         "__shr", "__bnot", "__concat", NULL};
    for (const char *const *event = events; *event != NULL; event++) {
        lua_pushcfunction(L, compute);
        lua_setfield(L, -2, *event);
    }
}

static void make_nil_safe(lua_State *L)
{
    static const luaL_Reg of_nil[] = {{"__index", to_nil}, {"__call", to_nil}, {"__lt", to_false},
                                      {"__le", to_false},  {"__len", to_nil},  {NULL, NULL}};
    static const luaL_Reg of_scalars[] = {{"__index", to_nil}, {NULL, NULL}};
    lua_pushnil(L);
    luaL_newlib(L, of_nil);
    add_arithmetic(L);
    (void)lua_setmetatable(L, -2);
    lua_pushboolean(L, 1);
    luaL_newlib(L, of_scalars);
    (void)lua_setmetatable(L, -2);
    lua_pushinteger(L, 0);
    luaL_newlib(L, of_scalars);
    (void)lua_setmetatable(L, -2);
    lua_pushlightuserdata(L, NULL);
    (void)lua_getmetatable(L, -1);
    add_arithmetic(L);
    lua_pushcfunction(L, to_nil);
    lua_setfield(L, -2, "__call");
    lua_pop(L, 5);
}

static int unknown_name(lua_State *L)
{
    return luaL_error(L, "unknown name '%s'", luaL_tolstring(L, 2, NULL));
}

/* Protected: a nil-safe state, and the environment of all expressions in the registry. */
static int set_up(lua_State *L)
{
    make_nil_safe(L);
    lua_newtable(L);
    for (const char *const *name = known; *name != NULL; name++) {
        lua_getglobal(L, *name);
        lua_setfield(L, -2, *name);
    }
    lua_newtable(L);
    lua_pushcfunction(L, unknown_name);
    lua_setfield(L, -2, "__index");
    (void)lua_setmetatable(L, -2);
    return 1;
}

/* ---- Instances ---- */

static void condition_close(void *take_state)
{
    struct conditions *c = take_state;
    if (c == NULL)
        return;
    const struct weir_host *h = c->vm->h;
    for (uint32_t i = 0; i < c->n; i++)
        simple_free(h, c->simple[i]);
    h->free(c->simple);
    h->free(c->texts);
    vm_free(c->vm);
    h->free(c);
}

static enum weir_status compile_all(struct conditions *c, const struct weir_str *texts, uint32_t n,
                                    struct weir_error *err)
{
    lua_State *L = c->vm->L;
    if (!lua_checkstack(L, (int)n + LUA_MINSTACK))
        return say(err, -1, "no memory for the conditions", "");
    lua_pushcfunction(L, set_up);
    if (!vm_call(c->vm, 0, 1))
        return say(err, -1, c->vm->text, "");
    for (uint32_t i = 0; i < n; i++) {
        enum weir_status status = compile_text(L, texts[i], err);
        if (status != WEIR_OK)
            return status;
        lua_pushvalue(L, FIRST); /* the environment */
        (void)lua_setupvalue(L, -2, 1);
        c->texts[i] = texts[i];
        c->simple[i] = simple_compile(c->vm->h, texts[i]);
        c->n++;
    }
    return WEIR_OK;
}

static enum weir_status condition_open(const struct weir_host *h, const struct weir_str *texts,
                                       uint32_t n, void **ret_state, struct weir_error *err)
{
    const struct vm_options opt = {
        .memory = MEMORY, .instructions = INSTRUCTIONS, .condition = true};
    struct vm *vm = vm_new(h, &opt, err);
    if (vm == NULL)
        return WEIR_E_NOMEM;
    struct conditions *c = h->alloc(sizeof(*c));
    struct weir_str *copy = h->alloc((n + (size_t)1) * sizeof(*copy));
    struct simple **simple = h->alloc((n + (size_t)1) * sizeof(struct simple *));
    if (c == NULL || copy == NULL || simple == NULL) {
        h->free(c);
        h->free(copy);
        h->free(simple);
        vm_free(vm);
        return h->error(err, WEIR_E_NOMEM, "no_memory", "no memory for the conditions");
    }
    c->vm = vm;
    c->texts = copy;
    c->simple = simple;
    enum weir_status status = compile_all(c, texts, n, err);
    if (status != WEIR_OK) {
        condition_close(c);
        return status;
    }
    *ret_state = c;
    return WEIR_OK;
}

/* The message names the condition, not the chunk that it was compiled as. */
static void fail_event(struct conditions *c, uint32_t which, struct weir_event *ev)
{
    struct vm *vm = c->vm;
    struct weir_result r = vm_result(vm);
    char words[VM_TEXT + 160];
    unsigned line;
    if ((ev->flags & WEIR_EVENT_GONE) != 0)
        return; /* the host failed it: it is not JSON */
    struct weir_str text = c->texts[which];
    (void)snprintf(words, sizeof(words), "condition \"%.*s%s\": %s",
                   (int)utf8_cut(text.ptr, text.len, 100), text.ptr, text.len > 100 ? "..." : "",
                   syntax_strip(vm->text, CHUNK, &line));
    r.message = weir_cstr(words);
    vm->h->event_fail(vm->h, vm->b, ev, &r);
}

static bool ask_lua(struct conditions *c, uint32_t which, uint32_t i)
{
    struct vm *vm = c->vm;
    lua_State *L = vm->L;
    vm_next(vm);
    lua_pushvalue(L, FIRST + 1 + (int)which);
    uint32_t slot = slot_add(L, i, NULL);
    handle_push(L, HANDLE_VALUE, vm->slots[slot].first_node);
    handle_push(L, HANDLE_META, slot);
    if (!vm_call(vm, 2, 1)) {
        fail_event(c, which, weir_event_at(vm->b, i));
        if (strcmp(vm->code, "lua_memory") == 0)
            (void)vm_recover(vm);
        return false;
    }
    bool yes = lua_toboolean(L, -1) && !handle_is_null(L, -1);
    lua_pop(L, 1);
    return yes && (weir_event_at(vm->b, i)->flags & WEIR_EVENT_GONE) == 0;
}

static void condition_eval(void *state, uint32_t which, struct weir_batch *b, uint8_t *ret_true)
{
    struct conditions *c = state;
    const struct simple *simple = c->simple[which];
    vm_begin(c->vm, b);
    for (uint32_t i = 0; i < b->n_events; i++) {
        struct weir_event *ev = weir_event_at(b, i);
        enum simple_result result = SIMPLE_GONE;
        if ((ev->flags & WEIR_EVENT_GONE) == 0)
            result = simple != NULL ? simple_eval(simple, c->vm->h, b, ev) : SIMPLE_ASK_LUA;
        ret_true[i] = result == SIMPLE_TRUE || (result == SIMPLE_ASK_LUA && ask_lua(c, which, i));
    }
    vm_end(c->vm);
}

const struct weir_condition_service condition_service = {
    .size = sizeof(condition_service),
    .check = condition_check,
    .open = condition_open,
    .eval = condition_eval,
    .close = condition_close,
};
