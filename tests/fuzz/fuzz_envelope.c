/* SPDX-License-Identifier: Apache-2.0
 *
 * Any bytes as a dead letter that is to be replayed: refused with a reason, or an envelope that
 * writes itself the same way each time.
 */
#include <stddef.h>
#include <stdint.h>

#include <base/arena.h>
#include <base/check.h>
#include <base/str.h>
#include <engine/envelope.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Reads every byte that the envelope points to. */
static size_t walk(const struct wr_envelope *e)
{
    const struct weir_str parts[] = {e->payload,  e->entered,   e->reason,     e->code,
                                     e->pipeline, e->component, e->type,       e->source,
                                     e->id,       e->key,       e->origin.name};
    size_t sum = 0;
    for (size_t i = 0; i < WR_COUNT(parts); i++)
        sum += wr_utf8_check(parts[i]);
    for (uint32_t i = 0; i < e->n_headers; i++)
        sum += wr_utf8_check(e->headers[i].name) + wr_utf8_check(e->headers[i].value);
    return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct weir_arena a = {0};
    struct weir_error err = {0};
    struct wr_envelope e, back;
    struct wr_buf text = {0}, again = {0};
    if (!wr_envelope_read(&a, weir_str_n((const char *)data, size), &e, &err)) {
        WR_BUG_ON(err.text[0] == '\0' || err.status != WEIR_E_REJECTED);
    } else {
        WR_BUG_ON(walk(&e) == SIZE_MAX || e.id.len == 0 || e.component.len == 0);
        WR_BUG_ON(!e.tombstone && wr_envelope_entered(&e).ptr == NULL);
        wr_envelope_write(&e, &text);
        WR_BUG_ON(!wr_envelope_read(&a, wr_buf_view(&text), &back, &err));
        wr_envelope_write(&back, &again);
        WR_BUG_ON(!wr_str_eq(wr_buf_view(&text), wr_buf_view(&again)));
    }
    wr_buf_done(&text);
    wr_buf_done(&again);
    wr_arena_done(&a);
    return 0;
}
