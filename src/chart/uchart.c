#include "chart/uchart.h"

#include "base/hash.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

/* The points form. Everything little-endian.
 *
 *      0  'U' 'P'          what it is
 *      2  u16              version, 1
 *      4  u32 n            points
 *      8  u64              chart set
 *     16  u64              xxHash64 of bytes 0..15 and 24..end
 *     24  n x u64          series
 *         n x f64          values; a missing one is the NaN 0x7ff8000000000000
 *         n x u8           flags
 *
 * The verdicts form.
 *
 *      0  'U' 'V'
 *      2  u16              version, 1
 *      4  u32 n            points
 *      8  u64              the hash in the points form that these verdicts belong to
 *     16  u64              xxHash64 of bytes 0..15 and 24..end
 *     24  n x f64          centre, then n x lower, n x upper
 *         n x u32          rules, then n x history_count
 *         n x u8           state, then n x severity
 *         n x 3 texts      chart, unit, reason: u16 length and the bytes, without terminator */
enum {
    HEADER_BYTES = 24,
    HASH_OFFSET = 16,
    UCHART_VERSION = 1,
    POINT_BYTES = 8 + 8 + 1,
    VERDICT_BYTES = 3 * 8 + 2 * 4 + 2,
    TEXT_MAX_BYTES = 65535,
    POINT_FLAGS_KNOWN = POINT_ALARMED | POINT_LOW_QUALITY | POINT_MISSING
};

static const uint64_t CANONICAL_NAN = UINT64_C(0x7ff8000000000000);

static uint64_t get(const unsigned char *p, size_t bytes)
{
    uint64_t x = 0;
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    memcpy(&x, p, bytes);
#else
    for (size_t i = 0; i < bytes; i++)
        x |= (uint64_t)p[i] << (8 * i);
#endif
    return x;
}

static unsigned char *put(unsigned char *p, uint64_t x, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        p[i] = (unsigned char)(x >> (8 * i));
    return p + bytes;
}

