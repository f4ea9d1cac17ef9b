/* SPDX-License-Identifier: Apache-2.0
 *
 * Segments, recovery, lock and cursor, on files that the test writes and spoils by hand.
 */
#include "disk_rig.h"

#include <base/crc32c.h>
#include <errno.h>
#include <sys/file.h>

static struct weir_arena arena;
static int dir;
static struct {
    ino_t ino;
    off_t from, to;
} bad; /* bytes of a file that its disk cannot give */
static bool no_memory; /* for what is no window */

ssize_t __real_pread(int fd, void *p, size_t len, off_t at);
ssize_t __wrap_pread(int fd, void *p, size_t len, off_t at);
void *__real_wr_alloc_raw(size_t size);
void *__wrap_wr_alloc_raw(size_t size);

ssize_t __wrap_pread(int fd, void *p, size_t len, off_t at)
{
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    if (st.st_ino == bad.ino && at < bad.to && at + (off_t)len > bad.from) {
        if (at >= bad.from) {
            errno = EIO;
            return -1;
        }
        len = (size_t)(bad.from - at);
    }
    return __real_pread(fd, p, len, at);
}

void *__wrap_wr_alloc_raw(size_t size)
{
    return no_memory && size < 100000 ? NULL : __real_wr_alloc_raw(size);
}

static int begin(void **state)
{
    (void)state;
    disk_rig_init(1, 1 << 20);
    disk.next = 1000;
    memset(&bad, 0, sizeof(bad));
    no_memory = false;
    dir = open(disk.path, O_RDONLY | O_DIRECTORY);
    return dir < 0;
}

static int end(void **state)
{
    (void)state;
    close(dir);
    wr_arena_done(&arena);
    disk_rig_done();
    return 0;
}

/* Segment `number` with events [from, to), whose seq is their number. Gives where each record begins. */
static struct wr_disk_segment make_segment(uint64_t number, uint64_t from, uint64_t to, int64_t *ret_at)
{
    struct wr_disk_segment seg = {.number = number, .marker = 0x1234500u + (uint32_t)number,
                                  .first_seq = from, .bytes = WR_SEGMENT_HEAD};
    int fd = wr_segment_create(dir, &seg, 1);
    assert_true(fd >= 0);
    for (uint64_t i = from; i < to; i++) {
        struct weir_event ev = event_of(i, &arena);
        size_t size = wr_record_size(&ev, true);
        uint8_t *bytes = wr_arena_alloc(&arena, size);
        assert_int_equal(wr_record_write(bytes, &ev, true, seg.marker, i, 5), size);
        assert_true(wr_disk_write(fd, bytes, size, seg.bytes));
        if (ret_at != NULL)
            ret_at[i - from] = seg.bytes;
        seg.bytes += (int64_t)size;
    }
    close(fd);
    return seg;
}

static void spoil(const struct wr_disk_segment *seg, int64_t at, const void *bytes, size_t len)
{
    char name[WR_DISK_NAME];
    wr_segment_name(name, seg);
    int fd = openat(dir, name, O_WRONLY);
    assert_true(wr_disk_write(fd, bytes, len, at));
    close(fd);
}

static void cut(const struct wr_disk_segment *seg, int64_t len)
{
    char name[DISK_PATH], file[WR_DISK_NAME];
    wr_segment_name(file, seg);
    assert_int_equal(truncate(disk_join(name, disk.path, file), len), 0);
}

static void make_unreadable(const struct wr_disk_segment *seg, off_t from)
{
    char name[WR_DISK_NAME];
    struct stat st;
    wr_segment_name(name, seg);
    assert_int_equal(fstatat(dir, name, &st, 0), 0);
    bad.ino = st.st_ino;
    bad.from = from;
    bad.to = st.st_size;
}

static int64_t size_of(const char *word)
{
    char name[300];
    struct stat st;
    assert_int_equal(disk_files(word, name), 1);
    assert_int_equal(fstatat(dir, name, &st, 0), 0);
    return st.st_size;
}

static void set_cursor(uint64_t seq)
{
    struct wr_cursor cursor = {.seq = seq};
    int fd = wr_cursor_open(dir);
    assert_true(fd >= 0 && wr_cursor_store(fd, &cursor, seq));
    close(fd);
}

static struct {
    uint32_t n[5];
    int64_t offset, bytes;
    bool saved;
} found;

