/* SPDX-License-Identifier: Apache-2.0
 *
 * The disk buffer, when something happens at a chosen moment: the disk is full as a segment is to be made, files
 * are cut or deleted, the oldest are dropped while the outlet reads them, acks come home while it looks.
 */
#include "disk_rig.h"

#include <errno.h>
#include <time.h>

/* ---- What happens, and when ---- */

static struct {
    uint32_t max_segments;   /* the disk has room for, 0 = any */
    bool no_room;            /* for records, until a segment is deleted */
    bool no_room_behind_head; /* from the next segment's header on */
    void (*on_open)(void);   /* before a segment is opened to be read; once, as all of them */
    void (*on_read)(void);   /* before it is read */
    void (*on_unlink)(void); /* before a segment is deleted */
    void (*on_unlock)(void); /* behind the lock of the acks */
    uint64_t synced_cursor;
    bool cursor_is_synced;
    bool window_is_full;
} chance;

ssize_t __real_pwrite(int fd, const void *p, size_t len, off_t at);
ssize_t __real_pread(int fd, void *p, size_t len, off_t at);
int __real_openat(int dir, const char *name, int flags, ...);
int __real_unlinkat(int dir, const char *name, int flags);
bool __real_wr_acks_full(const struct wr_acks *acks);
int __real_pthread_mutex_unlock(pthread_mutex_t *m);
ssize_t __wrap_pwrite(int fd, const void *p, size_t len, off_t at);
ssize_t __wrap_pread(int fd, void *p, size_t len, off_t at);
int __wrap_fdatasync(int fd);
int __wrap_openat(int dir, const char *name, int flags, ...);
int __wrap_unlinkat(int dir, const char *name, int flags);
bool __wrap_wr_acks_full(const struct wr_acks *acks);
int __wrap_pthread_mutex_unlock(pthread_mutex_t *m);

static void happen(void (**io_what)(void))
{
    void (*what)(void) = *io_what;
    *io_what = NULL;
    if (what != NULL)
        what();
}

ssize_t __wrap_pwrite(int fd, const void *p, size_t len, off_t at)
{
    if (chance.max_segments != 0 && len == WR_SEGMENT_HEAD && disk_files("0000", NULL) > chance.max_segments) {
        errno = ENOSPC;
        return -1;
    }
    if (chance.no_room && len > WR_SEGMENT_HEAD) {
        errno = ENOSPC;
        return -1;
    }
    chance.no_room |= chance.no_room_behind_head && len == WR_SEGMENT_HEAD;
    return __real_pwrite(fd, p, len, at);
}

ssize_t __wrap_pread(int fd, void *p, size_t len, off_t at)
{
    happen(&chance.on_read);
    return __real_pread(fd, p, len, at);
}

int __wrap_fdatasync(int fd)
{
    char path[DISK_PATH];
    struct stat named, st;
    if (stat(disk_join(path, disk.path, "cursor"), &named) == 0 && fstat(fd, &st) == 0)
        chance.cursor_is_synced |= st.st_ino == named.st_ino;
    if (disk.buf != NULL && fd == wr_disk_of(disk.buf)->cursor_fd)
        chance.synced_cursor = wr_disk_of(disk.buf)->kept_cursor;
    return 0;
}

int __wrap_openat(int dir, const char *name, int flags, ...)
{
    va_list ap;
    va_start(ap, flags);
    mode_t mode = (flags & O_CREAT) != 0 ? (mode_t)va_arg(ap, int) : 0;
    va_end(ap);
    if (strstr(name, ".segment") != NULL && (flags & O_CREAT) == 0)
        happen(&chance.on_open);
    return __real_openat(dir, name, flags, mode);
}

int __wrap_unlinkat(int dir, const char *name, int flags)
{
    if (strstr(name, ".segment") != NULL) {
        happen(&chance.on_unlink);
        chance.no_room = false;
    }
    return __real_unlinkat(dir, name, flags);
}

