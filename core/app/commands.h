/* SPDX-License-Identifier: Apache-2.0
 *
 * app/commands.h: the commands, one file each.
 */
#ifndef WR_APP_COMMANDS_H
#define WR_APP_COMMANDS_H

#include <app/cli.h>

extern const struct wr_command wr_command_run;
extern const struct wr_command wr_command_check;
extern const struct wr_command wr_command_plugins;
extern const struct wr_command wr_command_replay;
extern const struct wr_command wr_command_buffer;

#endif
