#include "chart/equation.h"

#include "base/hash.h"
#include "base/strbuf.h"
#include "chart/elementary.h"
#include "chart/nearest.h"

#include <assert.h>
#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum {
    STACK_MAX = 512,               /* values that wait while an equation is combined */
    POWER_MAX = 64,                /* |exponent| */
    NUMBER_MAX_BYTES = 64,         /* of one number as written */
    WINDOW_MAX_SECONDS = 10000000, /* 115 days */
    WINDOW_MAX_SAMPLES = 1000000000
};

enum parameter_kind { PARAMETER_NONE, PARAMETER_PERCENT, PARAMETER_LEVEL };

static const struct {
    const char *name;
    bool two;
    enum parameter_kind parameter;
} STATISTICS[STATISTIC_KINDS] = {
    [STATISTIC_COUNT] = {"count", false, PARAMETER_NONE},
    [STATISTIC_MEAN] = {"mean", false, PARAMETER_NONE},
    [STATISTIC_STD] = {"std", false, PARAMETER_NONE},
    [STATISTIC_MIN] = {"min", false, PARAMETER_NONE},
    [STATISTIC_MAX] = {"max", false, PARAMETER_NONE},
    [STATISTIC_RANGE] = {"range", false, PARAMETER_NONE},
    [STATISTIC_MEDIAN] = {"median", false, PARAMETER_NONE},
    [STATISTIC_PERCENTILE] = {"percentile", false, PARAMETER_PERCENT},
    [STATISTIC_FIRST] = {"first", false, PARAMETER_NONE},
    [STATISTIC_LAST] = {"last", false, PARAMETER_NONE},
    [STATISTIC_SUM] = {"sum", false, PARAMETER_NONE},
    [STATISTIC_INTEGRAL] = {"integral", false, PARAMETER_NONE},
    [STATISTIC_SLOPE] = {"slope", false, PARAMETER_NONE},
    [STATISTIC_RMS] = {"rms", false, PARAMETER_NONE},
    [STATISTIC_DURATION] = {"duration", false, PARAMETER_NONE},
    [STATISTIC_DURATION_ABOVE] = {"duration_above", false, PARAMETER_LEVEL},
    [STATISTIC_DURATION_BELOW] = {"duration_below", false, PARAMETER_LEVEL},
    [STATISTIC_CORR] = {"corr", true, PARAMETER_NONE},
    [STATISTIC_MAX_ABS_DIFF] = {"max_abs_diff", true, PARAMETER_NONE},
    [STATISTIC_MEAN_DIFF] = {"mean_diff", true, PARAMETER_NONE},
};

static const struct {
    const char *name;
    enum equation_op op;
    size_t arguments;
} FUNCTIONS[] = {
    {"abs", EQUATION_ABS, 1}, {"sqrt", EQUATION_SQRT, 1}, {"log", EQUATION_LOG, 1},
    {"exp", EQUATION_EXP, 1}, {"min2", EQUATION_MIN2, 2}, {"max2", EQUATION_MAX2, 2},
};

enum { FUNCTION_COUNT = sizeof FUNCTIONS / sizeof *FUNCTIONS };

const char *statistic_name(enum statistic statistic)
{
    return STATISTICS[statistic].name;
}

bool statistic_reads_two(enum statistic statistic)
{
    return STATISTICS[statistic].two;
}

enum token_kind {
    TOKEN_END,
    TOKEN_NUMBER,
    TOKEN_NAME,
    TOKEN_QUOTED,
    TOKEN_DOTS, /* .. */
    TOKEN_SIGN, /* one of ( ) , + - * / ^ */
    TOKEN_BAD
};

struct token {
    enum token_kind kind;
    size_t begin, end;           /* in the text */
    size_t text_begin, text_end; /* without the quotes */
    char sign;
    double number;
};

struct node {
    enum equation_op op;
    struct node *left, *right;
    size_t term;
    int exponent;
    double constant;
};

struct parser {
    const char *text;
    size_t length;
    struct token token; /* the next one */
    struct arena *arena;
    struct equation_problems *problems;
    struct equation_term *terms;
    size_t term_count, term_capacity;
    size_t node_count, depth;
    bool stopped; /* by a syntax error or for want of memory: what follows would be guesswork */
    bool out_of_memory;
};

