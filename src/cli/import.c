/* `chamberlain import`: trace files in. Each context is packed, stored together with its completion record,
 * and announced; several are on their way at a time. */
#include "cli/command.h"
#include "cli/session.h"
#include "cli/shipment.h"

#include "base/clock.h"
#include "collector/import.h"
#include "collector/pack.h"
#include "collector/watch.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    IN_FLIGHT_MAX = 64, /* contexts */
    WATCH_SCAN_MS = 500,
    WATCH_FILES_A_SCAN = 64
};

static const struct command command = {
    .name = "import",
    .operands = "PATH...",
    .summary =
        "Reads trace files and announces each run as a completed context; returns when all are announced.\n"
        "PATH is a folder with a runs.csv (one file a run), or trace files or folders that a mapping "
        "describes\n"
        "(docs/import.md). CSV or TSV, plain or .gz.",
    .examples = "  chamberlain import --dir fab data/lam9600\n"
                "  chamberlain import --dir fab --mapping phm2016_cmp CMP-training-000.csv.gz\n"
                "  chamberlain import --dir fab --watch --mapping lam9600 /var/spool/traces",
    .min_operands = 1,
    .max_operands = COMMAND_OPERANDS_ANY,
};

struct importer {
    struct session session;
    struct shipping shipping;
    bool json, quiet;
    struct import_summary summary;
};

static volatile sig_atomic_t interrupted;

static void on_interrupt(int number)
{
    (void)number;
    interrupted = 1;
}

/* Packs a context into a shipment's own memory: what import gives is borrowed for the call only. */
static int pack(struct shipment *shipment, const struct import_context *given, struct error *err)
{
    struct tchart_blobs blobs;
    int code = tchart_pack_import(given, &shipment->arena, &blobs, err);
    return code ? code : shipment_pack(shipment, &given->context, &blobs, err);
}

static int take_context(void *arg, const struct import_context *context, struct error *err)
{
    struct importer *importer = arg;
    struct shipping *shipping = &importer->shipping;
    int code = shipping_wait_below(shipping, IN_FLIGHT_MAX, err);
    if (code)
        return code;
    struct shipment *shipment = shipping_take(shipping);
    if (shipment == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory for context %s", context->context.id);
    code = pack(shipment, context, err);
    if (code) {
        shipment_drop(shipment, NULL);
        return code;
    }
    shipment_send(shipment);
    uv_run(&importer->session.loop, UV_RUN_NOWAIT);
    if (isatty(STDERR_FILENO) && !importer->quiet)
        fprintf(stderr, "\r%zu contexts read, %llu announced ", importer->summary.contexts + 1,
                (unsigned long long)shipping->announced);
    return 0;
}

static void report(void *arg, const struct import_report *finding)
{
    struct importer *importer = arg;
    enum log_level level = import_event_level(finding->event);
    if (importer->quiet || level < LOG_LEVEL_WARN)
        return;
    struct strbuf text;
    strbuf_init(&text);
    import_report_format(finding, &text);
    fprintf(stderr, "%s: %s\n", level == LOG_LEVEL_ERROR ? "error" : "warning", text.text);
    strbuf_free(&text);
}

static void print_summary(const struct importer *importer)
{
    const struct import_summary *sum = &importer->summary;
    const struct shipping *shipped = &importer->shipping;
    if (isatty(STDERR_FILENO) && !importer->quiet)
        fputc('\n', stderr);
    if (importer->json) {
        struct strbuf json;
        strbuf_init(&json);
        import_summary_format(sum, &json);
        printf("{\"announced\":%llu,\"existed\":%llu,\"conflicts\":%llu,\"read\":%s}\n",
               (unsigned long long)shipped->announced, (unsigned long long)shipped->existed,
               (unsigned long long)shipped->conflicts, json.text);
        strbuf_free(&json);
        return;
    }
    printf("%llu contexts announced from %zu files (%zu samples", (unsigned long long)shipped->announced,
           sum->files, sum->samples);
    if (sum->samples_tail_cut)
        printf(", %zu of the next run cut from the ends", sum->samples_tail_cut);
    printf(")\n");
    if (shipped->existed)
        printf("%llu of them were stored before\n", (unsigned long long)shipped->existed);
    if (shipped->conflicts)
        printf("%llu refused: another trace is stored under their names\n",
               (unsigned long long)shipped->conflicts);
    if (sum->contexts_low)
        printf("%zu kept with quality low\n", sum->contexts_low);
    const char *before = "found: ";
    for (int event = 0; event < IMPORT_EVENTS; event++)
        if (sum->events[event] && import_event_level((enum import_event)event) >= LOG_LEVEL_WARN) {
            printf("%s%zu %s", before, sum->events[event], import_event_name((enum import_event)event));
            before = ", ";
        }
    if (*before == ',')
        printf(" (docs/import.md says what becomes of each)\n");
}

/* --- watching a folder --- */

static int take_file(struct importer *importer, struct watch *watch, const struct watch_file *file,
                     const struct mapping *mapping, struct error *err)
{
    struct import_sink sink = {.take = take_context, .report = report, .arg = importer};
    struct error own;
    size_t before = importer->summary.contexts;
    int code = import_file(file->path, mapping, &sink, &importer->summary, &own);
    int shipped = shipping_drain(&importer->shipping, code ? NULL : &own);
    importer->shipping.failed = 0;
    if (code == 0)
        code = shipped;
    if (code) {
        fprintf(stderr, "chamberlain import: %s: %s\n", file->name, own.text);
        return watch_failed(watch, file, code, own.text, clock_wall_us(), err);
    }
    if (!importer->quiet)
        printf("%s: %zu contexts\n", file->name, importer->summary.contexts - before);
    fflush(stdout);
    return watch_taken(watch, file, importer->summary.contexts - before, clock_wall_us(), err);
}

static int watch_folder(struct importer *importer, const char *folder, const struct mapping *mapping,
                        struct error *err)
{
    char ledger[SESSION_PATH_BYTES + 64];
    const char *home = *importer->session.dir ? importer->session.dir : folder;
    snprintf(ledger, sizeof ledger, "%s/import-ledger.db", home);
    struct watch_options options = {.dir = folder, .ledger = ledger, .mapping = mapping};
    struct watch *watch;
    int code = watch_open(&options, &watch, err);
    if (code)
        return code;
    struct sigaction action = {.sa_handler = on_interrupt};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    fprintf(stderr, "watching %s; Ctrl-C ends it\n", folder);
    while (code == 0 && !interrupted) {
        struct watch_file files[WATCH_FILES_A_SCAN];
        size_t count;
        code = watch_scan(watch, clock_wall_us(), files, WATCH_FILES_A_SCAN, &count, err);
        for (size_t i = 0; code == 0 && i < count && !interrupted; i++)
            code = take_file(importer, watch, &files[i], mapping, err);
        bool never = false;
        if (code == 0 && count == 0)
            session_run_until(&importer->session, &never, WATCH_SCAN_MS);
    }
    watch_close(watch);
    return code;
}

/* --- the command --- */

/* A mapping by its file, or by the name of one that ships with Chamberlain. */
static int find_mapping(const char *name, struct mapping **mapping, struct error *err)
{
    if (name == NULL)
        return 0;
    char path[SESSION_PATH_BYTES], self[SESSION_PATH_BYTES];
    if (strchr(name, '/') || access(name, R_OK) == 0)
        return mapping_load(name, mapping, err);
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    self[length > 0 ? length : 0] = '\0';
    char *slash = strrchr(self, '/');
    if (slash)
        *slash = '\0';
    const char *home = getenv("CHAMBERLAIN_MAPPINGS");
    const char *const places[] = {home, "../data/mappings", "../share/chamberlain/mappings"};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        if (places[i] == NULL)
            continue;
        bool own = i == 0;
        int used =
            snprintf(path, sizeof path, "%s%s%s/%s.yaml", own ? "" : self, own ? "" : "/", places[i], name);
        if (used > 0 && (size_t)used < sizeof path && access(path, R_OK) == 0)
            return mapping_load(path, mapping, err);
    }
    return error_set(
        err, ERR_NOT_FOUND,
        "no mapping '%s': give a file, or the name of one in %s/../data/mappings (docs/import.md)", name,
        self);
}

