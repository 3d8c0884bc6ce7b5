/* Options that several commands share, as entries of a struct command_option table. */
#ifndef CHAMBERLAIN_CLI_OPTIONS_H
#define CHAMBERLAIN_CLI_OPTIONS_H

#include "cli/command.h"

#define OPTION_DIR(target)                                                                                   \
    {                                                                                                        \
        "dir", OPTION_TEXT, (target), "DIR",                                                                 \
            "the cluster's directory (default: the environment, then ./chamberlain-data)"                    \
    }
#define OPTION_JSON(target)                                                                                  \
    {                                                                                                        \
        "json", OPTION_FLAG, (target), NULL, "for programs"                                                  \
    }
#define OPTION_TOOL(target)                                                                                  \
    {                                                                                                        \
        "tool", OPTION_TEXT, (target), "T", "only contexts of this tool"                                     \
    }
#define OPTION_CHAMBER(target)                                                                               \
    {                                                                                                        \
        "chamber", OPTION_TEXT, (target), "C", "only contexts of this chamber"                               \
    }
#define OPTION_RECIPE(target)                                                                                \
    {                                                                                                        \
        "recipe", OPTION_TEXT, (target), "R", "only contexts of this recipe"                                 \
    }
#define OPTION_LOT(target)                                                                                   \
    {                                                                                                        \
        "lot", OPTION_TEXT, (target), "L", "only contexts of this lot"                                       \
    }

/* How many entries a table has. */
#define OPTION_COUNT(table) (sizeof(table) / sizeof *(table))

#endif
