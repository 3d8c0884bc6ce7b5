#include "cli/terminal.h"

#include "base/clock.h"
#include "cli/command.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

size_t terminal_columns(void)
{
    struct winsize size;
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
        return size.ws_col;
    const char *columns = getenv("COLUMNS");
    long number = columns ? strtol(columns, NULL, 10) : 0;
    return number > 0 && number < 10000 ? (size_t)number : TERMINAL_DEFAULT_COLUMNS;
}

bool terminal_colour(void)
{
    return isatty(STDOUT_FILENO) && getenv("NO_COLOR") == NULL;
}

int terminal_print(const struct strbuf *text)
{
    if (text->failed) {
        fprintf(stderr, "chamberlain: no memory for the output\n");
        return EXIT_FAILED;
    }
    if (fwrite(text->text, 1, text->length, stdout) == text->length && fflush(stdout) == 0)
        return 0;
    if (errno != EPIPE) /* the reader had enough: `| head` */
        fprintf(stderr, "chamberlain: cannot write the output: %s\n", strerror(errno));
    return EXIT_FAILED;
}

void progress_begin(struct progress *progress, const char *what, int64_t total)
{
    *progress = (struct progress){.what = what, .total = total, .start_ns = clock_mono_ns()};
    progress->terminal = isatty(STDERR_FILENO);
    int64_t first_ms = progress->terminal ? PROGRESS_FIRST_MS : PROGRESS_FILE_FIRST_MS;
    progress->next_ns = progress->start_ns + first_ms * 1000000;
}

void progress_update(struct progress *progress, int64_t done)
{
    int64_t now_ns = clock_mono_ns();
    if (now_ns < progress->next_ns)
        return;
    progress->next_ns =
        now_ns + (progress->terminal ? PROGRESS_TERMINAL_MS : PROGRESS_FILE_MS) * INT64_C(1000000);
    double seconds = (double)(now_ns - progress->start_ns) / 1e9;
    fprintf(stderr, "%s%" PRId64, progress->terminal ? "\r\033[K" : "", done);
    if (progress->total > 0)
        fprintf(stderr, " of %" PRId64, progress->total);
    fprintf(stderr, " %s, %.0f/s%s", progress->what, (double)done / seconds, progress->terminal ? "" : "\n");
    fflush(stderr);
    progress->shown = true;
}

void progress_end(struct progress *progress)
{
    if (progress->shown && progress->terminal)
        fprintf(stderr, "\r\033[K");
    progress->shown = false;
}
