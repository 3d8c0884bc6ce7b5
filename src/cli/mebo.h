/* `chamberlain mebo`: look into T-chart blobs and write them. */
#ifndef CHAMBERLAIN_CLI_MEBO_H
#define CHAMBERLAIN_CLI_MEBO_H

/* `argv[0]` is "mebo", then `dump FILE` or `encode [FILE|-] -o OUT`. Writes to standard output, complaints to
 * standard error. Returns the exit code: 0, 1 when the work failed, 2 when the command line makes no sense.
 */
int cli_mebo(int argc, char **argv);

#endif
