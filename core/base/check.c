/* SPDX-License-Identifier: Apache-2.0 */
#include <base/check.h>

#include <stdio.h>
#include <stdlib.h>

void wr_bug(const char *what, const char *file, int line)
{
    fprintf(stderr, "weir: bug: %s at %s:%d\n", what, file, line);
    abort();
}
