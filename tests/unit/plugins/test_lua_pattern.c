/* SPDX-License-Identifier: Apache-2.0
 *
 * The plugin's own string.find, match, gmatch and gsub against Lua's, over random patterns and
 * texts: the same results and the same errors, call by call.
 */
#include "../../../plugins/lua/pattern.c"
#include "../../../plugins/lua/pattern_lib.c"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define ROUNDS 60000
#define TEXT_LEN 24

static uint64_t charged;

void vm_charge(lua_State *L, uint64_t n)
{
    (void)L;
    charged += n;
}

static uint64_t seed = 0x9e3779b97f4a7c15;

static uint32_t below(uint32_t n)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)(seed >> 33) % n;
}

/* Bytes of the alphabet, pushed as a string. */
static void push_random(lua_State *L, const char *alphabet, size_t n_alphabet, uint32_t max)
{
    char text[TEXT_LEN];
    uint32_t len = below(max + 1);
    for (uint32_t i = 0; i < len; i++)
        text[i] = alphabet[below((uint32_t)n_alphabet)];
    lua_pushlstring(L, text, len);
}

static void push_pattern(lua_State *L)
{
    static const char raw[] = "ab.%[]^$*+-?()12bfsdwSDWgx\0a%.b[(";
    static const char *const items[] = {
        "a",       "b",    ".",  "%a",   "%d",   "%s",    "%S",    "[ab]",    "[^ab]",
        "[a-c%d]", "[]]",  "()", "(a)",  "(.-)", "(%w+)", "a*",    "b-",      ".+",
        "%f[%w]",  "%b()", "%1", "%2",   "^",    "$",     "[%]a]", "(a*(.))", "%f[^a]",
        "[%a-z]",  "[a-]", "%g", "[^]]", "%%",   "\0"};
    if (below(3) == 0) {
        push_random(L, raw, sizeof(raw) - 1, 8);
        return;
    }
    luaL_Buffer b;
    luaL_buffinit(L, &b);
    for (uint32_t n = below(5); n > 0; n--) {
        uint32_t i = below(sizeof(items) / sizeof(items[0]));
        luaL_addlstring(&b, items[i], items[i][0] == '\0' ? 1 : strlen(items[i]));
    }
    luaL_pushresult(&b);
}

/* The checks are Lua's: two tables of functions, one case. Returns what differs, or nil. */
static const char compare[] =
    "local theirs, ours, s, p, r, i = ...\n"
    "local function run(f, ...)\n"
    "  local t = table.pack(pcall(f, ...))\n"
    "  for k = 1, t.n do t[k] = math.type(t[k]) == 'integer' and t[k] or tostring(t[k]) end\n"
    "  return (table.concat(t, '|', 1, t.n):gsub(\"bad argument #(%d+) to '[^']*'\", '#%1'))\n"
    "end\n"
    "local function all(gmatch, ...)\n"
    "  local t = {}\n"
    "  for a, b, c in gmatch(...) do t[#t + 1] = tostring(a) .. ',' .. tostring(b) .. tostring(c) "
    "end\n"
    "  return table.concat(t, ';')\n"
    "end\n"
    "local cases = {\n"
    "  find = function(l) return run(l.find, s, p, i) end,\n"
    "  plain = function(l) return run(l.find, s, p, i, true) end,\n"
    "  match = function(l) return run(l.match, s, p, i) end,\n"
    "  gmatch = function(l) return run(all, l.gmatch, s, p, i) end,\n"
    "  gsub = function(l) return run(l.gsub, s, p, r) end,\n"
    "  gsub_n = function(l) return run(l.gsub, s, p, r, i) end,\n"
    "  gsub_table = function(l) return run(l.gsub, s, p, {a = 'x', b = 7, ab = false}) end,\n"
    "  gsub_function = function(l) return run(l.gsub, s, p, function(a, b)\n"
    "    return a == 'a' and '<' .. tostring(b) .. '>' end) end}\n"
    "for name, f in pairs(cases) do\n"
    "  local a, b = f(theirs), f(ours)\n"
    "  if a ~= b and not (a .. b):find('too complex', 1, true) then\n"
    "    return string.format('%s(%q, %q, %q, %d): Lua %q, here %q', name, s, p, r, i, a, b)\n"
    "  end\n"
    "end";

static void test_random(void **state)
{
    (void)state;
    static const char texts[] = "aabbc()12 \0aab[]%";
    static const char replacements[] = "x%%0120129%a";
    lua_State *L = luaL_newstate();
    luaL_openlibs(L);
    assert_int_equal(luaL_loadstring(L, compare), LUA_OK);
    lua_getglobal(L, "string");
    lua_newtable(L);
    pattern_open(L);
    for (int i = 0; i < ROUNDS; i++) {
        for (int k = 1; k <= 3; k++)
            lua_pushvalue(L, k);
        push_random(L, texts, sizeof(texts) - 1, TEXT_LEN);
        push_pattern(L);
        push_random(L, replacements, sizeof(replacements) - 1, 5);
        lua_pushinteger(L, (lua_Integer)below(9) - 4);
        if (lua_pcall(L, 6, 1, 0) != LUA_OK || !lua_isnil(L, -1))
            fail_msg("round %d: %s", i, lua_tostring(L, -1));
        lua_pop(L, 1);
    }
    lua_close(L);
}

/* What it costs grows with the bytes that are compared: here with the square of the text. */
static void test_back_references_are_counted(void **state)
{
    (void)state;
    const size_t n = (size_t)64 << 10;
    lua_State *L = luaL_newstate();
    luaL_openlibs(L);
    lua_newtable(L);
    pattern_open(L);
    lua_getfield(L, -1, "find");
    luaL_Buffer b;
    memset(luaL_buffinitsize(L, &b, n), 'a', n);
    luaL_pushresultsize(&b, n);
    lua_pushliteral(L, "^(a*)%1b");
    charged = 0;
    assert_int_equal(lua_pcall(L, 2, 1, 0), LUA_OK);
    assert_true(lua_isnil(L, -1));
    assert_true(charged > n / 2 * (n / 2) / 2 / 64);
    lua_close(L);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_back_references_are_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
