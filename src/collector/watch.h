/* A folder whose files are taken as they arrive, once each, also across restarts and crashes.
 *
 *     scan -> ready files -> the caller reads, stores and announces each -> watch_taken, or watch_failed
 *
 * A ledger (a small SQLite file) keeps every taken file's name, size, time of change and content hash. A file
 * is in it only after watch_taken has returned, so a crash in between means that it is read again, which
 * changes nothing: contexts are stored by their ids. A file is ready when its size and time of change have
 * stood still for `settle_us`, so that one that is still being written is left alone; better still, write
 * under a name that is no trace file's (".tmp", a leading dot) and rename. A file that was only touched is
 * not taken again; one whose content has changed is.
 *
 * Subfolders are not looked into. Used by one thread; a second process on the same ledger is refused. */
#ifndef CHAMBERLAIN_COLLECTOR_WATCH_H
#define CHAMBERLAIN_COLLECTOR_WATCH_H

#include "base/error.h"
#include "collector/mapping.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { WATCH_FILES_MAX = 1000000 }; /* in the folder */

#define WATCH_SETTLE_US INT64_C(2000000)
#define WATCH_RETRY_FIRST_US INT64_C(1000000)
#define WATCH_RETRY_MOST_US INT64_C(60000000)

struct watch;

struct watch_options {
    const char *dir;
    const char *ledger;            /* path of the ledger's file; made when absent */
    const struct mapping *mapping; /* its `files` says which files are meant; NULL: every trace file */
    int64_t settle_us;             /* 0: WATCH_SETTLE_US */
};

struct watch_file {
    const char *path; /* dir/name */
    const char *name;
    int64_t size;
    int64_t changed_us; /* time of change */
    uint64_t hash;      /* xxHash64 of the content */
    bool again;         /* another content of this name has been taken before */
};

/* ERR_NOT_FOUND: no such folder; ERR_CONFLICT: another process has the ledger; ERR_CORRUPT, ERR_IO (of the
 * ledger, with what to do); ERR_NO_MEMORY. */
int watch_open(const struct watch_options *options, struct watch **watch, struct error *err);
void watch_close(struct watch *watch);

/* Looks at the folder once and fills `files` with up to `limit` files that are ready, in the order of their
 * names. They are borrowed until the next scan. Each is given again by every scan until watch_taken or
 * watch_failed. `now_us` is wall-clock time (clock_wall_us); call about as often as settle_us is long.
 * ERR_IO: the folder cannot be listed, or the ledger not read; ERR_LIMIT; ERR_NO_MEMORY. */
int watch_scan(struct watch *watch, int64_t now_us, struct watch_file *files, size_t limit, size_t *count,
               struct error *err);

/* Enters a file in the ledger, durably, after all its contexts have been stored and announced. ERR_IO: it has
 * not been entered, and will be given again. */
int watch_taken(struct watch *watch, const struct watch_file *file, size_t contexts, int64_t now_us,
                struct error *err);

/* Says that a file could not be taken, with the error code. A fault of the file itself (ERR_INVALID,
 * ERR_CORRUPT, ERR_LIMIT, ERR_UNSUPPORTED) is entered in the ledger: the file is not given again before it is
 * changed or touched. After any other error it is given again, after 1 s, 2 s, 4 s, ... 60 s. ERR_IO: as
 * watch_taken. */
int watch_failed(struct watch *watch, const struct watch_file *file, int code, const char *reason,
                 int64_t now_us, struct error *err);

/* Files seen by the last scan that are neither in the ledger nor were given: they settle, or wait to be tried
 * again. */
size_t watch_waiting(const struct watch *watch);

#endif