static void report(struct parser *parser, size_t offset, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void report(struct parser *parser, size_t offset, const char *format, ...)
{
    struct equation_problems *problems = parser->problems;
    if (problems->count == EQUATION_MAX_PROBLEMS)
        return;
    char text[ERROR_TEXT_BYTES];
    va_list args;
    va_start(args, format);
    struct error err;
    error_vset(&err, ERR_INVALID, format, args);
    va_end(args);
    memcpy(text, err.text, sizeof text);
    const char *message = arena_strdup(parser->arena, text);
    if (message == NULL) {
        parser->out_of_memory = parser->stopped = true;
        return;
    }
    problems->items[problems->count++] = (struct equation_problem){offset, message};
}

/* Reports once and gives up on the equation. */
#define STOP(parser, offset, ...)                                                                            \
    do {                                                                                                     \
        if (!(parser)->stopped)                                                                              \
            report((parser), (offset), __VA_ARGS__);                                                         \
        (parser)->stopped = true;                                                                            \
    } while (0)

static char at(const struct parser *parser, size_t i)
{
    return i < parser->length ? parser->text[i] : '\0';
}

static bool is_name_start(char c)
{
    return isalpha((unsigned char)c) || c == '_' || (unsigned char)c >= 0x80;
}

static bool is_name_part(char c)
{
    return is_name_start(c) || isdigit((unsigned char)c);
}

/* digits [. digits] [e digits]; a point belongs to the number unless another one follows (4..5). */
static size_t number_end(const struct parser *parser, size_t i)
{
    while (isdigit((unsigned char)at(parser, i)))
        i++;
    if (at(parser, i) == '.' && at(parser, i + 1) != '.') {
        i++;
        while (isdigit((unsigned char)at(parser, i)))
            i++;
    }
    if (at(parser, i) == 'e' || at(parser, i) == 'E') {
        size_t j = i + 1;
        if (at(parser, j) == '+' || at(parser, j) == '-')
            j++;
        if (!isdigit((unsigned char)at(parser, j)))
            return i;
        while (isdigit((unsigned char)at(parser, j)))
            j++;
        return j;
    }
    return i;
}

static void lex_number(struct parser *parser, struct token *token)
{
    char digits[NUMBER_MAX_BYTES + 1];
    token->kind = TOKEN_NUMBER;
    token->end = number_end(parser, token->begin);
    size_t length = token->end - token->begin;
    if (length > NUMBER_MAX_BYTES) {
        STOP(parser, token->begin, "a number of %zu characters; at most %d are read", length,
             NUMBER_MAX_BYTES);
        return;
    }
    memcpy(digits, parser->text + token->begin, length);
    digits[length] = '\0';
    token->number = strtod(digits, NULL);
    if (!isfinite(token->number))
        STOP(parser, token->begin, "the number %s is too large", digits);
}

static void lex_name(struct parser *parser, struct token *token)
{
    size_t i = token->begin;
    token->kind = TOKEN_NAME;
    /* A point belongs to the name when the name goes on after it. */
    while (is_name_part(at(parser, i)) || (at(parser, i) == '.' && is_name_part(at(parser, i + 1))))
        i++;
    token->end = token->text_end = i;
    token->text_begin = token->begin;
}

static void lex_quoted(struct parser *parser, struct token *token)
{
    char quote = at(parser, token->begin);
    size_t i = token->begin + 1;
    while (i < parser->length && at(parser, i) != quote)
        i++;
    token->kind = TOKEN_QUOTED;
    token->text_begin = token->begin + 1;
    token->text_end = i;
    token->end = i + 1;
    if (i < parser->length)
        return;
    token->kind = TOKEN_BAD;
    token->end = i;
    STOP(parser, token->begin, "the quote %c is not closed", quote);
}

static void advance(struct parser *parser)
{
    size_t i = parser->token.end;
    while (i < parser->length && isspace((unsigned char)at(parser, i)))
        i++;
    struct token *token = &parser->token;
    *token = (struct token){.begin = i, .end = i};
    char c = at(parser, i);
    if (i >= parser->length) {
        token->kind = TOKEN_END;
    } else if (isdigit((unsigned char)c) || (c == '.' && isdigit((unsigned char)at(parser, i + 1)))) {
        lex_number(parser, token);
    } else if (c == '.' && at(parser, i + 1) == '.') {
        token->kind = TOKEN_DOTS;
        token->end = i + 2;
    } else if (is_name_start(c)) {
        lex_name(parser, token);
    } else if (c == '"' || c == '\'') {
        lex_quoted(parser, token);
    } else if (c != '\0' && strchr("(),+-*/^", c)) {
        token->kind = TOKEN_SIGN;
        token->sign = c;
        token->end = i + 1;
    } else {
        token->kind = TOKEN_BAD;
        token->end = i + 1;
        STOP(parser, i, "unexpected character '%c'; a sensor name with other characters is written in quotes",
             isprint((unsigned char)c) ? c : '?');
    }
}

static bool next_is(const struct parser *parser, char sign)
{
    return parser->token.kind == TOKEN_SIGN && parser->token.sign == sign;
}

/* Takes the sign if it comes next. */
static bool take(struct parser *parser, char sign)
{
    if (parser->stopped || !next_is(parser, sign))
        return false;
    advance(parser);
    return true;
}

static bool next_is_word(const struct parser *parser, const char *word)
{
    const struct token *token = &parser->token;
    return token->kind == TOKEN_NAME && token->end - token->begin == strlen(word) &&
           memcmp(parser->text + token->begin, word, strlen(word)) == 0;
}

static bool take_word(struct parser *parser, const char *word)
{
    if (parser->stopped || !next_is_word(parser, word))
        return false;
    advance(parser);
    return true;
}

/* What comes next, for a message. */
static const char *describe(struct parser *parser)
{
    const struct token *token = &parser->token;
    if (token->kind == TOKEN_END)
        return "the equation ends";
    size_t length = token->end - token->begin;
    const char *text = arena_printf(parser->arena, "'%.*s' follows", (int)(length < 40 ? length : 40),
                                    parser->text + token->begin);
    return text ? text : "something else follows";
}

static void expect(struct parser *parser, char sign)
{
    if (!parser->stopped && !take(parser, sign))
        STOP(parser, parser->token.begin, "expected '%c', but %s", sign, describe(parser));
}

static char *token_text(struct parser *parser)
{
    const struct token *token = &parser->token;
    char *text =
        arena_strndup(parser->arena, parser->text + token->text_begin, token->text_end - token->text_begin);
    if (text == NULL)
        parser->out_of_memory = parser->stopped = true;
    return text;
}

static struct node *new_node(struct parser *parser, enum equation_op op, struct node *left,
                             struct node *right)
{
    struct node *node = arena_calloc(parser->arena, 1, sizeof *node);
    if (node == NULL) {
        parser->out_of_memory = parser->stopped = true;
        return NULL;
    }
    node->op = op;
    node->left = left;
    node->right = right;
    parser->node_count++;
    return node;
}

/* A number with an optional minus. */
static bool parse_number(struct parser *parser, const char *what, double *number)
{
    size_t begin = parser->token.begin;
    bool negative = take(parser, '-');
    if (parser->stopped)
        return false;
    if (parser->token.kind != TOKEN_NUMBER) {
        STOP(parser, begin, "expected %s, but %s", what, describe(parser));
        return false;
    }
    *number = negative ? -parser->token.number : parser->token.number;
    advance(parser);
    return !parser->stopped;
}

static bool starts_number(const struct parser *parser)
{
    return parser->token.kind == TOKEN_NUMBER || next_is(parser, '-');
}

/* A length of time in microseconds: a number and its unit. */
static bool parse_time(struct parser *parser, int64_t *us)
{
    static const struct {
        const char *name;
        double us;
    } units[] = {{"us", 1}, {"ms", 1e3}, {"s", 1e6}, {"min", 60e6}, {"h", 3600e6}};
    size_t begin = parser->token.begin;
    double number;
    if (!parse_number(parser, "a time such as 10s", &number))
        return false;
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        if (!take_word(parser, units[i].name))
            continue;
        number *= units[i].us;
        if (fabs(number) > WINDOW_MAX_SECONDS * 1e6) {
            report(parser, begin, "a time of more than %d seconds", WINDOW_MAX_SECONDS);
            number = 0;
        }
        *us = (int64_t)llround(number);
        return !parser->stopped;
    }
    STOP(parser, parser->token.begin, "expected a unit of time (us, ms, s, min or h), but %s",
         describe(parser));
    return false;
}

