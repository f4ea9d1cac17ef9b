/* SPDX-License-Identifier: Apache-2.0
 *
 * Looks at a plugin file before the dynamic linker does: a folder, a text or a program for another
 * machine gets a clear line, and a file that was cut off half way is not mapped (touching the
 * missing part would end the process). Also translates what the dynamic linker says.
 */
#include <base/check.h>
#include <base/str.h>
#include <elf.h>
#include <engine/loader_check.h>
#include <errno.h>
#include <fcntl.h>
#include <gnu/libc-version.h>
#include <link.h>
#include <sys/stat.h>
#include <unistd.h>

#if defined(__x86_64__)
#define OWN_MACHINE EM_X86_64
#elif defined(__aarch64__)
#define OWN_MACHINE EM_AARCH64
#elif defined(__riscv)
#define OWN_MACHINE EM_RISCV
#elif defined(__powerpc64__)
#define OWN_MACHINE EM_PPC64
#elif defined(__s390x__)
#define OWN_MACHINE EM_S390
#elif defined(__arm__)
#define OWN_MACHINE EM_ARM
#elif defined(__i386__)
#define OWN_MACHINE EM_386
#else
#error "name this machine's ELF type here"
#endif

#define OWN_CLASS (sizeof(void *) == 8 ? ELFCLASS64 : ELFCLASS32)
#define OWN_DATA (__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? ELFDATA2LSB : ELFDATA2MSB)
#define PROGRAM_HEADERS_MAX 256

static const char *machine_name(unsigned machine)
{
    static const struct {
        unsigned machine;
        const char *name;
    } names[] = {{EM_X86_64, "x86-64"},  {EM_AARCH64, "aarch64"}, {EM_386, "32-bit x86"},
                 {EM_ARM, "32-bit ARM"}, {EM_RISCV, "RISC-V"},    {EM_PPC64, "PowerPC 64"},
                 {EM_S390, "s390x"},     {EM_MIPS, "MIPS"},       {EM_LOONGARCH, "LoongArch"}};
    for (size_t i = 0; i < WR_COUNT(names); i++) {
        if (names[i].machine == machine)
            return names[i].name;
    }
    return "an unknown machine";
}

static bool is_text(const unsigned char *head, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (head[i] < 0x20 && head[i] != '\n' && head[i] != '\r' && head[i] != '\t')
            return false;
    }
    return true;
}

static bool check_magic(const unsigned char *head, size_t len, struct wr_buf *why)
{
    if (len >= SELFMAG && memcmp(head, ELFMAG, SELFMAG) == 0) {
        if (len >= sizeof(ElfW(Ehdr)))
            return true;
        wr_buf_text(why, "the file is cut off: it ends inside its ELF header");
        return false;
    }
    if (len >= 8 && memcmp(head, "!<arch>\n", 8) == 0)
        wr_buf_text(why, "a static library, expected a shared object: link it with -shared");
    else if (is_text(head, len))
        wr_buf_text(why, "a text file, expected a shared object (ELF)");
    else
        wr_buf_text(why, "not a shared object: it does not begin with an ELF header");
    return false;
}

static bool check_machine(const ElfW(Ehdr) *h, struct wr_buf *why)
{
    bool own_bytes = h->e_ident[EI_DATA] == OWN_DATA;
    unsigned machine = own_bytes ? h->e_machine : (unsigned)__builtin_bswap16(h->e_machine);
    if (h->e_ident[EI_CLASS] == OWN_CLASS && own_bytes && machine == OWN_MACHINE)
        return true;
    const char *bits = h->e_ident[EI_CLASS] == ELFCLASS32 ? "32" : "64";
    wr_buf_printf(why, "built for another machine: %s (%s-bit, %s-endian), this one is %s",
                  machine_name(machine), bits,
                  h->e_ident[EI_DATA] == ELFDATA2MSB ? "big" : "little", machine_name(OWN_MACHINE));
    return false;
}

static bool check_type(const ElfW(Ehdr) *h, struct wr_buf *why)
{
    if (h->e_type == ET_DYN)
        return true;
    wr_buf_text(
        why, h->e_type == ET_REL ? "an object file, expected a shared object: link it with -shared"
             : h->e_type == ET_EXEC ? "a program, expected a shared object: link it with -shared"
                                    : "no shared object, although it is an ELF file");
    return false;
}

