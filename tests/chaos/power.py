# SPDX-License-Identifier: Apache-2.0
"""A power cut: of files whose process was killed, all that it had not synced is taken away. power_cut.c has
noted what it had. Whatever was written in place within that stays, as a disk may have got it by itself."""
import os
import shutil


class Notes:
    """sizes: {inode: bytes that were synced}; named: inodes whose names were."""

    def __init__(self, path):
        self._path, self.sizes, self.named = path, {}, set()
        for line in path.read_text().splitlines() if path.exists() else []:
            what, inode, size = line.split()
            self._take(what, int(inode), int(size))

    def _take(self, what, inode, size):
        if what == "synced":
            self.sizes[inode] = size
        elif what == "cut" and inode in self.sizes:
            self.sizes[inode] = min(size, self.sizes[inode])
        elif what == "named":
            self.named.add(inode)
        elif what == "gone":
            self.sizes.pop(inode, None)
            self.named.discard(inode)

    def forget(self, inodes):
        """They are deleted, and their numbers may be given again."""
        with self._path.open("a") as file:
            file.write("".join(f"gone {inode} 0\n" for inode in inodes))


def cut(paths, notes_path):
    """Files, and folders with all that is in them. Gives the bytes that were taken away."""
    notes, taken, deleted = Notes(notes_path), 0, []
    for path in (each for top in paths for each in (top, *sorted(top.rglob("*")))):
        if not path.exists():
            continue  # with its folder
        stat = path.stat()
        if stat.st_ino not in notes.named:
            inside = [each.stat() for each in path.rglob("*")]
            deleted += [stat.st_ino, *(each.st_ino for each in inside)]
            taken += sum(each.st_size for each in (stat, *inside))
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        elif path.is_file():
            kept = min(stat.st_size, notes.sizes.get(stat.st_ino, 0))
            taken += stat.st_size - kept
            os.truncate(path, kept)
    notes.forget(deleted)
    return taken