static bool parse_whole(struct parser *parser, const char *what, int64_t *whole)
{
    size_t begin = parser->token.begin;
    double number;
    if (!parse_number(parser, what, &number))
        return false;
    if (number < 0 || number != floor(number) || number > WINDOW_MAX_SAMPLES) {
        report(parser, begin, "%s must be whole, from 0 to %d", what, WINDOW_MAX_SAMPLES);
        number = 0;
    }
    *whole = (int64_t)number;
    return true;
}

static void parse_step_window(struct parser *parser, size_t begin, struct window *window)
{
    window->step_first = -(double)INFINITY;
    window->step_last = (double)INFINITY;
    if (parser->token.kind != TOKEN_DOTS && !parse_number(parser, "a step number", &window->step_first))
        return;
    if (parser->token.kind == TOKEN_DOTS) {
        advance(parser);
        if (starts_number(parser))
            parse_number(parser, "a step number", &window->step_last);
    } else {
        window->step_last = window->step_first;
    }
    if (isinf(window->step_first) && isinf(window->step_last) && !parser->stopped)
        report(parser, begin, "a step window needs a first or a last step, as in step 4..5");
    if (window->step_first > window->step_last)
        report(parser, begin, "the window's last step comes before its first; write the lower number first");
}

static void parse_time_window(struct parser *parser, size_t begin, struct window *window)
{
    if (parser->token.kind != TOKEN_DOTS && !parse_time(parser, &window->from))
        return;
    if (parser->token.kind != TOKEN_DOTS) {
        STOP(parser, parser->token.begin, "expected '..', as in time 10s..60s or time 10s.., but %s",
             describe(parser));
        return;
    }
    advance(parser);
    if (starts_number(parser) && !parse_time(parser, &window->to))
        return;
    if (window->from >= window->to && !parser->stopped)
        report(parser, begin, "the time window is empty: it must end after it begins");
    if (window->from == INT64_MIN && window->to == INT64_MAX && !parser->stopped)
        report(parser, begin, "a time window needs a beginning or an end, as in time 10s..60s");
}