bool __wrap_wr_acks_full(const struct wr_acks *acks)
{
    return chance.window_is_full || __real_wr_acks_full(acks);
}

int __wrap_pthread_mutex_unlock(pthread_mutex_t *m)
{
    int error = __real_pthread_mutex_unlock(m);
    if (chance.on_unlock != NULL && m == &wr_disk_of(disk.buf)->acks_mutex)
        happen(&chance.on_unlock);
    return error;
}

static int begin(void **state)
{
    (void)state;
    memset(&chance, 0, sizeof(chance));
    disk_rig_init(1, 1 << 20);
    return 0;
}

static int end(void **state)
{
    (void)state;
    disk_rig_done();
    return 0;
}

/* ---- Full, as a segment is to be made ---- */

static void push_and_turn(uint32_t batches)
{
    for (uint32_t i = 0; i < batches; i++) {
        assert_true(disk_push_events(10));
        disk.now += 20 * WEIR_NS_PER_MS;
        disk_turn();
    }
}

static void without_room_for_a_segment_the_newest_go(void **state)
{
    (void)state;
    disk.opt.when_full = WR_FULL_DROP_NEWEST;
    chance.max_segments = 4;
    disk_open();
    push_and_turn(200);
    disk.now += 10 * WEIR_NS_PER_S; /* it tries ever more seldom */
    disk_turn();
    uint64_t kept = 0, dropped = 0;
    for (uint64_t i = 0; i < disk.next; i++) {
        kept += disk.outcome[i] == WEIR_DELIVERED + 1;
        dropped += disk.outcome[i] == WEIR_DROPPED + 1;
    }
    assert_true(kept > 100 && dropped > 100);
    assert_int_equal(kept + dropped, 2000);
    assert_int_equal(disk.discarded[0], dropped);
    assert_int_equal(atomic_load(&disk.buf->events), kept);
    disk_close();
}

static void without_room_for_a_segment_the_oldest_go(void **state)
{
    (void)state;
    disk.opt.when_full = WR_FULL_DROP_OLDEST;
    chance.max_segments = 4;
    disk_open();
    push_and_turn(200);
    disk.now += 20 * WEIR_NS_PER_MS;
    disk_turn();
    for (uint64_t i = 0; i < disk.next; i++)
        assert_int_equal(disk.outcome[i], WEIR_DELIVERED + 1);
    assert_true(disk.discarded[0] > 100);
    assert_int_equal(disk_deliver_all(disk.discarded[0]), 2000 - disk.discarded[0]);
    assert_int_equal(disk.discarded[1], 0);
    disk_close();
}

/* Others fill the disk while the sink hangs: what it has under way stays, all else goes one by one, the segment
 * that is written to at last. */
static void beside_what_is_under_way_the_oldest_go_up_to_the_last(void **state)
{
    (void)state;
    disk.opt.when_full = WR_FULL_DROP_OLDEST;
    disk_open();
    push_and_turn(1);
    struct wr_entry *entry = wr_buffer_take(disk.buf);
    push_and_turn(60);
    assert_true(disk_files("0000", NULL) > 3);
    for (int i = 0; i < 30; i++) {
        chance.no_room = true;
        push_and_turn(1);
        disk_turn();
        assert_false(chance.no_room);
        assert_int_equal(disk.outcome[disk.next - 1], WEIR_DELIVERED + 1);
    }
    assert_int_equal(disk_files("0000", NULL), 2);
    disk_settle_all(entry, WEIR_DELIVERED);
    uint64_t dropped = disk.discarded[0];
    assert_int_equal(disk_deliver_all(10 + dropped), 900 - dropped);
    assert_int_equal(disk.discarded[0], dropped);
    assert_int_equal(disk.discarded[1], 0);
    disk_close();
}

