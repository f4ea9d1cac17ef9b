/* SPDX-License-Identifier: Apache-2.0
 *
 * A disk buffer against a simple model, over random pushes, takes, ends in any order, restarts, crashes, full
 * disks, syncs that fail and flipped bits. What must hold: an event whose source heard "delivered" is given
 * until it has ended, unless its own bytes were damaged or the user chose to drop it and it was counted; what
 * is given was pushed, to the last byte, and comes in its order.
 *
 * The calls that change files are in front of libc's: they fail when told to, and know what of each file is
 * durable. A crash is a copy of the folder in which anything that is not may be missing, torn or back again.
 */
#include "disk_rig.h"

#include <errno.h>
#include <inttypes.h>

/* ---- The disk ---- */

#define FILES_MAX 4096

struct file {
    ino_t ino;
    int64_t durable; /* bytes */
    bool named;      /* its entry in the folder is durable */
};

static struct {
    struct file files[FILES_MAX];
    uint32_t n;
    char graveyard[300]; /* what was deleted while that is not durable */
    int64_t room;        /* bytes that can be written, -1 = any */
    uint32_t fail_sync, fail_cut, fail_create, fail_folder; /* each so many-th fails, 0 = none */
    uint32_t calls;
} sim;

ssize_t __real_pwrite(int fd, const void *p, size_t len, off_t at);
int __real_fdatasync(int fd);
int __real_fsync(int fd);
int __real_ftruncate(int fd, off_t len);
int __real_unlinkat(int dir, const char *name, int flags);
int __real_openat(int dir, const char *name, int flags, ...);
ssize_t __wrap_pwrite(int fd, const void *p, size_t len, off_t at);
int __wrap_fdatasync(int fd);
int __wrap_fsync(int fd);
int __wrap_ftruncate(int fd, off_t len);
int __wrap_unlinkat(int dir, const char *name, int flags);
int __wrap_openat(int dir, const char *name, int flags, ...);

static struct file *file_of(ino_t ino)
{
    for (uint32_t i = 0; i < sim.n; i++)
        if (sim.files[i].ino == ino)
            return &sim.files[i];
    assert_true(sim.n < FILES_MAX);
    sim.files[sim.n] = (struct file){.ino = ino};
    return &sim.files[sim.n++];
}

static bool fails(uint32_t every)
{
    return every != 0 && ++sim.calls % every == 0;
}

ssize_t __wrap_pwrite(int fd, const void *p, size_t len, off_t at)
{
    if (sim.room >= 0 && len > 100) { /* the cursor has its room */
        if (sim.room == 0) {
            errno = ENOSPC;
            return -1;
        }
        len = (int64_t)len < sim.room ? len : (size_t)sim.room;
        sim.room -= (int64_t)len;
    }
    return __real_pwrite(fd, p, len, at);
}

int __wrap_fdatasync(int fd)
{
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    if (fails(sim.fail_sync)) {
        errno = EIO;
        return -1;
    }
    file_of(st.st_ino)->durable = st.st_size;
    return 0;
}

/* What is in the folder keeps its names, and the dead stay dead. */
static void sync_folder(int fd)
{
    int copy = dup(fd);
    DIR *d = fdopendir(copy);
    struct stat st;
    rewinddir(d);
    for (struct dirent *e; (e = readdir(d)) != NULL;)
        if (fstatat(fd, e->d_name, &st, 0) == 0)
            file_of(st.st_ino)->named = true;
    closedir(d);
    disk_remove(sim.graveyard);
    assert_int_equal(mkdir(sim.graveyard, 0700), 0);
}

int __wrap_fsync(int fd)
{
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    if (!S_ISDIR(st.st_mode))
        return __wrap_fdatasync(fd);
    if (fails(sim.fail_folder)) {
        errno = EIO;
        return -1;
    }
    if (sim.n != 0 || sim.graveyard[0] != '\0')
        sync_folder(fd);
    return 0;
}

int __wrap_ftruncate(int fd, off_t len)
{
    struct stat st;
    if (fails(sim.fail_cut)) {
        errno = EIO;
        return -1;
    }
    if (fstat(fd, &st) == 0 && file_of(st.st_ino)->durable > len)
        file_of(st.st_ino)->durable = len;
    return __real_ftruncate(fd, len);
}

