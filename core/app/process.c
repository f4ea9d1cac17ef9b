/* SPDX-License-Identifier: Apache-2.0
 *
 * app/process.c: reads /proc/self, and /proc/stat for the moment that times there count from.
 */
#include <app/process.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

static void put(struct wr_buf *out, const char *name, const char *type, const char *help, double v)
{
    wr_buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n%s %.15g\n", name, help, name, type, name, v);
}

static void put_cpu(struct wr_buf *out)
{
    struct rusage u;
    if (getrusage(RUSAGE_SELF, &u) != 0)
        return;
    double seconds = (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
                     (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
    put(out, "process_cpu_seconds_total", "counter", "User and system CPU time.", seconds);
}

static void put_memory(struct wr_buf *out)
{
    FILE *f = fopen("/proc/self/statm", "re");
    if (f == NULL)
        return;
    unsigned long long total, resident;
    if (fscanf(f, "%llu %llu", &total, &resident) == 2) {
        double page = (double)sysconf(_SC_PAGESIZE);
        put(out, "process_resident_memory_bytes", "gauge", "Memory in RAM.",
            (double)resident * page);
        put(out, "process_virtual_memory_bytes", "gauge", "Mapped memory.", (double)total * page);
    }
    fclose(f);
}

static void put_descriptors(struct wr_buf *out)
{
    DIR *dir = opendir("/proc/self/fd");
    double n = -1; /* the folder's own */
    for (struct dirent *e = dir != NULL ? readdir(dir) : NULL; e != NULL; e = readdir(dir))
        n += e->d_name[0] != '.' ? 1 : 0;
    if (dir != NULL) {
        closedir(dir);
        put(out, "process_open_fds", "gauge", "Open file descriptors.", n);
    }
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY)
        put(out, "process_max_fds", "gauge", "Most file descriptors that may be open.",
            (double)limit.rlim_cur);
}

/* Seconds since the epoch at which the machine started; 0 where it is not told. */
static double boot_time(void)
{
    FILE *f = fopen("/proc/stat", "re");
    char line[256];
    unsigned long long seconds = 0;
    while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
        if (strncmp(line, "btime ", 6) == 0)
            seconds = strtoull(line + 6, NULL, 10);
    }
    if (f != NULL)
        fclose(f);
    return (double)seconds;
}

/* Field 22 of /proc/self/stat, counted behind the program's name, which may hold anything. */
static void put_start(struct wr_buf *out)
{
    char text[1024];
    int fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, sizeof(text) - 1) : -1;
    if (fd >= 0)
        close(fd);
    text[n > 0 ? n : 0] = '\0';
    char *at = strrchr(text, ')');
    for (int field = 2; at != NULL && field < 22; field++)
        at = strchr(at + 1, ' ');
    double boot = boot_time();
    if (at == NULL || boot <= 0)
        return;
    double ticks = (double)strtoull(at, NULL, 10) / (double)sysconf(_SC_CLK_TCK);
    put(out, "process_start_time_seconds", "gauge", "When the process started, since the epoch.",
        boot + ticks);
}

void wr_process_close_memory(void)
{
    (void)prctl(PR_SET_DUMPABLE, 0);
}

void wr_process_metrics(struct wr_buf *out)
{
    put_cpu(out);
    put_descriptors(out);
    put_memory(out);
    put_start(out);
}
