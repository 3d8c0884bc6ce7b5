/* Connecting to Cassandra, and sending statements.
 *
 * What is set on purpose:
 * - Token-aware on top of datacentre-aware: a request goes to a replica of its row in the own datacentre,
 * never to another one (that is the fail-over's decision, not the driver's).
 * - Every statement but the counters' is idempotent, so the driver may send it again. The retry policy is the
 *   driver's default: once more on the next host, when too few answered in time although enough are alive. It
 * never lowers the consistency: that would answer "written" for less than was asked.
 * - Speculative execution: after SPECULATIVE_AFTER_MS without an answer an idempotent request goes to one
 * more replica. That is above the slowest regular answer (an 8 MiB chunk), so it costs nothing in good times,
 * and hides a replica that collects garbage or has just died. With one server named it is off: there is
 * nobody else to ask, and when the only connections broke, the driver was seen to lose requests that it had
 * on.
 * - Timestamps are this client's, rising: two writes of one process to one row keep their order.
 * - REQUEST_TIMEOUT_MS is longer than the server's own time-outs, which say better what was slow.
 * - A request that is in flight when the last connection breaks is now and then never answered by the driver,
 * not even with its time-out: after LOST_AFTER_MS it is given up here. */
#include "store/cassandra_session.h"

#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    CONNECT_TIMEOUT_MS = 5000,
    REQUEST_TIMEOUT_MS = 12000,
    LOST_AFTER_MS = 15000,
    SPECULATIVE_AFTER_MS = 250,
    CONNECTIONS_PER_HOST = 2,
    RECONNECT_BASE_MS = 200,
    RECONNECT_MAX_MS = 5000,
    KEYSPACE_MAX_BYTES = 48,
    FILE_MAX_BYTES = 64 * 1024
};

#define KEY "context_id = ? AND tool = ? AND chamber = ?"
#define CONTEXT_COLUMNS                                                                                      \
    "context_id, tool, chamber, seen_us, seen_end_us, has_tchart, completed_us, end_us, recipe, lot, "       \
    "chunk_count, chunk_hashes, announcement, dead_reason, dead_complete, judged_recipe, judged_end_us"
#define TCHART "tool = ? AND chamber = ? AND context_id = ?"
#define HISTORY "tool = ? AND chamber = ? AND recipe = ?"
#define UCHART_COLUMNS "context_id, end_us, judged_us, chart_set, alarm_count, severity, points_hash, points"
#define ENTRY_COLUMNS "at_us, context_id, tool, chamber"

