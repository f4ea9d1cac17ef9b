/* SPDX-License-Identifier: Apache-2.0
 *
 * What weir-faults has in addition to weir: one call of the memory or of the kernel fails, as the environment
 * says, and all others work.
 *
 *   WEIR_FAULT=KIND:N[:HOW]   the N-th call of that kind fails; 0: none, they are counted
 *   WEIR_FAULT_LOG=PATH       gets a line once it has failed, with the callers, and one with the count at the end
 *
 *   start    an allocation of weir's before the first lane starts, its plugins' and Lua's included
 *   alloc    one behind that
 *   write    to a file; HOW: ENOSPC (else), EIO, short (half of it is written)
 *   sync     of a file: EIO
 *   read     from a file: EIO
 *   rename   of a file: EIO
 *   send     to a socket; HOW: ECONNRESET (else), short
 *   recv     from a socket; HOW: ECONNRESET (else), end (the peer has closed)
 *   connect  ECONNREFUSED; accept  EMFILE
 *
 * Allocations are those that core/base/mem.c makes (-Wl,--wrap), so of libraries only those that the host's
 * allocator serves. Calls of the kernel are everybody's: the program's functions come before libc's. Pipes and
 * eventfds never fail, and neither does standard error.
 */
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define CALLERS 24

enum kind { START, ALLOC, WRITE, SYNC, READ, RENAME, SEND, RECV, CONNECT, ACCEPT, N_KINDS };
static const char *const kind_words[N_KINDS] = {"start", "alloc", "write", "sync",    "read",
                                                "rename", "send", "recv",  "connect", "accept"};

static _Atomic uint64_t counts[N_KINDS];
static _Atomic int running;
static int chosen = -1, log_fd = -1;
static uint64_t chosen_n;
static char how[16];

/* ---- The choice ---- */

static void say(const char *word, uint64_t n)
{
    char line[64];
    int len = snprintf(line, sizeof(line), "%s %s %llu\n", word, chosen >= 0 ? kind_words[chosen] : "?",
                       (unsigned long long)n);
    if (log_fd >= 0)
        (void)syscall(SYS_write, log_fd, line, (size_t)len);
}

__attribute__((constructor)) static void read_choice(void)
{
    const char *text = getenv("WEIR_FAULT"), *path = getenv("WEIR_FAULT_LOG");
    void *callers[1];
    char word[16] = "";
    unsigned long long n = 0;
    (void)backtrace(callers, 1); /* it loads a library the first time */
    if (path != NULL)
        log_fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (text == NULL || sscanf(text, "%15[a-z]:%llu:%15s", word, &n, how) < 2)
        return;
    for (int i = 0; i < N_KINDS; i++)
        if (strcmp(kind_words[i], word) == 0)
            chosen = i;
    chosen_n = n;
}

__attribute__((destructor)) static void tell_count(void)
{
    if (chosen >= 0)
        say("count", atomic_load(&counts[chosen]));
}

/* Is this the one? */
static bool fails(enum kind kind)
{
    if ((int)kind != chosen || (kind != START && atomic_load(&running) == 0))
        return false;
    uint64_t n = atomic_fetch_add(&counts[kind], 1) + 1;
    if (n != chosen_n)
        return false;
    void *callers[CALLERS];
    say("failed", n);
    if (log_fd >= 0)
        backtrace_symbols_fd(callers, backtrace(callers, CALLERS), log_fd);
    return true;
}

static int fail_with(int error)
{
    errno = strcmp(how, "EIO") == 0 ? EIO : strcmp(how, "EINTR") == 0 ? EINTR : error;
    return -1;
}

/* As a peer that has gone: nothing comes any more either. */
static ssize_t broken(int fd)
{
    (void)shutdown(fd, SHUT_RDWR);
    return fail_with(ECONNRESET);
}

/* Every lane starts once all is open. */
struct wr_lane;
void __real_wr_lane_start(struct wr_lane *lane);
void __wrap_wr_lane_start(struct wr_lane *lane);
void __wrap_wr_lane_start(struct wr_lane *lane)
{
    atomic_store(&running, 1);
    __real_wr_lane_start(lane);
}

/* ---- Memory ---- */

static bool memory_fails(void)
{
    return fails(atomic_load(&running) != 0 ? ALLOC : START);
}

