/* SPDX-License-Identifier: Apache-2.0
 *
 * app/main.c: the program: a table of commands.
 */
#include <app/commands.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

static const struct wr_command *const commands[] = {
    &wr_command_run,
    &wr_command_check,
    &wr_command_plugins,
    &wr_command_replay,
    &wr_command_buffer,
};

/* A closed standard descriptor is taken, or the next open() would get its number and events would go
 * into it. It is opened the wrong way round, so that its use fails. */
static void hold_standard_descriptors(void)
{
    for (int fd = 0; fd <= 2; fd++) {
        if (fcntl(fd, F_GETFD) < 0 && errno == EBADF)
            (void)open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY);
    }
}

/* libmongoc makes shared memory for counters as it is loaded, under the process's id, before a plugin can
 * say a word. Where a killed process of that id left its own, it complains on standard error, between the
 * lines of the log. Nobody reads those counters. */
static void quiet_libraries(void)
{
    (void)setenv("MONGOC_DISABLE_SHM", "1", 0);
}

int main(int argc, char **argv)
{
    hold_standard_descriptors();
    quiet_libraries();
    return wr_cli_main(commands, sizeof(commands) / sizeof(commands[0]), argc, argv);
}
