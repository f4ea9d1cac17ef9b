/* SPDX-License-Identifier: Apache-2.0
 *
 * CRC-32C: the instruction of SSE 4.2 or of ARMv8, found when the program starts, else eight tables of
 * 256 entries that take eight bytes a step.
 */
#include <base/crc32c.h>

#include <pthread.h>
#include <string.h>
#if defined(__aarch64__)
#include <sys/auxv.h>
#ifndef HWCAP_CRC32
#define HWCAP_CRC32 (1u << 7)
#endif
#endif

#define POLYNOMIAL 0x82f63b78u /* reflected */

static uint32_t tables[8][256];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void make_tables(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t v = i;
        for (int bit = 0; bit < 8; bit++)
            v = (v & 1) != 0 ? v >> 1 ^ POLYNOMIAL : v >> 1;
        tables[0][i] = v;
    }
    for (uint32_t i = 0; i < 256; i++)
        for (int t = 1; t < 8; t++)
            tables[t][i] = tables[t - 1][i] >> 8 ^ tables[0][tables[t - 1][i] & 255];
}

uint32_t wr_crc32c_table(uint32_t crc, const void *data, size_t len)
{
    const uint8_t *p = data;
    pthread_once(&once, make_tables);
    crc = ~crc;
    for (; len >= 8; p += 8, len -= 8) {
        crc ^= (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
        crc = tables[7][crc & 255] ^ tables[6][crc >> 8 & 255] ^ tables[5][crc >> 16 & 255] ^
              tables[4][crc >> 24] ^ tables[3][p[4]] ^ tables[2][p[5]] ^ tables[1][p[6]] ^
              tables[0][p[7]];
    }
    for (; len != 0; p++, len--)
        crc = crc >> 8 ^ tables[0][(crc ^ *p) & 255];
    return ~crc;
}

#if defined(__x86_64__)

__attribute__((target("sse4.2"))) static uint32_t crc_by_instruction(uint32_t crc, const void *data,
                                                                     size_t len)
{
    const uint8_t *p = data;
    uint64_t v = ~crc;
    for (; len >= 8; p += 8, len -= 8) {
        uint64_t word;
        memcpy(&word, p, 8);
        v = __builtin_ia32_crc32di(v, word);
    }
    uint32_t v32 = (uint32_t)v;
    for (; len != 0; p++, len--)
        v32 = __builtin_ia32_crc32qi(v32, *p);
    return ~v32;
}

static int has_instruction(void)
{
    return __builtin_cpu_supports("sse4.2");
}

#elif defined(__aarch64__)

#ifdef __clang__
#define WITH_CRC __attribute__((target("crc")))
#define CRC_OF_8 __builtin_arm_crc32cd
#define CRC_OF_1 __builtin_arm_crc32cb
#else
#define WITH_CRC __attribute__((target("+crc")))
#define CRC_OF_8 __builtin_aarch64_crc32cx
#define CRC_OF_1 __builtin_aarch64_crc32cb
#endif

WITH_CRC static uint32_t crc_by_instruction(uint32_t crc, const void *data, size_t len)
{
    const uint8_t *p = data;
    crc = ~crc;
    for (; len >= 8; p += 8, len -= 8) {
        uint64_t word;
        memcpy(&word, p, 8);
        crc = CRC_OF_8(crc, word);
    }
    for (; len != 0; p++, len--)
        crc = CRC_OF_1(crc, *p);
    return ~crc;
}

static int has_instruction(void)
{
    return (getauxval(AT_HWCAP) & HWCAP_CRC32) != 0;
}

#else

static uint32_t crc_by_instruction(uint32_t crc, const void *data, size_t len)
{
    return wr_crc32c_table(crc, data, len);
}

static int has_instruction(void)
{
    return 0;
}

#endif

static int instruction;
static pthread_once_t asked = PTHREAD_ONCE_INIT;

static void ask(void)
{
    instruction = has_instruction();
}

uint32_t wr_crc32c(uint32_t crc, const void *data, size_t len)
{
    pthread_once(&asked, ask);
    return instruction ? crc_by_instruction(crc, data, len) : wr_crc32c_table(crc, data, len);
}
