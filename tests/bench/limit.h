/* SPDX-License-Identifier: Apache-2.0
 *
 * limit.h: what the limit_*.c programs share. Each does the least that a library allows for one of the
 * scenarios of scripts/bench, and prints one line: events, seconds, CPU seconds, peak memory in KiB,
 * events that were parsed and of which a field was read.
 */
#ifndef LIMIT_H
#define LIMIT_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

/* What a measurement begins with: both clocks at that moment. */
struct limit_clock {
    double wall, cpu;
};

static inline double limit_now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static inline double limit_cpu(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static inline struct limit_clock limit_start(void)
{
    return (struct limit_clock){limit_now(), limit_cpu()};
}

static inline long limit_peak_kib(void)
{
    char line[256];
    long kib = 0;
    FILE *status = fopen("/proc/self/status", "r");
    while (status != NULL && fgets(line, sizeof(line), status) != NULL)
        if (strncmp(line, "VmHWM:", 6) == 0)
            kib = strtol(line + 6, NULL, 10);
    if (status != NULL)
        fclose(status);
    return kib;
}

static inline int limit_report(uint64_t events, struct limit_clock since, uint64_t parsed)
{
    printf("%llu %.6f %.6f %ld %llu\n", (unsigned long long)events, limit_now() - since.wall,
           limit_cpu() - since.cpu, limit_peak_kib(), (unsigned long long)parsed);
    return 0;
}

_Noreturn static inline void limit_die(const char *what, const char *why)
{
    fprintf(stderr, "%s: %s\n", what, why);
    exit(1);
}

#define LIMIT_EVENT_MAX 512

/* An event of about 400 bytes, n-th of its kind; gives its length. */
static inline int limit_event(char out[LIMIT_EVENT_MAX], uint64_t n)
{
    return snprintf(out, LIMIT_EVENT_MAX,
                    "{\"id\":\"bench-%012llu\",\"type\":\"page_view\",\"ts\":\"2026-01-01T00:00:00.000Z\","
                    "\"user_id\":\"u%08llu\",\"session_id\":\"s-%016llx\",\"seq\":%llu,\"context\":{"
                    "\"ip\":\"10.1.2.3\",\"agent\":\"Mozilla/5.0 (X11; Linux x86_64; rv:128.0) "
                    "Gecko/20100101 Firefox/128.0\",\"locale\":\"de-DE\"},\"props\":{\"path\":"
                    "\"/products/1234/details\",\"referrer\":\"https://www.example.com/search?q=weir\","
                    "\"title\":\"A product\",\"load_ms\":132}}",
                    (unsigned long long)n, (unsigned long long)(n % 10000),
                    (unsigned long long)n * 0x9e3779b97f4a7c15u, (unsigned long long)n);
}

#endif
