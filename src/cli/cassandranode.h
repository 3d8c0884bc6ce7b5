/* The one Cassandra node that `up --store cassandra` runs as a child: by which script, and where it answers.
 */
#ifndef CHAMBERLAIN_CLI_CASSANDRANODE_H
#define CHAMBERLAIN_CLI_CASSANDRANODE_H

#include "base/error.h"

#include <stdbool.h>

enum { CASSANDRANODE_PATH_BYTES = 4096 };

/* scripts/cassandra: $CHAMBERLAIN_CASSANDRA_SCRIPT, or ../scripts/cassandra beside the folder of the program
 * `self` (a build in its source tree), or ../libexec/chamberlain/scripts/cassandra (an installation).
 * ERR_NOT_FOUND says what to do. */
int cassandranode_find(const char *self, char path[static CASSANDRANODE_PATH_BYTES], struct error *err);

/* The port for clients that the script has noted under `dir`; 0 while it has noted none. */
int cassandranode_port(const char *dir);

/* True when something accepts a connection on 127.0.0.1:port. The node does so last, when it can be used. */
bool cassandranode_answers(int port);

#endif
