/* What scripts/embed-files makes of the folder web/. */
#ifndef CHAMBERLAIN_WEB_FILES_EMBEDDED_H
#define CHAMBERLAIN_WEB_FILES_EMBEDDED_H

#include <stddef.h>

struct embedded_file {
    const char *path, *type;
    const char *etag, *packed_etag;      /* in their quotes */
    const unsigned char *bytes, *packed; /* packed: with gzip */
    size_t length, packed_length;        /* packed_length 0: it would be no shorter */
};

/* Ends with a NULL path. */
extern const struct embedded_file embedded_files[];

#endif
