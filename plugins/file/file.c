/* SPDX-License-Identifier: Apache-2.0
 *
 * The plugin `file`: source `file` (source.c), sinks `file` and `stdout` (sink.c).
 */
#include "file.h"

int poll_timeout_ms(const struct weir_host *h, int64_t deadline_ns)
{
    if (deadline_ns == WEIR_NEVER)
        return -1;
    int64_t left_ns = deadline_ns - h->now(h);
    if (left_ns <= 0)
        return 0;
    int64_t ms = (left_ns + WEIR_NS_PER_MS - 1) / WEIR_NS_PER_MS;
    return ms > 3600000 ? 3600000 : (int)ms;
}

static const struct weir_type *const types[] = {&type_file_source, &type_file_sink,
                                                &type_stdout_sink, NULL};

WEIR_PLUGIN = {WEIR_PLUGIN_ABI, "file", "0.1.0", "Files and standard streams of lines.",
               "Apache-2.0",    types,  NULL};
