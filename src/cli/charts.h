/* The subcommands of `chamberlain charts`; `argv[0]` is the last word. Each returns the exit code. */
#ifndef CHAMBERLAIN_CLI_CHARTS_H
#define CHAMBERLAIN_CLI_CHARTS_H

int charts_check(int argc, char **argv);
int charts_list(int argc, char **argv);
int charts_show(int argc, char **argv);
int charts_use(int argc, char **argv);
int charts_learn(int argc, char **argv);

#endif
