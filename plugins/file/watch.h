/* SPDX-License-Identifier: Apache-2.0
 *
 * inotify: says at once what a look round every `poll_interval` would find later. Whatever it
 * cannot do (no watches left, a network's file system) costs that delay and nothing else.
 */
#ifndef WATCH_H
#define WATCH_H

#include <stdbool.h>

/* A descriptor to poll for reading, or -1. */
int watch_open(void);
/* The number that watch_read gives for it, or -1. A folder: what comes and goes in it. */
int watch_folder(int fd, const char *path);
/* An open file: what is written to it. */
int watch_file(int fd, int file_fd);
void watch_forget(int fd, int wd);
/* Calls seen() for everything that happened, with -1 where something was lost. */
void watch_read(int fd, void (*seen)(void *arg, int wd), void *arg);

#endif
