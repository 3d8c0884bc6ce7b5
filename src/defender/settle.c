/* Clearing the debts that asked for contexts to be judged again (rejudge.h). */
#include "base/log.h"
#include "defender/pipeline_job.h"

#include <stdlib.h>
#include <string.h>

/* The debt, and behind it its texts. */
struct settlement {
    struct store_debt debt;
    char texts[];
};

static void on_settled(void *arg, struct store_reply *reply)
{
    if (reply->code)
        LOG_DEBUG("a debt is not cleared: its context is judged again once more",
                  LOG_STR("error", reply->error.text));
    store_reply_free(reply);
    free(arg);
}

void job_settle(struct job *job, const char *context_id, int64_t end_us, int64_t begun_us)
{
    const char *const parts[] = {job->announced.tool, job->announced.chamber, context_id};
    size_t lengths[3], all = 0;
    for (size_t i = 0; i < 3; i++)
        all += lengths[i] = strlen(parts[i]) + 1;
    struct settlement *settlement = malloc(sizeof *settlement + all);
    if (settlement == NULL)
        return;
    char *text = settlement->texts;
    const char *copies[3];
    for (size_t i = 0; i < 3; i++) {
        copies[i] = memcpy(text, parts[i], lengths[i]);
        text += lengths[i];
    }
    settlement->debt = (struct store_debt){.kind = STORE_DEBT_JUDGE,
                                           .key = {copies[0], copies[1], copies[2]},
                                           .at_us = end_us,
                                           .put_us = begun_us};
    store_clear_debt(job->pipeline->ports.store, &settlement->debt, on_settled, settlement);
}