static const char *const statement_texts[CQL_STATEMENTS] = {
    [CQL_CONTEXT] = "SELECT " CONTEXT_COLUMNS " FROM contexts WHERE " KEY,
    [CQL_CONTEXTS_OF_ID] = "SELECT " CONTEXT_COLUMNS " FROM contexts WHERE context_id = ?",
    [CQL_SEE_CONTEXT] = "UPDATE contexts SET seen_us = ?, seen_end_us = ? WHERE " KEY,
    [CQL_SET_TCHART] = "UPDATE contexts SET has_tchart = ? WHERE " KEY,
    [CQL_COMPLETE_CONTEXT] =
        "UPDATE contexts SET has_tchart = true, completed_us = ?, end_us = ?, recipe = ?,"
        " lot = ?, chunk_count = ?, chunk_hashes = ?, announcement = ? WHERE " KEY,
    [CQL_MARK_DEAD] = "UPDATE contexts SET dead_us = ?, dead_reason = ?, dead_complete = ? WHERE " KEY,
    [CQL_MARK_JUDGED] = "UPDATE contexts SET judged_recipe = ?, judged_end_us = ? WHERE " KEY,
    [CQL_DELETE_CONTEXT] = "DELETE FROM contexts WHERE " KEY,

    [CQL_PUT_PART] = "INSERT INTO t_charts (tool, chamber, context_id, chunk_index, bytes_hash, part,"
                     " chunk_length, put_us, bytes) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
    [CQL_CHUNK_VERSIONS] = "SELECT chunk_index, bytes_hash, chunk_length, put_us FROM t_charts WHERE " TCHART,
    [CQL_CHUNKS] = "SELECT chunk_index, bytes_hash, part, chunk_length, bytes FROM t_charts WHERE " TCHART,
    [CQL_DELETE_TCHART] = "DELETE FROM t_charts WHERE " TCHART,

    [CQL_PUT_UCHART] =
        "INSERT INTO u_charts (tool, chamber, recipe, end_us, context_id, judged_us, chart_set,"
        " alarm_count, severity, points_hash, points, verdicts)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    [CQL_UCHART] = "SELECT " UCHART_COLUMNS ", verdicts FROM u_charts WHERE " HISTORY
                   " AND end_us = ? AND context_id = ?",
    [CQL_DELETE_UCHART] = "DELETE FROM u_charts WHERE " HISTORY " AND end_us = ? AND context_id = ?",
    [CQL_EARLIER] =
        "SELECT " UCHART_COLUMNS " FROM u_charts WHERE " HISTORY " AND (end_us, context_id) < (?, ?) LIMIT ?",
    [CQL_EARLIER_VERDICTS] = "SELECT " UCHART_COLUMNS ", verdicts FROM u_charts WHERE " HISTORY
                             " AND (end_us, context_id) < (?, ?) LIMIT ?",
    [CQL_LATER] = "SELECT " UCHART_COLUMNS " FROM u_charts WHERE " HISTORY
                  " AND (end_us, context_id) > (?, ?) ORDER BY end_us ASC, context_id ASC LIMIT ?",
    [CQL_LATER_VERDICTS] = "SELECT " UCHART_COLUMNS ", verdicts FROM u_charts WHERE " HISTORY
                           " AND (end_us, context_id) > (?, ?) ORDER BY end_us ASC, context_id ASC LIMIT ?",
    [CQL_ANY_LATER] =
        "SELECT end_us FROM u_charts WHERE " HISTORY " AND (end_us, context_id) > (?, ?) LIMIT 1",
    [CQL_PUT_RECIPE] = "INSERT INTO chamber_recipes (tool, chamber, recipe) VALUES (?, ?, ?)",
    [CQL_RECIPES] = "SELECT recipe FROM chamber_recipes WHERE tool = ? AND chamber = ?",

    [CQL_PUT_OUTBOX] = "INSERT INTO outbox (minute, at_us, context_id, tool, chamber) VALUES (?, ?, ?, ?, ?)",
    [CQL_DELETE_OUTBOX] = "DELETE FROM outbox WHERE minute = ? AND at_us = ? AND " KEY,
    [CQL_OUTBOX] = "SELECT " ENTRY_COLUMNS " FROM outbox WHERE minute = ? AND at_us >= ? AND at_us < ?",
    [CQL_PUT_TIMELINE] = "INSERT INTO timeline (kind, hour, at_us, context_id, tool, chamber, recipe, lot)"
                         " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    [CQL_DELETE_TIMELINE] = "DELETE FROM timeline WHERE kind = ? AND hour = ? AND at_us = ? AND " KEY,
    [CQL_TIMELINE] = "SELECT " ENTRY_COLUMNS ", recipe, lot FROM timeline WHERE kind = ? AND hour = ?"
                     " AND at_us >= ? AND at_us < ?",
    [CQL_PUT_BY_TOOL] = "INSERT INTO contexts_by_tool (tool, at_us, context_id, chamber, recipe, lot)"
                        " VALUES (?, ?, ?, ?, ?, ?)",
    [CQL_DELETE_BY_TOOL] =
        "DELETE FROM contexts_by_tool WHERE tool = ? AND at_us = ? AND context_id = ? AND chamber = ?",
    [CQL_BY_TOOL] = "SELECT " ENTRY_COLUMNS ", recipe, lot FROM contexts_by_tool WHERE tool = ?"
                    " AND at_us >= ? AND at_us < ?",
    [CQL_PUT_BUCKET] = "INSERT INTO buckets (kind, bucket, put_us) VALUES (?, ?, ?)",
    [CQL_DELETE_BUCKET] = "DELETE FROM buckets WHERE kind = ? AND bucket = ?",
    [CQL_BUCKETS] = "SELECT bucket, put_us FROM buckets WHERE kind = ? AND bucket >= ? AND bucket <= ?",

    [CQL_ADD_COUNT] = "UPDATE counts SET value = value + ? WHERE name = ?",
    [CQL_COUNTS] = "SELECT name, value FROM counts",
    [CQL_PUT_CHART_SET] = "INSERT INTO chart_sets (id, put_us, yaml) VALUES (?, ?, ?)",
    [CQL_CHART_SET] = "SELECT id, put_us, yaml FROM chart_sets WHERE id = ?",
    [CQL_PUT_CURRENT] = "INSERT INTO current_chart_set (one, id) VALUES (1, ?)",
    [CQL_CURRENT] = "SELECT id FROM current_chart_set WHERE one = 1",
    [CQL_PUT_DEBT] = "INSERT INTO debts (kind, shard, at_us, tool, chamber, context_id, put_us, owner)"
                     " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    [CQL_DEBTS] = "SELECT at_us, tool, chamber, context_id, put_us, owner FROM debts"
                  " WHERE kind = ? AND shard = ? LIMIT ?",
    [CQL_CLEAR_DEBT] = "DELETE FROM debts WHERE kind = ? AND shard = ? AND at_us = ? AND tool = ?"
                       " AND chamber = ? AND context_id = ? AND put_us <= ?",
};

