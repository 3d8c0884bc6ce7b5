/* `chamberlain alarms`: what has been raised, from the stream of that name.
 *
 * Read through a pull consumer that lives only as long as the command: the server is asked for a batch at a
 * time, so it never sends more than is printed. A consumer that is lost (server restarted) is made again
 * after the last one seen. */
#include "base/clock.h"
#include "bus/consumer.h"
#include "bus/jetstream.h"
#include "bus/names.h"
#include "cli/alarms.h"
#include "cli/command.h"
#include "cli/options.h"
#include "cli/session.h"
#include "cli/terminal.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    DEFAULT_LIMIT = 50,
    LIMIT_MAX = 1000000,
    BATCH = 256,
    FOLLOW_EXPIRES_MS = 30000,
    FOLLOW_HEARTBEAT_MS = 5000,
    SILENCE_MS = 12000, /* more than two heartbeats missed: the consumer is gone */
    RETRY_MS = 500,
    INACTIVE_S = 60, /* the server forgets a consumer that was not asked for so long */
    STATUS_NO_MESSAGES = 404
};

static const struct command command = {
    .name = "alarms",
    .operands = "",
    .summary = "Shows the alarms that were raised, newest last; with --follow goes on until Ctrl-C.",
    .examples = "  chamberlain alarms ack --help\n"
                "  chamberlain alarms --dir fab --since 1h --severity critical\n"
                "  chamberlain alarms --dir fab --follow\n"
                "  chamberlain alarms --dir fab --limit 1000 --json | jq .chart",
};

struct alarms {
    struct session session;
    const char *severity, *tool, *chamber;
    int64_t since_us, limit;
    bool follow, json, colour;
    int64_t from_us; /* alarms stored from then on; 0: all */

    char stream[NAMES_BYTES], filter[NAMES_BYTES];
    char consumer[128]; /* "" when there is none */
    char inbox[BUS_SUBJECT_MAX_BYTES];
    struct bus_subscription *subscription;
    uint64_t last_sequence; /* of the alarms seen */

    int64_t received; /* by the pull request under way */
    int64_t heard_ns; /* when the server last said anything */
    bool pull_done;   /* the request is answered, or the wait interrupted */
    bool consumer_gone;
    bool interrupted;

    char **kept; /* without --follow: the newest `limit` lines, a ring */
    size_t seen;
    int code;
    struct error err;
    uv_signal_t signals[2]; /* closed by session_close's last turn of the loop */
};

/* --- one alarm --- */

static const char *text_of(const json_t *alarm, const char *key)
{
    const char *text = json_string_value(json_object_get(alarm, key));
    return text ? text : "";
}

static void add_number(struct strbuf *out, const char *before, const json_t *alarm, const char *key)
{
    const json_t *number = json_object_get(alarm, key);
    if (json_is_number(number))
        strbuf_printf(out, "%s%.6g", before, json_number_value(number));
    else
        strbuf_printf(out, "%s-", before);
}

/* Texts come from equipment: no control character of theirs reaches the terminal. */
static void make_printable(struct strbuf *line, size_t from)
{
    for (size_t i = from; i < line->length; i++)
        if ((unsigned char)line->text[i] < 0x20 || line->text[i] == 0x7F)
            line->text[i] = '?';
}

static void format_line(const struct alarms *alarms, const json_t *alarm, struct strbuf *line)
{
    const char *severity = text_of(alarm, "severity");
    bool red = alarms->colour && strcmp(severity, "critical") == 0;
    const char *unit = text_of(alarm, "unit");
    strbuf_add(line, red ? "\033[31m" : "");
    size_t from = line->length;
    strbuf_printf(line, "%-24s  %-8s  %s:%s  %s  %s ", text_of(alarm, "raised_at"), severity,
                  text_of(alarm, "tool_id"), text_of(alarm, "chamber_id"), text_of(alarm, "context_id"),
                  text_of(alarm, "chart"));
    add_number(line, "", alarm, "value");
    strbuf_printf(line, "%s%s", *unit ? " " : "", unit);
    add_number(line, " (limits ", alarm, "lower");
    add_number(line, " to ", alarm, "upper");
    strbuf_printf(line, ")  %s", text_of(alarm, "rule"));
    make_printable(line, from);
    strbuf_add(line, red ? "\033[0m\n" : "\n");
}

