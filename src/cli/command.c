#include "cli/command.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void print_help(const struct command *command, const struct command_option *options, size_t count)
{
    printf("Usage: chamberlain %s [options]%s%s\n\n%s\n\nOptions:\n", command->name,
           *command->operands ? " " : "", command->operands, command->summary);
    for (size_t i = 0; i < count; i++) {
        char left[64];
        snprintf(left, sizeof left, "--%s%s%s", options[i].name, options[i].value ? " " : "",
                 options[i].value ? options[i].value : "");
        printf("  %-28s %s\n", left, options[i].help);
    }
    printf("  %-28s %s\n\nExamples:\n%s\n", "--help", "show this", command->examples);
}

bool command_parse_duration(const char *text, int64_t *us)
{
    static const struct {
        const char *unit;
        int64_t us;
    } units[] = {{"us", 1},       {"ms", 1000},        {"s", 1000000},      {"min", 60000000},
                 {"m", 60000000}, {"h", 3600000000LL}, {"d", 86400000000LL}};
    char *end;
    errno = 0;
    double number = strtod(text, &end);
    if (end == text || errno || !(number >= 0))
        return false;
    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (strcmp(end, units[i].unit) == 0 && number * (double)units[i].us < 9e18) {
            *us = (int64_t)(number * (double)units[i].us);
            return true;
        }
    return false;
}

static bool parse_integer(const char *text, int64_t *value)
{
    char *end;
    errno = 0;
    long long number = strtoll(text, &end, 10);
    if (end == text || *end || errno || number < 0)
        return false;
    *value = number;
    return true;
}

static bool parse_fraction(const char *text, double *value)
{
    char *end;
    double number = strtod(text, &end);
    if (end == text)
        return false;
    if (strcmp(end, "%") == 0)
        number /= 100;
    else if (*end)
        return false;
    if (!(number >= 0 && number <= 1))
        return false;
    *value = number;
    return true;
}

static const char *set_option(const struct command_option *option, const char *value)
{
    switch (option->kind) {
    case OPTION_FLAG:
        *(bool *)option->target = true;
        return NULL;
    case OPTION_TEXT:
        *(const char **)option->target = value;
        return NULL;
    case OPTION_INTEGER:
        return parse_integer(value, option->target) ? NULL : "a whole number, not negative";
    case OPTION_DURATION:
        return command_parse_duration(value, option->target)
                   ? NULL
                   : "a duration such as 500ms, 30s, 10min, 2h or 3d";
    case OPTION_FRACTION:
        return parse_fraction(value, option->target) ? NULL : "a fraction such as 1% or 0.01";
    }
    return "something else";
}

static const struct command_option *find_option(const struct command_option *options, size_t count,
                                                const char *name, size_t length)
{
    for (size_t i = 0; i < count; i++)
        if (strlen(options[i].name) == length && strncmp(options[i].name, name, length) == 0)
            return &options[i];
    return NULL;
}

static enum command_next wrong(const struct command *command, const char *format, const char *a,
                               const char *b)
{
    fprintf(stderr, "chamberlain %s: ", command->name);
    fprintf(stderr, format, a, b); /* formats are literals of this file */
    fprintf(stderr, "; see `chamberlain %s --help`\n", command->name);
    return COMMAND_WRONG;
}

/* Reads one option at argv[*i], and its value, which may follow an equals sign or be the next word. */
static enum command_next read_option(const struct command *command, const struct command_option *options,
                                     size_t count, int argc, char **argv, int *i)
{
    const char *name = argv[*i] + 2;
    size_t length = strcspn(name, "=");
    const char *value = name[length] == '=' ? name + length + 1 : NULL;
    if (length == 4 && strncmp(name, "help", 4) == 0) {
        print_help(command, options, count);
        return COMMAND_HELP;
    }
    const struct command_option *option = find_option(options, count, name, length);
    if (option == NULL)
        return wrong(command, "unknown option %s%s", argv[*i], "");
    if (option->kind == OPTION_FLAG && value)
        return wrong(command, "--%s takes no value%s", option->name, "");
    if (option->kind != OPTION_FLAG && value == NULL) {
        if (*i + 1 >= argc)
            return wrong(command, "--%s needs a value (%s)", option->name, option->value);
        value = argv[++*i];
    }
    const char *expected = set_option(option, value);
    if (expected) {
        fprintf(stderr, "chamberlain %s: --%s '%s': write %s\n", command->name, option->name, value,
                expected);
        return COMMAND_WRONG;
    }
    return COMMAND_RUN;
}

enum command_next command_parse(const struct command *command, const struct command_option *options,
                                size_t option_count, int argc, char **argv, size_t *operand_count)
{
    size_t operands = 0;
    bool only_operands = false;
    for (int i = 1; i < argc; i++) {
        if (!only_operands && strcmp(argv[i], "--") == 0) {
            only_operands = true;
        } else if (!only_operands && strcmp(argv[i], "-h") == 0) {
            print_help(command, options, option_count);
            return COMMAND_HELP;
        } else if (!only_operands && strncmp(argv[i], "--", 2) == 0) {
            enum command_next next = read_option(command, options, option_count, argc, argv, &i);
            if (next != COMMAND_RUN)
                return next;
        } else {
            argv[++operands] = argv[i];
        }
    }
    if (operands < command->min_operands)
        return wrong(command, "needs %s%s", command->operands, "");
    if (operands > command->max_operands)
        return wrong(command, "does not know what to do with '%s'%s", argv[command->max_operands + 1], "");
    if (operand_count)
        *operand_count = operands;
    return COMMAND_RUN;
}

int command_failed(const struct command *command, const struct error *error)
{
    fprintf(stderr, "chamberlain %s: %s\n", command->name, error->text);
    return EXIT_FAILED;
}
