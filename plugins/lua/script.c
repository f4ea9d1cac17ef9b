/* SPDX-License-Identifier: Apache-2.0
 *
 * Loading the user's script; see script.h. Also used by check, in a state that is thrown away.
 */
#include "script.h"

#include "convert.h"
#include "sandbox.h"
#include "syntax.h"

#include <stdio.h>
#include <string.h>

#define FIRST_HOOK 2 /* stack index; hooks that are missing are nil */

static const char *const hook_names[SCRIPT_HOOKS] = {"process", "process_batch", "tick", "shutdown",
                                                     "init"};

static uint32_t allowed(const struct script_config *cf)
{
    uint32_t bits = 0;
    const int *words = cf->allow.items;
    for (uint32_t i = 0; i < cf->allow.n; i++)
        bits |= 1u << words[i];
    return bits;
}

/* ---- The text ---- */

static char *copy_text(const struct weir_host *h, const char *from, size_t len)
{
    char *copy = h->alloc(len + 1);
    if (copy != NULL)
        memcpy(copy, from, len);
    return copy;
}

static bool read_file(struct script *s, const struct weir_host *h, const struct script_config *cf,
                      struct script_error *why)
{
    const char *path = cf->script.ptr, *slash = strrchr(path, '/');
    const char *name = slash != NULL ? slash + 1 : path;
    size_t dir_len = slash == NULL ? 0 : (size_t)(slash - path);
    s->text = script_read(h, path, &s->len, why->text, sizeof(why->text));
    if (s->text == NULL)
        return false;
    s->dir = slash != NULL ? copy_text(h, path, dir_len != 0 ? dir_len : 1) : copy_text(h, ".", 1);
    s->chunk_memory = h->alloc(strlen(name) + 2);
    if (s->dir == NULL || s->chunk_memory == NULL) {
        (void)snprintf(why->text, sizeof(why->text), "no memory to load '%s'", path);
        return false;
    }
    s->chunk_memory[0] = '@';
    memcpy(s->chunk_memory + 1, name, strlen(name) + 1);
    s->chunk = s->chunk_memory;
    return true;
}

/* Where the code begins in the pipeline file. *ret_exact: each of its lines is one of the file's.
 */
static bool place_of(const struct weir_host *h, struct weir_str code, struct weir_place *ret,
                     bool *ret_exact)
{
    const struct weir_place_extension *places = h->extension(h, WEIR_PLACE_EXTENSION);
    struct weir_place place;
    uint32_t i = 0;
    bool found = false;
    *ret_exact = code.ptr[0] != '#'; /* see skip_shebang */
    for (size_t at = 0; places != NULL && at < code.len; i++) {
        const char *newline = memchr(code.ptr + at, '\n', code.len - at);
        size_t next = newline != NULL ? (size_t)(newline + 1 - code.ptr) : code.len;
        at += strspn(code.ptr + at, " \t"); /* there is a NUL behind all options */
        if (at + 1 < next && places->option(h, "code", (int64_t)at, &place)) {
            if (!found)
                *ret = (struct weir_place){place.file, place.line - i, 1};
            found = true;
            *ret_exact = *ret_exact && place.line == ret->line + i;
        }
        at = next;
    }
    return found;
}

/* Inline code is named by its pipeline file, and begins with as many empty lines as stand above it
 * there, so that Lua's messages name the file's lines. */
static bool read_code(struct script *s, const struct weir_host *h, const struct script_config *cf,
                      struct script_error *why)
{
    struct weir_place place = {{NULL, 0}, 1, 1};
    bool exact = false;
    s->chunk = "=code";
    size_t above = 0;
    if (place_of(h, cf->code, &place, &exact)) {
        const char *slash = memrchr(place.file.ptr, '/', place.file.len);
        const char *name = slash != NULL ? slash + 1 : place.file.ptr;
        int len = (int)(place.file.ptr + place.file.len - name);
        s->chunk_memory = h->alloc((size_t)len + 32);
        if (s->chunk_memory != NULL)
            (void)snprintf(s->chunk_memory, (size_t)len + 32, exact ? "@%.*s" : "@%.*s:%u code",
                           len, name, place.line);
        s->chunk = s->chunk_memory;
        above = exact ? place.line - 1 : 0;
    }
    s->len = above + cf->code.len;
    s->text = h->alloc(s->len + 1);
    if (s->text == NULL || s->chunk == NULL) {
        (void)snprintf(why->text, sizeof(why->text), "no memory to load the code");
        return false;
    }
    memset(s->text, '\n', above);
    memcpy(s->text + above, cf->code.ptr, cf->code.len);
    return true;
}

static bool read_text(struct script *s, const struct weir_host *h, const struct script_config *cf,
                      struct script_error *why)
{
    if (cf->script.len != 0)
        return read_file(s, h, cf, why);
    return read_code(s, h, cf, why);
}

/* ---- Compiling and running the top level ---- */

struct load_call {
    struct script *s;
    bool run;
    bool syntax_error;
    size_t read;
};

