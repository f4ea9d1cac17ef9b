/* SPDX-License-Identifier: Apache-2.0
 *
 * SENTINEL GET-MASTER-ADDR-BY-NAME and CLUSTER SLOTS. Contracts in discovery.h.
 *
 * The answers come from outside: every number and every text in them is checked.
 */
#include "discovery.h"

#include <stdio.h>
#include <string.h>

/* ---- Whom to ask ----------------------------------------------------------------------------- */

/* Of the cluster still, as far as is known, and its last connection did not fail. */
static bool is_sound(const struct server *server)
{
    return server->listed && server->conn.error.code == NULL;
}

static uint32_t count_sound(const struct servers *s)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->n; i++)
        n += is_sound(s->items[i]);
    return n;
}

/* Number i of the nodes, i < s->n: the sound ones, then the others. */
static const struct server *node_at(const struct servers *s, uint32_t i)
{
    uint32_t n_sound = count_sound(s), k = 0;
    bool sound = i < n_sound;
    i -= sound ? 0 : n_sound;
    while (is_sound(s->items[k]) != sound || i-- > 0)
        k++;
    return s->items[k];
}

uint32_t discovery_count(const struct servers *s)
{
    uint32_t n = 1 + s->config->nodes.n;
    return s->config->cluster ? n + s->n : n;
}

/* First the one of the URL, then `nodes`, then (of a cluster) the nodes that it had. */
void discovery_target(struct servers *s, char *host, size_t cap, char port[8])
{
    const struct weir_str *nodes = s->config->nodes.items;
    struct address a = {0};
    size_t offset;
    uint32_t n = 1 + s->config->nodes.n + (s->config->cluster ? count_sound(s) : 0);
    uint32_t i = s->n_tried < n ? s->next++ % n : s->n_tried;
    if (i == 0)
        (void)address_parse(s->config->url, &a, &offset);
    else if (i <= s->config->nodes.n)
        (void)address_parse_node(nodes[i - 1], &a);
    else
        a = node_at(s, i - 1 - s->config->nodes.n)->conn.address;
    snprintf(host, cap, "%s", a.host);
    snprintf(port, 8, "%s", a.port);
    explicit_bzero(&a, sizeof(a)); /* it may hold a password */
}

void discovery_put_question(const struct servers *s, struct bytes *out)
{
    if (s->config->cluster)
        bytes_put_command(out, 2, (struct weir_str[]){weir_cstr("CLUSTER"), weir_cstr("SLOTS")});
    else
        bytes_put_command(out, 3,
                          (struct weir_str[]){weir_cstr("SENTINEL"),
                                              weir_cstr("GET-MASTER-ADDR-BY-NAME"),
                                              s->config->sentinel.master});
}

/* ---- Reading --------------------------------------------------------------------------------- */

static bool read_text(struct weir_str s, char *out, size_t cap)
{
    if (s.len >= cap || (s.len > 0 && memchr(s.ptr, '\0', s.len) != NULL))
        return false;
    if (s.len > 0)
        memcpy(out, s.ptr, s.len);
    out[s.len] = '\0';
    return true;
}

static bool read_port(int64_t number, char port[8])
{
    if (number < 1 || number > 65535)
        return false;
    snprintf(port, 8, "%d", (int)number);
    return true;
}

/* The word in front of the next space, and *s behind it. */
static struct weir_str take_word(struct weir_str *s)
{
    const char *space = s->len > 0 ? memchr(s->ptr, ' ', s->len) : NULL;
    size_t n = space != NULL ? (size_t)(space - s->ptr) : s->len;
    struct weir_str word = weir_str_n(s->ptr, n);
    size_t used = space != NULL ? n + 1 : n;
    *s = weir_str_n(s->ptr + used, s->len - used);
    return word;
}

static bool is_word(struct weir_str s, const char *word)
{
    return s.len == strlen(word) && memcmp(s.ptr, word, s.len) == 0;
}

bool discovery_read_redirect(struct weir_str text, bool *ret_ask, unsigned *ret_slot,
                             char host[256], char port[8])
{
    int64_t slot, number;
    struct weir_str kind = take_word(&text);
    *ret_ask = is_word(kind, "ASK");
    if ((!*ret_ask && !is_word(kind, "MOVED")) ||
        !address_read_uint(take_word(&text), N_SLOTS - 1, &slot))
        return false;
    struct weir_str place = take_word(&text);
    const char *colon = place.len > 0 ? memrchr(place.ptr, ':', place.len) : NULL;
    if (colon == NULL)
        return false;
    size_t n = (size_t)(colon - place.ptr);
    *ret_slot = (unsigned)slot;
    return read_text(weir_str_n(place.ptr, n), host, 256) &&
           address_read_uint(weir_str_n(colon + 1, place.len - n - 1), 65535, &number) &&
           read_port(number, port);
}

/* ---- Sentinel -------------------------------------------------------------------------------- */