/* --- errors --- */

static int code_of(CassError error)
{
    switch (error) {
    case CASS_ERROR_LIB_REQUEST_TIMED_OUT:
    case CASS_ERROR_SERVER_WRITE_TIMEOUT:
    case CASS_ERROR_SERVER_READ_TIMEOUT:
        return ERR_TIMEOUT;
    case CASS_ERROR_LIB_NO_HOSTS_AVAILABLE:
    case CASS_ERROR_LIB_UNABLE_TO_CONNECT:
    case CASS_ERROR_LIB_HOST_RESOLUTION:
    case CASS_ERROR_LIB_REQUEST_QUEUE_FULL:
    case CASS_ERROR_LIB_NO_STREAMS:
    case CASS_ERROR_LIB_WRITE_ERROR:
    case CASS_ERROR_SERVER_UNAVAILABLE:
    case CASS_ERROR_SERVER_OVERLOADED:
    case CASS_ERROR_SERVER_IS_BOOTSTRAPPING:
    case CASS_ERROR_SERVER_READ_FAILURE:
    case CASS_ERROR_SERVER_WRITE_FAILURE:
        return ERR_UNAVAILABLE;
    default:
        return ERR_IO;
    }
}

int cassandra_receive(struct cassandra_session *session, CassFuture *future, const char *what,
                      const CassResult **result, struct error *err)
{
    int code = 0;
    if (!cass_future_wait_timed(future, LOST_AFTER_MS * UINT64_C(1000))) {
        cass_future_free(future);
        return error_set(err, ERR_TIMEOUT, "store cassandra:%s: %s failed: no answer in %d s", session->place,
                         what, LOST_AFTER_MS / 1000);
    }
    CassError error = cass_future_error_code(future);
    if (error != CASS_OK) {
        const char *message;
        size_t length;
        cass_future_error_message(future, &message, &length);
        code = error_set(err, code_of(error), "store cassandra:%s: %s failed: %.*s", session->place, what,
                         (int)(length > 300 ? 300 : length), message);
    } else if (result) {
        *result = cass_future_get_result(future);
    }
    cass_future_free(future);
    return code;
}

/* The driver's own messages. It names every host that is not ScyllaDB as an error of its sharding: that is no
 * news. */
static void log_driver(const CassLogMessage *message, void *data)
{
    (void)data;
    if (strstr(message->message, "harding"))
        return;
    LOG_WARN("cassandra driver", LOG_STR("text", message->message));
}

