/* The parts of `chamberlain alarms` that are commands of their own. */
#ifndef CHAMBERLAIN_CLI_ALARMS_H
#define CHAMBERLAIN_CLI_ALARMS_H

/* argv[0] is "ack". Returns the exit code. */
int cli_alarms_ack(int argc, char **argv);

#endif
