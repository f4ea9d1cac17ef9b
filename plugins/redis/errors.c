/* SPDX-License-Identifier: Apache-2.0
 *
 * Sorts error replies: is it this event that Redis can never take, or Redis that cannot take any
 * now?
 *
 * An error reply begins with a word in capitals. Words that are not in the table speak of the
 * command (modules and scripts have their own), so they reject the event. A command that this user
 * may never run is a fault of the set-up, not of the event: nothing is given up for it.
 */
#include "errors.h"

#include "../common/text.h"
#include <string.h>

#define MESSAGE_MAX 300

struct meaning {
    const char *word;
    const char *code;
    enum weir_verdict verdict;
    bool reconnect;
};

static const struct meaning meanings[] = {
    {"ERR", "err", WEIR_VERDICT_REJECTED, false},
    {"WRONGTYPE", "wrongtype", WEIR_VERDICT_REJECTED, false},
    {"NOSCRIPT", "noscript", WEIR_VERDICT_REJECTED, false},
    {"BUSYKEY", "busykey", WEIR_VERDICT_REJECTED, false},
    {"BUSYGROUP", "busygroup", WEIR_VERDICT_REJECTED, false},
    {"NOGROUP", "nogroup", WEIR_VERDICT_REJECTED, false},
    {"CROSSSLOT", "crossslot", WEIR_VERDICT_REJECTED, false},
    {"EXECABORT", "execabort", WEIR_VERDICT_REJECTED, false},
    {"INVALIDOBJ", "invalidobj", WEIR_VERDICT_REJECTED, false},
    {"TRYAGAIN", "tryagain", WEIR_VERDICT_RETRY, false},
    {"LOADING", "loading", WEIR_VERDICT_UNAVAILABLE, false},
    {"BUSY", "busy", WEIR_VERDICT_UNAVAILABLE, false},
    {"OOM", "oom", WEIR_VERDICT_UNAVAILABLE, false},
    {"MISCONF", "misconf", WEIR_VERDICT_UNAVAILABLE, false},
    {"NOREPLICAS", "noreplicas", WEIR_VERDICT_UNAVAILABLE, false},
    {"CLUSTERDOWN", "clusterdown", WEIR_VERDICT_UNAVAILABLE, false},
    {"UNKILLABLE", "unkillable", WEIR_VERDICT_UNAVAILABLE, false},
    {"READONLY", "readonly", WEIR_VERDICT_UNAVAILABLE, true},
    {"MASTERDOWN", "masterdown", WEIR_VERDICT_UNAVAILABLE, true},
    {"MOVED", "moved", WEIR_VERDICT_UNAVAILABLE, true},
    {"ASK", "ask", WEIR_VERDICT_UNAVAILABLE, true},
    {"NOAUTH", "noauth", WEIR_VERDICT_UNAVAILABLE, true},
    {"WRONGPASS", "wrongpass", WEIR_VERDICT_UNAVAILABLE, true},
    {"NOPERM", "noperm", WEIR_VERDICT_UNAVAILABLE, false},
};

/* Plain "ERR" replies that are not about the command, by how they go on. */
static const struct meaning err_meanings[] = {
    {"ERR max number of clients", "max_clients", WEIR_VERDICT_UNAVAILABLE, true},
    {"ERR max number of connected clients", "max_clients", WEIR_VERDICT_UNAVAILABLE, true},
    {"ERR invalid password", "wrongpass", WEIR_VERDICT_UNAVAILABLE, true},
    {"ERR Client sent AUTH, but no password is set", "no_password_set", WEIR_VERDICT_UNAVAILABLE,
     true},
    {"ERR AUTH <password> called without any password", "no_password_set", WEIR_VERDICT_UNAVAILABLE,
     true},
    {"ERR The user executing the script can't ", "noperm", WEIR_VERDICT_UNAVAILABLE, false},
    {"ERR ACL failure in script", "noperm", WEIR_VERDICT_UNAVAILABLE, false},
    {"ERR operation not permitted", "noauth", WEIR_VERDICT_UNAVAILABLE, true},
    {"ERR DB index is out of range", "bad_database", WEIR_VERDICT_UNAVAILABLE, true},
    {"ERR invalid DB index", "bad_database", WEIR_VERDICT_UNAVAILABLE, true},
    {"ERR Protocol error", "protocol", WEIR_VERDICT_UNAVAILABLE, true},
};

static bool starts_with(struct weir_str s, const char *text)
{
    size_t n = strlen(text);
    return s.len >= n && memcmp(s.ptr, text, n) == 0;
}

static const struct meaning *meaning_of(struct weir_str text)
{
    static const struct meaning other = {"", "error", WEIR_VERDICT_REJECTED, false};
    for (size_t i = 0; i < sizeof(err_meanings) / sizeof(err_meanings[0]); i++) {
        if (starts_with(text, err_meanings[i].word))
            return &err_meanings[i];
    }
    const char *space = text.len > 0 ? memchr(text.ptr, ' ', text.len) : NULL;
    size_t len = space == NULL ? text.len : (size_t)(space - text.ptr);
    for (size_t i = 0; i < sizeof(meanings) / sizeof(meanings[0]); i++) {
        if (strlen(meanings[i].word) == len && memcmp(meanings[i].word, text.ptr, len) == 0)
            return &meanings[i];
    }
    return &other;
}

struct weir_result redis_error_result(struct weir_str text, bool *ret_reconnect)
{
    static const char of_key[] = " access "; /* "a key", "one of the keys", "a channel" */
    const struct meaning *m = meaning_of(text);
    struct weir_result result = {.verdict = m->verdict, .code = m->code};
    if (m->verdict == WEIR_VERDICT_UNAVAILABLE && strcmp(m->code, "noperm") == 0 &&
        memmem(text.ptr, text.len, of_key, sizeof(of_key) - 1) != NULL) {
        result.verdict = WEIR_VERDICT_REJECTED;
        result.code = "noperm_key"; /* the key is the event's, the command is not */
    }
    result.message = weir_str_n(text.ptr, utf8_cut(text.ptr, text.len, MESSAGE_MAX));
    *ret_reconnect = m->reconnect;
    return result;
}
