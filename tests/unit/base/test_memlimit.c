/* SPDX-License-Identifier: Apache-2.0
 *
 * Limits of control groups, read from trees that look like /proc and /sys/fs/cgroup.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <sys/stat.h>

#include <base/memlimit.h>

#define MIB (UINT64_C(1) << 20)
#define V2 "24 1 0:21 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup rw,nsdelegate\n"
#define V1 "33 1 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"

static char root[64];

static int begin(void **state)
{
    (void)state;
    strcpy(root, "/tmp/weir-memlimit-XXXXXX");
    return mkdtemp(root) == NULL;
}

static int end(void **state)
{
    char command[128];
    (void)state;
    snprintf(command, sizeof(command), "rm -r '%s'", root);
    return system(command);
}

/* With the folders that it needs. */
static void put(const char *path, const char *text)
{
    char full[512];
    snprintf(full, sizeof(full), "%s%s", root, path);
    for (char *at = full + strlen(root) + 1; (at = strchr(at, '/')) != NULL; at++) {
        *at = '\0';
        (void)mkdir(full, 0700);
        *at = '/';
    }
    FILE *f = fopen(full, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void test_the_smallest_of_all_above(void **state)
{
    (void)state;
    put("/proc/self/cgroup", "0::/pods/a/b\n");
    put("/proc/self/mountinfo", "22 1 0:20 / /proc rw - proc proc rw\n" V2);
    put("/sys/fs/cgroup/pods/a/b/memory.max", "max\n");
    assert_int_equal(wr_memlimit_cgroup(root), 0);
    put("/sys/fs/cgroup/pods/a/memory.max", "268435456\n");
    assert_int_equal(wr_memlimit_cgroup(root), 256 * MIB);
    put("/sys/fs/cgroup/pods/a/b/memory.max", "1073741824\n");
    assert_int_equal(wr_memlimit_cgroup(root), 256 * MIB);
    put("/sys/fs/cgroup/pods/memory.max", "134217728\n");
    assert_int_equal(wr_memlimit_cgroup(root), 128 * MIB);
    put("/sys/fs/cgroup/pods/a/b/memory.high", "67108864\n");
    assert_int_equal(wr_memlimit_cgroup(root), 64 * MIB);
    put("/sys/fs/memory.max", "1\n"); /* above the mount: none of ours */
    assert_int_equal(wr_memlimit_cgroup(root), 64 * MIB);
}

static void test_a_mount_that_shows_a_part(void **state)
{
    (void)state;
    put("/proc/self/cgroup", "0::/docker/abc/inner\n");
    put("/proc/self/mountinfo",
        "24 1 0:21 /docker/abc /sys/fs/cgroup rw shared:4 master:1 - cgroup2 cgroup rw\n");
    put("/sys/fs/cgroup/memory.max", "100663296\n");
    put("/sys/fs/cgroup/inner/memory.max", "max\n");
    assert_int_equal(wr_memlimit_cgroup(root), 96 * MIB);
    put("/proc/self/cgroup", "0::/elsewhere\n");
    assert_int_equal(wr_memlimit_cgroup(root), 96 * MIB);
    put("/proc/self/cgroup", "0::/docker/abcdef\n"); /* no part of it, though its name begins so */
    assert_int_equal(wr_memlimit_cgroup(root), 96 * MIB);
}

static void test_version_1(void **state)
{
    (void)state;
    put("/proc/self/cgroup", "5:cpu,cpuacct:/x\n4:memory:/pods/a\n1:name=systemd:/\n");
    put("/proc/self/mountinfo", "32 1 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n" V1);
    put("/sys/fs/cgroup/memory/pods/a/memory.limit_in_bytes", "9223372036854771712\n");
    assert_int_equal(wr_memlimit_cgroup(root), 0);
    put("/sys/fs/cgroup/memory/pods/memory.limit_in_bytes", "33554432\n");
    assert_int_equal(wr_memlimit_cgroup(root), 32 * MIB);
}

static void test_both_versions(void **state)
{
    (void)state;
    put("/proc/self/cgroup", "4:memory:/pods\n0::/pods\n");
    put("/proc/self/mountinfo", V2 V1);
    put("/sys/fs/cgroup/memory/pods/memory.limit_in_bytes", "33554432\n");
    assert_int_equal(wr_memlimit_cgroup(root), 32 * MIB);
    put("/sys/fs/cgroup/pods/memory.max", "16777216\n");
    assert_int_equal(wr_memlimit_cgroup(root), 16 * MIB);
}

static void test_odd_names(void **state)
{
    (void)state;
    put("/proc/self/cgroup", "0::/a:b c\n");
    put("/proc/self/mountinfo", "24 1 0:21 / /sys/my\\040groups rw - cgroup2 cgroup rw\n");
    put("/sys/my groups/a:b c/memory.max", "33554432\n");
    assert_int_equal(wr_memlimit_cgroup(root), 32 * MIB);
}

static void test_nothing_to_read(void **state)
{
    (void)state;
    assert_int_equal(wr_memlimit_cgroup(root), 0);
    assert_int_equal(wr_memlimit_machine(root), 0);
    put("/proc/self/cgroup", "nonsense\n0:\n::\n0::/\n");
    put("/proc/self/mountinfo", "\n- - - -\n1 2 3 / /sys - cgroup2\n24 1 0:21 / /sys rw cgroup2 c rw\n");
    assert_int_equal(wr_memlimit_cgroup(root), 0);
    put("/proc/self/mountinfo", V2);
    assert_int_equal(wr_memlimit_cgroup(root), 0);
    put("/sys/fs/cgroup/memory.max", "");
    assert_int_equal(wr_memlimit_cgroup(root), 0);
    put("/sys/fs/cgroup/memory.max", "-5\n");
    assert_int_equal(wr_memlimit_cgroup(root), 0);
}

static void test_the_machine(void **state)
{
    (void)state;
    put("/proc/meminfo", "MemFree:  1 kB\nMemTotal:       16384 kB\n");
    assert_int_equal(wr_memlimit_machine(root), 16 * MIB);
    assert_true(wr_memlimit_machine("") > 16 * MIB);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_the_smallest_of_all_above, begin, end),
        cmocka_unit_test_setup_teardown(test_a_mount_that_shows_a_part, begin, end),
        cmocka_unit_test_setup_teardown(test_version_1, begin, end),
        cmocka_unit_test_setup_teardown(test_both_versions, begin, end),
        cmocka_unit_test_setup_teardown(test_odd_names, begin, end),
        cmocka_unit_test_setup_teardown(test_nothing_to_read, begin, end),
        cmocka_unit_test_setup_teardown(test_the_machine, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