int cli_import(int argc, char **argv)
{
    const char *dir = NULL, *mapping_name = NULL;
    bool watch = false;
    struct importer importer = {0};
    const struct command_option table[] = {
        {"dir", OPTION_TEXT, &dir, "DIR",
         "the cluster's directory (default: the environment, then ./chamberlain-data)"},
        {"mapping", OPTION_TEXT, &mapping_name, "NAME|FILE",
         "how columns become contexts (default: runs.csv beside the files)"},
        {"watch", OPTION_FLAG, &watch, NULL, "take files as they arrive in PATH, once each, until Ctrl-C"},
        {"quiet", OPTION_FLAG, &importer.quiet, NULL, "no warnings, no progress"},
        {"json", OPTION_FLAG, &importer.json, NULL, "the summary as JSON"},
    };
    size_t count;
    enum command_next next = command_parse(&command, table, sizeof table / sizeof *table, argc, argv, &count);
    if (next != COMMAND_RUN)
        return next == COMMAND_HELP ? 0 : EXIT_USAGE;
    struct error err;
    struct mapping *mapping = NULL;
    int code = find_mapping(mapping_name, &mapping, &err);
    if (code == 0)
        code = session_open(&importer.session, dir, SESSION_STORE | SESSION_NATS, &err);
    if (code) {
        mapping_free(mapping);
        return command_failed(&command, &err);
    }
    shipping_begin(&importer.shipping, &importer.session, command.name, &interrupted);
    struct import_sink sink = {.take = take_context, .report = report, .arg = &importer};
    for (size_t i = 1; code == 0 && i <= count; i++)
        code = watch ? watch_folder(&importer, argv[i], mapping, &err)
                     : import_path(argv[i], mapping, &sink, &importer.summary, &err);
    int shipped = shipping_drain(&importer.shipping, code ? NULL : &err);
    code = code ? code : shipped;
    print_summary(&importer);
    shipping_end(&importer.shipping);
    session_close(&importer.session);
    mapping_free(mapping);
    if (code)
        return command_failed(&command, &err);
    return importer.shipping.conflicts || importer.summary.files_failed ? EXIT_FAILED : 0;
}