static void parse_sample_window(struct parser *parser, size_t begin, struct window *window)
{
    window->from = 0;
    if (parser->token.kind != TOKEN_DOTS && !parse_whole(parser, "a sample number", &window->from))
        return;
    if (parser->token.kind == TOKEN_DOTS) {
        advance(parser);
        if (starts_number(parser) && !parse_whole(parser, "a sample number", &window->to))
            return;
    } else {
        window->to = window->from;
    }
    if (window->from > window->to)
        report(parser, begin,
               "the window's last sample comes before its first; write the lower number first");
}

static void parse_visit(struct parser *parser, size_t begin, struct window *window)
{
    int64_t visit = 0;
    if (take_word(parser, "last")) {
        window->visit = -1;
        return;
    }
    if (!parse_whole(parser, "a visit number", &visit))
        return;
    if (visit < 1 || visit > 1000000)
        report(parser, begin, "visits are counted from 1; write 'visit 1' or 'visit last'");
    window->visit = (int32_t)visit;
}

/* The amount after skip, drop or trim: a time, or a number of samples. */
static void parse_cut(struct parser *parser, struct window_cut *cut)
{
    /* Looks one token further; a mistake there is reported when the parser comes to it. */
    struct parser ahead = *parser;
    size_t problems = parser->problems->count;
    advance(&ahead);
    parser->problems->count = problems;
    if (parser->token.kind == TOKEN_NUMBER &&
        (next_is_word(&ahead, "samples") || next_is_word(&ahead, "sample"))) {
        if (parse_whole(parser, "a number of samples", &cut->samples))
            advance(parser);
        return;
    }
    size_t begin = parser->token.begin;
    int64_t us = 0;
    if (parser->token.kind == TOKEN_NUMBER && !next_is_word(&ahead, "us") && !next_is_word(&ahead, "ms") &&
        !next_is_word(&ahead, "s") && !next_is_word(&ahead, "min") && !next_is_word(&ahead, "h")) {
        STOP(parser, ahead.token.begin,
             "expected 'samples' or a unit of time, as in skip 2s or skip 5 samples");
        return;
    }
    if (!parse_time(parser, &us))
        return;
    if (us < 0)
        report(parser, begin, "what is cut off cannot be negative");
    else
        cut->us = us;
}

enum clause { CLAUSE_STEP, CLAUSE_TIME, CLAUSE_SAMPLES, CLAUSE_VISIT, CLAUSE_SKIP, CLAUSE_DROP, CLAUSE_TRIM };

static const char *const CLAUSES[] = {"step", "time", "samples", "visit", "skip", "drop", "trim"};

enum { CLAUSE_COUNT = sizeof CLAUSES / sizeof *CLAUSES };

/* Which word begins the clause; CLAUSE_COUNT, and the parser stopped, when none does. */
static size_t clause_of(struct parser *parser)
{
    for (size_t i = 0; i < CLAUSE_COUNT; i++) {
        if (take_word(parser, CLAUSES[i]))
            return i;
    }
    if (parser->token.kind == TOKEN_NAME) {
        const char *word = token_text(parser);
        const char *nearest = word ? nearest_name(word, CLAUSES, CLAUSE_COUNT) : NULL;
        STOP(parser, parser->token.begin,
             "unknown window '%s'%s%s%s (known: step, time, samples, visit, skip, drop, trim)",
             word ? word : "", nearest ? "; did you mean '" : "", nearest ? nearest : "",
             nearest ? "'?" : "");
    } else {
        STOP(parser, parser->token.begin, "expected a window such as 'step 4..5' or 'time 10s..60s', but %s",
             describe(parser));
    }
    return CLAUSE_COUNT;
}

static void set_kind(struct parser *parser, size_t begin, struct window *window, enum window_kind kind)
{
    if (window->kind != WINDOW_ALL)
        report(parser, begin, "a second window; one of step, time and samples can be given");
    window->kind = kind;
}

