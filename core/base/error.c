/* SPDX-License-Identifier: Apache-2.0 */
#include <base/error.h>

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum weir_status wr_error(struct weir_error *err, enum weir_status status, const char *code,
                          const char *fmt, ...)
{
    if (err == NULL)
        return status;
    err->status = status;
    err->code = code;
    err->number = 0;
    err->offset = -1;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(err->text, sizeof(err->text), fmt, ap);
    va_end(ap);
    return status;
}

void wr_error_context(struct weir_error *err, const char *fmt, ...)
{
    char text[WEIR_ERROR_TEXT];
    memcpy(text, err->text, sizeof(text));
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(err->text, sizeof(err->text), fmt, ap);
    va_end(ap);
    if (n < 0 || (size_t)n + 3 > sizeof(err->text))
        return;
    /* What does not fit behind the context is cut at its end. */
    size_t at = (size_t)n, room = sizeof(err->text) - at - 3, len = strnlen(text, room);
    memcpy(err->text + at, ": ", 2);
    memcpy(err->text + at + 2, text, len);
    err->text[at + 2 + len] = '\0';
}
