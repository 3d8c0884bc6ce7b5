/* Rolling: the defenders of a running cluster are replaced one by one. `up roll` asks for it by a file and a
 * signal; the `up` that runs does it. */
#include "cli/up_parts.h"

#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static bool may_take_over(const char *state)
{
    return strcmp(state, "STANDBY") == 0 || up_is_at_work(state);
}

/* One seat: the successor stands by, the predecessor leaves, the successor takes its ID with its chambers. */
static int roll_seat(struct up *up, struct session *session, size_t seat, struct error *err)
{
    struct supervised *old = up->seats[seat], *new;
    int old_port = up->metrics_ports[seat];
    int code = up_start_defender(up, seat, &new, err);
    if (code)
        return code;
    code = up_wait_for_state(up, session, new, may_take_over, err);
    if (code) {
        up->metrics_ports[seat] = old_port;
        supervised_end(new, SIGTERM, UP_DEFENDER_STOP_MS);
        return code;
    }
    supervised_end(old, SIGTERM, UP_DEFENDER_STOP_MS);
    up->seats[seat] = new;
    up_write_cluster_file(up);
    while (supervised_is_running(old) && !up->stopping)
        up_pause_ms(up, 5);
    return up_wait_for_state(up, session, new, up_is_at_work, err);
}

static void roll_path(const struct up *up, char path[static PATH_MAX + 32])
{
    snprintf(path, PATH_MAX + 32, "%s/roll", up->dir);
}

void up_roll_defenders(struct up *up, struct session *session)
{
    char path[PATH_MAX + 32], line[96] = "";
    roll_path(up, path);
    FILE *file = fopen(path, "r");
    if (file == NULL)
        return;
    if (fgets(line, sizeof line, file))
        line[strcspn(line, "\n")] = '\0';
    fclose(file);
    snprintf(up->version_text, sizeof up->version_text, "%s", line);
    up->version = up->version_text;
    up->rolls++;
    LOG_INFO("rolling", LOG_STR("version", up->version), LOG_INT("defenders", up->seat_count));
    struct error err;
    int code = 0;
    for (size_t i = 0; i < up->seat_count && code == 0 && !up->stopping; i++)
        code = roll_seat(up, session, i, &err);
    if (code)
        LOG_ERROR("rolling stopped", LOG_STR("error", err.text));
    else
        LOG_INFO("rolled", LOG_STR("version", up->version));
    unlink(path);
}

/* --- `up roll` --- */

static const struct command roll_command = {
    .name = "up roll",
    .operands = "",
    .summary = "Replaces the defenders of a running cluster one by one: each successor stands by, takes over "
               "the ID of its\n"
               "predecessor with its chambers, and no chamber moves. Returns when all are replaced.",
    .examples = "  chamberlain up roll --dir fab --version-label 1.4.2",
};

static pid_t running_up(const char *dir)
{
    char path[PATH_MAX + 32];
    snprintf(path, sizeof path, "%s/cluster.json", dir);
    json_t *cluster = json_load_file(path, 0, NULL);
    pid_t pid = (pid_t)json_integer_value(json_object_get(cluster, "pid"));
    json_decref(cluster);
    return pid > 0 && kill(pid, 0) == 0 ? pid : 0;
}

int cli_up_roll(int argc, char **argv)
{
    const char *dir = "chamberlain-data", *label = NULL;
    const struct command_option table[] = {
        {"dir", OPTION_TEXT, &dir, "DIR", "the cluster's directory (default ./chamberlain-data)"},
        {"version-label", OPTION_TEXT, &label, "TEXT", "version the new defenders show (default: the time)"},
    };
    enum command_next next =
        command_parse(&roll_command, table, sizeof table / sizeof *table, argc, argv, NULL);
    if (next != COMMAND_RUN)
        return next == COMMAND_HELP ? 0 : EXIT_USAGE;
    struct error err;
    char path[PATH_MAX + 32], when[CLOCK_RFC3339_BYTES];
    pid_t pid = running_up(dir);
    if (pid == 0) {
        error_set(&err, ERR_NOT_FOUND, "no `chamberlain up` runs in %s", dir);
        return command_failed(&roll_command, &err);
    }
    snprintf(path, sizeof path, "%s/roll", dir);
    FILE *file = fopen(path, "wx");
    if (file == NULL) {
        error_set(&err, ERR_CONFLICT, "%s: %s; is another roll under way?", path, strerror(errno));
        return command_failed(&roll_command, &err);
    }
    fprintf(file, "%s\n", label ? label : clock_format_rfc3339(clock_wall_us(), when));
    fclose(file);
    kill(pid, SIGUSR1);
    while (access(path, F_OK) == 0 && running_up(dir))
        usleep(UP_POLL_MS * 1000);
    return 0;
}
