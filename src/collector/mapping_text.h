/* The texts of a mapping: "CMP-{MACHINE_ID}". Their rendering is in mapping.h. */
#ifndef CHAMBERLAIN_COLLECTOR_MAPPING_TEXT_H
#define CHAMBERLAIN_COLLECTOR_MAPPING_TEXT_H

#include "collector/mapping.h"

/* Cuts `source` into pieces, which live in `arena`. ERR_INVALID says which brace or format is wrong;
 * ERR_LIMIT over MAPPING_PIECES_MAX; ERR_NO_MEMORY. Leaves text->values alone. */
int mapping_text_parse(const char *source, struct arena *arena, struct mapping_text *text, struct error *err);

#endif