static void what_would_make_no_room_is_not_dropped(void **state)
{
    (void)state;
    disk.opt.when_full = WR_FULL_DROP_OLDEST;
    disk_open();
    push_and_turn(1);
    struct wr_entry *entry = wr_buffer_take(disk.buf);
    chance.no_room_behind_head = true;
    while (!chance.no_room)
        push_and_turn(1);
    assert_int_equal(disk_files("0000", NULL), 2); /* one has what is under way, the other one has nothing */
    push_and_turn(5);
    assert_int_equal(disk.discarded[0], 0);
    assert_int_equal(disk.outcome[disk.next - 1], 0); /* it waits */
    chance.no_room = chance.no_room_behind_head = false;
    disk.now += 10 * WEIR_NS_PER_S;
    disk_turn();
    assert_int_equal(disk.outcome[disk.next - 1], WEIR_DELIVERED + 1);
    disk_settle_all(entry, WEIR_DELIVERED);
    assert_int_equal(disk_deliver_all(10), disk.next - 10);
    disk_close();
}

/* The same where `size` is the limit and the sink has all of it. */
static void over_the_size_the_newest_stay_beside_what_is_under_way(void **state)
{
    (void)state;
    struct wr_entry *entries[1000];
    uint32_t n = 0;
    disk.opt.when_full = WR_FULL_DROP_OLDEST;
    disk_open();
    struct wr_disk *d = wr_disk_of(disk.buf);
    while (d->disk_bytes <= disk.opt.size) {
        push_and_turn(1);
        assert_true(n < 1000 && (entries[n] = wr_buffer_take(disk.buf)) != NULL);
        n++;
    }
    uint64_t given = disk.next;
    while (d->last->first_seq < given)
        push_and_turn(1); /* into the segment that has some of it */
    for (int i = 0; i < 5; i++) {
        push_and_turn(1);
        assert_int_equal(d->next_seq - d->last->first_seq, 10);
    }
    for (uint32_t i = 0; i < n; i++)
        disk_settle_all(entries[i], WEIR_DELIVERED);
    uint64_t dropped = disk.discarded[0];
    assert_int_equal(disk_deliver_all(given + dropped), disk.next - given - dropped);
    disk_close();
}

/* ---- Files that are cut or deleted ---- */

/* The name of segment n of the folder, and how long its first record is. */
static void segment_at(uint32_t n, char ret_path[DISK_PATH], int64_t *ret_record)
{
    struct wr_disk_segment *first = NULL, *seg;
    char name[WR_DISK_NAME];
    uint8_t length[4];
    int dir = open(disk.path, O_RDONLY | O_DIRECTORY);
    assert_true(wr_segments_list(dir, &first));
    for (seg = first; n > 0; n--)
        seg = seg->next;
    wr_segment_name(name, seg);
    (void)disk_join(ret_path, disk.path, name);
    int fd = wr_segment_open(dir, seg);
    assert_int_equal(__real_pread(fd, length, 4, WR_SEGMENT_HEAD + 4), 4);
    *ret_record = wr_get32(length);
    close(fd);
    close(dir);
    wr_segments_free(first);
}

/* Takes and delivers all there is, in its order. */
static uint64_t deliver_what_is_left(uint64_t first)
{
    uint64_t n = 0, next = first;
    struct wr_entry *entry;
    for (uint32_t idle = 0; idle < 3; idle++) {
        while ((entry = wr_buffer_take(disk.buf)) != NULL) {
            for (uint32_t i = 0; i < entry->batch->pub.n_events; i++, n++) {
                uint64_t number = check_event(&wr_batch_events(entry->batch)[i]);
                assert_true(number >= next);
                next = number + 1;
            }
            disk_settle_all(entry, WEIR_DELIVERED);
            idle = 0;
        }
        disk.now += 20 * WEIR_NS_PER_MS;
        disk_turn();
    }
    return n;
}

