/* SPDX-License-Identifier: Apache-2.0
 *
 * engine/disk_file.h: the folder of a disk buffer and plain work with its files.
 *
 *   lock                               held by the process that uses the folder, with its number in it
 *   cursor                             how far all has ended; see struct wr_cursor
 *   000000000012-5f3a09c1.segment      records; the number counts up, the rest is the segment's marker
 *   damaged-000000000012-5f3a09c1-4096 bytes of segment 12 from 4096 on that are no records, set aside
 *   damaged-...-whole                  a whole segment: of bytes that could not be copied, or without records
 */
#ifndef WR_ENGINE_DISK_FILE_H
#define WR_ENGINE_DISK_FILE_H

#include <base/clock.h>
#include <sys/types.h>
#include <weir/base.h>

#define WR_DISK_NAME 64
/* Of all that is in the folder: goes up with each change of a segment's, a record's or the cursor's form. Segments
 * say it, and a weir that knows another one leaves the folder alone. */
#define WR_DISK_FORMAT 2u

/* Makes the folder and those above it that are missing, durably. */
bool wr_disk_folder_make(const char *path, struct weir_error *err);
/* Takes the lock: a descriptor, or -1 where another has it. */
int wr_disk_lock(int dir, const char *path, struct wr_clock *clock, struct weir_error *err);
/* The process that has the lock, 0: nobody. */
int64_t wr_disk_locked_by(int dir);

/* All of it, at that place; false with errno. */
bool wr_disk_write(int fd, const void *data, size_t len, int64_t at);
/* As much as there is, up to len; -1 with errno where nothing can be read. Blocks that the disk cannot
 * give are zeros; *ret_bad says that there were some. */
ssize_t wr_disk_read(int fd, void *to, size_t len, int64_t at, bool *ret_bad);

/* In the file: 0 magic "WRCURSOR", 8 seq, 16 dropped_from, 24 dropped_to, 32 CRC-32C of those, which starts from the
 * format: a cursor of another one is none. */
struct wr_cursor {
    uint64_t seq; /* all before it has ended */
    uint64_t dropped_from, dropped_to; /* were dropped on purpose, and counted: no loss where they are missing */
};

/* How far all has ended, as it was kept last; *ret_found is false where nothing that can be believed is
 * there. False with errno: it may be there, and cannot be opened. */
bool wr_cursor_load(int dir, bool *ret_found, struct wr_cursor *ret);
/* Opens it for wr_cursor_store, with its room on the disk. -1 with errno. */
int wr_cursor_open(int dir);
/* Two places take turns, each with its checksum: what is half written is no loss. */
bool wr_cursor_store(int fd, const struct wr_cursor *cursor, uint64_t turn);

#endif
