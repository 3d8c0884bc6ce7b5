/* A YAML file as a tree that knows where everything stands, so that each mistake in it can be shown at its
 * place.
 *
 * What chart files do not need is refused, because it has surprised people or can blow up a small file:
 * anchors and aliases, tags, several documents, deep nesting, a key given twice. */
#ifndef CHAMBERLAIN_CHART_YAMLTREE_H
#define CHAMBERLAIN_CHART_YAMLTREE_H

#include "base/arena.h"
#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    YAML_DEPTH_MAX = 16,
    YAML_KEYS_MAX = 256, /* of one mapping */
    YAML_SCALAR_MAX_BYTES = 64 * 1024
};

enum yaml_kind { YAML_SCALAR, YAML_LIST, YAML_MAPPING };

enum yaml_style { YAML_PLAIN, YAML_SINGLE_QUOTED, YAML_DOUBLE_QUOTED, YAML_BLOCK };

struct yaml_node {
    enum yaml_kind kind;
    enum yaml_style style;   /* of a scalar */
    size_t line, column;     /* where it begins, from 1, in characters */
    const char *text;        /* of a scalar, terminated */
    size_t length;           /* of the text, bytes */
    size_t count;            /* items of a list, pairs of a mapping */
    struct yaml_node *first; /* item; in a mapping keys and values take turns */
    struct yaml_node *next;  /* within the list or mapping */
};

/* Where a problem is and what it is. */
typedef void yaml_report_fn(void *arg, size_t line, size_t column, const char *message);

/* Reads `text`; the tree lives in `arena`. Problems are reported; after a syntax error nothing more is read,
 * and *root is NULL (as for an empty file). ERR_INVALID when something was reported; ERR_NO_MEMORY. */
int yaml_tree_parse(const char *text, size_t length, struct arena *arena, yaml_report_fn *report, void *arg,
                    struct yaml_node **root, struct error *err);

/* The place in the file of byte `offset` of a scalar's text: what a quoted or folded scalar looks like in the
 * file is walked along with its text. */
void yaml_tree_locate(const char *file, size_t file_length, const struct yaml_node *scalar, size_t offset,
                      size_t *line, size_t *column);

#endif
