/* SPDX-License-Identifier: Apache-2.0
 *
 * Reads /proc/self/cgroup (which group), /proc/self/mountinfo (where groups are mounted) and the limits
 * there, from the process's own group up to the mount's root. In a container the group's path is often
 * that of the host and the mount shows only the part below: what the mount's root names is cut off.
 */
#include <base/memlimit.h>

#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIELDS_MAX 32

/* A hierarchy of groups that this process is in. */
struct hierarchy {
    bool v2;
    char group[PATH_MAX]; /* "/a/b" */
};

static FILE *open_text(const char *root, const char *path)
{
    char full[PATH_MAX];
    int n = snprintf(full, sizeof(full), "%s%s", root, path);
    return n > 0 && n < (int)sizeof(full) ? fopen(full, "re") : NULL;
}

/* One of the words between commas. */
static bool lists(const char *list, const char *word)
{
    size_t len = strlen(word);
    for (const char *at = list; at != NULL; at = strchr(at, ','), at += at != NULL)
        if (strncmp(at, word, len) == 0 && (at[len] == '\0' || at[len] == ','))
            return true;
    return false;
}

/* "0::/a/b" is version 2, "4:memory:/a/b" version 1: where both are there the controller is with one. */
static bool find_group(const char *root, bool v2, struct hierarchy *ret)
{
    char line[PATH_MAX + 256];
    bool found = false;
    FILE *f = open_text(root, "/proc/self/cgroup");
    while (f != NULL && !found && fgets(line, sizeof(line), f) != NULL) {
        char *names = strchr(line, ':'), *path = names != NULL ? strchr(names + 1, ':') : NULL;
        if (path == NULL)
            continue;
        *path++ = '\0';
        path[strcspn(path, "\n")] = '\0';
        found = v2 ? strncmp(line, "0:", 2) == 0 && names[1] == '\0' : lists(names + 1, "memory");
        if (found) {
            ret->v2 = v2;
            (void)snprintf(ret->group, sizeof(ret->group), "%s", path);
        }
    }
    if (f != NULL)
        fclose(f);
    return found;
}

/* mountinfo writes space, tab, newline and backslash as \040 and the like. */
static void unescape(char *text)
{
    char *to = text;
    for (const char *at = text; *at != '\0'; to++) {
        bool octal = at[0] == '\\' && at[1] >= '0' && at[1] <= '3' && at[2] >= '0' && at[2] <= '7' &&
                     at[3] >= '0' && at[3] <= '7';
        *to = octal ? (char)((at[1] - '0') * 64 + (at[2] - '0') * 8 + (at[3] - '0')) : *at;
        at += octal ? 4 : 1;
    }
    *to = '\0';
}

/* id parent major:minor ROOT MOUNT options [tags...] - TYPE source OPTIONS */
static bool is_mount_of(char *line, const struct hierarchy *h, char **ret_root, char **ret_mount)
{
    char *fields[FIELDS_MAX], *rest = NULL;
    int n = 0, dash = 0;
    for (char *f = strtok_r(line, " \n", &rest); f != NULL && n < FIELDS_MAX;
         f = strtok_r(NULL, " \n", &rest)) {
        if (dash == 0 && n >= 6 && strcmp(f, "-") == 0)
            dash = n;
        fields[n++] = f;
    }
    if (dash == 0 || n < dash + 4)
        return false;
    *ret_root = fields[3];
    *ret_mount = fields[4];
    return h->v2 ? strcmp(fields[dash + 1], "cgroup2") == 0
                 : strcmp(fields[dash + 1], "cgroup") == 0 && lists(fields[dash + 3], "memory");
}

/* Where the group's files are, and in *ret_top how much of that is the mount. */
static bool find_folder(const char *root, const struct hierarchy *h, char *ret, size_t *ret_top)
{
    char line[2 * PATH_MAX], *below, *mount;
    bool found = false;
    FILE *f = open_text(root, "/proc/self/mountinfo");
    while (f != NULL && !found && fgets(line, sizeof(line), f) != NULL) {
        if (!is_mount_of(line, h, &below, &mount))
            continue;
        unescape(below);
        unescape(mount);
        const char *group = h->group;
        size_t len = strcmp(below, "/") == 0 ? 0 : strlen(below);
        if (len != 0 && strncmp(group, below, len) == 0 && (group[len] == '/' || group[len] == '\0'))
            group += len;
        else if (len != 0)
            group = ""; /* another part of the tree: the mount's root is all that is seen */
        *ret_top = strlen(mount);
        found = snprintf(ret, PATH_MAX, "%s%s", mount, group) < PATH_MAX;
    }
    if (f != NULL)
        fclose(f);
    return found;
}

/* 0 where there is no limit: "max", or version 1's number that is nearly 2^63. */
static uint64_t read_limit(const char *root, const char *folder, const char *name)
{
    char path[PATH_MAX + 32], text[32] = "";
    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    FILE *f = open_text(root, path);
    if (f == NULL)
        return 0;
    size_t n = fread(text, 1, sizeof(text) - 1, f);
    fclose(f);
    text[n] = '\0';
    uint64_t v = text[0] >= '0' && text[0] <= '9' ? strtoull(text, NULL, 10) : 0;
    return v < UINT64_C(1) << 62 ? v : 0;
}

static uint64_t smaller(uint64_t a, uint64_t b)
{
    return a == 0 || (b != 0 && b < a) ? b : a;
}

static uint64_t limit_of(const char *root, const struct hierarchy *h)
{
    char folder[PATH_MAX];
    size_t top = 0;
    uint64_t limit = 0;
    if (!find_folder(root, h, folder, &top))
        return 0;
    for (;;) {
        limit = smaller(limit, read_limit(root, folder, h->v2 ? "memory.max" : "memory.limit_in_bytes"));
        if (h->v2)
            limit = smaller(limit, read_limit(root, folder, "memory.high"));
        char *slash = strrchr(folder, '/');
        if (slash == NULL || (size_t)(slash - folder) < top)
            return limit;
        *slash = '\0';
    }
}

uint64_t wr_memlimit_cgroup(const char *root)
{
    struct hierarchy h;
    uint64_t limit = find_group(root, true, &h) ? limit_of(root, &h) : 0;
    return smaller(limit, find_group(root, false, &h) ? limit_of(root, &h) : 0);
}

uint64_t wr_memlimit_machine(const char *root)
{
    char line[256];
    unsigned long long kib = 0;
    FILE *f = open_text(root, "/proc/meminfo");
    while (f != NULL && kib == 0 && fgets(line, sizeof(line), f) != NULL)
        if (strncmp(line, "MemTotal:", 9) == 0)
            kib = strtoull(line + 9, NULL, 10);
    if (f != NULL)
        fclose(f);
    return kib << 10;
}
