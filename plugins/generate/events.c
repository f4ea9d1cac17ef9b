/* SPDX-License-Identifier: Apache-2.0
 *
 * The bytes of synthetic user events: eight kinds, nested fields of every JSON type, about 400
 * bytes each, put together from ready-made pieces and a few random numbers.
 *
 * Every number comes from a hash of (seed, event number), never from a generator with a state, so
 * that an event can be made on any lane and made again. Called by generate.c on a lane; allocates
 * nothing.
 */
#include "generate.h"

#include "../common/rfc3339.h"
#include <string.h>

#define HUNDRED_YEARS_NS (INT64_C(36525) * 86400 * WEIR_NS_PER_S)
#define SESSION_EVENTS_LOG2 4 /* a user's session lasts for about 16 of the user's events */

/* splitmix64: every bit of the result depends on every bit of x. */
static inline uint64_t mix(uint64_t x)
{
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

/* A number below n from bits of r that start at `shift`; n is small beside 2^16. */
static inline uint32_t pick(uint64_t r, unsigned shift, uint32_t n)
{
    return (uint32_t)(((r >> shift) & 0xffff) * n >> 16);
}

static inline char *put(char *p, const char *text)
{
    size_t n = strlen(text);
    memcpy(p, text, n);
    return p + n;
}

static inline char *put_uint(char *p, uint64_t v)
{
    char digits[20];
    size_t at = sizeof(digits);
    do {
        digits[--at] = (char)('0' + v % 10);
        v /= 10;
    } while (v != 0);
    memcpy(p, digits + at, sizeof(digits) - at);
    return p + sizeof(digits) - at;
}

/* The lowest `n` decimal digits of v, zeros in front. */
static inline char *put_digits(char *p, uint64_t v, unsigned n)
{
    for (unsigned i = n; i-- > 0; v /= 10)
        p[i] = (char)('0' + v % 10);
    return p + n;
}

static inline char *put_hex(char *p, uint64_t v, unsigned n)
{
    for (unsigned i = n; i-- > 0; v >>= 4)
        p[i] = "0123456789abcdef"[v & 15];
    return p + n;
}

/* v hundredths as a JSON number with two decimals. */
static inline char *put_cents(char *p, uint64_t v)
{
    p = put_uint(p, v / 100);
    *p++ = '.';
    return put_digits(p, v % 100, 2);
}

/* ---- Time ------------------------------------------------------------------------------------ */

static void stamp_second(struct maker *m, int64_t s)
{
    char text[RFC3339_MAX];
    (void)rfc3339_format((struct rfc3339){s, 0}, text); /* "2026-01-01T00:00:00Z" */
    memcpy(m->stamp, text, sizeof(m->stamp));
    m->stamp[sizeof(m->stamp) - 1] = '.';
    m->stamped_s = s;
}

static char *put_time(struct maker *m, char *p, int64_t ns)
{
    int64_t s = ns / WEIR_NS_PER_S;
    if (s != m->stamped_s)
        stamp_second(m, s);
    memcpy(p, m->stamp, sizeof(m->stamp));
    p = put_digits(p + sizeof(m->stamp), (uint64_t)(ns % WEIR_NS_PER_S / WEIR_NS_PER_MS), 3);
    *p++ = 'Z';
    return p;
}

/* ---- Props, one function a kind -------------------------------------------------------------- */

static const char *const pages[] = {"/",       "/products", "/cart",           "/account",
                                    "/search", "/help",     "/products/shoes", "/products/lamps"};
static const char *const queries[] = {"running shoes", "desk lamp",         "caf\xc3\xa9 cups",
                                      "\xe9\x9e\x8b",  "rain \\\"coat\\\"", "wool socks",
                                      "tent",          "usb-c cable"};

static char *props_page_view(char *p, uint64_t r)
{
    p = put(put(p, "{\"path\":\""), pages[pick(r, 0, 8)]);
    p = put(p, "\",\"referrer\":null,\"duration_ms\":");
    p = put_uint(p, 40 + pick(r, 16, 30000));
    p = put(p, ",\"scroll\":0.");
    p = put_digits(p, pick(r, 32, 100), 2);
    return put(p, ",\"tags\":[]}");
}

static char *props_click(char *p, uint64_t r)
{
    static const char *const elements[] = {"buy", "menu", "next", "logo"};
    p = put(put(p, "{\"element\":\""), elements[pick(r, 0, 4)]);
    p = put(put(p, "\",\"path\":\""), pages[pick(r, 8, 8)]);
    p = put_uint(put(p, "\",\"x\":"), pick(r, 16, 1920));
    p = put_uint(put(p, ",\"y\":"), pick(r, 32, 1080));
    return put(p, ",\"modifiers\":[]}");
}

static char *props_login(char *p, uint64_t r)
{
    static const char *const methods[] = {"password", "sso", "passkey", "magic_link"};
    p = put(put(p, "{\"method\":\""), methods[pick(r, 0, 4)]);
    p = put(p, pick(r, 16, 20) == 0 ? "\",\"success\":false" : "\",\"success\":true");
    p = put_uint(put(p, ",\"attempts\":"), 1 + pick(r, 32, 3));
    return put(p, ",\"mfa\":{}}");
}

static char *props_logout(char *p, uint64_t r)
{
    p = put(p, pick(r, 0, 4) == 0 ? "{\"reason\":\"timeout\"" : "{\"reason\":\"user\"");
    p = put_uint(put(p, ",\"session_ms\":"), 1000 + (r >> 40));
    return put(p, ",\"everywhere\":false}");
}

static char *props_purchase(char *p, uint64_t r)
{
    static const char *const currencies[] = {"EUR", "USD", "GBP", "JPY"};
    uint64_t price = 99 + pick(r, 0, 60000);
    uint64_t n = 1 + pick(r, 16, 4);
    p = put_uint(put(p, "{\"order_id\":"), r >> 1 | UINT64_C(1) << 53);
    p = put_cents(put(p, ",\"amount\":"), price * n);
    p = put(put(p, ",\"currency\":\""), currencies[pick(r, 32, 4)]);
    p = put_digits(put(p, "\",\"items\":[{\"sku\":\"SKU-"), pick(r, 40, 10000), 5);
    p = put_uint(put(p, "\",\"quantity\":"), n);
    p = put_cents(put(p, ",\"price\":"), price);
    return put(p, "}],\"coupon\":null}");
}

static char *props_search(char *p, uint64_t r)
{
    p = put(put(p, "{\"query\":\""), queries[pick(r, 0, 8)]);
    p = put_uint(put(p, "\",\"results\":"), pick(r, 16, 500));
    return put(p, ",\"filters\":{\"in_stock\":true,\"brands\":[]},\"page\":1}");
}

static char *props_signup(char *p, uint64_t r)
{
    static const char *const plans[] = {"free", "basic", "pro", "team"};
    p = put(put(p, "{\"plan\":\""), plans[pick(r, 0, 4)]);
    p = put(p, "\",\"utm\":{\"source\":\"newsletter\",\"campaign\":\"c-");
    p = put_uint(p, pick(r, 16, 40));
    return put(p, "\",\"term\":null},\"marketing\":false}");
}

static char *props_heartbeat(char *p, uint64_t r)
{
    p = put_uint(put(p, "{\"uptime_s\":"), pick(r, 0, 50000));
    p = put_digits(put(p, ",\"battery\":0."), pick(r, 16, 100), 2);
    return put(p, pick(r, 32, 3) == 0 ? ",\"network\":\"cellular\"}" : ",\"network\":\"wifi\"}");
}

static const struct kind {
    const char *head;
    char *(*props)(char *p, uint64_t r);
    unsigned weight; /* of 256 */
} kinds[] = {
    {"\",\"type\":\"page_view\",\"ts\":\"", props_page_view, 96},
    {"\",\"type\":\"click\",\"ts\":\"", props_click, 64},
    {"\",\"type\":\"login\",\"ts\":\"", props_login, 16},
    {"\",\"type\":\"logout\",\"ts\":\"", props_logout, 12},
    {"\",\"type\":\"purchase\",\"ts\":\"", props_purchase, 16},
    {"\",\"type\":\"search\",\"ts\":\"", props_search, 20},
    {"\",\"type\":\"signup\",\"ts\":\"", props_signup, 8},
    {"\",\"type\":\"heartbeat\",\"ts\":\"", props_heartbeat, 24},
};

/* ---- The event ------------------------------------------------------------------------------- */

void maker_init(struct maker *m, uint64_t seed, uint64_t n_users, int64_t start_ns, int64_t step_ns,
                size_t size_bytes)
{
    m->seed = seed;
    m->n_users = n_users;
    m->start_ns = start_ns;
    m->step_ns = step_ns;
    m->size_bytes = size_bytes;
    m->n_until_wrap = step_ns == 0 ? UINT64_MAX : (uint64_t)(HUNDRED_YEARS_NS / step_ns) + 1;
    m->stamped_s = -1;
    size_t n = 0;
    for (uint8_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
        for (unsigned i = 0; i < kinds[k].weight && n < sizeof(m->kinds); i++)
            m->kinds[n++] = k;
    }
}

size_t maker_max(const struct maker *m)
{
    return m->size_bytes > MAKER_NATURAL_MAX ? m->size_bytes : MAKER_NATURAL_MAX;
}

/* A UUID of version 8: seed and number, each below 2^60, are in it as they are, so no two events
 * share one. */
static char *put_id(char *p, uint64_t seed, uint64_t seq)
{
    p = put_hex(p, seed >> 16, 8);
    *p++ = '-';
    p = put_hex(p, seed, 4);
    p = put_hex(put(p, "-8"), seq >> 48, 3);
    p = put_hex(put(p, "-8"), seed >> 48, 3);
    *p++ = '-';
    return put_hex(p, seq, 12);
}

static char *put_context(char *p, uint64_t r)
{
    static const char *const agents[] = {
        "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
        "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) Version/18.1",
        "shop-app/4.12.0 (Android 15; Pixel 8)", "shop-app/4.11.2 (iOS 18.1; iPhone15,2)"};
    static const char *const locales[] = {"en-US", "de-DE", "fr-FR", "ja-JP"};
    p = put_uint(put(p, ",\"context\":{\"ip\":\"10."), pick(r, 0, 256));
    *p++ = '.';
    p = put_uint(p, pick(r, 8, 256));
    *p++ = '.';
    p = put_uint(p, pick(r, 16, 256));
    p = put(put(p, "\",\"agent\":\""), agents[pick(r, 24, 4)]);
    p = put(put(p, "\",\"locale\":\""), locales[pick(r, 40, 4)]);
    return put(p, "\",\"consent\":true}");
}

/* A string field that brings the event to the wanted size, where there is room for one. */
static char *put_fill(const struct maker *m, char *p, const char *start)
{
    static const char head[] = ",\"fill\":\"";
    size_t used = (size_t)(p - start) + sizeof(head) - 1 + 2; /* the closing quote and brace */
    if (used >= m->size_bytes)
        return p;
    size_t left = m->size_bytes - used;
    p = put(p, head);
    memset(p, '.', left);
    p += left;
    *p++ = '"';
    return p;
}

void maker_put(struct maker *m, uint64_t seq, char *out, struct made *ret_made)
{
    uint64_t r = mix(m->seed ^ mix(seq));
    uint64_t user = (r >> 8) % m->n_users;
    const struct kind *kind = &kinds[m->kinds[r & 255]];
    uint64_t session = mix(m->seed + user + ((seq / m->n_users >> SESSION_EVENTS_LOG2) << 32));
    uint64_t r2 = mix(r);
    int64_t time_ns = m->start_ns + (int64_t)(seq % m->n_until_wrap) * m->step_ns;

    char *p = put(out, "{\"id\":\"");
    ret_made->id = weir_str_n(p, 36);
    p = put(put_id(p, m->seed, seq), kind->head);
    p = put(put_time(m, p, time_ns), "\",\"user_id\":\"");
    char *user_text = p;
    p = put_digits(put(p, "u"), user, 8);
    ret_made->user = weir_str_n(user_text, (size_t)(p - user_text));
    p = put_hex(put(p, "\",\"session_id\":\"s-"), session, 16);
    p = put_uint(put(p, "\",\"seq\":"), seq);
    if (m->size_bytes == 0 || m->size_bytes >= 400)
        p = put_context(p, mix(user));
    p = kind->props(put(p, ",\"props\":"), r2);
    p = put_fill(m, p, out);
    *p++ = '}';
    ret_made->payload = weir_str_n(out, (size_t)(p - out));
    ret_made->time_ns = time_ns;
}