/* --- connecting --- */

int cassandra_place_parse(const char *place, struct cassandra_place *parts, struct error *err)
{
    static const char option[] = "?datacentre=";
    *parts = (struct cassandra_place){0};
    const char *slash = strchr(place, '/');
    const char *name = slash ? slash + 1 : "";
    size_t length = strcspn(name, "?");
    bool good = slash && slash > place && strlen(place) < CASSANDRA_PLACE_MAX_BYTES &&
                length <= KEYSPACE_MAX_BYTES && isalpha((unsigned char)name[0]);
    for (size_t i = 0; i < length && good; i++)
        good = isalnum((unsigned char)name[i]) || name[i] == '_';
    if (!good)
        return error_set(
            err, ERR_INVALID,
            "store cassandra:%s: write cassandra:HOST,HOST[:PORT]/KEYSPACE, with a keyspace of at most 48 "
            "letters, digits and underscores",
            place);
    memcpy(parts->keyspace, name, length);
    const char *rest = name + length;
    if (*rest == '\0')
        return 0;
    const char *datacentre = rest + strlen(option);
    if (strncmp(rest, option, strlen(option)) != 0 || *datacentre == '\0' ||
        strlen(datacentre) >= sizeof parts->datacentre)
        return error_set(
            err, ERR_INVALID,
            "store cassandra:%s: after the keyspace only ?datacentre=NAME may stand, with a name "
            "of at most %d bytes",
            place, CASSANDRA_NAME_BYTES - 1);
    strcpy(parts->datacentre, datacentre);
    return 0;
}

static int set_hosts(CassCluster *cluster, const char *place, struct error *err)
{
    const char *slash = strchr(place, '/');
    const char *colon = memchr(place, ':', (size_t)(slash - place));
    const char *end = colon ? colon : slash;
    char *rest = NULL;
    long port = colon ? strtol(colon + 1, &rest, 10) : 9042;
    if (end == place || port < 1 || port > 65535 || (colon && rest != slash))
        return error_set(
            err, ERR_INVALID,
            "store cassandra:%s: the hosts or the port cannot be read; write HOST,HOST[:PORT]/KEYSPACE",
            place);
    cass_cluster_set_contact_points_n(cluster, place, (size_t)(end - place));
    cass_cluster_set_port(cluster, (int)port);
    return 0;
}

static int set_consistency(CassCluster *cluster, struct error *err)
{
    static const struct {
        const char *name;
        CassConsistency value;
    } known[] = {{"LOCAL_ONE", CASS_CONSISTENCY_LOCAL_ONE},
                 {"LOCAL_QUORUM", CASS_CONSISTENCY_LOCAL_QUORUM},
                 {"ONE", CASS_CONSISTENCY_ONE},
                 {"TWO", CASS_CONSISTENCY_TWO},
                 {"QUORUM", CASS_CONSISTENCY_QUORUM},
                 {"EACH_QUORUM", CASS_CONSISTENCY_EACH_QUORUM},
                 {"ALL", CASS_CONSISTENCY_ALL}};
    const char *wanted = getenv("CHAMBERLAIN_CASSANDRA_CONSISTENCY");
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(wanted ? wanted : "LOCAL_ONE", known[i].name) == 0) {
            cass_cluster_set_consistency(cluster, known[i].value);
            return 0;
        }
    return error_set(
        err, ERR_INVALID,
        "CHAMBERLAIN_CASSANDRA_CONSISTENCY is \"%s\"; LOCAL_ONE, LOCAL_QUORUM, ONE, TWO, QUORUM, EACH_QUORUM "
        "and ALL are possible",
        wanted);
}

/* A small file as text, which the caller frees; NULL with `err` set. */
static char *read_file(const char *path, const char *variable, struct error *err)
{
    FILE *file = fopen(path, "r");
    char *text = file ? calloc(1, FILE_MAX_BYTES + 1) : NULL;
    size_t length = text ? fread(text, 1, FILE_MAX_BYTES, file) : 0;
    bool bad = text == NULL || length == 0 || ferror(file);
    if (file)
        fclose(file);
    if (!bad)
        return text;
    error_set(err, ERR_IO, "%s: the file %s cannot be read, or is empty", variable, path);
    free(text);
    return NULL;
}