static void find(void *arg, const struct wr_find *f)
{
    (void)arg;
    found.n[f->kind]++;
    found.offset = f->offset;
    found.bytes = f->bytes;
    found.saved = f->saved;
}

static struct wr_disk_state recover(void)
{
    struct wr_disk_state s;
    struct weir_error err = {0};
    memset(&found, 0, sizeof(found));
    if (!wr_disk_recover(dir, disk.path, &s, find, NULL, &err))
        fail_msg("%s", err.text);
    return s;
}

/* Records of the whole folder from the cursor on. */
static uint64_t all_records(const struct wr_disk_state *s)
{
    uint64_t n = 0;
    struct weir_error err = {0};
    if (!wr_disk_look_through(dir, s, &n, find, NULL, &err))
        fail_msg("%s", err.text);
    return n;
}

/* ---- Scanning ---- */

static void a_scan_gives_every_record(void **state)
{
    (void)state;
    struct wr_disk_segment seg = make_segment(3, 100, 400, NULL);
    uint32_t format;
    int fd = wr_segment_open(dir, &seg);
    struct wr_disk_segment again = {.number = seg.number, .marker = seg.marker};
    assert_int_equal(wr_segment_head(fd, &again, &format), WR_HEAD_OK);
    assert_int_equal(again.first_seq, 100);
    struct wr_scan scan = {.fd = fd, .marker = seg.marker, .at = WR_SEGMENT_HEAD, .end = seg.bytes,
                           .seq = 100, .limit = 390};
    struct wr_record r;
    struct wr_damage damage;
    uint64_t next = 100;
    while (wr_scan_next(&scan, &r, &damage) == WR_SCAN_RECORD) {
        struct weir_event ev;
        assert_int_equal(r.seq, next);
        assert_true(wr_record_event(&r, &arena, NULL, &ev));
        assert_int_equal(check_event(&ev), next++);
    }
    assert_int_equal(next, 390); /* the rest belongs to the next segment */
    wr_scan_done(&scan);
    close(fd);
}

static void behind_damage_the_next_whole_record_is_found(void **state)
{
    (void)state;
    int64_t at[50];
    struct wr_disk_segment seg = make_segment(0, 0, 50, at);
    spoil(&seg, at[10] + 20, "spoilt", 6);
    spoil(&seg, at[11] + 4, "\xff\xff\xff\x7f", 4); /* a length beyond everything */
    set_cursor(0);
    struct wr_disk_state s = recover();
    assert_int_equal(s.next_seq, 50);
    assert_int_equal(all_records(&s), 48);
    assert_int_equal(found.n[WR_FIND_DAMAGED], 1);
    assert_int_equal(found.offset, at[10]);
    assert_int_equal(found.bytes, at[12] - at[10]);
    assert_true(found.saved);
    char name[300], path[DISK_PATH];
    struct stat st;
    assert_int_equal(disk_files("damaged-", name), 1);
    assert_int_equal(stat(disk_join(path, disk.path, name), &st), 0);
    assert_int_equal(st.st_size, at[12] - at[10]);
    wr_segments_free(s.first);
}

/* Nobody knows what stands behind the damage then. */
static void without_memory_nothing_is_taken_for_damage(void **state)
{
    (void)state;
    int64_t at[50];
    struct wr_disk_segment seg = make_segment(0, 0, 50, at);
    struct wr_disk_state s;
    struct weir_error err = {0};
    spoil(&seg, at[10] + 20, "spoilt", 6);
    set_cursor(0);
    no_memory = true;
    assert_false(wr_disk_recover(dir, disk.path, &s, find, NULL, &err));
    assert_non_null(strstr(err.text, strerror(ENOMEM)));
    assert_int_equal(size_of("0000"), seg.bytes);
    no_memory = false;
    s = recover();
    assert_int_equal(all_records(&s), 49);
    wr_segments_free(s.first);
}

