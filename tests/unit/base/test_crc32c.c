/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <base/crc32c.h>

static void both(const void *data, size_t len, uint32_t expected)
{
    assert_int_equal(wr_crc32c(0, data, len), expected);
    assert_int_equal(wr_crc32c_table(0, data, len), expected);
}

/* RFC 3720, B.4. */
static void the_vectors_of_the_standard(void **state)
{
    static const uint8_t read_command[48] = {
        0x01, 0xc0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x14, 0, 0, 0, 0, 0, 0x04, 0,
        0, 0, 0, 0x14, 0, 0, 0, 0x18, 0x28, 0, 0, 0, 0, 0, 0, 0, 0x02, 0, 0, 0, 0, 0, 0, 0};
    uint8_t zeros[32] = {0}, ones[32], up[32], down[32];
    (void)state;
    memset(ones, 0xff, sizeof(ones));
    for (uint8_t i = 0; i < 32; i++) {
        up[i] = i;
        down[i] = (uint8_t)(31 - i);
    }
    both(zeros, sizeof(zeros), 0x8a9136aa);
    both(ones, sizeof(ones), 0x62a8ab43);
    both(up, sizeof(up), 0x46dd794e);
    both(down, sizeof(down), 0x113fdb5c);
    both(read_command, sizeof(read_command), 0xd9963a56);
    both("123456789", 9, 0xe3069283);
    both("", 0, 0);
}

/* Any length, from any address, in any two parts. */
static void instruction_and_table_agree(void **state)
{
    uint8_t data[300];
    (void)state;
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)(i * 197 + (i >> 3));
    for (size_t from = 0; from < 9; from++)
        for (size_t len = 0; len < 200; len++) {
            uint32_t all = wr_crc32c_table(0, data + from, len);
            assert_int_equal(wr_crc32c(0, data + from, len), all);
            assert_int_equal(wr_crc32c(wr_crc32c(0, data + from, len / 3), data + from + len / 3,
                                       len - len / 3),
                             all);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_vectors_of_the_standard),
        cmocka_unit_test(instruction_and_table_agree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