static void parse_clause(struct parser *parser, struct window *window)
{
    size_t begin = parser->token.begin;
    size_t clause = clause_of(parser);
    if (parser->stopped)
        return;
    switch ((enum clause)clause) {
    case CLAUSE_STEP:
        set_kind(parser, begin, window, WINDOW_STEP);
        parse_step_window(parser, begin, window);
        break;
    case CLAUSE_TIME:
        set_kind(parser, begin, window, WINDOW_TIME);
        parse_time_window(parser, begin, window);
        break;
    case CLAUSE_SAMPLES:
        set_kind(parser, begin, window, WINDOW_SAMPLES);
        parse_sample_window(parser, begin, window);
        break;
    case CLAUSE_VISIT:
        parse_visit(parser, begin, window);
        break;
    case CLAUSE_SKIP:
        parse_cut(parser, &window->skip);
        break;
    case CLAUSE_DROP:
        parse_cut(parser, &window->drop);
        break;
    case CLAUSE_TRIM: {
        struct window_cut both = {0};
        parse_cut(parser, &both);
        window->skip.us += both.us;
        window->drop.us += both.us;
        window->skip.samples += both.samples;
        window->drop.samples += both.samples;
        break;
    }
    }
}

static void parse_sensor(struct parser *parser, struct equation_sensor *sensor)
{
    if (parser->stopped)
        return;
    const struct token *token = &parser->token;
    if (token->kind != TOKEN_NAME && token->kind != TOKEN_QUOTED) {
        STOP(parser, token->begin, "expected the name of a sensor, but %s", describe(parser));
        return;
    }
    sensor->offset = token->begin;
    if (token->text_end - token->text_begin > SENSOR_NAME_MAX_BYTES)
        report(parser, token->begin, "a sensor name of %zu bytes; at most %d are read",
               token->text_end - token->text_begin, SENSOR_NAME_MAX_BYTES);
    if (token->text_end == token->text_begin)
        report(parser, token->begin, "a sensor name must not be empty");
    sensor->name = token_text(parser);
    if (parser->stopped)
        return;
    sensor->id = hash64_text(sensor->name);
    advance(parser);
    if (!parser->stopped && !next_is(parser, ',') && !next_is(parser, ')'))
        STOP(parser, parser->token.begin,
             "expected ',' or ')' after the sensor '%s', but %s; a statistic takes one sensor, and a name "
             "with other "
             "characters than letters, digits, '_' and '.' is written in quotes",
             sensor->name, describe(parser));
}

static void parse_parameter(struct parser *parser, struct equation_term *term)
{
    enum parameter_kind kind = STATISTICS[term->statistic].parameter;
    if (kind == PARAMETER_NONE || parser->stopped)
        return;
    const char *what = kind == PARAMETER_PERCENT ? "a percentage, as in percentile(Pressure, 95)"
                                                 : "a level, as in duration_above(Pressure, 50)";
    if (!next_is(parser, ',')) {
        STOP(parser, parser->token.begin, "%s needs %s", STATISTICS[term->statistic].name, what);
        return;
    }
    advance(parser);
    size_t begin = parser->token.begin;
    if (!parse_number(parser, what, &term->parameter))
        return;
    if (kind == PARAMETER_PERCENT && (term->parameter < 0 || term->parameter > 100)) {
        report(parser, begin, "a percentile lies between 0 and 100");
        term->parameter = 50;
    }
}

/* The terms are few and live as long as the equation: doubling in the arena wastes less than a second pass.
 */
static struct equation_term *add_term(struct parser *parser, size_t begin)
{
    if (parser->term_count == EQUATION_MAX_TERMS) {
        STOP(parser, begin, "more than %d statistics in one equation", EQUATION_MAX_TERMS);
        return NULL;
    }
    if (parser->term_count == parser->term_capacity) {
        size_t capacity = parser->term_capacity ? parser->term_capacity * 2 : 2;
        struct equation_term *terms = arena_calloc(parser->arena, capacity, sizeof *terms);
        if (terms == NULL) {
            parser->out_of_memory = parser->stopped = true;
            return NULL;
        }
        if (parser->term_count > 0)
            memcpy(terms, parser->terms, parser->term_count * sizeof *terms);
        parser->terms = terms;
        parser->term_capacity = capacity;
    }
    return &parser->terms[parser->term_count++];
}

static struct node *parse_statistic(struct parser *parser, enum statistic statistic, size_t begin)
{
    struct equation_term *term = add_term(parser, begin);
    if (term == NULL)
        return NULL;
    term->statistic = statistic;
    window_init(&term->window);
    expect(parser, '(');
    parse_sensor(parser, &term->sensor);
    if (STATISTICS[statistic].two && !parser->stopped) {
        if (!next_is(parser, ','))
            STOP(parser, parser->token.begin, "%s compares two sensors, as in %s(A, B)",
                 STATISTICS[statistic].name, STATISTICS[statistic].name);
        else
            advance(parser);
        parse_sensor(parser, &term->other);
    }
    parse_parameter(parser, term);
    while (!parser->stopped && take(parser, ','))
        parse_clause(parser, &term->window);
    if (!parser->stopped && term->window.visit != 0 && term->window.kind != WINDOW_STEP)
        report(parser, begin, "'visit' needs a step window, as in step 4, visit 1");
    expect(parser, ')');
    size_t index = parser->term_count - 1;
    struct node *node = parser->stopped ? NULL : new_node(parser, EQUATION_TERM, NULL, NULL);
    if (node)
        node->term = index;
    return node;
}

