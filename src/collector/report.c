#include "collector/report.h"

const char *import_event_name(enum import_event event)
{
    static const char *const names[IMPORT_EVENTS] = {
        "bad_row", "bad_cell",     "tail_cut", "out_of_order",  "repeated",
        "too_few", "missing_step", "gap",      "unreadable",    "name_changed",
        "empty",   "refused",      "conflict", "missing_trace", "bad_file"};
    return names[event];
}

enum log_level import_event_level(enum import_event event)
{
    switch (event) {
    case IMPORT_TAIL_CUT:
    case IMPORT_REPEATED:
        return LOG_LEVEL_INFO;
    case IMPORT_EMPTY:
    case IMPORT_REFUSED:
    case IMPORT_CONFLICT:
    case IMPORT_MISSING_TRACE:
    case IMPORT_BAD_FILE:
        return LOG_LEVEL_ERROR;
    default:
        return LOG_LEVEL_WARN;
    }
}

void import_note(const struct import_sink *sink, struct import_summary *summary,
                 size_t reported[IMPORT_EVENTS], const struct import_report *report)
{
    summary->events[report->event]++;
    size_t count = ++reported[report->event];
    if (sink->report == NULL || count > IMPORT_REPORTS_PER_FILE_MAX)
        return;
    if (count < IMPORT_REPORTS_PER_FILE_MAX) {
        sink->report(sink->arg, report);
        return;
    }
    struct strbuf text;
    strbuf_init(&text);
    strbuf_printf(&text, "%s; more of this kind in this file are counted only", report->text);
    struct import_report last = *report;
    last.text = text.failed ? report->text : text.text;
    sink->report(sink->arg, &last);
    strbuf_free(&text);
}

void import_report_format(const struct import_report *report, struct strbuf *text)
{
    if (report->event == IMPORT_BAD_FILE) { /* its text is an error's and says the file itself */
        strbuf_add(text, report->text);
        return;
    }
    strbuf_add(text, report->file);
    if (report->line > 0)
        strbuf_printf(text, ":%zu", report->line);
    if (report->column != NULL)
        strbuf_printf(text, ": column %s", report->column);
    strbuf_printf(text, ": %s", report->text);
    if (report->context_id != NULL)
        strbuf_printf(text, " (context %s)", report->context_id);
}

void import_summary_format(const struct import_summary *summary, struct strbuf *json)
{
    const struct {
        const char *name;
        size_t value;
    } counts[] = {{"files", summary->files},
                  {"files_failed", summary->files_failed},
                  {"contexts", summary->contexts},
                  {"contexts_low", summary->contexts_low},
                  {"rows", summary->rows},
                  {"samples", summary->samples},
                  {"samples_tail_cut", summary->samples_tail_cut},
                  {"samples_out_of_order", summary->samples_out_of_order},
                  {"samples_repeated", summary->samples_repeated},
                  {"cells_missing", summary->cells_missing}};
    strbuf_add_char(json, '{');
    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++)
        strbuf_printf(json, "\"%s\":%zu,", counts[i].name, counts[i].value);
    strbuf_add(json, "\"events\":{");
    for (size_t i = 0; i < IMPORT_EVENTS; i++)
        strbuf_printf(json, "%s\"%s\":%zu", i > 0 ? "," : "", import_event_name((enum import_event)i),
                      summary->events[i]);
    strbuf_add(json, "}}");
}