static void format_alarm(const struct alarms *alarms, const struct bus_message *message, struct strbuf *line)
{
    json_error_t parse;
    json_t *alarm = json_loadb(message->data, message->length, 0, &parse);
    if (alarm == NULL) {
        strbuf_printf(line, "(an alarm on %s that is not JSON: %s)", message->subject, parse.text);
        make_printable(line, 0);
        strbuf_add_char(line, '\n');
    } else if (alarms->json && memchr(message->data, '\n', message->length) == NULL) {
        strbuf_add_bytes(line, message->data, message->length); /* as the defender wrote it */
        strbuf_add_char(line, '\n');
    } else if (alarms->json) {
        char *text = json_dumps(alarm, JSON_COMPACT);
        strbuf_printf(line, "%s\n", text ? text : "null");
        free(text);
    } else {
        format_line(alarms, alarm, line);
    }
    json_decref(alarm);
}

static void keep(struct alarms *alarms, char *line)
{
    char **place = &alarms->kept[alarms->seen++ % (size_t)alarms->limit];
    free(*place);
    *place = line;
}

static void take_alarm(struct alarms *alarms, const struct bus_message *message)
{
    struct strbuf line;
    strbuf_init(&line);
    format_alarm(alarms, message, &line);
    if (line.failed) {
        alarms->code = error_set(&alarms->err, ERR_NO_MEMORY, "no memory for an alarm");
        strbuf_free(&line);
    } else if (alarms->kept) {
        keep(alarms, strbuf_take(&line));
    } else {
        if (terminal_print(&line))
            alarms->interrupted = alarms->pull_done = true; /* whoever read it is gone */
        strbuf_free(&line);
    }
}

/* --- the stream --- */

static void on_message(void *arg, const struct bus_message *message)
{
    struct alarms *alarms = arg;
    int status = bus_message_status(message);
    alarms->heard_ns = clock_mono_ns();
    if (status == 0) {
        struct consumer_message parsed = {0};
        alarms->received++;
        if (consumer_parse_ack(message->reply, &parsed, NULL) == 0) {
            if (parsed.stream_sequence <= alarms->last_sequence)
                return;
            alarms->last_sequence = parsed.stream_sequence;
        }
        take_alarm(alarms, message);
        alarms->pull_done |= alarms->received >= BATCH;
        return;
    }
    if (status == 100) /* heartbeat */
        return;
    alarms->pull_done = true;
    alarms->consumer_gone |= status != STATUS_NO_MESSAGES && status != 408;
}

static json_t *consumer_config(const struct alarms *alarms)
{
    json_t *config = json_pack("{s:s, s:s, s:I, s:b}", "ack_policy", "none", "filter_subject", alarms->filter,
                               "inactive_threshold", (json_int_t)INACTIVE_S * 1000000000, "mem_storage", 1);
    char when[CLOCK_RFC3339_BYTES];
    if (alarms->last_sequence > 0) {
        json_object_set_new(config, "deliver_policy", json_string("by_start_sequence"));
        json_object_set_new(config, "opt_start_seq", json_integer((json_int_t)alarms->last_sequence + 1));
    } else if (alarms->from_us > 0) {
        json_object_set_new(config, "deliver_policy", json_string("by_start_time"));
        json_object_set_new(config, "opt_start_time",
                            json_string(clock_format_rfc3339(alarms->from_us, when)));
    } else {
        json_object_set_new(config, "deliver_policy", json_string("all"));
    }
    return config;
}

static int create_consumer(struct alarms *alarms)
{
    char call[NAMES_BYTES + 32];
    snprintf(call, sizeof call, "CONSUMER.CREATE.%s", alarms->stream);
    json_t *body = json_pack("{s:s, s:o}", "stream_name", alarms->stream, "config", consumer_config(alarms));
    json_t *answer = session_call(&alarms->session, call, body, &alarms->err);
    json_decref(body);
    if (answer == NULL)
        return alarms->err.code;
    snprintf(alarms->consumer, sizeof alarms->consumer, "%s", text_of(answer, "name"));
    json_decref(answer);
    alarms->consumer_gone = false;
    return 0;
}

static int ask(struct alarms *alarms)
{
    char subject[2 * NAMES_BYTES], body[160];
    snprintf(subject, sizeof subject, "$JS.API.CONSUMER.MSG.NEXT.%s.%s", alarms->stream, alarms->consumer);
    if (alarms->follow)
        snprintf(body, sizeof body, "{\"batch\":%d,\"expires\":%d000000,\"idle_heartbeat\":%d000000}", BATCH,
                 FOLLOW_EXPIRES_MS, FOLLOW_HEARTBEAT_MS);
    else
        snprintf(body, sizeof body, "{\"batch\":%d,\"no_wait\":true}", BATCH);
    alarms->received = 0;
    alarms->pull_done = alarms->interrupted;
    alarms->heard_ns = clock_mono_ns();
    return bus_publish_with_reply(alarms->session.bus, subject, alarms->inbox, body, strlen(body),
                                  &alarms->err);
}

