/* SPDX-License-Identifier: Apache-2.0
 *
 * What librdkafka keeps, told to the host: it counts in the process's memory. Estimates, since the library
 * tells numbers of messages only.
 */
#include "sink.h"
#include "source.h"

#define USER "librdkafka"
/* Of a message beside its bytes: the library's structs and what the allocator adds. */
#define MESSAGE_BYTES 320u
/* Of one on its way out, whose payload is the event's: its headers, and its place in a request. */
#define SENT_BYTES 512u

static void report(const struct weir_host *h, size_t bytes)
{
    const struct weir_memory_extension *memory = h->extension(h, WEIR_MEMORY_EXTENSION);
    if (memory != NULL)
        memory->report(h, USER, bytes);
}

void source_memory(const struct source *s)
{
    size_t each = (size_t)fetch_weight(s) + MESSAGE_BYTES;
    report(s->client.host, (rd_kafka_queue_length(s->queue) + s->n_held) * each);
}

void sink_memory(const struct sink *s)
{
    report(s->client.host, (size_t)s->n_pending * SENT_BYTES);
}