/* A payload with a whole record in it: what it is marked with is not known to those who send events. */
static void a_record_within_a_payload_is_no_record(void **state)
{
    (void)state;
    struct weir_event inner = event_of(7, &arena), outer = {.id = weir_cstr("x")};
    size_t size = wr_record_size(&inner, true);
    uint8_t *bytes = wr_arena_alloc(&arena, size);
    assert_int_equal(wr_record_write(bytes, &inner, true, 0xabcd, 2, 5), size);
    outer.payload = weir_str_n((const char *)bytes, size);
    struct wr_disk_segment seg = {.marker = 0x77777, .bytes = WR_SEGMENT_HEAD};
    int fd = wr_segment_create(dir, &seg, 1);
    size_t outer_size = wr_record_size(&outer, true);
    uint8_t *record = wr_arena_alloc(&arena, outer_size);
    assert_int_equal(wr_record_write(record, &outer, true, seg.marker, 0, 5), outer_size);
    record[20] ^= 1;
    assert_true(wr_disk_write(fd, record, outer_size, WR_SEGMENT_HEAD));
    close(fd);
    set_cursor(0);
    struct wr_disk_state s = recover();
    assert_int_equal(s.next_seq, 0);
    assert_int_equal(found.n[WR_FIND_DAMAGED], 1);
    wr_segments_free(s.first);
}

/* ---- Tails ---- */

static void a_torn_tail_is_cut_at_every_byte(void **state)
{
    (void)state;
    int64_t at[3];
    struct wr_disk_segment seg = make_segment(0, 0, 3, at);
    set_cursor(0);
    for (int64_t len = seg.bytes - 1; len > at[2]; len -= 1 + len % 3) {
        cut(&seg, len);
        struct wr_disk_state s = recover();
        assert_int_equal(s.next_seq, 2);
        assert_int_equal(found.n[WR_FIND_TORN], 1);
        assert_int_equal(found.n[WR_FIND_DAMAGED], 0);
        assert_int_equal(s.first->bytes, at[2]);
        wr_segments_free(s.first);
        s = recover(); /* it is gone */
        assert_int_equal(found.n[WR_FIND_TORN], 0);
        wr_segments_free(s.first);
        unlinkat(dir, "000000000000-01234500.segment", 0);
        seg = make_segment(0, 0, 3, at);
    }
}

static void room_that_was_never_written_is_a_torn_tail(void **state)
{
    (void)state;
    static const uint8_t zeros[9000];
    struct wr_disk_segment seg = make_segment(0, 0, 3, NULL);
    spoil(&seg, seg.bytes, zeros, sizeof(zeros));
    set_cursor(0);
    struct wr_disk_state s = recover();
    assert_int_equal(s.next_seq, 3);
    assert_int_equal(found.n[WR_FIND_TORN], 1);
    assert_int_equal(found.bytes, sizeof(zeros));
    assert_int_equal(disk_files("damaged-", NULL), 0);
    wr_segments_free(s.first);
}

static void a_damaged_tail_is_kept_beside(void **state)
{
    (void)state;
    int64_t at[5];
    struct wr_disk_segment seg = make_segment(0, 0, 5, at);
    spoil(&seg, at[4] + 30, "x", 1);
    set_cursor(0);
    struct wr_disk_state s = recover();
    assert_int_equal(s.next_seq, 4);
    assert_int_equal(found.n[WR_FIND_DAMAGED], 1);
    assert_int_equal(found.bytes, seg.bytes - at[4]);
    assert_int_equal(disk_files("damaged-", NULL), 1);
    assert_int_equal(s.first->bytes, at[4]);
    wr_segments_free(s.first);
}

/* What the disk cannot give now may be whole: it stays, also when what follows has long ended. */
static void an_unreadable_tail_is_neither_cut_nor_deleted(void **state)
{
    (void)state;
    struct wr_disk_segment seg = make_segment(0, 0, 50, NULL);
    make_unreadable(&seg, 8192);
    set_cursor(0);
    struct wr_disk_state s = recover();
    uint64_t next = s.next_seq;
    assert_true(next > 0 && next < 50);
    assert_int_equal(found.n[WR_FIND_TORN], 0);
    assert_int_equal(found.n[WR_FIND_DAMAGED], 1);
    assert_false(found.saved);
    assert_int_equal(size_of("0000"), seg.bytes);
    wr_segments_free(s.first);
    (void)make_segment(1, next, next + 5, NULL);
    set_cursor(next);
    s = recover(); /* of another run, which has not seen it */
    assert_int_equal(s.n_removed, 1);
    assert_int_equal(disk_files("000000000000", NULL), 0);
    assert_int_equal(size_of("damaged-"), seg.bytes);
    wr_segments_free(s.first);
}

/* ---- Headers ---- */