static struct node *parse_sum(struct parser *parser);

static struct node *parse_function(struct parser *parser, size_t index)
{
    expect(parser, '(');
    struct node *left = parse_sum(parser), *right = NULL;
    if (FUNCTIONS[index].arguments == 2) {
        if (!parser->stopped && !next_is(parser, ','))
            STOP(parser, parser->token.begin, "%s takes two values, as in %s(a, b), but %s",
                 FUNCTIONS[index].name, FUNCTIONS[index].name, describe(parser));
        take(parser, ',');
        right = parse_sum(parser);
    }
    expect(parser, ')');
    return parser->stopped ? NULL : new_node(parser, FUNCTIONS[index].op, left, right);
}

/* Goes on after the arguments of a function that is not known, so that later mistakes are found too. */
static struct node *skip_arguments(struct parser *parser)
{
    size_t depth = 0;
    while (!parser->stopped) {
        if (parser->token.kind == TOKEN_END) {
            STOP(parser, parser->token.begin, "expected ')', but the equation ends");
            break;
        }
        if (next_is(parser, '('))
            depth++;
        if (next_is(parser, ')') && --depth == 0) {
            advance(parser);
            break;
        }
        advance(parser);
    }
    return parser->stopped ? NULL : new_node(parser, EQUATION_CONSTANT, NULL, NULL);
}

static struct node *unknown_name(struct parser *parser, const char *name, size_t begin)
{
    const char *names[STATISTIC_KINDS + FUNCTION_COUNT];
    size_t count = 0;
    for (size_t i = 0; i < STATISTIC_KINDS; i++)
        names[count++] = STATISTICS[i].name;
    for (size_t i = 0; i < FUNCTION_COUNT; i++)
        names[count++] = FUNCTIONS[i].name;
    if (!next_is(parser, '(')) {
        STOP(parser, begin, "'%s' stands alone; a sensor is read by a statistic, as in mean(%s)", name, name);
        return NULL;
    }
    const char *nearest = nearest_name(name, names, count);
    if (nearest)
        report(parser, begin, "unknown function '%s'; did you mean '%s'?", name, nearest);
    else
        report(parser, begin, "unknown function '%s' (the functions are listed in docs/charts.md)", name);
    return skip_arguments(parser);
}

static struct node *parse_name(struct parser *parser)
{
    size_t begin = parser->token.begin;
    const char *name = token_text(parser);
    if (name == NULL)
        return NULL;
    advance(parser);
    if (parser->stopped)
        return NULL;
    for (size_t i = 0; next_is(parser, '(') && i < STATISTIC_KINDS; i++) {
        if (strcmp(name, STATISTICS[i].name) == 0)
            return parse_statistic(parser, (enum statistic)i, begin);
    }
    for (size_t i = 0; next_is(parser, '(') && i < FUNCTION_COUNT; i++) {
        if (strcmp(name, FUNCTIONS[i].name) == 0)
            return parse_function(parser, i);
    }
    return unknown_name(parser, name, begin);
}

static struct node *parse_primary(struct parser *parser)
{
    if (parser->stopped)
        return NULL;
    if (parser->token.kind == TOKEN_NUMBER) {
        struct node *node = new_node(parser, EQUATION_CONSTANT, NULL, NULL);
        if (node)
            node->constant = parser->token.number;
        advance(parser);
        return node;
    }
    if (take(parser, '(')) {
        struct node *node = parse_sum(parser);
        expect(parser, ')');
        return node;
    }
    if (parser->token.kind == TOKEN_NAME)
        return parse_name(parser);
    if (parser->token.kind == TOKEN_QUOTED)
        STOP(parser, parser->token.begin, "a sensor is read by a statistic, as in mean(\"...\")");
    STOP(parser, parser->token.begin, "expected a number, a statistic or '(', but %s", describe(parser));
    return NULL;
}

static struct node *parse_power(struct parser *parser)
{
    struct node *base = parse_primary(parser);
    if (!take(parser, '^'))
        return base;
    size_t begin = parser->token.begin;
    double exponent;
    if (!parse_number(parser, "a whole exponent", &exponent))
        return NULL;
    if (exponent != floor(exponent) || fabs(exponent) > POWER_MAX) {
        report(parser, begin, "an exponent must be whole, from -%d to %d; write exp(b * log(a)) for others",
               POWER_MAX, POWER_MAX);
        exponent = 1;
    }
    struct node *node = new_node(parser, EQUATION_POWER, base, NULL);
    if (node)
        node->exponent = (int)exponent;
    return node;
}

