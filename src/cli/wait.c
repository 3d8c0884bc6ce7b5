/* `chamberlain wait`: until the stream is empty and nothing is left in the store's outbox. */
#include "cli/command.h"
#include "cli/options.h"
#include "cli/session.h"

#include "base/clock.h"

#include <stdio.h>
#include <unistd.h>

enum { POLL_MS = 100, RECONNECT_PATIENCE_MS = 5000 };

static const struct command command = {
    .name = "wait",
    .operands = "",
    .summary =
        "Waits until everything that was announced has been judged (or is dead-lettered with its reason).\n"
        "Exit 1 when the time is over before that.",
    .examples = "  chamberlain wait --dir fab --timeout 10min",
};

/* Contexts in the outbox (1: at least one) and messages in the stream. */
static int look(struct session *session, int64_t *messages, bool *outbox_empty, struct error *err)
{
    int code = session_waiting_messages(session, messages, err);
    if (code)
        return code;
    store_list_outbox(session->store, INT64_MAX, 1, store_wait_done, session->wait);
    struct store_reply *reply = session_reply(session);
    code = reply->code;
    if (code)
        *err = reply->error;
    /* While a standby store answers, the primary may have more; and what it judged is to be judged again. */
    *outbox_empty = reply->completion_count == 0 && !reply->degraded;
    store_reply_free(reply);
    if (code || !*outbox_empty)
        return code;
    store_list_debts(session->store, STORE_DEBT_JUDGE, 1, store_wait_done, session->wait);
    reply = session_reply(session);
    code = reply->code;
    if (code)
        *err = reply->error;
    *outbox_empty = reply->debt_count == 0 && !reply->degraded;
    store_reply_free(reply);
    return code;
}

int cli_wait(int argc, char **argv)
{
    const char *dir = NULL;
    int64_t timeout_us = 0;
    const struct command_option table[] = {
        OPTION_DIR(&dir),
        {"timeout", OPTION_DURATION, &timeout_us, "TIME", "give up after this long (default: never)"},
    };
    enum command_next next = command_parse(&command, table, OPTION_COUNT(table), argc, argv, NULL);
    if (next != COMMAND_RUN)
        return next == COMMAND_HELP ? 0 : EXIT_USAGE;
    struct session session;
    struct error err;
    if (session_open(&session, dir, SESSION_STORE | SESSION_NATS, &err))
        return command_failed(&command, &err);
    int64_t start_ns = clock_mono_ns(), messages = 0;
    bool done = false, never = false, outbox_empty = false;
    int code = 0;
    while (!done && code == 0) {
        code = look(&session, &messages, &outbox_empty, &err);
        if (error_is_transient(code) || code == ERR_NOT_FOUND)
            code = 0; /* a server that restarts is waited for too */
        else if (code == 0)
            done = messages == 0 && outbox_empty;
        if (isatty(STDERR_FILENO))
            fprintf(stderr, "\r%lld messages waiting   ", (long long)messages);
        int64_t elapsed_us = (clock_mono_ns() - start_ns) / 1000;
        if (!done && code == 0 && timeout_us && elapsed_us > timeout_us)
            code = error_set(
                &err, ERR_TIMEOUT,
                "%lld messages still wait and the outbox is %sempty after %.1f s; is a defender running? "
                "See `chamberlain status`",
                (long long)messages, outbox_empty ? "" : "not ", (double)elapsed_us / 1e6);
        if (!done && code == 0)
            session_run_until(&session, &never, POLL_MS);
    }
    if (isatty(STDERR_FILENO))
        fputc('\n', stderr);
    session_close(&session);
    return code ? command_failed(&command, &err) : 0;
}