/* One request and what it brings. */
static int pull(struct alarms *alarms)
{
    int code = ask(alarms);
    while (code == 0 && alarms->code == 0 && !alarms->pull_done) {
        session_run_until(&alarms->session, &alarms->pull_done, 1000);
        if (!alarms->pull_done && clock_mono_ns() - alarms->heard_ns > (int64_t)SILENCE_MS * 1000000) {
            alarms->consumer_gone = alarms->pull_done = true;
            if (!alarms->follow)
                code = error_set(&alarms->err, ERR_TIMEOUT, "the server did not answer for %d s",
                                 SILENCE_MS / 1000);
        }
    }
    return code ? code : alarms->code;
}

/* Where reading begins when only the newest `limit` of all alarms are wanted: no need to read the others. */
static int skip_to_newest(struct alarms *alarms, bool filtered)
{
    char call[NAMES_BYTES + 32];
    snprintf(call, sizeof call, "STREAM.INFO.%s", alarms->stream);
    json_t *info = session_call(&alarms->session, call, NULL, &alarms->err);
    if (info == NULL)
        return alarms->err.code == ERR_NOT_FOUND ? error_set(&alarms->err, ERR_NOT_FOUND,
                                                             "there is no stream '%s' yet: a defender "
                                                             "creates it when it starts (`chamberlain up`)",
                                                             alarms->stream)
                                                 : alarms->err.code;
    const json_t *state = json_object_get(info, "state");
    json_int_t last = json_integer_value(json_object_get(state, "last_seq"));
    if (!filtered && alarms->from_us == 0 && last > alarms->limit)
        alarms->last_sequence = (uint64_t)(last - alarms->limit);
    json_decref(info);
    return 0;
}

static void print_kept(struct alarms *alarms)
{
    size_t limit = (size_t)alarms->limit, first = alarms->seen > limit ? alarms->seen - limit : 0;
    struct strbuf out;
    strbuf_init(&out);
    for (size_t i = first; i < alarms->seen; i++)
        strbuf_add(&out, alarms->kept[i % limit]);
    terminal_print(&out);
    strbuf_free(&out);
    if (first > 0 && !alarms->json)
        fprintf(stderr, "the newest %zu of %zu alarms (--limit N shows more)\n", limit, alarms->seen);
    if (alarms->seen == 0 && !alarms->json && !alarms->follow)
        fprintf(stderr, "no alarm%s\n", alarms->since_us ? " in that time" : "");
}

static void free_kept(struct alarms *alarms)
{
    for (size_t i = 0; alarms->kept && i < (size_t)alarms->limit; i++)
        free(alarms->kept[i]);
    free(alarms->kept);
    alarms->kept = NULL;
}

/* Reads what is there, and keeps the newest. */
static int read_stored(struct alarms *alarms)
{
    bool follow = alarms->follow;
    alarms->follow = false;
    int code = create_consumer(alarms);
    do {
        code = code ? code : pull(alarms);
    } while (code == 0 && alarms->received > 0 && !alarms->interrupted);
    alarms->follow = follow;
    if (code == 0)
        print_kept(alarms);
    free_kept(alarms);
    return code;
}

static int read_new(struct alarms *alarms)
{
    const bool never = false;
    int code = 0;
    while (code == 0 && !alarms->interrupted) {
        if (alarms->consumer_gone || *alarms->consumer == '\0')
            code = create_consumer(alarms);
        if (code == 0)
            code = pull(alarms);
        if (error_is_transient(code) ||
            code == ERR_NOT_FOUND) { /* the server restarts, or its stream is made anew */
            session_run_until(&alarms->session, &never, RETRY_MS);
            alarms->consumer_gone = true;
            code = 0;
        }
    }
    return code;
}

