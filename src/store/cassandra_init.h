/* The Cassandra store ("cassandra:HOST,HOST[:PORT]/KEYSPACE", docs/cassandra.md): what it has beyond store.h.
 */
#ifndef CHAMBERLAIN_STORE_CASSANDRA_INIT_H
#define CHAMBERLAIN_STORE_CASSANDRA_INIT_H

#include "base/error.h"

#include <stdbool.h>

/* What init did. */
struct cassandra_init_result {
    int version_before; /* of the schema; 0: there was none */
    int version_now;
};

/* False in a program that was built without the driver: its cassandra_init says so. */
bool cassandra_is_built(void);

/* Creates the keyspace and the tables of "HOST,HOST[:PORT]/KEYSPACE", or brings older ones up to date; doing
 * it again changes nothing. `replication` is a number of copies in every datacentre ("3"), or "dc1=3,dc2=3";
 * a keyspace that exists keeps its own. ERR_INVALID (the place or the replication cannot be read),
 * ERR_UNAVAILABLE, ERR_UNSUPPORTED (a newer version's schema; or this program was built without Cassandra),
 * ERR_IO. */
int cassandra_init(const char *place, const char *replication, struct cassandra_init_result *result,
                   struct error *err);

#endif