static struct node *parse_unary(struct parser *parser)
{
    if (parser->stopped)
        return NULL;
    if (++parser->depth > EQUATION_MAX_DEPTH) {
        STOP(parser, parser->token.begin, "parentheses, functions or signs nested deeper than %d",
             EQUATION_MAX_DEPTH);
        return NULL;
    }
    struct node *node;
    if (take(parser, '-')) {
        struct node *inner = parse_unary(parser);
        node = parser->stopped ? NULL : new_node(parser, EQUATION_NEGATE, inner, NULL);
    } else {
        node = parse_power(parser);
    }
    parser->depth--;
    return node;
}

static struct node *parse_product(struct parser *parser)
{
    struct node *left = parse_unary(parser);
    while (!parser->stopped && (next_is(parser, '*') || next_is(parser, '/'))) {
        enum equation_op op = next_is(parser, '*') ? EQUATION_MULTIPLY : EQUATION_DIVIDE;
        advance(parser);
        struct node *right = parse_unary(parser);
        left = parser->stopped ? NULL : new_node(parser, op, left, right);
    }
    return left;
}

static struct node *parse_sum(struct parser *parser)
{
    struct node *left = parse_product(parser);
    while (!parser->stopped && (next_is(parser, '+') || next_is(parser, '-'))) {
        enum equation_op op = next_is(parser, '+') ? EQUATION_ADD : EQUATION_SUBTRACT;
        advance(parser);
        struct node *right = parse_product(parser);
        left = parser->stopped ? NULL : new_node(parser, op, left, right);
    }
    return left;
}

/* Appends the program of a tree and returns the deepest the stack gets. A long sum is a tree that is deep to
 * the left: EQUATION_MAX_BYTES bounds the recursion. */
static size_t emit(const struct node *node, struct equation_instruction *program, size_t *length)
{
    size_t depth = 1;
    if (node->left)
        depth = emit(node->left, program, length);
    if (node->right) {
        size_t right = 1 + emit(node->right, program, length);
        depth = right > depth ? right : depth;
    }
    program[(*length)++] = (struct equation_instruction){
        .op = node->op,
        .index = node->op == EQUATION_POWER ? node->exponent : (int32_t)node->term,
        .constant = node->constant,
    };
    return depth;
}

/* A name as it must be written: bare where it can be, otherwise in the quotes that it does not contain. */
static void format_sensor(const char *name, struct strbuf *text)
{
    bool bare = is_name_start(name[0]);
    for (const char *p = name; *p; p++)
        bare = bare && (is_name_part(*p) || (*p == '.' && is_name_part(p[1])));
    const char *quote = bare ? "" : strchr(name, '"') ? "'" : "\"";
    strbuf_printf(text, "%s%s%s", quote, name, quote);
}

static void format_term(const struct equation_term *term, struct strbuf *text)
{
    strbuf_printf(text, "%s(", STATISTICS[term->statistic].name);
    format_sensor(term->sensor.name, text);
    if (term->other.name) {
        strbuf_add(text, ", ");
        format_sensor(term->other.name, text);
    }
    if (STATISTICS[term->statistic].parameter != PARAMETER_NONE) {
        strbuf_add(text, ", ");
        strbuf_add_json_double(text, term->parameter);
    }
    window_format(&term->window, text);
    strbuf_add_char(text, ')');
}

static void format_node(const struct parser *parser, const struct node *node, struct strbuf *text)
{
    static const char *const signs[] = {[EQUATION_ADD] = " + ",
                                        [EQUATION_SUBTRACT] = " - ",
                                        [EQUATION_MULTIPLY] = " * ",
                                        [EQUATION_DIVIDE] = " / "};
    switch (node->op) {
    case EQUATION_CONSTANT:
        strbuf_add_json_double(text, node->constant);
        return;
    case EQUATION_TERM:
        format_term(&parser->terms[node->term], text);
        return;
    case EQUATION_ADD:
    case EQUATION_SUBTRACT:
    case EQUATION_MULTIPLY:
    case EQUATION_DIVIDE:
        strbuf_add_char(text, '(');
        format_node(parser, node->left, text);
        strbuf_add(text, signs[node->op]);
        format_node(parser, node->right, text);
        strbuf_add_char(text, ')');
        return;
    case EQUATION_POWER:
        strbuf_add_char(text, '(');
        format_node(parser, node->left, text);
        strbuf_printf(text, ")^%d", node->exponent);
        return;
    case EQUATION_NEGATE:
        strbuf_add(text, "-(");
        format_node(parser, node->left, text);
        strbuf_add_char(text, ')');
        return;
    default:
        break;
    }
    for (size_t i = 0; i < FUNCTION_COUNT; i++) {
        if (FUNCTIONS[i].op == node->op)
            strbuf_printf(text, "%s(", FUNCTIONS[i].name);
    }
    format_node(parser, node->left, text);
    if (node->right) {
        strbuf_add(text, ", ");
        format_node(parser, node->right, text);
    }
    strbuf_add_char(text, ')');
}

