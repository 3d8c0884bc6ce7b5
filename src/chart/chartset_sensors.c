#include "chart/chartset_reader.h"
#include "chart/chartset_struct.h"
#include "chart/nearest.h"

#include <stdlib.h>
#include <string.h>

/* As the YAML scalar that it was, as far as locating needs it. */
static void locate_sensor(const struct chart_set *set, const struct chart *chart,
                          const struct equation_sensor *sensor, size_t *line, size_t *column)
{
    struct yaml_node scalar = {.kind = YAML_SCALAR,
                               .line = chart->equation_line,
                               .column = chart->equation_column,
                               .text = chart->equation.text,
                               .length = strlen(chart->equation.text)};
    yaml_tree_locate(set->text, set->length, &scalar, 0, line, column);
    const char *p = set->text;
    for (size_t i = 1; i < *line; i++)
        p = strchr(p, '\n') + 1;
    size_t characters = 1;
    for (; characters < *column; p++)
        characters += ((unsigned char)p[1] & 0xC0) != 0x80 ? 1 : 0;
    scalar.style = *p == '\'' ? YAML_SINGLE_QUOTED : *p == '"' ? YAML_DOUBLE_QUOTED : YAML_PLAIN;
    if (*p == '|' || *p == '>')
        scalar.style = YAML_BLOCK;
    yaml_tree_locate(set->text, set->length, &scalar, sensor->offset, line, column);
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void check_sensor(const struct chart_set *set, const struct chart *chart,
                         const struct equation_sensor *sensor, const char **sorted, size_t count,
                         struct chart_problems *problems)
{
    if (sensor->name == NULL || bsearch(&sensor->name, sorted, count, sizeof *sorted, compare_names))
        return;
    size_t line, column;
    struct error text;
    const char *nearest = nearest_name(sensor->name, sorted, count);
    locate_sensor(set, chart, sensor, &line, &column);
    error_set(&text, ERR_INVALID, "no sensor '%s' is known%s%s%s", sensor->name,
              nearest ? "; did you mean '" : "", nearest ? nearest : "", nearest ? "'?" : "");
    chart_problems_add(problems, line, column, true, text.text);
}

int chart_set_check_sensors(const struct chart_set *set, const char *const *names, size_t count,
                            struct chart_problems *problems, struct error *err)
{
    const char **sorted = malloc((count + 1) * sizeof *sorted);
    if (sorted == NULL)
        return error_set(err, ERR_NO_MEMORY, "out of memory for %zu sensor names", count);
    if (count > 0)
        memcpy(sorted, names, count * sizeof *sorted);
    qsort(sorted, count, sizeof *sorted, compare_names);
    for (size_t i = 0; i < set->count; i++) {
        const struct chart *chart = &set->charts[i];
        for (size_t j = 0; j < chart->equation.term_count; j++) {
            check_sensor(set, chart, &chart->equation.terms[j].sensor, sorted, count, problems);
            check_sensor(set, chart, &chart->equation.terms[j].other, sorted, count, problems);
        }
    }
    free(sorted);
    return 0;
}
