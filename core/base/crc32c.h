/* SPDX-License-Identifier: Apache-2.0
 *
 * base/crc32c.h: CRC-32C (Castagnoli, RFC 3720), by the processor's instruction where it has one.
 */
#ifndef WR_BASE_CRC32C_H
#define WR_BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Goes on from `crc`, which is 0 at the start: crc(b, crc(a, 0)) is that of both together. Thread: any. */
uint32_t wr_crc32c(uint32_t crc, const void *data, size_t len);
/* The same by table, for processors without the instruction; tests compare the two. */
uint32_t wr_crc32c_table(uint32_t crc, const void *data, size_t len);

#endif