int __wrap_unlinkat(int dir, const char *name, int flags)
{
    char to[DISK_PATH], from[DISK_PATH];
    struct stat st;
    if (strstr(name, ".segment") != NULL && fstatat(dir, name, &st, 0) == 0 && file_of(st.st_ino)->named) {
        (void)disk_join(from, disk.path, name);
        (void)disk_join(to, sim.graveyard, name);
        assert_int_equal(link(from, to), 0);
    }
    return __real_unlinkat(dir, name, flags);
}

int __wrap_openat(int dir, const char *name, int flags, ...)
{
    va_list ap;
    va_start(ap, flags);
    mode_t mode = (flags & O_CREAT) != 0 ? (mode_t)va_arg(ap, int) : 0;
    va_end(ap);
    if ((flags & O_EXCL) != 0 && fails(sim.fail_create)) {
        errno = ENOSPC;
        return -1;
    }
    struct stat st;
    bool born = (flags & O_CREAT) != 0 && fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) != 0;
    int fd = __real_openat(dir, name, flags, mode);
    /* It may have the number of a file that was deleted: that is the file system's chance, not the seed's. */
    if (fd >= 0 && born && fstat(fd, &st) == 0)
        *file_of(st.st_ino) = (struct file){.ino = st.st_ino};
    return fd;
}

static void all_well(void)
{
    sim.room = -1;
    sim.fail_sync = sim.fail_cut = sim.fail_create = sim.fail_folder = 0;
}

/* ---- The model ---- */

#define OUT_MAX 64

static struct {
    uint8_t *ended;   /* by number: the sink had it */
    uint8_t *damaged; /* its bytes were */
    struct wr_entry *out[OUT_MAX];
    uint8_t *done[OUT_MAX]; /* of each event of it */
    uint32_t n_out;
    int64_t last; /* number that was given last since the start */
    uint64_t n_flips, n_crashes, n_given;
    bool blind; /* some crash cost the cursor: nobody knows what was ended and deleted */
    uint64_t heard; /* numbers before it were pushed before the last crash */
} model;

static void give_back_all(void)
{
    for (uint32_t k = 0; k < model.n_out; k++) {
        struct wr_entry *entry = model.out[k];
        uint32_t n = entry->batch->pub.n_events;
        uint8_t *done = model.done[k];
        for (uint32_t i = 0; i < n; i++)
            if (!done[i])
                disk_settle_event(entry, i, WEIR_FAILED);
        wr_free(done);
    }
    model.n_out = 0;
}

static bool take_one(void)
{
    struct wr_entry *entry = model.n_out < OUT_MAX ? wr_buffer_take(disk.buf) : NULL;
    if (entry == NULL)
        return false;
    for (uint32_t i = 0; i < entry->batch->pub.n_events; i++) {
        const struct weir_event *ev = &wr_batch_events(entry->batch)[i];
        int64_t number = (int64_t)check_event(ev);
        if (number <= model.last)
            fail_msg("%" PRId64 " was given behind %" PRId64, number, model.last);
        model.last = number;
        model.n_given++;
    }
    model.done[model.n_out] = wr_xalloc(entry->batch->pub.n_events);
    model.out[model.n_out++] = entry;
    return true;
}

/* Ends some of what is out, in any order. */
static void settle_some(uint32_t percent)
{
    for (uint32_t k = model.n_out; k-- > 0;) {
        struct wr_entry *entry = model.out[k];
        uint32_t n = entry->batch->pub.n_events, left = 0;
        uint64_t numbers[2000];
        assert_true(n < 2000);
        for (uint32_t i = 0; i < n; i++)
            numbers[i] = strtoull(wr_batch_events(entry->batch)[i].payload.ptr, NULL, 10);
        for (uint32_t i = n; i-- > 0;) {
            if (!model.done[k][i] && below(100) < percent) {
                model.done[k][i] = 1;
                model.ended[numbers[i]] = 1;
                disk_settle_event(entry, i, WEIR_DELIVERED);
            }
        }
        for (uint32_t i = 0; i < n; i++)
            left += !model.done[k][i];
        if (left != 0)
            continue;
        wr_free(model.done[k]);
        model.n_out--;
        model.out[k] = model.out[model.n_out];
        model.done[k] = model.done[model.n_out];
    }
}

