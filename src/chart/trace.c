#include "chart/trace.h"

const struct trace_column *trace_find(const struct trace *trace, uint64_t sensor)
{
    size_t low = 0, high = trace->count;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (trace->columns[mid].sensor < sensor)
            low = mid + 1;
        else
            high = mid;
    }
    return low < trace->count && trace->columns[low].sensor == sensor ? &trace->columns[low] : NULL;
}
