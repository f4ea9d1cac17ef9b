/* SPDX-License-Identifier: Apache-2.0
 *
 * The plugin `kafka`: a source that reads topics as a member of a consumer group, and a sink that
 * writes to topics as an idempotent producer. Both speak through librdkafka.
 */
#include "client.h"

static const struct weir_type *const types[] = {&kafka_source_type, &kafka_sink_type, NULL};

WEIR_PLUGIN = {
    WEIR_PLUGIN_ABI, "kafka", "0.1.0", "Reads and writes Kafka topics, acknowledged end to end.",
    "Apache-2.0",    types,   NULL};
