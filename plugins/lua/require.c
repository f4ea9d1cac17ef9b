/* SPDX-License-Identifier: Apache-2.0
 *
 * `require` for scripts: "a.b" is a/b.lua, or a/b/init.lua, beside the script; nothing else is ever
 * opened. A module is loaded once a state; one that requires itself, over others too, is an error.
 */
#include "sandbox.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define NAME_MAX_LEN 120

char *script_read(const struct weir_host *h, const char *path, size_t *ret_len, char *why,
                  size_t why_size)
{
    struct stat st;
    FILE *f = fopen(path, "rbe");
    if (f == NULL || fstat(fileno(f), &st) != 0) {
        (void)snprintf(why, why_size, "cannot open '%s': %s", path, strerror(errno));
        if (f != NULL)
            (void)fclose(f);
        return NULL;
    }
    char *text = NULL;
    if (!S_ISREG(st.st_mode))
        (void)snprintf(why, why_size, "'%s' is not a regular file", path);
    else if (st.st_size > (off_t)SCRIPT_BYTES_MAX)
        (void)snprintf(why, why_size, "'%s' is larger than %u MiB", path, SCRIPT_BYTES_MAX >> 20);
    else if ((text = h->alloc((size_t)st.st_size + 1)) == NULL)
        (void)snprintf(why, why_size, "no memory to read '%s'", path);
    if (text != NULL)
        *ret_len = fread(text, 1, (size_t)st.st_size, f);
    if (text != NULL && ferror(f) != 0) {
        (void)snprintf(why, why_size, "cannot read '%s': %s", path, strerror(errno));
        h->free(text);
        text = NULL;
    }
    (void)fclose(f);
    return text;
}

/* Letters, digits, _ and - in parts that dots separate: no way out of the folder. */
static bool is_module_name(const char *name, size_t len)
{
    if (len == 0 || len > NAME_MAX_LEN || name[0] == '.' || name[len - 1] == '.')
        return false;
    for (size_t i = 0; i < len; i++) {
        bool dot = name[i] == '.';
        bool word = name[i] == '_' || name[i] == '-' || (name[i] >= '0' && name[i] <= '9') ||
                    ((name[i] | 32) >= 'a' && (name[i] | 32) <= 'z');
        if (!word && (!dot || name[i - 1] == '.'))
            return false;
    }
    return true;
}

/* Pushes the path with that ending; true where there is such a file. */
static bool find_file(lua_State *L, const char *name, const char *ending)
{
    const char *relative = luaL_gsub(L, name, ".", "/");
    const char *path = lua_pushfstring(L, "%s/%s%s", vm_of(L)->opt.dir, relative, ending);
    struct stat st;
    lua_remove(L, -2);
    return stat(path, &st) == 0;
}

static void push_cycle_error(lua_State *L, const char *name, uint32_t from)
{
    const struct vm *vm = vm_of(L);
    luaL_Buffer b;
    luaL_where(L, 1);
    luaL_buffinit(L, &b);
    luaL_addstring(&b, "modules require each other in a cycle: ");
    for (uint32_t i = from; i < vm->n_modules; i++) {
        luaL_addstring(&b, vm->loading[i]);
        luaL_addstring(&b, " -> ");
    }
    luaL_addstring(&b, name);
    luaL_pushresult(&b);
    lua_concat(L, 2);
}

static void enter(lua_State *L, const char *name)
{
    struct vm *vm = vm_of(L);
    for (uint32_t i = 0; i < vm->n_modules; i++) {
        if (strcmp(vm->loading[i], name) == 0) {
            push_cycle_error(L, name, i);
            (void)lua_error(L);
        }
    }
    if (vm->n_modules == sizeof(vm->loading) / sizeof(vm->loading[0]))
        (void)luaL_error(L, "modules require each other more than %d deep", (int)vm->n_modules);
    vm->loading[vm->n_modules++] = name;
}

struct module {
    struct weir_str text;
    const char *shown;
};

/* Protected: a struct module. Leaves its function. */
static int compile(lua_State *L)
{
    const struct module *m = lua_touserdata(L, 1);
    if (!vm_load(L, m->text, lua_pushfstring(L, "@%s", m->shown), NULL))
        (void)lua_error(L);
    return 1;
}

/* Pushes the module's function. */
static void load_file(lua_State *L, const char *path, const char *shown)
{
    const struct weir_host *h = vm_of(L)->h;
    char why[256];
    size_t len = 0;
    char *text = script_read(h, path, &len, why, sizeof(why));
    if (text == NULL)
        (void)luaL_error(L, "%s", why);
    struct module m = {weir_str_n(text, len), shown};
    lua_pushcfunction(L, compile);
    lua_pushlightuserdata(L, &m);
    int status = lua_pcall(L, 1, 1, 0);
    h->free(text);
    if (status != LUA_OK)
        (void)lua_error(L);
}

static void run_module(lua_State *L, const char *name)
{
    struct vm *vm = vm_of(L);
    if (!find_file(L, name, ".lua") && !find_file(L, name, "/init.lua"))
        (void)luaL_error(L, "module '%s' not found: there is no '%s' and no '%s'", name,
                         lua_tostring(L, -2), lua_tostring(L, -1));
    const char *path = lua_tostring(L, -1);
    load_file(L, path, path + strlen(vm->opt.dir) + 1);
    lua_pushstring(L, name);
    uint32_t depth = vm->n_modules;
    enter(L, name);
    int status = lua_pcall(L, 1, 1, 0);
    vm->n_modules = depth;
    if (status != LUA_OK)
        (void)lua_error(L);
}

static int require(lua_State *L)
{
    size_t len;
    const char *name = luaL_checklstring(L, 1, &len);
    if (!is_module_name(name, len))
        return luaL_error(L,
                          "bad module name '%s': expected names of letters, digits, '_' and '-' "
                          "with dots between them",
                          name);
    lua_settop(L, 1);
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
    if (lua_getfield(L, 2, name) != LUA_TNIL)
        return 1;
    if (vm_of(L)->opt.dir == NULL)
        return luaL_error(L,
                          "require '%s': inline code has no folder to find modules in; use "
                          "option 'script'",
                          name);
    run_module(L, name);
    if (lua_isnil(L, -1)) {
        lua_pushboolean(L, 1);
        lua_replace(L, -2);
    }
    lua_pushvalue(L, -1);
    lua_setfield(L, 2, name);
    return 1;
}

void require_open(lua_State *L)
{
    lua_pushcfunction(L, require);
    lua_setglobal(L, "require");
}
