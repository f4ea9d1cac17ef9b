/* SPDX-License-Identifier: Apache-2.0
 *
 * The plugin `lua`: transforms lua, filter and route, and the service weir.condition/1, by which
 * the host compiles every option of type condition.
 */
#include "condition.h"

static const struct weir_type *const types[] = {&script_type, &filter_type, &route_type, NULL};

static const struct weir_service services[] = {{WEIR_CONDITION_SERVICE, &condition_service},
                                               {NULL, NULL}};

WEIR_PLUGIN = {WEIR_PLUGIN_ABI, "lua", "0.1.0", "Lua hooks, filters and routes.",
               "Apache-2.0",    types, services};
