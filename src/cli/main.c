/* chamberlain: one binary, its roles and commands as subcommands. */
#include "cli/command.h"
#include "cli/mebo.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *summary;
} subcommands[] = {
    {"up", cli_up, "start a whole cluster on this machine and keep it running"},
    {"import", cli_import, "read trace files (CSV, TSV, .gz) and announce them as completed contexts"},
    {"simulate", cli_simulate, "run a simulated fab: load, and faults whose truth is known"},
    {"wait", cli_wait, "wait until everything announced has been judged"},
    {"status", cli_status, "show defenders, contexts and process times"},
    {"assignments", cli_assignments, "show which defender owns which chambers"},
    {"charts", cli_charts, "check, learn, use, list and show charts"},
    {"web", cli_web, "serve the dashboard, the HTTP API and the cluster's metrics"},
    {"alarms", cli_alarms, "show alarms, or follow them"},
    {"notify", cli_notify, "tell Alertmanager, webhooks and files of alarms"},
    {"context", cli_context, "show the verdict of every chart of one context"},
    {"evaluate", cli_evaluate, "compare verdicts with labels: faults found, false alarms"},
    {"replay", cli_replay, "judge stored contexts again"},
    {"verify", cli_verify, "recompute every stored verdict and compare the bits"},
    {"store", cli_store, "create a Cassandra store's keyspace and tables"},
    {"mebo", cli_mebo, "dump and encode Mebo blobs"},
    {"defend", cli_defend, "run one defender (the worker; `up` starts it for you)"},
    {"collect", cli_collect, "run one collector: batches of samples from equipment into T-charts"},
};

enum { SUBCOMMANDS = sizeof subcommands / sizeof *subcommands };

static void print_usage(FILE *out)
{
    fprintf(out, "Usage: chamberlain COMMAND [options]\n\n"
                 "Fault detection for semiconductor fabs: judges every run of every chamber.\n\nCommands:\n");
    for (int i = 0; i < SUBCOMMANDS; i++)
        fprintf(out, "  %-11s %s\n", subcommands[i].name, subcommands[i].summary);
    fprintf(out, "\n`chamberlain COMMAND --help` explains each, with an example. Start here:\n"
                 "  chamberlain up --dir fab                      # in one terminal\n"
                 "  chamberlain import --dir fab data/lam9600     # in another\n");
}

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN);
    if (argc < 2) {
        print_usage(stderr);
        return EXIT_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
        print_usage(stdout);
        return 0;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("chamberlain %s\n", CHAMBERLAIN_VERSION);
        return 0;
    }
    for (int i = 0; i < SUBCOMMANDS; i++)
        if (strcmp(argv[1], subcommands[i].name) == 0)
            return subcommands[i].run(argc - 1, argv + 1);
    fprintf(stderr, "chamberlain: no command '%s'; `chamberlain --help` lists them\n", argv[1]);
    return EXIT_USAGE;
}