/* A cleaner of /tmp that takes the folder away meanwhile looks like a buffer that has lost all it had. */
static void close_buffer(void)
{
    struct wr_disk *d = wr_disk_of(disk.buf);
    struct stat folder, named, cursor;
    assert_int_equal(fstat(d->dir, &folder), 0);
    assert_int_equal(fstat(d->cursor_fd, &cursor), 0);
    if (stat(disk.path, &named) != 0 || named.st_ino != folder.st_ino || cursor.st_nlink == 0)
        fail_msg("%s: somebody else deleted the folder of the test, or files in it", disk.path);
    disk_close();
}

static void open_again(void)
{
    model.last = -1;
    disk_open();
}

static void restart(void)
{
    give_back_all();
    close_buffer();
    wr_acks_collect(disk.acks);
    open_again();
}

/* ---- Crashes ---- */

static void copy_file(const char *from, const char *to, int64_t keep, int64_t garble_from)
{
    static uint8_t bytes[1 << 20];
    FILE *in = fopen(from, "rb"), *out = fopen(to, "wb");
    assert_true(in != NULL && out != NULL);
    size_t n = fread(bytes, 1, sizeof(bytes), in);
    assert_true(n < sizeof(bytes));
    n = keep < (int64_t)n ? (size_t)keep : n;
    if (garble_from >= 0 && garble_from < (int64_t)n) {
        size_t at = (size_t)garble_from + disk_random() % (n - (size_t)garble_from);
        size_t len = 1 + disk_random() % (n - at);
        if (below(2) == 0)
            memset(bytes + at, 0, len);
        else
            for (size_t i = at; i < at + len; i++)
                bytes[i] = (uint8_t)disk_random();
    }
    assert_int_equal(fwrite(bytes, 1, n, out), n);
    fclose(in);
    assert_int_equal(fclose(out), 0);
}

static int is_visible(const struct dirent *e)
{
    return e->d_name[0] != '.';
}

/* The names in a folder in an order that is the same on every disk, dot files left out. */
static int names_in(const char *path, struct dirent ***ret_names)
{
    int n = scandir(path, ret_names, is_visible, alphasort);
    if (n < 0)
        fail_msg("%s: somebody else deleted the folder of the test", path);
    return n;
}

static void copy_of_power_loss(const char *name, const char *to_folder)
{
    char from[DISK_PATH], to[DISK_PATH];
    struct stat st;
    (void)disk_join(from, disk.path, name);
    (void)disk_join(to, to_folder, name);
    assert_int_equal(stat(from, &st), 0);
    const struct file *f = file_of(st.st_ino);
    bool is_cursor = strcmp(name, "cursor") == 0;
    if (!f->named && !is_cursor && below(2) == 0)
        return;
    if (strstr(name, ".segment") == NULL) {
        bool garble = is_cursor && below(4) == 0;
        model.blind |= garble;
        copy_file(from, to, st.st_size, garble ? 0 : -1);
        return;
    }
    int64_t loose = st.st_size - f->durable;
    int64_t keep = f->durable + (loose > 0 ? (int64_t)(disk_random() % (uint64_t)(loose + 1)) : 0);
    copy_file(from, to, keep, below(3) == 0 ? f->durable : -1);
}

/* What the disk has after the power went: all that is durable, and of the rest whatever it likes. */
static void power_loss_image(const char *to)
{
    char from[DISK_PATH], name[DISK_PATH];
    struct dirent **names;
    int n = names_in(disk.path, &names);
    for (int i = 0; i < n; i++) {
        copy_of_power_loss(names[i]->d_name, to);
        free(names[i]);
    }
    free(names);
    n = names_in(sim.graveyard, &names);
    for (int i = 0; i < n; i++) {
        (void)disk_join(from, sim.graveyard, names[i]->d_name);
        (void)disk_join(name, to, names[i]->d_name);
        if (below(2) == 0)
            copy_file(from, name, INT64_MAX, -1);
        free(names[i]);
    }
    free(names);
}

static void kill_image(const char *to)
{
    char from[DISK_PATH], name[DISK_PATH];
    struct dirent **names;
    int n = names_in(disk.path, &names);
    for (int i = 0; i < n; i++) {
        (void)disk_join(from, disk.path, names[i]->d_name);
        (void)disk_join(name, to, names[i]->d_name);
        copy_file(from, name, INT64_MAX, -1);
        free(names[i]);
    }
    free(names);
}

