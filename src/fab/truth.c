#include "fab/plan.h"

#include "base/clock.h"

void fab_truth_begin(struct strbuf *csv)
{
    strbuf_add(csv,
               "context_id,tool,chamber,recipe,lot,wafer,label,fault,fault_sensor,fault_from,fault_size\n");
}

/* Names of the fab hold no comma and no quote. */
void fab_truth_add(const struct fab *fab, const struct fab_run *run, struct strbuf *csv)
{
    const struct fab_fault *fault = &run->fault;
    bool any = fault->kind != FAB_NO_FAULT;
    strbuf_printf(csv, "%s,%s,%s,%s,%s,%s,%s,%s,", run->id, run->tool, run->chamber_name, run->recipe_name,
                  run->lot, run->wafer, any ? "fault" : "normal", fab_fault_name(fault->kind));
    if (!any) {
        strbuf_add(csv, ",,\n");
        return;
    }
    if (fault->kind == FAB_MISSING_STEP)
        strbuf_printf(csv, "step %zu", fault->step);
    else
        strbuf_add(csv, fab->sensors[fault->sensor].name);
    if (fault->kind == FAB_SWAPPED)
        strbuf_printf(csv, " and %s", fab->sensors[fault->other_sensor].name);
    char from[CLOCK_RFC3339_BYTES];
    int64_t from_us = run->start_us + (int64_t)fault->from * fab->sample_us;
    strbuf_printf(csv, ",%s,", clock_format_rfc3339(from_us, from));
    if (fault->size != 0)
        strbuf_printf(csv, "%.4g", fault->size);
    strbuf_add_char(csv, '\n');
}