static bool take_master(struct servers *s, const struct reply *reply)
{
    struct weir_str name = s->config->sentinel.master;
    const char *p = reply->record.ptr;
    const char *end = p + reply->record.len;
    struct reply list, host_text, port_text;
    char host[256], port[8];
    int64_t number;
    if (reply->type == REPLY_NIL) {
        conn_break(&s->ask, "unknown_master", "the Sentinel at %s knows no master \"%.*s\"",
                   s->ask.where, (int)name.len, name.ptr);
        return false;
    }
    if (reply->type != REPLY_ARRAY || reply->number != 2 || !record_next(&p, end, &list) ||
        !record_next(&p, end, &host_text) || !record_next(&p, end, &port_text) ||
        !read_text(host_text.text, host, sizeof(host)) || host[0] == '\0' ||
        !address_read_uint(port_text.text, 65535, &number) || !read_port(number, port)) {
        conn_break(&s->ask, "protocol", "the Sentinel at %s gave no address of a master",
                   s->ask.where);
        return false;
    }
    struct server *master = s->n > 0 ? s->items[0] : servers_at(s, host, port);
    if (master == NULL) {
        conn_break(&s->ask, "no_memory", "no memory for a connection to redis");
        return false;
    }
    bool same = strcmp(master->conn.address.host, host) == 0 &&
                strcmp(master->conn.address.port, port) == 0;
    if (!same && master->conn.state == CONN_DOWN)
        conn_set_node(&master->conn, host, port);
    else if (!same)
        conn_break(&master->conn, "failover", "redis at %s is no longer the master",
                   master->conn.where);
    master->listed = true;
    return true;
}

/* ---- Cluster --------------------------------------------------------------------------------- */

/* Passes an element and all that is inside it. */
static bool pass(const char **p, const char *end, unsigned depth)
{
    struct reply e;
    if (depth > REPLY_DEPTH_MAX || !record_next(p, end, &e))
        return false;
    for (int64_t i = 0; e.type == REPLY_ARRAY && i < e.number; i++) {
        if (!pass(p, end, depth + 1))
            return false;
    }
    return true;
}

/* [host, port, id, ...]: a host of nil or "" is that of the node that answers. */
static struct server *take_node(struct servers *s, const char **p, const char *end)
{
    struct reply list, host_text, port_number;
    char host[256], port[8];
    if (!record_next(p, end, &list) || list.type != REPLY_ARRAY || list.number < 2 ||
        !record_next(p, end, &host_text) || !record_next(p, end, &port_number) ||
        !read_text(host_text.text, host, sizeof(host)) || !read_port(port_number.number, port))
        return NULL;
    if (host[0] == '\0' || strcmp(host, "?") == 0)
        snprintf(host, sizeof(host), "%s", s->ask.address.host);
    for (int64_t i = 2; i < list.number; i++) {
        if (!pass(p, end, 0))
            return NULL;
    }
    return servers_at(s, host, port);
}

static uint32_t index_of(const struct servers *s, const struct server *server)
{
    uint32_t i = 0;
    while (s->items[i] != server)
        i++;
    return i;
}

/* [first, last, master, replica...] */
static bool take_range(struct servers *s, uint16_t *slots, const char **p, const char *end)
{
    struct reply list, first, last;
    if (!record_next(p, end, &list) || list.type != REPLY_ARRAY || list.number < 3 ||
        !record_next(p, end, &first) || !record_next(p, end, &last) ||
        first.type != REPLY_INTEGER || last.type != REPLY_INTEGER || first.number < 0 ||
        last.number >= N_SLOTS || first.number > last.number)
        return false;
    struct server *server = take_node(s, p, end);
    if (server == NULL)
        return false;
    server->seen = true;
    uint16_t entry = (uint16_t)(index_of(s, server) + 1);
    for (int64_t i = first.number; i <= last.number; i++)
        slots[i] = entry;
    for (int64_t i = 3; i < list.number; i++) {
        if (!pass(p, end, 0))
            return false;
    }
    return true;
}

static bool take_slots(struct servers *s, const struct reply *reply)
{
    const char *p = reply->record.ptr;
    const char *end = p + reply->record.len;
    uint16_t slots[N_SLOTS] = {0};
    struct reply list;
    bool good = reply->type == REPLY_ARRAY && record_next(&p, end, &list) && list.number <= N_SLOTS;
    for (uint32_t i = 0; good && i < s->n; i++)
        s->items[i]->seen = false;
    for (int64_t i = 0; good && i < list.number; i++)
        good = take_range(s, slots, &p, end);
    if (!good) {
        conn_break(&s->ask, "protocol", "redis at %s gave no list of its cluster's slots",
                   s->ask.where);
        return false;
    }
    if (list.number == 0) {
        conn_break(&s->ask, "clusterdown", "the redis cluster of %s has no slots", s->ask.where);
        return false;
    }
    for (uint32_t i = 0; i < s->n; i++)
        s->items[i]->listed = s->items[i]->seen;
    memcpy(s->slots, slots, sizeof(slots));
    return true;
}

bool discovery_take_answer(struct servers *s, const struct reply *reply)
{
    const char *who = s->config->cluster ? "redis" : "the Sentinel";
    if (reply->type == REPLY_ERROR) {
        int n = (int)(reply->text.len < 200 ? reply->text.len : 200);
        conn_break(&s->ask, "refused", "%s at %s does not say where the servers are: %.*s", who,
                   s->ask.where, n, reply->text.ptr);
        return false;
    }
    if (reply->type > REPLY_ARRAY)
        return false; /* conn_next has broken the connection */
    return s->config->cluster ? take_slots(s, reply) : take_master(s, reply);
}
