#include "defender/seat.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

int seat_take(const char *path, uint64_t incarnation, struct seat *seat, struct error *err)
{
    char text[32] = "";
    *seat = (struct seat){.file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644)};
    if (seat->file < 0)
        return error_set(err, ERR_IO, "seat file %s: %s", path, strerror(errno));
    if (flock(seat->file, LOCK_EX | LOCK_NB)) {
        close(seat->file);
        return error_set(err, ERR_CONFLICT,
                         "seat file %s is held by another process; give each defender its own", path);
    }
    if (pread(seat->file, text, sizeof text - 1, 0) > 0)
        seat->predecessor = strtoull(text, NULL, 16);
    int length = snprintf(text, sizeof text, "%016" PRIx64 "\n", incarnation);
    if (pwrite(seat->file, text, (size_t)length, 0) != length)
        return error_set(err, ERR_IO, "seat file %s: %s", path, strerror(errno));
    return 0;
}
