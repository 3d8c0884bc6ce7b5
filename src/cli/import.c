/* `chamberlain import`: trace files in. Each context is packed, stored together with its completion record,
 * and announced; several are on their way at a time. */
#include "cli/command.h"
#include "cli/session.h"

#include "base/clock.h"
#include "bus/jetstream.h"
#include "bus/kv.h"
#include "bus/names.h"
#include "collector/import.h"
#include "collector/pack.h"
#include "collector/watch.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uthash.h>

enum {
    IN_FLIGHT_MAX = 64,
    RETRY_MS = 200,
    PATIENCE_MS = 120 * 1000, /* for a store or NATS that is away */
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

/* A chamber that this import has told the roster of. */
struct known_chamber {
    char *key; /* "{tool}.{chamber}" as subject tokens */
    UT_hash_handle hh;
};

struct importer {
    struct session session;
    bool json, quiet;
    struct import_summary summary;
    struct known_chamber *chambers;
    size_t in_flight;
    size_t announced, existed, conflicts;
    bool told_waiting; /* that something is away has been said */
    int failed;        /* the first error that ends the import */
    struct error error;
};

/* One context on its way into the store and onto the stream. */
struct shipment {
    struct importer *importer;
    struct arena arena;
    struct store_completion completion;
    struct store_chunk *chunks;
    size_t chunk_count;
    int64_t give_up_ns;
    uv_timer_t timer;
};

static void ship_to_store(struct shipment *shipment);
static void ship_to_stream(struct shipment *shipment);

static void on_shipment_closed(uv_handle_t *handle)
{
    struct shipment *shipment = handle->data;
    shipment->importer->in_flight--;
    arena_free(&shipment->arena);
    free(shipment);
}

static void shipment_end(struct shipment *shipment)
{
    uv_close((uv_handle_t *)&shipment->timer, on_shipment_closed);
}

static void shipment_failed(struct shipment *shipment, int code, const struct error *error)
{
    struct importer *importer = shipment->importer;
    if (importer->failed == 0) {
        importer->failed = code;
        importer->error = *error;
        error_prefix(&importer->error, code, "context %s", shipment->completion.key.context_id);
    }
    shipment_end(shipment);
}

static void on_retry_store(uv_timer_t *timer)
{
    ship_to_store(timer->data);
}

static void on_retry_stream(uv_timer_t *timer)
{
    ship_to_stream(timer->data);
}

static void retry_or_fail(struct shipment *shipment, uv_timer_cb again, int code, const struct error *error)
{
    struct importer *importer = shipment->importer;
    if (!error_is_transient(code) || clock_mono_ns() >= shipment->give_up_ns) {
        shipment_failed(shipment, code, error);
        return;
    }
    if (!importer->told_waiting)
        fprintf(stderr, "chamberlain import: %s; trying again for %d s\n", error->text, PATIENCE_MS / 1000);
    importer->told_waiting = true;
    uv_timer_start(&shipment->timer, again, RETRY_MS, 0);
}

/* --- the roster: so that a new chamber is owned before its first announcement comes --- */

static void on_registered(void *arg, int code, const struct error *error, uint64_t revision)
{
    /* A chamber that is not registered is found by its messages, a moment later. */
    (void)arg;
    (void)code;
    (void)error;
    (void)revision;
}

static void register_chamber(struct importer *importer, const struct context *context)
{
    char bucket[NAMES_BYTES], key[NAMES_BYTES], value[64];
    if (names_for_chamber("", "x", context->tool, context->chamber, key, NULL))
        return;
    const char *token = key + strlen("x.");
    struct known_chamber *known;
    HASH_FIND_STR(importer->chambers, token, known);
    if (known || (known = calloc(1, sizeof *known)) == NULL)
        return;
    known->key = strdup(token);
    if (known->key == NULL) {
        free(known);
        return;
    }
    HASH_ADD_KEYPTR(hh, importer->chambers, known->key, strlen(known->key), known);
    /* Points a run: sensors x frequency x duration. */
    int64_t weight = context->point_count > 0 ? context->point_count : 1;
    int length = snprintf(value, sizeof value, "{\"weight\":%lld}", (long long)weight);
    kv_create(importer->session.bus, names_stream(importer->session.cell, "chambers", bucket), token, value,
              (size_t)length, on_registered, NULL);
}

static void forget_chambers(struct importer *importer)
{
    struct known_chamber *known, *next;
    HASH_ITER(hh, importer->chambers, known, next)
    {
        HASH_DEL(importer->chambers, known);
        free(known->key);
        free(known);
    }
}

/* --- shipping --- */

static void on_announced(void *arg, int code, int api_error, const struct error *error,
                         const json_t *response)
{
    (void)api_error;
    (void)response;
    struct shipment *shipment = arg;
    if (code == ERR_NOT_FOUND)
        code = ERR_UNAVAILABLE; /* no stream yet: a defender makes it */
    if (code) {
        struct error copy = *error;
        error_prefix(&copy, code,
                     "stored, but not announced (a running defender announces it from the store within "
                     "minutes)");
        retry_or_fail(shipment, on_retry_stream, code, &copy);
        return;
    }
    shipment->importer->announced++;
    shipment_end(shipment);
}

static void ship_to_stream(struct shipment *shipment)
{
    struct importer *importer = shipment->importer;
    const struct store_completion *completion = &shipment->completion;
    char subject[NAMES_BYTES];
    struct error err;
    int code =
        names_completed(importer->session.cell, completion->key.tool, completion->key.chamber, subject, &err);
    if (code) {
        shipment_failed(shipment, code, &err);
        return;
    }
    struct bus_header header = {"Nats-Msg-Id", completion->key.context_id};
    jetstream_publish(importer->session.bus, subject, &header, 1, completion->announcement,
                      strlen(completion->announcement), on_announced, shipment);
}

static void run_stored(void *target, void *argument)
{
    struct shipment *shipment = target;
    struct store_reply *reply = argument;
    struct error err = reply->error;
    int code = reply->code;
    if (code == 0 && reply->existed)
        shipment->importer->existed++;
    store_reply_free(reply);
    if (code == ERR_CONFLICT) { /* another trace under this name: the stored one stands */
        fprintf(stderr, "chamberlain import: %s\n", err.text);
        shipment->importer->conflicts++;
        shipment_end(shipment);
    } else if (code) {
        retry_or_fail(shipment, on_retry_store, code, &err);
    } else {
        ship_to_stream(shipment);
    }
}

static void on_stored(void *arg, struct store_reply *reply)
{
    struct shipment *shipment = arg;
    mailbox_post(shipment->importer->session.mailbox, run_stored, shipment, reply);
}

static void ship_to_store(struct shipment *shipment)
{
    store_complete(shipment->importer->session.store, &shipment->completion, shipment->chunks,
                   shipment->chunk_count, on_stored, shipment);
}

/* Packs a context into a shipment's own memory: what import gives is borrowed for the call only. */
static int pack(struct shipment *shipment, const struct import_context *given, struct error *err)
{
    struct arena *arena = &shipment->arena;
    struct tchart_blobs blobs;
    int code = tchart_pack_import(given, arena, &blobs, err);
    if (code)
        return code;
    struct context context = given->context;
    context.chunk_count = (int64_t)blobs.count;
    struct strbuf json;
    strbuf_init(&json);
    context_format(&context, &json);
    shipment->chunks = arena_calloc(arena, blobs.count, sizeof *shipment->chunks);
    shipment->chunk_count = blobs.count;
    shipment->completion = (struct store_completion){
        .key = {arena_strdup(arena, context.tool), arena_strdup(arena, context.chamber),
                arena_strdup(arena, context.id)},
        .recipe = arena_strdup(arena, context.recipe),
        .lot = arena_strdup(arena, context.lot),
        .end_us = context.end_us,
        .chunk_count = (int32_t)blobs.count,
        .announcement = json.failed ? NULL : arena_strdup(arena, json.text)};
    strbuf_free(&json);
    const struct store_completion *made = &shipment->completion;
    if (shipment->chunks == NULL || made->key.tool == NULL || made->key.chamber == NULL ||
        made->key.context_id == NULL || made->recipe == NULL || made->lot == NULL ||
        made->announcement == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory for context %s", context.id);
    for (size_t i = 0; i < blobs.count; i++)
        shipment->chunks[i] = (struct store_chunk){
            .index = (int32_t)i, .bytes = blobs.blobs[i].data, .length = blobs.blobs[i].length};
    return 0;
}

static int take_context(void *arg, const struct import_context *context, struct error *err)
{
    struct importer *importer = arg;
    while (importer->in_flight >= IN_FLIGHT_MAX && importer->failed == 0)
        uv_run(&importer->session.loop, UV_RUN_ONCE);
    if (importer->failed) {
        *err = importer->error;
        return importer->failed;
    }
    struct shipment *shipment = calloc(1, sizeof *shipment);
    if (shipment == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory for context %s", context->context.id);
    shipment->importer = importer;
    arena_init(&shipment->arena, 0);
    int code = pack(shipment, context, err);
    if (code) {
        arena_free(&shipment->arena);
        free(shipment);
        return code;
    }
    register_chamber(importer, &context->context);
    uv_timer_init(&importer->session.loop, &shipment->timer);
    shipment->timer.data = shipment;
    shipment->give_up_ns = clock_mono_ns() + PATIENCE_MS * INT64_C(1000000);
    importer->in_flight++;
    ship_to_store(shipment);
    uv_run(&importer->session.loop, UV_RUN_NOWAIT);
    if (isatty(STDERR_FILENO) && !importer->quiet)
        fprintf(stderr, "\r%zu contexts read, %zu announced ", importer->summary.contexts + 1,
                importer->announced);
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

static int drain(struct importer *importer, struct error *err)
{
    while (importer->in_flight > 0)
        uv_run(&importer->session.loop, UV_RUN_ONCE);
    if (importer->failed && err)
        *err = importer->error;
    return importer->failed;
}

static void print_summary(const struct importer *importer)
{
    const struct import_summary *sum = &importer->summary;
    if (isatty(STDERR_FILENO) && !importer->quiet)
        fputc('\n', stderr);
    if (importer->json) {
        struct strbuf json;
        strbuf_init(&json);
        import_summary_format(sum, &json);
        printf("{\"announced\":%zu,\"existed\":%zu,\"conflicts\":%zu,\"read\":%s}\n", importer->announced,
               importer->existed, importer->conflicts, json.text);
        strbuf_free(&json);
        return;
    }
    printf("%zu contexts announced from %zu files (%zu samples", importer->announced, sum->files,
           sum->samples);
    if (sum->samples_tail_cut)
        printf(", %zu of the next run cut from the ends", sum->samples_tail_cut);
    printf(")\n");
    if (importer->existed)
        printf("%zu of them were stored before\n", importer->existed);
    if (importer->conflicts)
        printf("%zu refused: another trace is stored under their names\n", importer->conflicts);
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

static volatile sig_atomic_t interrupted;

static void on_interrupt(int number)
{
    (void)number;
    interrupted = 1;
}

static int take_file(struct importer *importer, struct watch *watch, const struct watch_file *file,
                     const struct mapping *mapping, struct error *err)
{
    struct import_sink sink = {.take = take_context, .report = report, .arg = importer};
    struct error own;
    size_t before = importer->summary.contexts;
    int code = import_file(file->path, mapping, &sink, &importer->summary, &own);
    int shipped = drain(importer, &own);
    importer->failed = 0;
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
    struct import_sink sink = {.take = take_context, .report = report, .arg = &importer};
    for (size_t i = 1; code == 0 && i <= count; i++)
        code = watch ? watch_folder(&importer, argv[i], mapping, &err)
                     : import_path(argv[i], mapping, &sink, &importer.summary, &err);
    int shipped = drain(&importer, code ? NULL : &err);
    code = code ? code : shipped;
    print_summary(&importer);
    forget_chambers(&importer);
    session_close(&importer.session);
    mapping_free(mapping);
    if (code)
        return command_failed(&command, &err);
    return importer.conflicts || importer.summary.files_failed ? EXIT_FAILED : 0;
}