/* User in the first line, password in the second. */
static int set_credentials(CassCluster *cluster, struct error *err)
{
    const char *path = getenv("CHAMBERLAIN_CASSANDRA_CREDENTIALS");
    if (path == NULL)
        return 0;
    char *text = read_file(path, "CHAMBERLAIN_CASSANDRA_CREDENTIALS", err);
    if (text == NULL)
        return ERR_IO;
    char *password = strchr(text, '\n');
    int code = 0;
    if (password == NULL) {
        code = error_set(err, ERR_IO, "CHAMBERLAIN_CASSANDRA_CREDENTIALS: %s needs two lines: user, password",
                         path);
    } else {
        *password++ = '\0';
        password[strcspn(password, "\n")] = '\0';
        cass_cluster_set_credentials(cluster, text, password);
    }
    explicit_bzero(text, FILE_MAX_BYTES);
    free(text);
    return code;
}

static CassError set_key(CassSsl *ssl, const char *text)
{
    return cass_ssl_set_private_key(ssl, text, NULL);
}

static int set_tls_file(CassSsl *ssl, const char *variable, CassError (*set)(CassSsl *, const char *),
                        struct error *err)
{
    const char *path = getenv(variable);
    char *text = path ? read_file(path, variable, err) : NULL;
    if (path == NULL)
        return 0;
    if (text == NULL)
        return ERR_IO;
    CassError error = set(ssl, text);
    explicit_bzero(text, FILE_MAX_BYTES);
    free(text);
    if (error != CASS_OK)
        return error_set(err, ERR_IO, "%s: %s is not in PEM format: %s", variable, path,
                         cass_error_desc(error));
    return 0;
}

static int set_tls(CassCluster *cluster, struct error *err)
{
    static const struct {
        const char *variable;
        CassError (*set)(CassSsl *, const char *);
    } files[] = {{"CHAMBERLAIN_CASSANDRA_TLS_CA", cass_ssl_add_trusted_cert},
                 {"CHAMBERLAIN_CASSANDRA_TLS_CERT", cass_ssl_set_cert},
                 {"CHAMBERLAIN_CASSANDRA_TLS_KEY", set_key}};
    if (getenv(files[0].variable) == NULL)
        return 0;
    CassSsl *ssl = cass_ssl_new();
    cass_ssl_set_verify_flags(ssl, CASS_SSL_VERIFY_PEER_CERT | CASS_SSL_VERIFY_PEER_IDENTITY);
    int code = 0;
    for (size_t i = 0; i < sizeof files / sizeof *files && code == 0; i++)
        code = set_tls_file(ssl, files[i].variable, files[i].set, err);
    if (code == 0)
        cass_cluster_set_ssl(cluster, ssl);
    cass_ssl_free(ssl);
    return code;
}

static int configure(CassCluster *cluster, const char *place, const char *own_datacentre, struct error *err)
{
    cass_cluster_set_connect_timeout(cluster, CONNECT_TIMEOUT_MS);
    cass_cluster_set_request_timeout(cluster, REQUEST_TIMEOUT_MS);
    cass_cluster_set_core_connections_per_host(cluster, CONNECTIONS_PER_HOST);
    cass_cluster_set_exponential_reconnect(cluster, RECONNECT_BASE_MS, RECONNECT_MAX_MS);
    const char *comma = strchr(place, ','), *slash = strchr(place, '/');
    if (comma && slash && comma < slash)
        cass_cluster_set_constant_speculative_execution_policy(cluster, SPECULATIVE_AFTER_MS, 1);
    cass_cluster_set_token_aware_routing(cluster, cass_true);
    const char *datacentre = *own_datacentre ? own_datacentre : getenv("CHAMBERLAIN_CASSANDRA_DATACENTRE");
    if (datacentre && *datacentre)
        cass_cluster_set_load_balance_dc_aware(cluster, datacentre, 0, cass_false);
    CassTimestampGen *timestamps = cass_timestamp_gen_monotonic_new();
    cass_cluster_set_timestamp_gen(cluster, timestamps);
    cass_timestamp_gen_free(timestamps);
    CassRetryPolicy *retry = cass_retry_policy_default_new();
    cass_cluster_set_retry_policy(cluster, retry);
    cass_retry_policy_free(retry);
    int code = set_hosts(cluster, place, err);
    if (code == 0)
        code = set_consistency(cluster, err);
    if (code == 0)
        code = set_credentials(cluster, err);
    return code ? code : set_tls(cluster, err);
}