static void begin_folder(void)
{
    sim.n = 0;
    disk_remove(sim.graveyard);
    assert_int_equal(mkdir(sim.graveyard, 0700), 0);
    DIR *d = opendir(disk.path);
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        char name[DISK_PATH];
        struct stat st;
        (void)disk_join(name, disk.path, e->d_name);
        if (stat(name, &st) == 0 && S_ISREG(st.st_mode))
            *file_of(st.st_ino) = (struct file){st.st_ino, st.st_size, true};
    }
    closedir(d);
}

static void crash(void)
{
    char image[300];
    static uint8_t heard[RIG_EVENTS_MAX];
    wr_acks_collect(disk.acks);
    memcpy(heard, disk.outcome, disk.next);
    snprintf(image, sizeof(image), "%.250s-image", disk.path);
    assert_int_equal(mkdir(image, 0700), 0);
    if (below(2) == 0)
        power_loss_image(image);
    else
        kill_image(image);
    all_well();
    give_back_all();
    close_buffer(); /* what it still does, it does to the old folder */
    wr_acks_collect(disk.acks);
    /* What nobody heard before the crash, nobody hears of. */
    for (uint64_t i = 0; i < disk.next; i++)
        if (heard[i] == 0)
            disk.outcome[i] = WEIR_FAILED + 1;
    disk_remove(disk.path);
    assert_int_equal(rename(image, disk.path), 0);
    begin_folder();
    model.n_crashes++;
    open_again();
}

/* ---- Damage ---- */

/* Marks the record that has the byte at `where` as damaged. */
static void mark(int fd, const struct wr_disk_segment *seg, int64_t where)
{
    struct wr_scan scan = {.fd = fd, .marker = seg->marker, .at = WR_SEGMENT_HEAD, .end = seg->bytes,
                           .limit = WR_SEQ_MAX};
    struct wr_record r;
    struct wr_damage damage;
    struct weir_arena a = {0};
    for (enum wr_scan_state s; (s = wr_scan_next(&scan, &r, &damage)) == WR_SCAN_RECORD ||
                               s == WR_SCAN_DAMAGE;) {
        struct weir_event ev;
        if (s != WR_SCAN_RECORD || where < scan.at - (int64_t)r.length || where >= scan.at)
            continue;
        assert_true(wr_record_event(&r, &a, NULL, &ev));
        model.damaged[strtoull(ev.payload.ptr, NULL, 10)] = 1;
    }
    wr_scan_done(&scan);
    wr_arena_done(&a);
}

/* Flips some bits of some segment, in the files of a buffer that is closed. */
static void flip(void)
{
    struct wr_disk_segment *first = NULL, *seg;
    int dir = open(disk.path, O_RDONLY | O_DIRECTORY);
    assert_true(wr_segments_list(dir, &first));
    uint32_t n = 0;
    for (seg = first; seg != NULL; seg = seg->next)
        n++;
    uint32_t which = n != 0 ? below(n) : 0;
    for (seg = first; seg != NULL && which > 0; seg = seg->next)
        which--;
    if (seg != NULL && seg->bytes > 0) {
        char name[WR_DISK_NAME], path[DISK_PATH];
        int64_t where = below(8) == 0 ? (int64_t)below(48) : (int64_t)(disk_random() % (uint64_t)seg->bytes);
        if (where >= seg->bytes)
            where = 0;
        wr_segment_name(name, seg);
        (void)disk_join(path, disk.path, name);
        int fd = open(path, O_RDWR);
        uint8_t byte;
        mark(fd, seg, where);
        assert_int_equal(pread(fd, &byte, 1, where), 1);
        byte ^= (uint8_t)(1u << below(8));
        assert_int_equal(__real_pwrite(fd, &byte, 1, where), 1);
        close(fd);
        model.n_flips++;
    }
    wr_segments_free(first);
    close(dir);
}

/* ---- Running ---- */

static void some_faults(void)
{
    all_well();
    switch (below(12)) {
    case 0:
        sim.room = (int64_t)below(8000);
        break;
    case 1:
        sim.fail_sync = 1 + below(3);
        break;
    case 2:
        sim.fail_sync = 1 + below(3);
        sim.fail_cut = 1 + below(2);
        break;
    case 3:
        sim.fail_create = 1 + below(2);
        break;
    case 4:
        sim.fail_folder = 1 + below(2);
        break;
    case 5:
        sim.room = (int64_t)below(20000);
        sim.fail_cut = 1 + below(2);
        break;
    default:
        break;
    }
}

