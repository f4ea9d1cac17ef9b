/* SPDX-License-Identifier: Apache-2.0
 *
 * common/event_key.h: the text of an event by which it is told from others, for transforms with such an
 * option.
 */
#ifndef WEIR_COMMON_EVENT_KEY_H
#define WEIR_COMMON_EVENT_KEY_H

#include <weir/plugin.h>

#define EVENT_KEY_MAX 4096u /* bytes: tables of keys are bounded by their number */

static inline void event_fail_as(const struct weir_host *h, struct weir_batch *b,
                                 struct weir_event *ev, const char *code, struct weir_str message)
{
    struct weir_result r = {.verdict = WEIR_VERDICT_REJECTED, .code = code, .message = message};
    h->event_fail(h, b, ev, &r);
}

/* Renders it into the scratch arena. False: a field is missing, or the text is too long, and the event
 * has failed. */
static inline bool event_key(const struct weir_host *h, const struct weir_template *t,
                             struct weir_batch *b, struct weir_event *ev, struct weir_str *ret_key)
{
    struct weir_error err = {0};
    *ret_key = h->template_render(h, t, b, ev, h->scratch(h), &err);
    if (ret_key->ptr != NULL && ret_key->len <= EVENT_KEY_MAX)
        return true;
    if (ret_key->ptr == NULL)
        event_fail_as(h, b, ev, err.code != NULL ? err.code : "missing_field", weir_cstr(err.text));
    else
        event_fail_as(h, b, ev, "key_too_long",
                      h->arena_printf(h->scratch(h), "the key has %zu bytes; at most %u are taken",
                                      ret_key->len, EVENT_KEY_MAX));
    return false;
}

#endif