static void records_behind_a_damaged_header_are_read(void **state)
{
    (void)state;
    struct wr_disk_segment a = make_segment(0, 0, 10, NULL), b = make_segment(1, 10, 30, NULL);
    (void)a;
    spoil(&b, 0, "garbage garbage garbage", 23);
    set_cursor(3);
    struct wr_disk_state s = recover();
    assert_int_equal(found.n[WR_FIND_NO_HEADER], 1);
    assert_int_equal(s.cursor, 3);
    assert_int_equal(s.next_seq, 30);
    assert_int_equal(all_records(&s), 27);
    wr_segments_free(s.first);
}

static void a_file_without_any_record_is_out_of_the_way(void **state)
{
    (void)state;
    struct wr_disk_segment a = make_segment(0, 0, 10, NULL), b = make_segment(1, 10, 10, NULL);
    (void)a;
    uint8_t noise[700];
    for (size_t i = 0; i < sizeof(noise); i++)
        noise[i] = (uint8_t)(i * 31 + 7);
    spoil(&b, 0, noise, sizeof(noise));
    set_cursor(0);
    struct wr_disk_state s = recover();
    assert_int_equal(found.n[WR_FIND_NO_SEGMENT], 1);
    assert_int_equal(s.next_seq, 10);
    assert_int_equal(s.next_number, 2);
    assert_int_equal(disk_files("damaged-", NULL), 1);
    wr_segments_free(s.first);
}

static void a_segment_that_cannot_be_read_is_not_deleted(void **state)
{
    (void)state;
    (void)make_segment(0, 0, 10, NULL);
    struct wr_disk_segment b = make_segment(1, 10, 20, NULL);
    make_unreadable(&b, 0);
    set_cursor(0);
    struct wr_disk_state s = recover();
    assert_int_equal(found.n[WR_FIND_TORN], 0);
    assert_int_equal(found.n[WR_FIND_NO_SEGMENT], 1);
    assert_int_equal(s.next_seq, 10);
    assert_int_equal(size_of("damaged-"), b.bytes);
    wr_segments_free(s.first);
}

static void a_file_that_was_only_begun_is_deleted(void **state)
{
    (void)state;
    struct wr_disk_segment a = make_segment(0, 0, 10, NULL), b = make_segment(1, 10, 10, NULL);
    (void)a;
    cut(&b, 0);
    set_cursor(0);
    struct wr_disk_state s = recover();
    assert_int_equal(found.n[WR_FIND_TORN], 1);
    assert_int_equal(s.next_seq, 10);
    assert_int_equal(disk_files("0000", NULL), 1);
    wr_segments_free(s.first);
}

static void another_format_is_an_error_that_says_so(void **state)
{
    (void)state;
    struct wr_disk_segment seg = make_segment(0, 0, 3, NULL);
    uint8_t head[16];
    int fd = wr_segment_open(dir, &seg);
    assert_int_equal(pread(fd, head, 16, 0), 16);
    close(fd);
    assert_int_equal(wr_get32(head + 8), 2);
    for (uint32_t format = 1; format <= 3; format += 2) { /* an older one, and one to come */
        struct wr_disk_state s;
        struct weir_error err = {0};
        char said[32];
        wr_put32(head + 8, format);
        wr_put32(head + 12, wr_crc32c(0, head, 12));
        spoil(&seg, 0, head, 16);
        assert_false(wr_disk_recover(dir, disk.path, &s, NULL, NULL, &err));
        assert_string_equal(err.code, "other_format");
        snprintf(said, sizeof(said), "in format %u by", format);
        assert_non_null(strstr(err.text, said));
        assert_non_null(strstr(err.text, "knows format 2"));
        assert_non_null(strstr(err.text, disk.path));
        assert_int_equal(disk_files("0000", NULL), 1); /* nothing was touched */
    }
}

/* Records that were not durable, and were written again into the next segment. */
static void a_segment_ends_where_the_next_one_begins(void **state)
{
    (void)state;
    (void)make_segment(0, 0, 10, NULL);
    (void)make_segment(1, 6, 20, NULL);
    set_cursor(0);
    struct wr_disk_state s = recover();
    assert_int_equal(all_records(&s), 20);
    assert_int_equal(found.n[WR_FIND_DAMAGED], 0);
    wr_segments_free(s.first);
}

/* ---- Cursor and lock ---- */

