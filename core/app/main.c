/* SPDX-License-Identifier: Apache-2.0
 *
 * app/main.c: the program: a table of commands.
 */
#include <app/commands.h>

static const struct wr_command *const commands[] = {
    &wr_command_run,
    &wr_command_check,
    &wr_command_plugins,
};

int main(int argc, char **argv)
{
    return wr_cli_main(commands, sizeof(commands) / sizeof(commands[0]), argc, argv);
}
