/* What every subcommand shares: options by table, --help made from the same table, errors that say what to
 * do.
 *
 * Exit codes: 0 done; 1 it failed (or verify found a difference); 2 the command line is wrong. */
#ifndef CHAMBERLAIN_CLI_COMMAND_H
#define CHAMBERLAIN_CLI_COMMAND_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { EXIT_FAILED = 1, EXIT_USAGE = 2 };

enum command_option_kind {
    OPTION_FLAG,     /* bool */
    OPTION_TEXT,     /* const char * */
    OPTION_INTEGER,  /* int64_t, not negative */
    OPTION_DURATION, /* int64_t microseconds: "500ms", "30s", "10min", "2h", "3d" */
    OPTION_FRACTION  /* double: "1%" or "0.01" */
};

struct command_option {
    const char *name; /* without the dashes */
    enum command_option_kind kind;
    void *target;      /* set when the option is given; what it held before is the default */
    const char *value; /* what stands for the value in --help: "DIR"; NULL for flags */
    const char *help;  /* one line; the default belongs into it */
};

struct command {
    const char *name;                  /* "status" or "charts learn" */
    const char *operands;              /* "PATH..." or "" */
    const char *summary;               /* what it does, one or a few lines */
    const char *examples;              /* whole lines */
    size_t min_operands, max_operands; /* max 0: none */
};

#define COMMAND_OPERANDS_ANY ((size_t)-1)

enum command_next { COMMAND_RUN, COMMAND_HELP, COMMAND_WRONG };

/* Reads argv (argv[0] is the command's last word). Operands are moved to the front: argv[1..*operand_count].
 * On COMMAND_HELP the help was printed, on COMMAND_WRONG the mistake: return 0 or EXIT_USAGE. */
enum command_next command_parse(const struct command *command, const struct command_option *options,
                                size_t option_count, int argc, char **argv, size_t *operand_count);

/* Prints "chamberlain NAME: message" on standard error and returns EXIT_FAILED. */
int command_failed(const struct command *command, const struct error *error);

/* Parses a duration as OPTION_DURATION does. False when it is none. */
bool command_parse_duration(const char *text, int64_t *us);

/* Every subcommand: `argv[0]` is its last word. Each returns the exit code. */
int cli_up(int argc, char **argv);
int cli_collect(int argc, char **argv);
int cli_defend(int argc, char **argv);
int cli_import(int argc, char **argv);
int cli_simulate(int argc, char **argv);
int cli_wait(int argc, char **argv);
int cli_status(int argc, char **argv);
int cli_charts(int argc, char **argv);
int cli_alarms(int argc, char **argv);
int cli_notify(int argc, char **argv);
int cli_assignments(int argc, char **argv);
int cli_context(int argc, char **argv);
int cli_replay(int argc, char **argv);
int cli_verify(int argc, char **argv);
int cli_evaluate(int argc, char **argv);
int cli_store(int argc, char **argv);
int cli_web(int argc, char **argv);

#endif
