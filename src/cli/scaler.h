/* The autoscaler's eyes and voice (`up --defenders 3..10`): asks the defenders what they have counted, lets
 * the machine decide (cli/autoscale.h), and says why in the log. Starting and stopping stays with `up`. */
#ifndef CHAMBERLAIN_CLI_SCALER_H
#define CHAMBERLAIN_CLI_SCALER_H

#include "cli/autoscale.h"
#include "cli/session.h"

/* 0 as a time: that of autoscale_standard. */
struct scaler_options {
    int64_t p95_us, after_us, idle_us, per_us;
};

struct scaler {
    struct autoscale autoscale;
    enum autoscale_decision last; /* so that a state is told once */
};

/* Reads "3" or "3..10". ERR_INVALID when it is neither, or not within 1..limit. */
int scaler_parse_range(const char *text, size_t limit, size_t *least, size_t *most, struct error *err);

void scaler_init(struct scaler *scaler, size_t least, size_t most, const struct scaler_options *options);

/* Only where the range is one. */
bool scaler_is_on(const struct scaler *scaler);

/* How often to ask, in milliseconds. */
uint64_t scaler_interval_ms(const struct scaler *scaler);

/* What is to be done with `running` defenders: AUTOSCALE_OUT and AUTOSCALE_IN are orders, the rest is to
 * stay. Asks over `session`, which may take a second when somebody does not answer. */
enum autoscale_decision scaler_ask(struct scaler *scaler, struct session *session, size_t running);

#endif