int cassandra_session_open(struct cassandra_session *session, const char *place, bool with_keyspace,
                           struct error *err)
{
    *session = (struct cassandra_session){0};
    struct cassandra_place parts;
    int code = cassandra_place_parse(place, &parts, err);
    if (code)
        return code;
    snprintf(session->place, sizeof session->place, "%s", place);
    cass_log_set_level(CASS_LOG_ERROR);
    cass_log_set_callback(log_driver, NULL);
    pthread_mutex_init(&session->lock, NULL);
    session->cluster = cass_cluster_new();
    session->session = cass_session_new();
    code = configure(session->cluster, place, parts.datacentre, err);
    if (code == 0) {
        CassFuture *future =
            with_keyspace ? cass_session_connect_keyspace(session->session, session->cluster, parts.keyspace)
                          : cass_session_connect(session->session, session->cluster);
        CassError error = cass_future_error_code(future);
        code = cassandra_receive(session, future, "connecting", NULL, err);
        if (error == CASS_ERROR_LIB_UNABLE_TO_SET_KEYSPACE)
            code = error_set(
                err, ERR_NOT_FOUND,
                "store cassandra:%s: there is no keyspace %s; create it with `chamberlain store init --store "
                "cassandra:%s`",
                place, parts.keyspace, place);
    }
    if (code)
        cassandra_session_close(session);
    return code;
}

void cassandra_session_close(struct cassandra_session *session)
{
    for (size_t i = 0; i < CQL_STATEMENTS; i++)
        if (session->prepared[i])
            cass_prepared_free(session->prepared[i]);
    cass_session_free(session->session); /* closes, and waits for it */
    cass_cluster_free(session->cluster);
    pthread_mutex_destroy(&session->lock);
    *session = (struct cassandra_session){0};
}

int cassandra_session_prepare(struct cassandra_session *session, struct error *err)
{
    CassFuture *futures[CQL_STATEMENTS];
    for (size_t i = 0; i < CQL_STATEMENTS; i++)
        futures[i] = cass_session_prepare(session->session, statement_texts[i]);
    int code = 0;
    for (size_t i = 0; i < CQL_STATEMENTS; i++) {
        CassError error = cass_future_error_code(futures[i]);
        if (error == CASS_OK)
            session->prepared[i] = cass_future_get_prepared(futures[i]);
        if (code == 0 && error != CASS_OK) {
            code = cassandra_receive(session, futures[i], "preparing a statement", NULL, err);
            continue;
        }
        cass_future_free(futures[i]);
    }
    return code;
}

/* --- requests --- */

CassStatement *cassandra_bind(struct cassandra_session *session, enum cassandra_statement which,
                              const char *types, ...)
{
    CassStatement *statement = cass_prepared_bind(session->prepared[which]);
    cass_statement_set_is_idempotent(statement, which == CQL_ADD_COUNT ? cass_false : cass_true);
    va_list values;
    va_start(values, types);
    for (size_t i = 0; types[i]; i++) {
        switch (types[i]) {
        case 't':
            cass_statement_bind_string(statement, i, va_arg(values, const char *));
            break;
        case 'l':
            cass_statement_bind_int64(statement, i, va_arg(values, int64_t));
            break;
        case 'i':
            cass_statement_bind_int32(statement, i, va_arg(values, int));
            break;
        case 'o':
            cass_statement_bind_bool(statement, i, va_arg(values, int) ? cass_true : cass_false);
            break;
        default: {
            const void *bytes = va_arg(values, const void *);
            size_t length = va_arg(values, size_t);
            cass_statement_bind_bytes(statement, i, bytes ? bytes : "", length);
        }
        }
    }
    va_end(values);
    return statement;
}

