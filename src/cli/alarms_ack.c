/* `chamberlain alarms ack`: says that someone has seen alarms. */
#include "base/clock.h"
#include "cli/alarms.h"
#include "cli/command.h"
#include "cli/options.h"
#include "cli/session.h"
#include "notify/acknowledge.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct command command = {
    .name = "alarms ack",
    .operands = "ID...",
    .summary = "Says that someone has seen these alarms (their alarm_id: 16 hex digits, see `alarms "
               "--json`): they do not "
               "escalate.\nSaid again, the newest word counts.",
    .examples = "  chamberlain alarms ack --dir fab 0f3a91c2d4e5b607 --comment 'gas valve changed'",
    .min_operands = 1,
    .max_operands = COMMAND_OPERANDS_ANY,
};

struct written {
    bool done;
    int code;
    struct error error;
};

static void on_written(void *arg, int code, const struct error *error, uint64_t revision)
{
    (void)revision;
    struct written *written = arg;
    written->code = code;
    written->error = *error;
    written->done = true;
}

/* The bus answers by itself after its time-out: this always ends. */
static int wait_for(struct session *session, struct written *written, struct error *err)
{
    while (!written->done)
        uv_run(&session->loop, UV_RUN_ONCE);
    if (written->code)
        *err = written->error;
    return written->code;
}

static int acknowledge_all(struct session *session, char **ids, size_t count,
                           const struct acknowledgement *acknowledgement, struct error *err)
{
    struct written written = {0};
    acknowledge_ensure(session->bus, session->cell, 1, on_written, &written);
    int code = wait_for(session, &written, err);
    for (size_t i = 0; i < count && code == 0; i++) {
        written = (struct written){0};
        acknowledge_put(session->bus, session->cell, ids[i], acknowledgement, on_written, &written);
        code = wait_for(session, &written, err);
    }
    return code;
}

static int check_input(char **ids, size_t count, const char *by, const char *comment, struct error *err)
{
    for (size_t i = 0; i < count; i++)
        if (!acknowledge_is_id(ids[i]))
            return error_set(err, ERR_INVALID, "'%.40s' is no alarm_id: it has 16 of 0-9 a-f", ids[i]);
    if (*by == '\0' || strlen(by) >= ACKNOWLEDGE_BY_BYTES)
        return error_set(err, ERR_INVALID, "--by wants a name of 1 to %d bytes", ACKNOWLEDGE_BY_BYTES - 1);
    if (strlen(comment) >= ACKNOWLEDGE_COMMENT_BYTES)
        return error_set(err, ERR_INVALID, "--comment is longer than %d bytes",
                         ACKNOWLEDGE_COMMENT_BYTES - 1);
    return 0;
}

int cli_alarms_ack(int argc, char **argv)
{
    const char *dir = NULL, *comment = "", *user = getenv("USER"), *by = user && *user ? user : "unknown";
    size_t count;
    const struct command_option options[] = {
        OPTION_DIR(&dir),
        {"by", OPTION_TEXT, &by, "NAME", "who has seen them (default: $USER)"},
        {"comment", OPTION_TEXT, &comment, "TEXT", "what is to be said about them"},
    };
    enum command_next next = command_parse(&command, options, OPTION_COUNT(options), argc, argv, &count);
    if (next != COMMAND_RUN)
        return next == COMMAND_HELP ? 0 : EXIT_USAGE;
    struct error err;
    struct session session;
    if (check_input(argv + 1, count, by, comment, &err)) {
        command_failed(&command, &err);
        return EXIT_USAGE;
    }
    struct acknowledgement acknowledgement = {.at_us = clock_wall_us()};
    snprintf(acknowledgement.by, sizeof acknowledgement.by, "%s", by);
    snprintf(acknowledgement.comment, sizeof acknowledgement.comment, "%s", comment);
    if (session_open(&session, dir, SESSION_NATS, &err))
        return command_failed(&command, &err);
    int code = acknowledge_all(&session, argv + 1, count, &acknowledgement, &err);
    session_close(&session);
    if (code)
        return command_failed(&command, &err);
    printf("%zu alarm%s acknowledged by %s\n", count, count == 1 ? "" : "s", by);
    return 0;
}