static void what_is_missing_is_counted(void **state)
{
    (void)state;
    enum { FIRST_DELETED, OTHER_DELETED, CUT_BEHIND_A_RECORD, EMPTIED, N_WAYS };
    for (int way = 0; way < N_WAYS; way++) {
        char path[DISK_PATH];
        int64_t record;
        uint64_t first = disk.next;
        disk_open();
        uint64_t n = disk_fill();
        disk_close();
        disk.discarded[1] = 0;
        segment_at(way == FIRST_DELETED ? 0 : 2, path, &record);
        if (way == CUT_BEHIND_A_RECORD || way == EMPTIED)
            assert_int_equal(truncate(path, way == EMPTIED ? 0 : WR_SEGMENT_HEAD + record), 0);
        else
            assert_int_equal(unlink(path), 0);
        disk_open();
        uint64_t given = deliver_what_is_left(first);
        assert_true(given < n);
        assert_int_equal(given + disk.discarded[1], n);
        assert_int_equal(atomic_load(&disk.buf->events), 0);
        disk_close();
    }
}

/* A start finds them missing between what was under way and what came later. */
static void what_was_dropped_does_not_count_as_lost(void **state)
{
    (void)state;
    disk.opt.when_full = WR_FULL_DROP_OLDEST;
    disk_open();
    (void)disk_push_events(10);
    disk_turn();
    struct wr_entry *entry = wr_buffer_take(disk.buf);
    push_and_turn(400);
    assert_true(disk.discarded[0] > 1000);
    disk_settle_all(entry, WEIR_FAILED);
    disk_close();
    disk_open();
    assert_true(deliver_what_is_left(0) >= 4010 - disk.discarded[0]);
    assert_int_equal(disk.discarded[1], 0);
    disk_close();
}

/* ---- Dropped while it is read ---- */

static void drop_oldest(void)
{
    assert_true(wr_disk_drop_oldest(wr_disk_of(disk.buf)));
}

static void fill_and_start_again(void)
{
    disk_open();
    (void)disk_fill();
    disk_close();
    disk_open();
    disk_turn();
}

/* Descriptors of files that were deleted: their room is taken. */
static uint32_t deleted_and_open(void)
{
    uint32_t n = 0;
    DIR *d = opendir("/proc/self/fd");
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        char to[600];
        ssize_t len = readlinkat(dirfd(d), e->d_name, to, sizeof(to) - 1);
        to[len > 0 ? len : 0] = '\0';
        n += strstr(to, disk.path) != NULL && strstr(to, "(deleted)") != NULL;
    }
    closedir(d);
    return n;
}

static void what_is_dropped_before_it_is_opened_counts_once(void **state)
{
    (void)state;
    fill_and_start_again();
    chance.on_open = drop_oldest;
    struct wr_entry *entry = wr_buffer_take(disk.buf);
    assert_true(disk.discarded[0] > 10);
    assert_int_equal(disk.discarded[1], 0);
    assert_int_equal(check_event(&wr_batch_events(entry->batch)[0]), disk.discarded[0]);
    struct wr_label label = {"error", weir_cstr("ENOENT")};
    struct weir_metric *errors = wr_metric(disk.metrics, WR_COUNTER, "buffer_errors_total", "", &label, 1);
    assert_true(wr_metric_value(errors) == 0);
    disk_settle_all(entry, WEIR_DELIVERED);
    disk_close();
}

static void drop_all(void)
{
    struct wr_disk *d = wr_disk_of(disk.buf);
    assert_false(wr_disk_reads_deleted(d));
    while (wr_disk_drop_oldest(d))
        continue;
    assert_true(wr_disk_reads_deleted(d));
    assert_int_equal(deleted_and_open(), 1);
}

static void what_is_dropped_while_it_is_read_takes_no_room(void **state)
{
    (void)state;
    fill_and_start_again();
    chance.on_read = drop_all;
    assert_null(wr_buffer_take(disk.buf));
    assert_int_equal(disk.discarded[0], disk.next);
    assert_int_equal(deleted_and_open(), 0);
    assert_false(wr_disk_reads_deleted(wr_disk_of(disk.buf)));
    disk_close();
}