CassFuture *cassandra_send(struct cassandra_session *session, CassStatement *statement)
{
    CassFuture *future = cass_session_execute(session->session, statement);
    cass_statement_free(statement);
    return future;
}

static void wave_receive(struct cassandra_wave *wave)
{
    struct error err;
    for (size_t i = 0; i < wave->count; i++) {
        int code = cassandra_receive(wave->session, wave->futures[i], wave->what, NULL, &err);
        if (code && wave->code == 0) {
            wave->code = code;
            if (wave->err)
                *wave->err = err;
        }
    }
    wave->count = 0;
}

void cassandra_wave_add(struct cassandra_wave *wave, CassStatement *statement)
{
    if (wave->count == CASSANDRA_WAVE)
        wave_receive(wave);
    wave->futures[wave->count++] = cassandra_send(wave->session, statement);
}

int cassandra_wave_end(struct cassandra_wave *wave)
{
    wave_receive(wave);
    return wave->code;
}

/* --- values --- */

bool cassandra_is_null(const CassRow *row, size_t column)
{
    return cass_value_is_null(cass_row_get_column(row, column)) == cass_true;
}

int64_t cassandra_int64(const CassRow *row, size_t column)
{
    cass_int64_t value = 0;
    cass_value_get_int64(cass_row_get_column(row, column), &value);
    return value;
}

int32_t cassandra_int32(const CassRow *row, size_t column)
{
    cass_int32_t value = 0;
    cass_value_get_int32(cass_row_get_column(row, column), &value);
    return value;
}

bool cassandra_bool(const CassRow *row, size_t column)
{
    cass_bool_t value = cass_false;
    cass_value_get_bool(cass_row_get_column(row, column), &value);
    return value == cass_true;
}

const char *cassandra_text(const CassRow *row, size_t column, struct arena *arena)
{
    const char *text = "";
    size_t length = 0;
    if (cass_value_get_string(cass_row_get_column(row, column), &text, &length) != CASS_OK)
        return "";
    return arena_strndup(arena, text, length);
}

const void *cassandra_bytes(const CassRow *row, size_t column, size_t *length)
{
    const cass_byte_t *bytes = NULL;
    *length = 0;
    if (cass_value_get_bytes(cass_row_get_column(row, column), &bytes, length) != CASS_OK)
        *length = 0;
    return bytes;
}

/* --- contexts --- */

enum {
    COLUMN_ID,
    COLUMN_TOOL,
    COLUMN_CHAMBER,
    COLUMN_SEEN,
    COLUMN_SEEN_END,
    COLUMN_HAS_TCHART,
    COLUMN_COMPLETED,
    COLUMN_END,
    COLUMN_RECIPE,
    COLUMN_LOT,
    COLUMN_CHUNK_COUNT,
    COLUMN_HASHES,
    COLUMN_ANNOUNCEMENT,
    COLUMN_DEAD_REASON,
    COLUMN_DEAD_COMPLETE,
    COLUMN_JUDGED_RECIPE,
    COLUMN_JUDGED_END
};

CassStatement *cassandra_context_statement(struct cassandra_session *session, const struct store_key *key)
{
    return cassandra_bind(session, CQL_CONTEXT, "ttt", key->context_id, key->tool, key->chamber);
}

static int copy_hashes(const CassRow *row, struct arena *arena, struct cassandra_context *context,
                       struct error *err)
{
    size_t length, wanted = (size_t)context->chunk_count * sizeof *context->hashes;
    const void *hashes = cassandra_bytes(row, COLUMN_HASHES, &length);
    if (length != wanted)
        return error_set(err, ERR_CORRUPT,
                         "store: context %s: chunk_hashes has not one hash for each of %d chunks",
                         context->key.context_id, context->chunk_count);
    context->hashes = arena_calloc(arena, (size_t)context->chunk_count, sizeof *context->hashes);
    if (context->hashes == NULL)
        return ERR_NO_MEMORY;
    if (length > 0)
        memcpy(context->hashes, hashes, length);
    return 0;
}

