/* `chamberlain store`: makes a store that has to be made before it can be opened. */
#include "cli/command.h"
#include "cli/options.h"

#include "store/cassandra_init.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct command init_command = {
    .name = "store init",
    .operands = "",
    .summary = "Creates the keyspace and the tables of a Cassandra store, or brings older ones up to date. "
               "Doing it again\n"
               "changes nothing. A SQLite store needs no such step.",
    .examples =
        "  chamberlain store init --store cassandra:10.0.0.1,10.0.0.2/chamberlain --replication dc1=3,dc2=3\n"
        "  chamberlain store init --store cassandra:127.0.0.1/chamberlain --replication 1",
};

static int run_init(int argc, char **argv)
{
    static const char scheme[] = "cassandra:";
    const char *store = getenv("CHAMBERLAIN_STORE"), *replication = "3";
    const struct command_option options[] = {
        {"store", OPTION_TEXT, &store, "URL", "cassandra:HOST,HOST[:PORT]/KEYSPACE (or CHAMBERLAIN_STORE)"},
        {"replication", OPTION_TEXT, &replication, "COPIES",
         "of a new keyspace, in every datacentre (3), or of each: dc1=3,dc2=3 (default 3)"},
    };
    size_t operands;
    switch (command_parse(&init_command, options, sizeof options / sizeof *options, argc, argv, &operands)) {
    case COMMAND_HELP:
        return 0;
    case COMMAND_WRONG:
        return EXIT_USAGE;
    case COMMAND_RUN:
        break;
    }
    if (store == NULL || strncmp(store, scheme, sizeof scheme - 1) != 0) {
        fprintf(stderr, "chamberlain store init: give --store cassandra:HOST,HOST[:PORT]/KEYSPACE\n");
        return EXIT_USAGE;
    }
    struct cassandra_init_result result;
    struct error err;
    if (cassandra_init(store + sizeof scheme - 1, replication, &result, &err))
        return command_failed(&init_command, &err);
    if (result.version_before == result.version_now)
        printf("%s: nothing to do, the tables are of version %d\n", store, result.version_now);
    else
        printf("%s: ready, tables of version %d\n", store, result.version_now);
    return 0;
}

int cli_store(int argc, char **argv)
{
    if (argc >= 2 && strcmp(argv[1], "init") == 0)
        return run_init(argc - 1, argv + 1);
    bool help = argc >= 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0);
    if (argc >= 2 && !help)
        fprintf(stderr, "chamberlain store: no command '%s'\n", argv[1]);
    fprintf(help ? stdout : stderr,
            "Usage: chamberlain store COMMAND [options]\n\nCommands:\n"
            "  init  create a Cassandra store's keyspace and tables, or bring them up to date\n");
    return help ? 0 : EXIT_USAGE;
}
