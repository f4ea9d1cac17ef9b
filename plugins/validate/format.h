/* SPDX-License-Identifier: Apache-2.0
 *
 * validate/format.h: the formats of strings that are checked.
 */
#ifndef VALIDATE_FORMAT_H
#define VALIDATE_FORMAT_H

#include <weir/plugin.h>

enum format {
    FORMAT_NONE,
    FORMAT_DATE_TIME,
    FORMAT_DATE,
    FORMAT_TIME,
    FORMAT_EMAIL,
    FORMAT_HOSTNAME,
    FORMAT_IPV4,
    FORMAT_IPV6,
    FORMAT_URI,
    FORMAT_UUID
};

/* FORMAT_NONE where there is no such format. */
enum format format_of(struct weir_str name);
const char *format_name(enum format f);
bool format_check(enum format f, struct weir_str text);

#endif