void *__real_calloc(size_t n, size_t size);
void *__real_malloc(size_t size);
void *__real_realloc(void *p, size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_realloc(void *p, size_t size);

void *__wrap_calloc(size_t n, size_t size)
{
    return memory_fails() ? NULL : __real_calloc(n, size);
}

void *__wrap_malloc(size_t size)
{
    return memory_fails() ? NULL : __real_malloc(size);
}

void *__wrap_realloc(void *p, size_t size)
{
    return memory_fails() ? NULL : __real_realloc(p, size);
}

/* ---- The kernel ---- */

static bool is(int fd, mode_t type)
{
    struct stat st;
    return fd > 2 && fd != log_fd && fstat(fd, &st) == 0 && (st.st_mode & S_IFMT) == type;
}

/* The kind of a call that works for files and sockets alike; N_KINDS: none of ours. */
static enum kind kind_of(int fd, enum kind file, enum kind net)
{
    return is(fd, S_IFREG) ? file : is(fd, S_IFSOCK) ? net : N_KINDS;
}

/* The function behind ours. */
#define NEXT(name)                                                       \
    static __typeof__(&(name)) next;                                     \
    if (next == NULL)                                                    \
        *(void **)(void *)&next = dlsym(RTLD_NEXT, #name)

static bool is_short(void)
{
    return strcmp(how, "short") == 0;
}

EXPORT ssize_t write(int fd, const void *data, size_t n)
{
    NEXT(write);
    enum kind kind = kind_of(fd, WRITE, SEND);
    if (kind == N_KINDS || !fails(kind))
        return next(fd, data, n);
    if (is_short() && n > 1)
        return next(fd, data, n / 2);
    return kind == WRITE ? fail_with(ENOSPC) : broken(fd);
}

EXPORT ssize_t pwrite64(int fd, const void *data, size_t n, off64_t at)
{
    NEXT(pwrite64);
    if (!is(fd, S_IFREG) || !fails(WRITE))
        return next(fd, data, n, at);
    return is_short() && n > 1 ? next(fd, data, n / 2, at) : fail_with(ENOSPC);
}

EXPORT ssize_t writev(int fd, const struct iovec *parts, int n)
{
    NEXT(writev);
    enum kind kind = kind_of(fd, WRITE, SEND);
    if (kind == N_KINDS || !fails(kind))
        return next(fd, parts, n);
    if (is_short() && parts[0].iov_len > 1)
        return write(fd, parts[0].iov_base, parts[0].iov_len / 2);
    return kind == WRITE ? fail_with(ENOSPC) : broken(fd);
}

EXPORT int fsync(int fd)
{
    NEXT(fsync);
    return fails(SYNC) ? fail_with(EIO) : next(fd);
}

EXPORT int fdatasync(int fd)
{
    NEXT(fdatasync);
    return fails(SYNC) ? fail_with(EIO) : next(fd);
}

EXPORT int rename(const char *from, const char *to)
{
    NEXT(rename);
    return fails(RENAME) ? fail_with(EIO) : next(from, to);
}

EXPORT int renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags)
{
    NEXT(renameat2);
    return fails(RENAME) ? fail_with(EIO) : next(from_dir, from, to_dir, to, flags);
}

EXPORT int renameat(int from_dir, const char *from, int to_dir, const char *to)
{
    NEXT(renameat);
    return fails(RENAME) ? fail_with(EIO) : next(from_dir, from, to_dir, to);
}

static ssize_t no_bytes(int fd)
{
    ssize_t n = broken(fd);
    return strcmp(how, "end") == 0 ? 0 : n;
}

EXPORT ssize_t read(int fd, void *data, size_t n)
{
    NEXT(read);
    enum kind kind = kind_of(fd, READ, RECV);
    if (kind == N_KINDS || !fails(kind))
        return next(fd, data, n);
    return kind == READ ? fail_with(EIO) : no_bytes(fd);
}

EXPORT ssize_t pread64(int fd, void *data, size_t n, off64_t at)
{
    NEXT(pread64);
    return is(fd, S_IFREG) && fails(READ) ? fail_with(EIO) : next(fd, data, n, at);
}

EXPORT ssize_t pread(int fd, void *data, size_t n, off_t at)
{
    NEXT(pread);
    return is(fd, S_IFREG) && fails(READ) ? fail_with(EIO) : next(fd, data, n, at);
}

EXPORT ssize_t recv(int fd, void *data, size_t n, int flags)
{
    NEXT(recv);
    return fails(RECV) ? no_bytes(fd) : next(fd, data, n, flags);
}

EXPORT ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
    NEXT(recvmsg);
    return fails(RECV) ? no_bytes(fd) : next(fd, message, flags);
}

EXPORT ssize_t send(int fd, const void *data, size_t n, int flags)
{
    NEXT(send);
    if (!fails(SEND))
        return next(fd, data, n, flags);
    return is_short() && n > 1 ? next(fd, data, n / 2, flags) : broken(fd);
}

EXPORT ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    NEXT(sendmsg);
    if (!fails(SEND))
        return next(fd, message, flags);
    if (is_short() && message->msg_iovlen > 0 && message->msg_iov[0].iov_len > 1)
        return send(fd, message->msg_iov[0].iov_base, message->msg_iov[0].iov_len / 2, flags);
    return broken(fd);
}

EXPORT int connect(int fd, const struct sockaddr *address, socklen_t n)
{
    NEXT(connect);
    return fails(CONNECT) ? fail_with(ECONNREFUSED) : next(fd, address, n);
}

EXPORT int accept4(int fd, struct sockaddr *address, socklen_t *n, int flags)
{
    NEXT(accept4);
    return fails(ACCEPT) ? fail_with(EMFILE) : next(fd, address, n, flags);
}
