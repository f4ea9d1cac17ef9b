/* SPDX-License-Identifier: Apache-2.0
 *
 * app/version.c: versions, as far as the libraries that are linked tell theirs at run time.
 */
#include <app/http_server.h>
#include <app/version.h>
#include <gnu/libc-version.h>
#include <stdio.h>
#include <weir/base.h>

const char *wr_version(void)
{
    return WEIR_VERSION;
}

const char *wr_compiler(void)
{
#if defined(__clang__)
    return "clang " __clang_version__;
#else
    return "gcc " __VERSION__;
#endif
}

void wr_version_print(void)
{
    printf("weir %s\nplugin ABI %d.%d\ncompiler %s\nglibc %s\nlibmicrohttpd %s\n", wr_version(),
           WEIR_ABI_MAJOR, WEIR_ABI_MINOR, wr_compiler(), gnu_get_libc_version(),
           wr_http_server_library());
}
