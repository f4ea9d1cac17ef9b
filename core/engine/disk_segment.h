/* SPDX-License-Identifier: Apache-2.0
 *
 * engine/disk_segment.h: the files that hold the records, one after the other.
 *
 *   0  magic "WEIRSEGM"   8  format    12  CRC-32C of those
 *  16  number            24  seq of its first record   32  when it was made   40  0   44  CRC of 16 to 43
 *  48  records
 *
 * Bytes 0 to 15 stay as they are in every format to come. A segment ends where the next one begins: what
 * it has of records from there on was not durable, and was written again.
 */
#ifndef WR_ENGINE_DISK_SEGMENT_H
#define WR_ENGINE_DISK_SEGMENT_H

#include <engine/disk_file.h>
#include <engine/disk_record.h>

#define WR_SEGMENT_HEAD 48

struct wr_disk_segment {
    struct wr_disk_segment *next;
    uint64_t number;
    uint32_t marker;
    uint64_t first_seq;
    int64_t bytes; /* of its file that count: the header and whole, durable records */
    bool keep;     /* it has damage that could not be set aside: renamed where others are deleted */
};

void wr_segment_name(char out[WR_DISK_NAME], const struct wr_disk_segment *seg);
/* The segments of the folder by number, with number, marker and size. False with errno. */
bool wr_segments_list(int dir, struct wr_disk_segment **ret_first);
void wr_segments_free(struct wr_disk_segment *take_first);

/* Makes its file with a header. A descriptor, or -1 with errno and no file. */
int wr_segment_create(int dir, const struct wr_disk_segment *seg, int64_t wall_ns);
/* To read, or -1 with errno. */
int wr_segment_open(int dir, const struct wr_disk_segment *seg);
/* It has damage that cannot be copied: its bytes stay. They get a second name damaged-... at once, where the
 * file system has such, so that a later run does not delete them. */
void wr_segment_keep(int dir, struct wr_disk_segment *seg);
/* Deletes it, or renames it where it is kept. False with errno. */
bool wr_segment_remove(int dir, const struct wr_disk_segment *seg);
/* Out of the way as a whole: to a name damaged-.... False with errno. */
bool wr_segment_set_aside(int dir, const struct wr_disk_segment *seg);

enum wr_head_state { WR_HEAD_OK, WR_HEAD_BAD, WR_HEAD_OTHER };
/* OK: first_seq is filled in. OTHER: *ret_format is not ours. */
enum wr_head_state wr_segment_head(int fd, struct wr_disk_segment *io_seg, uint32_t *ret_format);

/* ---- Walking over records ---- */

struct wr_scan {
    int fd;
    uint32_t marker;
    int64_t at;     /* of the next record */
    int64_t end;    /* of the bytes that count */
    uint64_t seq;   /* the next record has this, or more behind damage */
    uint64_t limit; /* and less than this */
    uint8_t *window; /* bytes of the file from window_at on */
    size_t window_len, window_cap;
    int64_t window_at;
    bool unreadable; /* blocks were met that the disk cannot give */
    bool failed;     /* the file cannot be read at all, or memory is used up: errno says */
};

/* A place where there are no records, though there should be. */
struct wr_damage {
    int64_t from, to;
    bool torn; /* nothing whole follows, and it looks like a write that was cut short */
};

enum wr_scan_state { WR_SCAN_RECORD, WR_SCAN_END, WR_SCAN_MORE, WR_SCAN_DAMAGE, WR_SCAN_FAILED };

/* The record at `at`, if it is in the window. MORE: *ret_need bytes of the file from `at` on are needed there. */
enum wr_scan_state wr_scan_look(struct wr_scan *s, struct wr_record *ret, size_t *ret_need);
/* Behind DAMAGE: goes on to the next whole record, or to the end. */
bool wr_scan_resync(struct wr_scan *s, struct wr_damage *ret);
/* Both, with a window of its own, which wr_scan_done frees. Never MORE. */
enum wr_scan_state wr_scan_next(struct wr_scan *s, struct wr_record *ret, struct wr_damage *ret_damage);
void wr_scan_done(struct wr_scan *s);

/* Copies these bytes of a segment into a file beside it, durably. False with errno. */
bool wr_damage_save(int dir, const struct wr_disk_segment *seg, const struct wr_damage *damage);

#endif
