/* `chamberlain web`: the HTTP API, metrics of the whole cluster, and the dashboard's files. Any number of
 * them may run; none of them holds anything that another could not know too. */
#ifndef CHAMBERLAIN_WEB_WEB_H
#define CHAMBERLAIN_WEB_WEB_H

#include "base/error.h"

enum { WEB_DEFAULT_PORT = 8080 };

/* Defaults stand beside the fields; 0 and NULL choose them. */
struct web_options {
    const char *version;                                                  /* required */
    const char *nats_url, *store_url;                                     /* required */
    const char *cell;                                                     /* "" */
    const char *bind;                                                     /* 127.0.0.1 */
    int port;                                                             /* a free one */
    const char *credentials_file, *ca_file, *certificate_file, *key_file; /* none */
    void (*listening)(void *arg, int port);                               /* it answers from now on; NULL */
    void *arg;
};

/* Runs until SIGTERM or SIGINT. 0 then; otherwise what was fatal, with how to mend it. NATS and the store
 * need not be there: what they would tell is missing until they are. */
int web_run(const struct web_options *options, struct error *err);

#endif