/* The place behind a first line that begins with '#'. */
static struct weir_str skip_shebang(const struct script *s)
{
    const char *newline = s->len != 0 && s->text[0] == '#' ? memchr(s->text, '\n', s->len) : NULL;
    size_t skip = newline != NULL ? (size_t)(newline - s->text) : 0;
    return weir_str_n(s->text + skip, s->len - skip);
}

static int load_protected(lua_State *L)
{
    struct load_call *call = lua_touserdata(L, 1);
    struct weir_str text = skip_shebang(call->s);
    if (!vm_load(L, text, call->s->chunk, &call->read)) {
        call->read += call->s->len - text.len;
        call->syntax_error = true;
        return lua_error(L);
    }
    if (call->run)
        lua_call(L, 0, 0);
    return 0;
}

/* Inline code is pointed at by offset; files by the name and line that the message begins with. */
static void say_load_error(struct script *s, const struct load_call *call, struct script_error *why)
{
    const char *message = s->vm->text;
    unsigned line;
    if (s->dir == NULL) {
        message = syntax_strip(message, "code", &line);
        if (call->syntax_error)
            why->offset = syntax_offset(weir_str_n(s->text, s->len), message, call->read);
        else if (line != 0)
            why->offset = syntax_line_offset(weir_str_n(s->text, s->len), line);
    }
    (void)snprintf(why->text, sizeof(why->text), "%s", message);
}

static int find_hooks(lua_State *L)
{
    for (int i = 0; i < SCRIPT_HOOKS; i++) {
        int type = lua_getglobal(L, hook_names[i]);
        if (type != LUA_TNIL && type != LUA_TFUNCTION)
            return luaL_error(L, "the global '%s' is a %s value, not a function", hook_names[i],
                              lua_typename(L, type));
    }
    return SCRIPT_HOOKS;
}

static bool look_for_hooks(struct script *s, struct script_error *why)
{
    lua_State *L = s->vm->L;
    lua_pushcfunction(L, find_hooks);
    if (!vm_call(s->vm, 0, SCRIPT_HOOKS)) {
        (void)snprintf(why->text, sizeof(why->text), "%s", s->vm->text);
        return false;
    }
    for (int i = 0; i < SCRIPT_HOOKS; i++)
        s->has[i] = lua_isfunction(L, FIRST_HOOK + i);
    const char *problem = NULL;
    if (s->has[HOOK_FN_PROCESS] && s->has[HOOK_FN_BATCH])
        problem = "the script defines both process and process_batch: keep one of them";
    else if (!s->has[HOOK_FN_PROCESS] && !s->has[HOOK_FN_BATCH] && !s->has[HOOK_FN_TICK])
        problem = "the script defines no hook: a global function process(event, meta), "
                  "process_batch(events) or tick() expected";
    if (problem != NULL)
        (void)snprintf(why->text, sizeof(why->text), "%s", problem);
    return problem == NULL;
}

bool script_load(struct script *s, const struct weir_host *h, const struct script_config *cf,
                 struct cache *cache, bool run, struct script_error *why)
{
    *s = (struct script){0};
    *why = (struct script_error){.offset = -1};
    if (!read_text(s, h, cf, why))
        return false;
    const struct vm_options opt = {.memory = cf->memory,
                                   .instructions = cf->instructions,
                                   .allow = allowed(cf),
                                   .dir = s->dir,
                                   .cache = cache,
                                   .ports = cf->ports.items,
                                   .n_ports = cf->ports.n};
    struct weir_error err = {0};
    s->vm = vm_new(h, &opt, &err);
    if (s->vm == NULL) {
        (void)snprintf(why->text, sizeof(why->text), "%s", err.text);
        return false;
    }
    struct load_call call = {.s = s, .run = run};
    lua_pushcfunction(s->vm->L, load_protected);
    lua_pushlightuserdata(s->vm->L, &call);
    vm_begin(s->vm, NULL);
    if (!vm_call(s->vm, 1, 0)) {
        say_load_error(s, &call, why);
        return false;
    }
    return !run || look_for_hooks(s, why);
}

void script_push(const struct script *s, enum script_hook hook)
{
    lua_pushvalue(s->vm->L, FIRST_HOOK + (int)hook);
}

static int init_protected(lua_State *L)
{
    const struct script_config *cf = lua_touserdata(L, 2);
    lua_settop(L, 1);
    if (cf->config != NULL)
        convert_push(L, cf->config);
    else
        lua_newtable(L);
    lua_call(L, 1, 0);
    return 0;
}

bool script_init(struct script *s, const struct script_config *cf)
{
    lua_State *L = s->vm->L;
    if (!s->has[HOOK_FN_INIT])
        return true;
    vm_begin(s->vm, NULL);
    lua_pushcfunction(L, init_protected);
    script_push(s, HOOK_FN_INIT);
    union {
        const struct script_config *from;
        void *to;
    } arg = {.from = cf}; /* only read there */
    lua_pushlightuserdata(L, arg.to);
    bool ok = vm_call(s->vm, 2, 0);
    vm_end(s->vm);
    return ok;
}

void script_done(struct script *s, const struct weir_host *h)
{
    vm_free(s->vm);
    h->free(s->text);
    h->free(s->dir);
    h->free(s->chunk_memory);
    *s = (struct script){0};
}
