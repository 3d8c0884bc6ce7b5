/* The keyspace and its tables: deploy/cassandra/schema.cql, which the build turns into
 * `cassandra_schema_text`. */
#include "store/cassandra_init.h"
#include "store/cassandra_session.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

extern const char cassandra_schema_text[];

enum { CQL_MAX_BYTES = 8192, REPLICATION_MAX_BYTES = 512, NOTE_ATTEMPTS = 60, NOTE_PAUSE_MS = 250 };

static int run(struct cassandra_session *session, const char *cql, const char *what,
               const CassResult **result, struct error *err)
{
    CassStatement *statement = cass_statement_new(cql, 0);
    return cassandra_receive(session, cassandra_send(session, statement), what, result, err);
}

/* 0: there are no tables. */
static int read_version(struct cassandra_session *session, int *version, struct error *err)
{
    struct cassandra_place parts;
    char cql[256], *lower = parts.keyspace;
    int code = cassandra_place_parse(session->place, &parts, err);
    if (code)
        return code;
    *version = 0;
    for (size_t i = 0; lower[i]; i++) /* unquoted names are lower case in the servers' tables */
        lower[i] = (char)tolower((unsigned char)lower[i]);
    snprintf(cql, sizeof cql,
             "SELECT table_name FROM system_schema.tables WHERE keyspace_name = '%s' AND table_name = "
             "'schema_version'",
             lower);
    const CassResult *result = NULL;
    code = run(session, cql, "reading the schema", &result, err);
    if (code)
        return code;
    bool there = cass_result_row_count(result) > 0;
    cass_result_free(result);
    if (!there)
        return 0;
    snprintf(cql, sizeof cql, "SELECT version FROM %s.schema_version WHERE one = 1", lower);
    code = run(session, cql, "reading the schema's version", &result, err);
    if (code)
        return code;
    const CassRow *row = cass_result_first_row(result);
    if (row)
        *version = cassandra_int32(row, 0);
    cass_result_free(result);
    return 0;
}

static int refuse_newer(const struct cassandra_session *session, int version, struct error *err)
{
    return error_set(
        err, ERR_UNSUPPORTED,
        "store cassandra:%s: its tables are of a newer version (%d, this program knows %d); upgrade this "
        "program",
        session->place, version, CASSANDRA_SCHEMA_VERSION);
}

int cassandra_schema_check(struct cassandra_session *session, struct error *err)
{
    int version = 0;
    int code = read_version(session, &version, err);
    if (code)
        return code;
    if (version > CASSANDRA_SCHEMA_VERSION)
        return refuse_newer(session, version, err);
    if (version < CASSANDRA_SCHEMA_VERSION)
        return error_set(
            err, ERR_NOT_FOUND,
            "store cassandra:%s: its tables are %s; run `chamberlain store init --store cassandra:%s`",
            session->place, version ? "of an older version" : "not there", session->place);
    return 0;
}

/* --- init --- */

static bool is_name(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (!isalnum((unsigned char)text[i]) && text[i] != '_' && text[i] != '-' && text[i] != '.')
            return false;
    return length > 0;
}

/* "3" or "dc1=3,dc2=3" as the inside of a CQL map. */
static int replication_map(const char *replication, char map[static REPLICATION_MAX_BYTES], struct error *err)
{
    size_t used = 0;
    for (const char *part = replication; part; part = strchr(part, ',') ? strchr(part, ',') + 1 : NULL) {
        size_t length = strcspn(part, ",");
        const char *equals = memchr(part, '=', length);
        const char *number = equals ? equals + 1 : part;
        char *rest = NULL;
        long copies = strtol(number, &rest, 10);
        bool good =
            isdigit((unsigned char)*number) && rest == part + length && copies >= 1 && copies <= 15 &&
            (equals ? is_name(part, (size_t)(equals - part)) : part == replication && part[length] == '\0');
        if (!good)
            return error_set(
                err, ERR_INVALID,
                "replication \"%s\": write the number of copies in every datacentre (3), or of each "
                "(dc1=3,dc2=3)",
                replication);
        int wrote =
            snprintf(map + used, REPLICATION_MAX_BYTES - used, ", '%.*s': %ld",
                     equals ? (int)(equals - part) : 18, equals ? part : "replication_factor", copies);
        used += (size_t)wrote;
        if (used >= REPLICATION_MAX_BYTES)
            return error_set(err, ERR_LIMIT, "replication \"%s\" is too long", replication);
    }
    return 0;
}