static void segments_behind_the_cursor_go(void **state)
{
    (void)state;
    (void)make_segment(0, 0, 10, NULL);
    (void)make_segment(1, 10, 20, NULL);
    struct wr_disk_segment last = make_segment(2, 20, 30, NULL);
    set_cursor(25);
    struct wr_disk_state s = recover();
    assert_int_equal(s.n_removed, 2);
    assert_int_equal(s.first->number, 2);
    assert_int_equal(all_records(&s), 5);
    wr_segments_free(s.first);
    set_cursor(30);
    s = recover();
    assert_null(s.first);
    assert_int_equal(s.next_seq, 30);
    assert_int_equal(disk_files("0000", NULL), 0);
    (void)last;
}

static void without_a_cursor_all_is_given_again(void **state)
{
    (void)state;
    (void)make_segment(4, 40, 60, NULL);
    struct wr_disk_state s = recover();
    assert_int_equal(found.n[WR_FIND_NO_CURSOR], 1);
    assert_int_equal(s.cursor, 40);
    assert_int_equal(all_records(&s), 20);
    wr_segments_free(s.first);
}

static void half_a_cursor_is_no_cursor(void **state)
{
    (void)state;
    struct wr_cursor c = {0};
    bool there;
    assert_true(wr_cursor_load(dir, &there, &c) && !there);
    int fd = wr_cursor_open(dir);
    assert_true(wr_cursor_load(dir, &there, &c) && !there);
    assert_true(wr_cursor_store(fd, &(struct wr_cursor){.seq = 7}, 0) &&
                wr_cursor_store(fd, &(struct wr_cursor){.seq = 9}, 1));
    assert_true(wr_cursor_load(dir, &there, &c) && there);
    assert_int_equal(c.seq, 9);
    assert_true(wr_disk_write(fd, "\xff", 1, 4096 + 9)); /* the newer one is torn */
    assert_true(wr_cursor_load(dir, &there, &c) && there);
    assert_int_equal(c.seq, 7);
    close(fd);
}

/* Its checksum is right, but for the format. */
static void a_cursor_of_another_format_is_no_cursor(void **state)
{
    (void)state;
    uint8_t bytes[36];
    struct wr_cursor c = {0};
    bool there;
    int fd = wr_cursor_open(dir);
    assert_true(wr_cursor_store(fd, &(struct wr_cursor){.seq = 7}, 0));
    assert_int_equal(pread(fd, bytes, sizeof(bytes), 0), sizeof(bytes));
    assert_int_equal(wr_get32(bytes + 32), wr_crc32c(2, bytes, 32));
    wr_put32(bytes + 32, wr_crc32c(3, bytes, 32));
    assert_true(wr_disk_write(fd, bytes, sizeof(bytes), 0));
    assert_true(wr_cursor_load(dir, &there, &c) && !there);
    close(fd);
}

static void a_cursor_knows_what_was_dropped(void **state)
{
    (void)state;
    struct wr_cursor c = {0};
    bool there;
    int fd = wr_cursor_open(dir);
    assert_true(wr_cursor_store(fd, &(struct wr_cursor){7, 20, 40}, 0) &&
                wr_cursor_store(fd, &(struct wr_cursor){7, 20, 30}, 1));
    assert_true(wr_cursor_load(dir, &there, &c) && there);
    assert_true(c.seq == 7 && c.dropped_from == 20 && c.dropped_to == 40); /* the newer one */
    assert_true(wr_cursor_store(fd, &(struct wr_cursor){8, 40, 20}, 0));
    assert_true(wr_cursor_load(dir, &there, &c) && there);
    assert_int_equal(c.seq, 7); /* nobody writes such */
    close(fd);
}

/* The last segment was dropped, before another one was made. */
static void what_was_dropped_keeps_its_numbers(void **state)
{
    (void)state;
    (void)make_segment(0, 0, 20, NULL);
    int fd = wr_cursor_open(dir);
    assert_true(wr_cursor_store(fd, &(struct wr_cursor){5, 10, 40}, 0));
    struct wr_disk_state s = recover();
    assert_int_equal(s.cursor, 5);
    assert_int_equal(s.next_seq, 40);
    assert_int_equal(all_records(&s), 15);
    assert_true(wr_segment_remove(dir, s.first));
    wr_segments_free(s.first);
    s = recover();
    assert_null(s.first);
    assert_int_equal(s.next_seq, 40);
    assert_int_equal(s.cursor, 40); /* nothing is there to be given before it */
    close(fd);
}

static void a_cursor_that_cannot_be_opened_is_not_taken_for_none(void **state)
{
    (void)state;
    struct wr_cursor c;
    bool there;
    assert_int_equal(symlinkat("cursor", dir, "cursor"), 0);
    assert_false(wr_cursor_load(dir, &there, &c));
    assert_int_equal(errno, ELOOP);
}

