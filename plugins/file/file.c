/* SPDX-License-Identifier: Apache-2.0
 *
 * The plugin `file`: source `file` (source.c), sinks `file` and `stdout` (sink.c).
 */
#include "file.h"

static const struct weir_type *const types[] = {&type_file_source, &type_file_sink,
                                                &type_stdout_sink, NULL};

WEIR_PLUGIN = {WEIR_PLUGIN_ABI, "file", "0.1.0", "Files and standard streams of lines.",
               "Apache-2.0",    types,  NULL};