static int create_keyspace(const char *place, const char *replication, struct error *err)
{
    char map[REPLICATION_MAX_BYTES] = "", cql[REPLICATION_MAX_BYTES + 256];
    struct cassandra_place parts;
    int code = cassandra_place_parse(place, &parts, err);
    if (code == 0)
        code = replication_map(replication, map, err);
    struct cassandra_session session;
    if (code == 0)
        code = cassandra_session_open(&session, place, false, err);
    if (code)
        return code;
    snprintf(cql, sizeof cql,
             "CREATE KEYSPACE IF NOT EXISTS %s WITH replication = {'class': 'NetworkTopologyStrategy'%s}",
             parts.keyspace, map);
    code = run(&session, cql, "creating the keyspace", NULL, err);
    cassandra_session_close(&session);
    return code;
}

/* Runs the statements of one section of schema.cql; comments and empty lines are left out. */
static int run_section(struct cassandra_session *session, const char *text, const char *end,
                       struct error *err)
{
    char cql[CQL_MAX_BYTES];
    size_t used = 0;
    while (text < end) {
        size_t length = strcspn(text, "\n");
        bool comment = strncmp(text, "--", 2) == 0;
        if (!comment && used + length + 2 > sizeof cql)
            return error_set(err, ERR_LIMIT, "schema.cql: a statement is longer than %d bytes",
                             CQL_MAX_BYTES);
        if (!comment && length > 0) {
            memcpy(cql + used, text, length);
            used += length;
            cql[used++] = ' ';
        }
        if (used >= 2 && cql[used - 2] == ';') {
            cql[used - 2] = '\0';
            int code = run(session, cql, "creating the tables", NULL, err);
            if (code)
                return code;
            used = 0;
        }
        text += length + (text[length] == '\n');
    }
    return 0;
}

/* By every server that keeps the row: whoever opens the store next, in whichever datacentre, sees it. Servers
 * that have not heard of the table yet refuse at first. */
static int note_version(struct cassandra_session *session, const char *cql, struct error *err)
{
    int code;
    for (int attempt = 0;; attempt++) {
        CassStatement *statement = cass_statement_new(cql, 0);
        cass_statement_set_consistency(statement, CASS_CONSISTENCY_ALL);
        code = cassandra_receive(session, cassandra_send(session, statement), "noting the schema's version",
                                 NULL, err);
        if (!error_is_transient(code) || attempt == NOTE_ATTEMPTS)
            return code;
        nanosleep(&(struct timespec){.tv_nsec = NOTE_PAUSE_MS * 1000000L}, NULL);
    }
}

static int migrate(struct cassandra_session *session, int from, struct error *err)
{
    for (int version = from + 1; version <= CASSANDRA_SCHEMA_VERSION; version++) {
        char start[32], next[32], cql[128];
        snprintf(start, sizeof start, "\n-- version %d\n", version);
        snprintf(next, sizeof next, "\n-- version %d\n", version + 1);
        const char *text = strstr(cassandra_schema_text, start);
        if (text == NULL)
            return error_set(err, ERR_UNSUPPORTED, "schema.cql has no section for version %d", version);
        const char *end = strstr(text, next);
        int code = run_section(session, text + 1, end ? end : text + strlen(text), err);
        snprintf(cql, sizeof cql, "INSERT INTO schema_version (one, version) VALUES (1, %d)", version);
        if (code == 0)
            code = note_version(session, cql, err);
        if (code)
            return code;
    }
    return 0;
}

int cassandra_init(const char *place, const char *replication, struct cassandra_init_result *result,
                   struct error *err)
{
    *result = (struct cassandra_init_result){0};
    int code = create_keyspace(place, replication, err);
    struct cassandra_session session;
    if (code == 0)
        code = cassandra_session_open(&session, place, true, err);
    if (code)
        return code;
    code = read_version(&session, &result->version_before, err);
    if (code == 0 && result->version_before > CASSANDRA_SCHEMA_VERSION)
        code = refuse_newer(&session, result->version_before, err);
    if (code == 0)
        code = migrate(&session, result->version_before, err);
    if (code == 0)
        result->version_now = CASSANDRA_SCHEMA_VERSION;
    cassandra_session_close(&session);
    return code;
}
