#include "collector/counts.h"

void collect_counts_format(const struct collect_counts *counts, struct strbuf *json)
{
    const char *comma = "";
#define COLLECT_MEMBER(name, help)                                                                           \
    strbuf_printf(json, "%s\"" #name "\":%lld", comma, (long long)counts->name);                             \
    comma = ",";
    COLLECT_COUNTS(COLLECT_MEMBER)
#undef COLLECT_MEMBER
}