/* Every part that would be mapped lies inside the file. */
static bool check_whole(int fd, const ElfW(Ehdr) *h, uint64_t size, struct wr_buf *why)
{
    if (h->e_phentsize != sizeof(ElfW(Phdr)) || h->e_phnum == 0 ||
        h->e_phnum > PROGRAM_HEADERS_MAX) {
        wr_buf_text(why, "its ELF header is damaged: no usable program headers");
        return false;
    }
    for (unsigned i = 0; i < h->e_phnum; i++) {
        ElfW(Phdr) ph;
        uint64_t at = h->e_phoff + (uint64_t)i * sizeof(ph);
        bool there = h->e_phoff < size && pread(fd, &ph, sizeof(ph), (off_t)at) == sizeof(ph);
        if (there && (ph.p_filesz > size || ph.p_offset > size - ph.p_filesz) &&
            ph.p_type != PT_NULL)
            there = false;
        if (!there) {
            wr_buf_printf(
                why, "the file is cut off: it has %llu bytes and its ELF header speaks of more",
                (unsigned long long)size);
            return false;
        }
    }
    return true;
}

static bool check_elf(int fd, uint64_t size, struct wr_buf *why)
{
    union {
        unsigned char bytes[sizeof(ElfW(Ehdr))];
        ElfW(Ehdr) elf;
    } head = {{0}};
    ssize_t n = pread(fd, &head, sizeof(head), 0);
    if (n < 0) {
        wr_buf_printf(why, "cannot be read: %s", strerror(errno));
        return false;
    }
    return check_magic(head.bytes, (size_t)n, why) && check_machine(&head.elf, why) &&
           check_type(&head.elf, why) && check_whole(fd, &head.elf, size, why);
}

static const char *file_kind(mode_t mode)
{
    return S_ISDIR(mode)    ? "a folder"
           : S_ISFIFO(mode) ? "a named pipe"
           : S_ISSOCK(mode) ? "a socket"
                            : "a device";
}

static bool check_stat(const struct stat *st, struct wr_buf *why)
{
    if (!S_ISREG(st->st_mode))
        wr_buf_printf(why, "%s, expected a regular file", file_kind(st->st_mode));
    else if (st->st_size == 0)
        wr_buf_text(why, "the file is empty");
    else
        return true;
    return false;
}

bool wr_file_check(const char *path, struct wr_buf *why)
{
    struct stat st;
    if (stat(path, &st) != 0) {
        wr_buf_printf(why, "cannot be read: %s", strerror(errno));
        return false;
    }
    if (!check_stat(&st, why))
        return false;
    /* O_NONBLOCK: were it exchanged for a pipe meanwhile, the open must not wait. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        wr_buf_printf(why, "cannot be read: %s", strerror(errno));
        return false;
    }
    bool ok =
        fstat(fd, &st) == 0 && check_stat(&st, why) && check_elf(fd, (uint64_t)st.st_size, why);
    close(fd);
    return ok;
}

/* What stands in text between `from` and the next of the characters `to`. */
static struct weir_str between(const char *text, const char *from, const char *to)
{
    const char *start = strstr(text, from);
    if (start == NULL)
        return weir_str_n(NULL, 0);
    start += strlen(from);
    return weir_str_n(start, strcspn(start, to));
}

void wr_dlerror_words(const char *path, const char *message, struct wr_buf *why)
{
    const char *text = message != NULL ? message : "unknown error";
    size_t len = strlen(path);
    if (strncmp(text, path, len) == 0 && strncmp(text + len, ": ", 2) == 0)
        text += len + 2;
    struct weir_str version = between(text, "version `", "'");
    struct weir_str symbol = between(text, "undefined symbol: ", " ,");
    const char *missing = strstr(text, ": cannot open shared object file");
    if (version.len > 6 && memcmp(version.ptr, "GLIBC_", 6) == 0)
        wr_buf_printf(
            why, "needs glibc %.*s, this system has %s: build it on this system or an older one",
            (int)version.len - 6, version.ptr + 6, gnu_get_libc_version());
    else if (version.len > 0)
        wr_buf_printf(why,
                      "needs version %.*s of a library, which the one installed here does not have",
                      WR_STR(version));
    else if (symbol.len > 0)
        wr_buf_printf(
            why,
            "needs the symbol \"%.*s\", which no library that it names has: link it with the "
            "one that does (-Wl,-z,defs finds this at build time)",
            WR_STR(symbol));
    else if (missing != NULL)
        wr_buf_printf(why, "needs the library %.*s, which is not installed", (int)(missing - text),
                      text);
    else if (strstr(text, "position-independent executable") != NULL)
        wr_buf_text(why, "a program, expected a shared object: link it with -shared");
    else
        wr_buf_printf(why, "cannot be loaded: %s", text);
}