static char *canonical_text(const struct parser *parser, const struct node *root)
{
    struct strbuf text;
    strbuf_init(&text);
    format_node(parser, root, &text);
    char *canonical = text.failed ? NULL : arena_strndup(parser->arena, text.text, text.length);
    strbuf_free(&text);
    return canonical;
}

static void build(struct parser *parser, const struct node *root, struct equation *equation)
{
    struct equation_instruction *program = arena_calloc(parser->arena, parser->node_count, sizeof *program);
    equation->text = arena_strndup(parser->arena, parser->text, parser->length);
    equation->canonical = canonical_text(parser, root);
    equation->terms = parser->terms;
    equation->term_count = parser->term_count;
    if (program == NULL || equation->text == NULL || equation->canonical == NULL) {
        parser->out_of_memory = true;
        return;
    }
    if (emit(root, program, &equation->program_length) > STACK_MAX)
        report(parser, 0, "the equation is too deep to be computed");
    equation->program = program;
}

int equation_compile(const char *text, size_t length, struct arena *arena, struct equation *equation,
                     struct equation_problems *problems, struct error *err)
{
    struct parser parser = {.text = text, .length = length, .arena = arena, .problems = problems};
    struct node *root = NULL;
    problems->count = 0;
    *equation = (struct equation){0};
    if (length > EQUATION_MAX_BYTES) {
        STOP(&parser, 0, "an equation of %zu bytes; at most %d are read", length, EQUATION_MAX_BYTES);
    } else {
        advance(&parser);
        root = parse_sum(&parser);
    }
    if (!parser.stopped && parser.token.kind != TOKEN_END)
        STOP(&parser, parser.token.begin, "expected an operator or the end of the equation, but %s",
             describe(&parser));
    if (!parser.stopped && problems->count == 0 && parser.term_count == 0)
        report(&parser, 0, "the equation reads no sensor");
    if (problems->count == 0 && !parser.out_of_memory)
        build(&parser, root, equation);
    if (parser.out_of_memory)
        return error_set(err, ERR_NO_MEMORY, "out of memory while compiling an equation");
    if (problems->count > 0)
        return error_set(err, ERR_INVALID, "equation, column %zu: %s", problems->items[0].offset + 1,
                         problems->items[0].message);
    return 0;
}

/* Why an operation on finite values has no finite result. */
static const char *failure(const struct equation_instruction *instruction, double left, double right)
{
    switch (instruction->op) {
    case EQUATION_DIVIDE:
        return right == 0 ? "division by zero" : "the result is too large";
    case EQUATION_POWER:
        return left == 0 ? "zero to a negative power" : "the result is too large";
    case EQUATION_SQRT:
        return "square root of a negative number";
    case EQUATION_LOG:
        return "logarithm of a number that is not positive";
    default:
        return "the result is too large";
    }
}

static double apply(const struct equation_instruction *instruction, double left, double right)
{
    switch (instruction->op) {
    case EQUATION_ADD:
        return left + right;
    case EQUATION_SUBTRACT:
        return left - right;
    case EQUATION_MULTIPLY:
        return left * right;
    case EQUATION_DIVIDE:
        return left / right;
    case EQUATION_POWER:
        return elementary_power(left, instruction->index);
    case EQUATION_NEGATE:
        return -left;
    case EQUATION_ABS:
        return fabs(left);
    case EQUATION_SQRT:
        return sqrt(left);
    case EQUATION_LOG:
        return elementary_log(left);
    case EQUATION_EXP:
        return elementary_exp(left);
    case EQUATION_MIN2:
        return right < left ? right : left;
    case EQUATION_MAX2:
        return right > left ? right : left;
    case EQUATION_CONSTANT:
    case EQUATION_TERM:
        break;
    }
    assert(false && "not an operation");
    return (double)NAN;
}

static bool is_binary(enum equation_op op)
{
    return (op >= EQUATION_ADD && op <= EQUATION_DIVIDE) || op == EQUATION_MIN2 || op == EQUATION_MAX2;
}

double equation_combine(const struct equation *equation, const double *terms, const char **reason)
{
    double stack[STACK_MAX];
    size_t depth = 0;
    for (size_t i = 0; i < equation->program_length; i++) {
        const struct equation_instruction *instruction = &equation->program[i];
        if (instruction->op == EQUATION_CONSTANT) {
            stack[depth++] = instruction->constant;
            continue;
        }
        if (instruction->op == EQUATION_TERM) {
            stack[depth++] = terms[instruction->index];
            continue;
        }
        double right = is_binary(instruction->op) ? stack[--depth] : 0, left = stack[depth - 1];
        double result = apply(instruction, left, right);
        if (!isfinite(result)) {
            *reason = failure(instruction, left, right);
            return (double)NAN;
        }
        stack[depth - 1] = result;
    }
    return stack[0];
}