static void what_was_read_and_is_deleted_takes_no_room(void **state)
{
    (void)state;
    fill_and_start_again();
    struct wr_entry *entry = wr_buffer_take(disk.buf);
    disk_settle_all(entry, WEIR_DELIVERED);
    uint32_t before = disk_files("0000", NULL);
    disk_turn();
    assert_int_equal(disk_files("0000", NULL), before - 1);
    assert_int_equal(deleted_and_open(), 0);
    disk_close();
}

static void look_at_cursor(void)
{
    struct wr_disk *d = wr_disk_of(disk.buf);
    assert_true(d->first->first_seq > 0); /* it begins behind the segment that is deleted */
    assert_true(chance.synced_cursor >= d->first->first_seq);
}

/* A start that finds an older one would miss events that have ended. */
static void the_cursor_is_durable_before_a_segment_goes(void **state)
{
    (void)state;
    fill_and_start_again();
    disk_settle_all(wr_buffer_take(disk.buf), WEIR_DELIVERED);
    chance.on_unlink = look_at_cursor;
    disk_turn();
    assert_null(chance.on_unlink);
    disk_close();
}

static void look_at_the_cursors_file(void)
{
    assert_true(chance.cursor_is_synced);
}

/* A run that was killed leaves a cursor that only the cache has. */
static void a_start_makes_the_cursor_durable_before_a_segment_goes(void **state)
{
    (void)state;
    disk_open();
    uint64_t n = disk_fill();
    disk_close();
    int dir = open(disk.path, O_RDONLY | O_DIRECTORY);
    int fd = wr_cursor_open(dir);
    assert_true(wr_cursor_store(fd, &(struct wr_cursor){.seq = n / 2}, 0));
    close(fd);
    close(dir);
    chance.cursor_is_synced = false;
    chance.on_unlink = look_at_the_cursors_file;
    disk_open();
    assert_null(chance.on_unlink);
    assert_int_equal(disk_deliver_all(n / 2), n - n / 2);
    assert_int_equal(disk.discarded[1], 0);
    disk_close();
}

/* ---- Acks that come home while the outlet looks ---- */

static pthread_t thread;
static bool has_ended;

static void *room_and_a_turn(void *arg)
{
    (void)arg;
    chance.window_is_full = false;
    (void)wr_disk_step(disk.buf, disk.now);
    return NULL;
}

/* The thread comes in between where it can; else it comes afterwards. */
static void begin_turn(void)
{
    struct timespec until;
    assert_int_equal(pthread_create(&thread, NULL, room_and_a_turn, NULL), 0);
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 1;
    has_ended = pthread_timedjoin_np(thread, NULL, &until) == 0;
}

static void room_in_the_window_is_told(void **state)
{
    (void)state;
    disk_open();
    (void)disk_push_events(5);
    disk_turn();
    disk.n_filled = 0;
    chance.window_is_full = true;
    chance.on_unlock = begin_turn;
    assert_null(wr_buffer_take(disk.buf));
    if (!has_ended)
        assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(disk.n_filled, 1);
    assert_int_equal(disk_deliver_all(0), 5);
    disk_close();
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(without_room_for_a_segment_the_newest_go),
        TEST(without_room_for_a_segment_the_oldest_go),
        TEST(beside_what_is_under_way_the_oldest_go_up_to_the_last),
        TEST(what_would_make_no_room_is_not_dropped),
        TEST(over_the_size_the_newest_stay_beside_what_is_under_way),
        TEST(what_is_missing_is_counted),
        TEST(what_was_dropped_does_not_count_as_lost),
        TEST(what_is_dropped_before_it_is_opened_counts_once),
        TEST(what_is_dropped_while_it_is_read_takes_no_room),
        TEST(what_was_read_and_is_deleted_takes_no_room),
        TEST(the_cursor_is_durable_before_a_segment_goes),
        TEST(a_start_makes_the_cursor_durable_before_a_segment_goes),
        TEST(room_in_the_window_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