static int read_all(struct alarms *alarms)
{
    bool filtered = alarms->severity || alarms->tool || alarms->chamber;
    names_stream(alarms->session.cell, STREAM_ALARMS, alarms->stream);
    alarms->kept = calloc((size_t)alarms->limit, sizeof *alarms->kept);
    if (alarms->kept == NULL)
        return error_set(&alarms->err, ERR_NO_MEMORY, "no memory for %lld alarms", (long long)alarms->limit);
    bus_new_inbox(alarms->session.bus, alarms->inbox);
    int code = bus_subscribe(alarms->session.bus, alarms->inbox, on_message, alarms, &alarms->subscription,
                             &alarms->err);
    if (code == 0)
        code = skip_to_newest(alarms, filtered);
    if (code == 0)
        code = read_stored(alarms);
    if (code == 0 && alarms->follow)
        code = read_new(alarms);
    if (alarms->subscription)
        bus_unsubscribe(alarms->subscription);
    free_kept(alarms);
    return code;
}

/* --- the command --- */

static void on_signal(uv_signal_t *signal, int number)
{
    (void)number;
    struct alarms *alarms = signal->data;
    alarms->interrupted = alarms->pull_done = true;
}

static int add_token(char *filter, const char *name, struct error *err)
{
    char token[NAMES_BYTES] = "*";
    int code = name ? names_escape(name, token, err) : 0;
    size_t used = strlen(filter);
    snprintf(filter + used, NAMES_BYTES - used, ".%s", token);
    return code;
}

static bool is_severity(const char *text)
{
    return strcmp(text, "info") == 0 || strcmp(text, "warning") == 0 || strcmp(text, "critical") == 0;
}

static int make_filter(struct alarms *alarms)
{
    char filter[NAMES_BYTES] = "alarms";
    int code = add_token(filter, alarms->severity, &alarms->err);
    if (code == 0)
        code = add_token(filter, alarms->tool, &alarms->err);
    if (code == 0)
        code = add_token(filter, alarms->chamber, &alarms->err);
    names_subject(alarms->session.cell, filter, alarms->filter);
    return code;
}

static int run(struct alarms *alarms)
{
    const int numbers[2] = {SIGINT, SIGTERM};
    for (int i = 0; i < 2; i++) {
        uv_signal_init(&alarms->session.loop, &alarms->signals[i]);
        alarms->signals[i].data = alarms;
        uv_signal_start(&alarms->signals[i], on_signal, numbers[i]);
    }
    int code = make_filter(alarms);
    if (code == 0)
        code = read_all(alarms);
    for (int i = 0; i < 2; i++)
        uv_close((uv_handle_t *)&alarms->signals[i], NULL);
    return code ? command_failed(&command, &alarms->err) : 0;
}

int cli_alarms(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "ack") == 0)
        return cli_alarms_ack(argc - 1, argv + 1);
    struct alarms alarms = {.limit = DEFAULT_LIMIT};
    const char *dir = NULL;
    const struct command_option options[] = {
        OPTION_DIR(&dir),
        {"follow", OPTION_FLAG, &alarms.follow, NULL, "then show each new one as it comes, until Ctrl-C"},
        {"since", OPTION_DURATION, &alarms.since_us, "TIME",
         "only alarms raised in the last 30min, 1h, 2d, ..."},
        {"limit", OPTION_INTEGER, &alarms.limit, "N", "the newest N of them (default: 50)"},
        {"severity", OPTION_TEXT, &alarms.severity, "S", "only info, warning or critical ones"},
        {"tool", OPTION_TEXT, &alarms.tool, "T", "only alarms of this tool"},
        {"chamber", OPTION_TEXT, &alarms.chamber, "C", "only alarms of this chamber"},
        {"json", OPTION_FLAG, &alarms.json, NULL, "one JSON object a line"},
    };
    enum command_next next = command_parse(&command, options, OPTION_COUNT(options), argc, argv, NULL);
    if (next != COMMAND_RUN)
        return next == COMMAND_HELP ? 0 : EXIT_USAGE;
    if (alarms.limit < 1 || alarms.limit > LIMIT_MAX) {
        fprintf(stderr, "chamberlain alarms: --limit takes 1 to %d\n", LIMIT_MAX);
        return EXIT_USAGE;
    }
    if (alarms.severity && !is_severity(alarms.severity)) {
        fprintf(stderr, "chamberlain alarms: --severity '%s': write info, warning or critical\n",
                alarms.severity);
        return EXIT_USAGE;
    }
    if (session_open(&alarms.session, dir, SESSION_NATS, &alarms.err))
        return command_failed(&command, &alarms.err);
    alarms.from_us = alarms.since_us ? clock_wall_us() - alarms.since_us : 0;
    alarms.colour = terminal_colour();
    int exit_code = run(&alarms);
    session_close(&alarms.session);
    return exit_code;
}
