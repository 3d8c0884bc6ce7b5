#include "web/thin.h"

#include <math.h>
#include <stdbool.h>

static size_t pixel_of(int64_t time_us, int64_t from_us, int64_t to_us, size_t pixels)
{
    if (time_us <= from_us || to_us <= from_us)
        return 0;
    double part = (double)(time_us - from_us) / (double)(to_us - from_us);
    size_t pixel = (size_t)(part * (double)pixels);
    return pixel < pixels ? pixel : pixels - 1;
}

/* Keeps what is to be kept of one stretch [begin, end). */
static size_t keep_stretch(const double *values, size_t begin, size_t end, size_t *kept)
{
    size_t least = begin, greatest = begin;
    bool found = false;
    for (size_t i = begin; i < end; i++) {
        if (isnan(values[i]))
            continue;
        if (!found || values[i] < values[least])
            least = i;
        if (!found || values[i] > values[greatest])
            greatest = i;
        found = true;
    }
    kept[0] = least < greatest ? least : greatest;
    kept[1] = least < greatest ? greatest : least;
    return least == greatest ? 1 : 2;
}

size_t thin_trace(const int64_t *times_us, const double *values, size_t count, int64_t from_us, int64_t to_us,
                  size_t pixels, size_t *kept)
{
    size_t used = 0;
    if (count <= 2 * pixels) {
        for (; used < count; used++)
            kept[used] = used;
        return used;
    }
    for (size_t begin = 0, end; begin < count; begin = end) {
        size_t pixel = pixel_of(times_us[begin], from_us, to_us, pixels);
        for (end = begin + 1; end < count && pixel_of(times_us[end], from_us, to_us, pixels) == pixel;)
            end++;
        used += keep_stretch(values, begin, end, kept + used);
    }
    return used;
}