/* The state follows from which columns there are: a U-chart outweighs everything; a dead mark counts unless
 * it was made before the context was complete and it is complete now. */
int cassandra_context_of_row(const CassRow *row, struct arena *arena, struct cassandra_context *context,
                             struct error *err)
{
    *context = (struct cassandra_context){.key = {.tool = cassandra_text(row, COLUMN_TOOL, arena),
                                                  .chamber = cassandra_text(row, COLUMN_CHAMBER, arena),
                                                  .context_id = cassandra_text(row, COLUMN_ID, arena)},
                                          .known = true,
                                          .completed = !cassandra_is_null(row, COLUMN_COMPLETED),
                                          .judged = !cassandra_is_null(row, COLUMN_JUDGED_END),
                                          .has_tchart = cassandra_bool(row, COLUMN_HAS_TCHART),
                                          .recipe = cassandra_text(row, COLUMN_RECIPE, arena),
                                          .lot = cassandra_text(row, COLUMN_LOT, arena),
                                          .announcement = cassandra_text(row, COLUMN_ANNOUNCEMENT, arena),
                                          .judged_recipe = cassandra_text(row, COLUMN_JUDGED_RECIPE, arena),
                                          .judged_end_us = cassandra_int64(row, COLUMN_JUDGED_END),
                                          .chunk_count = cassandra_int32(row, COLUMN_CHUNK_COUNT)};
    context->end_us = cassandra_int64(row, context->completed ? COLUMN_END : COLUMN_SEEN_END);
    context->ingest_us = cassandra_int64(row, context->completed ? COLUMN_COMPLETED : COLUMN_SEEN);
    context->dead = !context->judged && !cassandra_is_null(row, COLUMN_DEAD_REASON) &&
                    (!context->completed || cassandra_bool(row, COLUMN_DEAD_COMPLETE));
    context->dead_reason = context->dead ? cassandra_text(row, COLUMN_DEAD_REASON, arena) : "";
    const char *const texts[] = {context->key.tool,      context->key.chamber, context->key.context_id,
                                 context->recipe,        context->lot,         context->announcement,
                                 context->judged_recipe, context->dead_reason};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (texts[i] == NULL)
            return error_set(err, ERR_NO_MEMORY, "store: out of memory for a context");
    if (context->chunk_count < 0 || context->chunk_count > STORE_CHUNKS_MAX)
        return error_set(err, ERR_CORRUPT, "store: context %s has %d chunks", context->key.context_id,
                         context->chunk_count);
    return context->completed ? copy_hashes(row, arena, context, err) : 0;
}

int cassandra_context_receive(struct cassandra_session *session, CassFuture *future, struct arena *arena,
                              struct cassandra_context *context, struct error *err)
{
    *context = (struct cassandra_context){0};
    const CassResult *result = NULL;
    int code = cassandra_receive(session, future, "reading a context", &result, err);
    if (code)
        return code;
    const CassRow *row = cass_result_first_row(result);
    if (row)
        code = cassandra_context_of_row(row, arena, context, err);
    cass_result_free(result);
    return code;
}

void cassandra_context_completion(const struct cassandra_context *context,
                                  struct store_completion *completion)
{
    *completion = (struct store_completion){.key = context->key,
                                            .recipe = context->recipe,
                                            .lot = context->lot,
                                            .end_us = context->end_us,
                                            .completed_us = context->ingest_us,
                                            .chunk_count = context->chunk_count,
                                            .announcement = context->announcement,
                                            .state = context->judged ? STORE_JUDGED
                                                     : context->dead ? STORE_DEAD
                                                                     : STORE_PENDING,
                                            .dead_reason = context->dead_reason};
}
