/* SPDX-License-Identifier: Apache-2.0
 *
 * limit_disk: lines of a file appended to a log, one fdatasync every 10 ms and one at the end: the limit of
 * file -> disk buffer -> blackhole, without records, acks, a second look at them, or a way back.
 *
 *   limit_disk IN OUT
 */
#include "limit.h"

#include <fcntl.h>
#include <unistd.h>

#define GROUP (1 << 20)

static void append(int fd, const char *data, size_t len)
{
    while (len != 0) {
        ssize_t n = write(fd, data, len);
        if (n <= 0)
            limit_die("limit_disk", "cannot write");
        data += n;
        len -= (size_t)n;
    }
}

int main(int argc, char **argv)
{
    static char group[GROUP + 65536];
    uint64_t events = 0;
    size_t have = 0;
    if (argc != 3)
        limit_die("limit_disk", "IN OUT");
    FILE *in = fopen(argv[1], "r");
    int out = open(argv[2], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (in == NULL || out < 0)
        limit_die("limit_disk", "cannot open");
    struct limit_clock since = limit_start();
    double synced = limit_now();
    while (fgets(group + have, 65536, in) != NULL) {
        events++;
        have += strlen(group + have);
        if (have < GROUP)
            continue;
        append(out, group, have);
        have = 0;
        if (limit_now() - synced < 0.01)
            continue;
        if (fdatasync(out) != 0)
            limit_die("limit_disk", "cannot sync");
        synced = limit_now();
    }
    append(out, group, have);
    if (fdatasync(out) != 0)
        limit_die("limit_disk", "cannot sync");
    return limit_report(events, since, 0);
}
