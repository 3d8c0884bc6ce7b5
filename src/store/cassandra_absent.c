/* Stands in for the Cassandra store in a build without the driver: says so, instead of "no such kind of
 * store". */
#include "store/cassandra_init.h"
#include "store/store_ops.h"

static int explain(const char *place, struct error *err)
{
    return error_set(err, ERR_UNSUPPORTED,
                     "store cassandra:%s: this chamberlain was built without Cassandra; install the driver "
                     "(scripts/setup cassandra) and build again with -Dcassandra=enabled",
                     place);
}

static int absent_open(const char *place, const struct store_options *options, struct store **store,
                       struct error *err)
{
    (void)options;
    *store = NULL;
    return explain(place, err);
}

bool cassandra_is_built(void)
{
    return false;
}

int cassandra_init(const char *place, const char *replication, struct cassandra_init_result *result,
                   struct error *err)
{
    (void)replication;
    *result = (struct cassandra_init_result){0};
    return explain(place, err);
}

const struct store_ops store_cassandra_ops = {.scheme = "cassandra", .open = absent_open};
