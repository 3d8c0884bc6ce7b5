#include "collector/labels.h"

#include "base/hash.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int labels_load(const char *path, const struct import_sink *sink, struct import_summary *summary,
                struct labels *labels, struct error *err)
{
    static const struct import_sink silent;
    struct import_summary own = {.files = 0};
    *labels = (struct labels){.count = 0};
    int code =
        runs_load(path, sink != NULL ? sink : &silent, summary != NULL ? summary : &own, &labels->runs, err);
    if (code != 0)
        return code;
    if (!labels->runs.present[RUNS_LABEL])
        return error_set(err, ERR_INVALID,
                         "%s: there is no column label, which says what each run is (normal, fault)", path);
    labels->rows = calloc(labels->runs.count + 1, sizeof(*labels->rows));
    if (labels->rows == NULL)
        return error_set(err, ERR_NO_MEMORY, "%s: no memory", path);
    for (size_t i = 0; i < labels->runs.count; i++) {
        const struct runs_row *row = &labels->runs.rows[i];
        labels->rows[i] = (struct label){.context_id = row->field[RUNS_CONTEXT_ID],
                                         .label = row->field[RUNS_LABEL],
                                         .fault = row->field[RUNS_FAULT],
                                         .lot = row->field[RUNS_LOT],
                                         .order = i};
    }
    labels->count = labels->runs.count;
    return 0;
}

void labels_free(struct labels *labels)
{
    free(labels->rows);
    runs_free(&labels->runs);
    *labels = (struct labels){.count = 0};
}

const struct label *labels_find(const struct labels *labels, const char *context_id)
{
    const struct runs_row *row = runs_find(&labels->runs, context_id);
    return row == NULL ? NULL : &labels->rows[row - labels->runs.rows];
}

/* Where a run's group is read from. */
struct group_column {
    bool extra;
    size_t index; /* of the field or the extra column */
};

static bool find_group_column(const struct runs *runs, const char *name, struct group_column *column)
{
    int field = runs_field(name);
    if (field >= 0 && runs->present[field]) {
        *column = (struct group_column){.index = (size_t)field};
        return true;
    }
    for (size_t i = 0; i < runs->extra_count; i++) {
        if (strcmp(runs->extra_names[i], name) == 0) {
            *column = (struct group_column){.extra = true, .index = i};
            return true;
        }
    }
    return false;
}

/* How many of each group have been chosen; open addressing, at most half full. */
struct group_counts {
    const char **name;
    size_t *count;
    size_t size; /* a power of two */
};

static size_t *group_count(struct group_counts *groups, const char *name)
{
    size_t slot = (size_t)hash64_text(name) & (groups->size - 1);
    while (groups->name[slot] != NULL && strcmp(groups->name[slot], name) != 0)
        slot = (slot + 1) & (groups->size - 1);
    groups->name[slot] = name;
    return &groups->count[slot];
}

static bool group_counts_init(struct group_counts *groups, size_t runs, struct arena *arena)
{
    groups->size = 2;
    while (groups->size < runs * 2)
        groups->size *= 2;
    groups->name = arena_calloc(arena, groups->size, sizeof(*groups->name));
    groups->count = arena_calloc(arena, groups->size, sizeof(*groups->count));
    return groups->name != NULL && groups->count != NULL;
}

int labels_choose(const struct labels *labels, const struct labels_choice *choice, struct arena *arena,
                  const struct label ***chosen, size_t *count, struct error *err)
{
    const struct runs *runs = &labels->runs;
    struct group_column column = {.index = 0};
    struct group_counts groups;
    *count = 0;
    if (choice->per != NULL && !find_group_column(runs, choice->per, &column))
        return error_set(err, ERR_INVALID, "%s: there is no column %s to take runs by", runs->file,
                         choice->per);
    *chosen = arena_calloc(arena, labels->count + 1, sizeof(**chosen));
    if (*chosen == NULL || !group_counts_init(&groups, labels->count, arena))
        return error_set(err, ERR_NO_MEMORY, "%s: no memory for %zu runs", runs->file, labels->count);
    for (size_t i = 0; i < labels->count; i++) {
        const struct runs_row *row = &runs->rows[i];
        if (choice->only != NULL && strcmp(labels->rows[i].label, choice->only) != 0)
            continue;
        const char *group = choice->per == NULL ? ""
                            : column.extra      ? row->extra[column.index]
                                                : row->field[column.index];
        if ((*group_count(&groups, group))++ < choice->limit || choice->limit == 0)
            (*chosen)[(*count)++] = &labels->rows[i];
    }
    return 0;
}
