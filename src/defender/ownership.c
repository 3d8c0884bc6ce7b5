#include "defender/ownership.h"

void ownership_take_all(struct ownership *ownership, const char *cell)
{
    names_subject(cell, "dc.>", ownership->all);
    ownership->filters[0] = ownership->all;
    ownership->count = 1;
    ownership->leads = true;
}
