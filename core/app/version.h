/* SPDX-License-Identifier: Apache-2.0
 *
 * app/version.h: what this weir is made of.
 */
#ifndef WR_APP_VERSION_H
#define WR_APP_VERSION_H

const char *wr_version(void);  /* "0.1.0" */
const char *wr_compiler(void); /* "gcc 12.2.0" */

/* For `weir --version`: weir, its ABI, its libraries, one a line on standard output. */
void wr_version_print(void);

#endif