static void one_step(bool flips)
{
    switch (below(30)) {
    case 0:
        some_faults();
        break;
    case 1:
        if (below(6) == 0)
            crash();
        break;
    case 2:
        if (below(6) != 0)
            break;
        all_well();
        if (flips && below(2) == 0) {
            give_back_all();
            close_buffer();
            wr_acks_collect(disk.acks);
            flip();
            open_again();
        } else {
            restart();
        }
        break;
    case 3 ... 11:
        (void)disk_push_events(1 + below(below(10) == 0 ? 60 : 8));
        break;
    case 12 ... 17:
        (void)take_one();
        break;
    case 18 ... 22:
        settle_some(10 + below(90));
        break;
    default:
        disk.now += below(20) * WEIR_NS_PER_MS;
        disk_turn();
    }
}

static void settle_everything(void)
{
    uint32_t idle = 0;
    all_well();
    while (idle < 30) {
        disk.now += WEIR_NS_PER_S;
        disk_turn();
        idle = take_one() ? 0 : idle + 1;
        settle_some(100);
    }
    settle_some(100);
    disk_turn();
}

static uint64_t told(const char *metric)
{
    return (uint64_t)wr_metric_value(wr_metric(disk.metrics, WR_COUNTER, metric, "", NULL, 0));
}

/* Events whose source was told "delivered" and which the sink never got. */
static void check_all(uint64_t seed, bool flips)
{
    uint64_t lost = 0, lost_undamaged = 0;
    if (!flips && !model.blind && disk.discarded[1] != 0)
        fail_msg("seed %" PRIu64 ": %" PRIu64 " events count as lost", seed, disk.discarded[1]);
    for (uint64_t i = 0; i < disk.next; i++) {
        assert_int_not_equal(disk.outcome[i], 0);
        if (disk.outcome[i] != WEIR_DELIVERED + 1 || model.ended[i])
            continue;
        lost++;
        lost_undamaged += !model.damaged[i];
    }
    uint64_t allowed = disk.opt.when_full == WR_FULL_DROP_OLDEST ? disk.discarded[0] : 0;
    if (lost_undamaged > allowed)
        fail_msg("seed %" PRIu64 ": %" PRIu64 " events lost, %" PRIu64 " of them whole, %" PRIu64 " may be",
                 seed, lost, lost_undamaged, allowed);
    if (lost > allowed) /* at the very end of the last segment nobody knows how many there were */
        assert_true(disk.discarded[1] + told("buffer_damaged_regions_total") + told("buffer_torn_bytes_total") > 0);
}

static void run(uint64_t seed, uint32_t steps, bool flips)
{
    disk_rig_init(seed, 40000 + seed % 5 * 60000);
    memset(&model, 0, sizeof(model));
    memset(&sim, 0, sizeof(sim));
    all_well();
    snprintf(sim.graveyard, sizeof(sim.graveyard), "%.250s-grave", disk.path);
    model.ended = wr_xalloc(RIG_EVENTS_MAX);
    model.damaged = wr_xalloc(RIG_EVENTS_MAX);
    disk.opt.when_full = (int)(seed % 3);
    disk.opt.sync_ns = seed % 4 == 0 ? 0 : 10 * WEIR_NS_PER_MS;
    begin_folder();
    open_again();
    for (uint32_t i = 0; i < steps; i++)
        one_step(flips);
    settle_everything();
    restart();
    assert_false(take_one()); /* the cursor knows that all has ended */
    assert_int_equal(atomic_load(&disk.buf->events), 0);
    close_buffer();
    check_all(seed, flips);
    assert_true(model.n_given > steps / 10);
    disk_remove(sim.graveyard);
    wr_free(model.ended);
    wr_free(model.damaged);
    disk_rig_done();
}

static uint64_t seeds(void)
{
    const char *more = getenv("WEIR_PROPERTY_SEEDS");
    return more != NULL ? strtoull(more, NULL, 10) : 8;
}

static void nothing_is_lost(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= seeds(); seed++)
        run(seed, 4000, false);
}

static void only_what_was_damaged_is_lost(void **state)
{
    (void)state;
    for (uint64_t seed = 1001; seed <= 1000 + seeds(); seed++)
        run(seed, 4000, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_lost),
        cmocka_unit_test(only_what_was_damaged_is_lost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