static double get_double(const unsigned char *p)
{
    uint64_t bits = get(p, 8);
    double x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Every NaN is written alike: which bits an operation leaves in one differs between processors. */
static unsigned char *put_double(unsigned char *p, double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return put(p, isnan(x) ? CANONICAL_NAN : bits, 8);
}

static uint64_t checksum(const unsigned char *bytes, size_t length)
{
    unsigned char parts[16];
    put(parts, hash64(bytes, HASH_OFFSET), 8);
    put(parts + 8, hash64(bytes + HEADER_BYTES, length - HEADER_BYTES), 8);
    return hash64(parts, sizeof parts);
}

static void seal(unsigned char *bytes, size_t length)
{
    put(bytes + HASH_OFFSET, checksum(bytes, length), 8);
}

/* The header of either form; `kind` is its second letter. */
static int open_header(const unsigned char *bytes, size_t length, char kind, size_t *count, struct error *err)
{
    const char *form = kind == 'P' ? "points" : "verdicts";
    if (length < HEADER_BYTES)
        return error_set(err, ERR_CORRUPT, "U-chart %s: %zu bytes are too few for the header of %d", form,
                         length, HEADER_BYTES);
    if (bytes[0] != 'U' || bytes[1] != (unsigned char)kind)
        return error_set(err, ERR_CORRUPT, "U-chart %s: offset 0: not a U-chart (0x%02x 0x%02x)", form,
                         bytes[0], bytes[1]);
    if (get(bytes + 2, 2) != UCHART_VERSION)
        return error_set(err, ERR_CORRUPT, "U-chart %s: offset 2: version %u; this program reads %d", form,
                         (unsigned)get(bytes + 2, 2), UCHART_VERSION);
    *count = (size_t)get(bytes + 4, 4);
    size_t fixed = kind == 'P' ? POINT_BYTES : VERDICT_BYTES + 3 * 2;
    size_t body = length - HEADER_BYTES;
    if (*count > body / fixed || (kind == 'P' && *count * fixed != body))
        return error_set(err, ERR_CORRUPT, "U-chart %s: offset 4: %zu points do not fit %zu bytes", form,
                         *count, length);
    if (get(bytes + HASH_OFFSET, 8) != checksum(bytes, length))
        return error_set(err, ERR_CORRUPT, "U-chart %s: offset %d: the checksum does not match the %zu bytes",
                         form, HASH_OFFSET, length);
    return 0;
}

static int encode_points(const struct uchart *uchart, struct arena *arena, struct uchart_bytes *bytes,
                         struct error *err)
{
    size_t n = uchart->count, length = HEADER_BYTES + n * POINT_BYTES;
    unsigned char *begin = arena_alloc(arena, length), *p = begin;
    if (begin == NULL)
        return error_set(err, ERR_NO_MEMORY, "out of memory for a U-chart of %zu points", n);
    *p++ = 'U';
    *p++ = 'P';
    p = put(p, UCHART_VERSION, 2);
    p = put(p, n, 4);
    p = put(p, uchart->chart_set, 8);
    p = put(p, 0, 8);
    for (size_t i = 0; i < n; i++)
        p = put(p, uchart->points[i].series, 8);
    for (size_t i = 0; i < n; i++)
        p = put_double(p, uchart->points[i].value);
    for (size_t i = 0; i < n; i++)
        p = put(p, uchart->points[i].flags, 1);
    seal(begin, length);
    bytes->points = begin;
    bytes->points_length = length;
    return 0;
}

static unsigned char *put_text(unsigned char *p, const char *text)
{
    size_t length = strlen(text);
    p = put(p, length, 2);
    memcpy(p, text, length);
    return p + length;
}

static int verdicts_length(const struct uchart *uchart, size_t *length, struct error *err)
{
    *length = HEADER_BYTES + uchart->count * VERDICT_BYTES;
    for (size_t i = 0; i < uchart->count; i++) {
        const char *texts[] = {uchart->points[i].chart, uchart->points[i].unit, uchart->points[i].reason};
        for (size_t j = 0; j < 3; j++) {
            size_t bytes = strlen(texts[j]);
            if (bytes > TEXT_MAX_BYTES)
                return error_set(err, ERR_LIMIT, "a text of point %zu has %zu bytes; at most %d are stored",
                                 i, bytes, TEXT_MAX_BYTES);
            *length += 2 + bytes;
        }
    }
    return 0;
}

static int encode_verdicts(const struct uchart *uchart, struct arena *arena, struct uchart_bytes *bytes,
                           struct error *err)
{
    size_t n = uchart->count, length;
    int code = verdicts_length(uchart, &length, err);
    if (code)
        return code;
    unsigned char *begin = arena_alloc(arena, length), *p = begin;
    if (begin == NULL)
        return error_set(err, ERR_NO_MEMORY, "out of memory for a U-chart of %zu points", n);
    const struct uchart_point *points = uchart->points;
    *p++ = 'U';
    *p++ = 'V';
    p = put(p, UCHART_VERSION, 2);
    p = put(p, n, 4);
    p = put(p, get((const unsigned char *)bytes->points + HASH_OFFSET, 8), 8);
    p = put(p, 0, 8);
    for (size_t i = 0; i < n; i++)
        p = put_double(p, points[i].centre);
    for (size_t i = 0; i < n; i++)
        p = put_double(p, points[i].lower);
    for (size_t i = 0; i < n; i++)
        p = put_double(p, points[i].upper);
    for (size_t i = 0; i < n; i++)
        p = put(p, points[i].rules, 4);
    for (size_t i = 0; i < n; i++)
        p = put(p, points[i].history_count, 4);
    for (size_t i = 0; i < n; i++)
        p = put(p, (uint64_t)points[i].state, 1);
    for (size_t i = 0; i < n; i++)
        p = put(p, (uint64_t)points[i].severity, 1);
    for (size_t i = 0; i < n; i++) {
        p = put_text(p, points[i].chart);
        p = put_text(p, points[i].unit);
        p = put_text(p, points[i].reason);
    }
    seal(begin, length);
    bytes->verdicts = begin;
    bytes->verdicts_length = length;
    return 0;
}

int uchart_encode(const struct uchart *uchart, struct arena *arena, struct uchart_bytes *bytes,
                  struct error *err)
{
    if (uchart->count > UINT32_MAX)
        return error_set(err, ERR_LIMIT, "a U-chart of %zu points", uchart->count);
    int code = encode_points(uchart, arena, bytes, err);
    return code ? code : encode_verdicts(uchart, arena, bytes, err);
}

int uchart_view_open(const void *points, size_t length, struct uchart_view *view, struct error *err)
{
    const unsigned char *bytes = points;
    size_t n;
    int code = open_header(bytes, length, 'P', &n, err);
    if (code)
        return code;
    *view = (struct uchart_view){
        .chart_set = get(bytes + 8, 8),
        .count = n,
        .series = bytes + HEADER_BYTES,
        .values = bytes + HEADER_BYTES + n * 8,
        .flags = bytes + HEADER_BYTES + n * 16,
    };
    return 0;
}

uint64_t uchart_view_series(const struct uchart_view *view, size_t i)
{
    return get(view->series + i * 8, 8);
}

double uchart_view_value(const struct uchart_view *view, size_t i)
{
    return get_double(view->values + i * 8);
}

uint32_t uchart_view_flags(const struct uchart_view *view, size_t i)
{
    return view->flags[i];
}

void uchart_view_values(const struct uchart_view *view, size_t first, size_t count, double *values)
{
    for (size_t i = 0; i < count; i++)
        values[i] = get_double(view->values + (first + i) * 8);
}

bool uchart_view_begins_with(const struct uchart_view *view, const uint64_t *series, size_t count)
{
    if (view->count < count)
        return false;
    uint64_t difference = 0;
    for (size_t i = 0; i < count; i++)
        difference |= get(view->series + i * 8, 8) ^ series[i];
    return difference == 0;
}

/* What is read, how far. */
struct reader {
    const unsigned char *begin, *p, *end;
    struct arena *arena;
};

static int corrupt(const struct reader *reader, const char *what, struct error *err)
{
    return error_set(err, ERR_CORRUPT, "U-chart verdicts: offset %zu: %s",
                     (size_t)(reader->p - reader->begin), what);
}

static int read_text(struct reader *reader, const char **text, struct error *err)
{
    if (reader->end - reader->p < 2)
        return corrupt(reader, "the length of a text is cut off", err);
    size_t length = (size_t)get(reader->p, 2);
    if ((size_t)(reader->end - reader->p) - 2 < length)
        return corrupt(reader, "a text is cut off", err);
    if (memchr(reader->p + 2, '\0', length))
        return corrupt(reader, "a text has a zero byte", err);
    *text = arena_strndup(reader->arena, (const char *)reader->p + 2, length);
    if (*text == NULL)
        return error_set(err, ERR_NO_MEMORY, "out of memory for the texts of a U-chart");
    reader->p += 2 + length;
    return 0;
}

static int read_columns(struct reader *reader, struct uchart *uchart, struct error *err)
{
    size_t n = uchart->count;
    const unsigned char *p = reader->p, *whole = p + n * 32;
    for (size_t i = 0; i < n; i++) {
        struct uchart_point *point = &uchart->points[i];
        point->centre = get_double(p + i * 8);
        point->lower = get_double(p + (n + i) * 8);
        point->upper = get_double(p + (2 * n + i) * 8);
        point->rules = (uint32_t)get(p + n * 24 + i * 4, 4);
        point->history_count = (uint32_t)get(p + n * 28 + i * 4, 4);
        reader->p = whole + i;
        if (whole[i] > VERDICT_MISSING)
            return corrupt(reader, "an unknown state", err);
        reader->p = whole + n + i;
        if (whole[n + i] > SEVERITY_CRITICAL)
            return corrupt(reader, "an unknown severity", err);
        point->state = (enum verdict_state)whole[i];
        point->severity = (enum severity)whole[n + i];
    }
    reader->p = whole + 2 * n;
    return 0;
}

static int read_verdicts(const struct uchart_bytes *bytes, struct arena *arena, struct uchart *uchart,
                         struct error *err)
{
    struct reader reader = {.begin = bytes->verdicts, .arena = arena};
    size_t n;
    int code = open_header(reader.begin, bytes->verdicts_length, 'V', &n, err);
    if (code)
        return code;
    reader.p = reader.begin + 8;
    if (n != uchart->count || get(reader.p, 8) != get((const unsigned char *)bytes->points + HASH_OFFSET, 8))
        return corrupt(&reader, "these verdicts belong to other points", err);
    reader.p = reader.begin + HEADER_BYTES;
    reader.end = reader.begin + bytes->verdicts_length;
    code = read_columns(&reader, uchart, err);
    for (size_t i = 0; code == 0 && i < n; i++) {
        code = read_text(&reader, &uchart->points[i].chart, err);
        if (code == 0)
            code = read_text(&reader, &uchart->points[i].unit, err);
        if (code == 0)
            code = read_text(&reader, &uchart->points[i].reason, err);
    }
    if (code == 0 && reader.p != reader.end)
        code = corrupt(&reader, "bytes after the last text", err);
    return code;
}

int uchart_decode(const struct uchart_bytes *bytes, struct arena *arena, struct uchart *uchart,
                  struct error *err)
{
    struct uchart_view view;
    int code = uchart_view_open(bytes->points, bytes->points_length, &view, err);
    if (code)
        return code;
    *uchart = (struct uchart){.chart_set = view.chart_set, .count = view.count};
    uchart->points = arena_calloc(arena, view.count, sizeof *uchart->points);
    if (uchart->points == NULL)
        return error_set(err, ERR_NO_MEMORY, "out of memory for a U-chart of %zu points", view.count);
    for (size_t i = 0; i < view.count; i++) {
        uchart->points[i].series = uchart_view_series(&view, i);
        uchart->points[i].value = uchart_view_value(&view, i);
        uchart->points[i].flags = uchart_view_flags(&view, i);
        if (uchart->points[i].flags & ~(uint32_t)POINT_FLAGS_KNOWN)
            return error_set(err, ERR_CORRUPT, "U-chart points: offset %zu: unknown flags 0x%02x",
                             HEADER_BYTES + view.count * 16 + i, (unsigned)uchart->points[i].flags);
    }
    return read_verdicts(bytes, arena, uchart, err);
}

enum severity uchart_worst_severity(const struct uchart *uchart)
{
    enum severity worst = SEVERITY_NONE;
    for (size_t i = 0; i < uchart->count; i++) {
        if (uchart->points[i].severity > worst)
            worst = uchart->points[i].severity;
    }
    return worst;
}

const char *severity_name(enum severity severity)
{
    static const char *const names[] = {"none", "info", "warning", "critical"};
    return (unsigned)severity <= SEVERITY_CRITICAL ? names[severity] : "unknown";
}

const char *verdict_state_name(enum verdict_state state)
{
    static const char *const names[] = {"normal", "alarm", "learning", "missing"};
    return (unsigned)state <= VERDICT_MISSING ? names[state] : "unknown";
}
