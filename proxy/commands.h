// The subcommands of the program. Each gets its own name as argv[0] and returns an exit code of sysexits.h.
#ifndef SJ_COMMANDS_H
#define SJ_COMMANDS_H

int sj_cmd_serve(int argc, char **argv);
int sj_cmd_demo(int argc, char **argv);
int sj_cmd_mock(int argc, char **argv);
int sj_cmd_check(int argc, char **argv);
int sj_cmd_health(int argc, char **argv);
int sj_cmd_config(int argc, char **argv);

#endif