static void damage_in_the_cursors_place_is_met_again(void **state)
{
    (void)state;
    int64_t at[20];
    struct wr_disk_segment seg = make_segment(0, 0, 20, at);
    spoil(&seg, at[8] + 20, "spoilt", 6);
    set_cursor(8);
    struct wr_disk_state s = recover();
    assert_int_equal(s.cursor_at, at[8]);
    assert_int_equal(all_records(&s), 11);
    assert_int_equal(found.n[WR_FIND_DAMAGED], 1);
    wr_segments_free(s.first);
}

static void a_folder_has_one_user(void **state)
{
    (void)state;
    struct weir_error err = {0};
    int lock = wr_disk_lock(dir, disk.path, &disk.clock, &err);
    int64_t began = disk.now;
    assert_true(lock >= 0);
    assert_int_equal(wr_disk_locked_by(dir), getpid());
    assert_int_equal(wr_disk_lock(dir, disk.path, &disk.clock, &err), -1);
    assert_int_equal(disk.now, began); /* there is nothing to wait for */
    assert_string_equal(err.code, "locked");
    assert_non_null(strstr(err.text, disk.path));
    close(lock);
    assert_int_equal(wr_disk_locked_by(dir), 0);
    lock = wr_disk_lock(dir, disk.path, &disk.clock, &err);
    assert_true(lock >= 0);
    close(lock);
}

static int looking; /* holds the lock as `weir buffer inspect` does for a moment */

static void look_no_more(struct wr_clock *c, pthread_cond_t *cond, pthread_mutex_t *held, int64_t until)
{
    disk_clock_wait(c, cond, held, until);
    close(looking);
}

static void who_only_looks_does_not_keep_others_out(void **state)
{
    (void)state;
    struct weir_error err = {0};
    struct wr_clock clock = disk.clock;
    clock.wait = look_no_more;
    looking = openat(dir, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(flock(looking, LOCK_SH | LOCK_NB), 0);
    int lock = wr_disk_lock(dir, disk.path, &clock, &err);
    if (lock < 0)
        fail_msg("%s", err.text);
    close(lock);
}

static void folders_are_made_with_those_above(void **state)
{
    (void)state;
    char path[DISK_PATH], file[DISK_PATH];
    struct weir_error err = {0};
    struct stat st;
    assert_true(wr_disk_folder_make(disk_join(path, disk.path, "a/b/c"), &err));
    assert_int_equal(stat(path, &st), 0);
    assert_true(S_ISDIR(st.st_mode));
    assert_true(wr_disk_folder_make(path, &err));
    FILE *f = fopen(disk_join(file, disk.path, "file"), "w");
    fclose(f);
    assert_false(wr_disk_folder_make(disk_join(path, disk.path, "file/x"), &err));
    assert_non_null(strstr(err.text, "file"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_scan_gives_every_record),
        TEST(behind_damage_the_next_whole_record_is_found),
        TEST(without_memory_nothing_is_taken_for_damage),
        TEST(a_record_within_a_payload_is_no_record),
        TEST(a_torn_tail_is_cut_at_every_byte),
        TEST(room_that_was_never_written_is_a_torn_tail),
        TEST(a_damaged_tail_is_kept_beside),
        TEST(an_unreadable_tail_is_neither_cut_nor_deleted),
        TEST(records_behind_a_damaged_header_are_read),
        TEST(a_file_without_any_record_is_out_of_the_way),
        TEST(a_segment_that_cannot_be_read_is_not_deleted),
        TEST(a_file_that_was_only_begun_is_deleted),
        TEST(another_format_is_an_error_that_says_so),
        TEST(a_segment_ends_where_the_next_one_begins),
        TEST(segments_behind_the_cursor_go),
        TEST(without_a_cursor_all_is_given_again),
        TEST(half_a_cursor_is_no_cursor),
        TEST(a_cursor_of_another_format_is_no_cursor),
        TEST(a_cursor_knows_what_was_dropped),
        TEST(what_was_dropped_keeps_its_numbers),
        TEST(a_cursor_that_cannot_be_opened_is_not_taken_for_none),
        TEST(damage_in_the_cursors_place_is_met_again),
        TEST(a_folder_has_one_user),
        TEST(who_only_looks_does_not_keep_others_out),
        TEST(folders_are_made_with_those_above),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
