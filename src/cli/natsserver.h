/* The nats-server that `up` runs as a child: where its program is, on which port, with which configuration.
 */
#ifndef CHAMBERLAIN_CLI_NATSSERVER_H
#define CHAMBERLAIN_CLI_NATSSERVER_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>

enum { NATSSERVER_PATH_BYTES = 4096, NATSSERVER_DEFAULT_PORT = 4222 };

/* The program: $CHAMBERLAIN_NATS_SERVER, or scripts/setup's in the cache, or one on the PATH. ERR_NOT_FOUND
 * says how to get one. */
int natsserver_find(char path[static NATSSERVER_PATH_BYTES], struct error *err);

/* Writes `dir`/nats.conf: loopback only, JetStream under `dir`/nats, every write flushed before it is
 * acknowledged. ERR_IO. */
int natsserver_write_config(const char *dir, int port, char path[static NATSSERVER_PATH_BYTES],
                            struct error *err);

/* True when nothing listens on 127.0.0.1:port. */
bool natsserver_port_is_free(int port);

/* A free port: `preferred` when it is, else one the system chooses. 0 when there is none. */
int natsserver_choose_port(int preferred);

/* True when something accepts a connection on 127.0.0.1:port and greets as NATS does. */
bool natsserver_answers(int port);

#endif
