/* Writing ALP columns. Which scheme and parameters a column gets is fixed by the format's writer, so that the
 * same values give the same bytes everywhere: a sample of about 32 values chooses, the whole column decides.
 */
#include "mebo/column.h"
#include "mebo/wire.h"

#include <math.h>

enum {
    SAMPLE_TARGET = 32, /* values looked at to choose parameters */
    SAMPLE_MAX = 64,    /* most that the stride can leave */
    MAIN_EXCEPTION_BITS = 96,
    MAIN_FIXED_BITS = 120, /* without the scheme byte */
    SPLIT_EXCEPTION_BITS = 48,
    SPLIT_FIXED_BITS = 56,
    SPLIT_MAX_LEFT = 16 /* bits */
};

/* Adding and subtracting 1.5 * 2^52 rounds |x| < 2^51 half to even in one step each. */
static const double round_magic = 6755399441055744.0;
static const double round_range = 2251799813685248.0;
static const double integer_range = 9.2e18; /* beyond it a rounded value does not fit in 64 bits */

struct sample {
    double values[SAMPLE_MAX];
    uint32_t count;
};

static uint32_t sample_stride(uint32_t count)
{
    return count > SAMPLE_TARGET ? count / SAMPLE_TARGET : 1;
}

static void take_sample(struct sample *sample, const double *values, uint32_t count)
{
    uint32_t stride = sample_stride(count);
    sample->count = 0;
    for (uint64_t i = 0; i < count; i += stride)
        sample->values[sample->count++] = values[i];
}

/* v as an integer at exponents (e, f), still a double. */
static inline double scale(double v, unsigned e, unsigned f)
{
    double s = v * mebo_alp_power[e] * mebo_alp_inverse[f];
    return fabs(s) < round_range ? (s + round_magic) - round_magic : round(s);
}

/* Estimated bits of the sample at (e, f); any number not below `best` once it cannot be below it. */
static uint64_t estimate_main(const struct sample *sample, unsigned e, unsigned f, uint64_t best)
{
    double low = INFINITY, high = -INFINITY;
    uint64_t exceptions = 0;
    for (uint32_t i = 0; i < sample->count; i++) {
        double v = sample->values[i];
        double d = scale(v, e, f);
        if (fabs(d) >= integer_range || d * mebo_alp_power[f] * mebo_alp_inverse[e] != v) {
            if (++exceptions * MAIN_EXCEPTION_BITS >= best)
                return best;
            continue;
        }
        low = d < low ? d : low;
        high = d > high ? d : high;
    }
    unsigned width = low <= high ? wire_bit_length((uint64_t)(int64_t)high - (uint64_t)(int64_t)low) : 0;
    return (uint64_t)sample->count * width + exceptions * MAIN_EXCEPTION_BITS;
}

struct main_plan {
    unsigned e, f, width;
    uint32_t exceptions;
    int64_t min;
    uint64_t bits;
    bool possible;
};

static void choose_exponents(const struct sample *sample, struct main_plan *plan)
{
    uint64_t best = UINT64_MAX;
    for (unsigned e = 0; e <= MEBO_ALP_MAX_POWER; e++) {
        for (unsigned f = 0; f <= e; f++) {
            uint64_t bits = estimate_main(sample, e, f, best);
            if (bits < best) {
                best = bits;
                plan->e = e;
                plan->f = f;
            }
        }
    }
}

/* The integer of v at (e, f) if it gives back v's very bits. */
static inline bool main_code(double v, unsigned e, unsigned f, int64_t *code)
{
    double d = scale(v, e, f);
    if (!(fabs(d) < integer_range))
        return false;
    *code = (int64_t)d;
    return wire_bits_of((double)*code * mebo_alp_power[f] * mebo_alp_inverse[e]) == wire_bits_of(v);
}

static void plan_main(struct main_plan *plan, const struct sample *sample, const double *values,
                      uint32_t count)
{
    *plan = (struct main_plan){0};
    choose_exponents(sample, plan);
    int64_t low = INT64_MAX, high = INT64_MIN, code = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (!main_code(values[i], plan->e, plan->f, &code)) {
            plan->exceptions++;
            continue;
        }
        low = code < low ? code : low;
        high = code > high ? code : high;
    }
    plan->possible = plan->exceptions < count;
    if (!plan->possible)
        return;
    plan->min = low;
    plan->width = wire_bit_length((uint64_t)high - (uint64_t)low);
    plan->bits =
        MAIN_FIXED_BITS + (uint64_t)count * plan->width + (uint64_t)plan->exceptions * MAIN_EXCEPTION_BITS;
}

/* Bit packing, least significant first. 8 bytes from p on must be writable. */
struct packer {
    unsigned char *p;
    uint64_t pending;
    unsigned used; /* 0..7 bits of `pending` */
};

static inline void pack(struct packer *packer, uint64_t code, unsigned width)
{
    unsigned total = packer->used + width;
    uint64_t pending = packer->pending | code << packer->used;
    wire_store64(packer->p, pending, false);
    packer->p += total >> 3;
    if (total >= 64) /* what did not fit */
        packer->pending = packer->used ? code >> (64 - packer->used) : 0;
    else
        packer->pending = pending >> (total & 0x38);
    packer->used = total & 7;
}

static unsigned char *pack_end(struct packer *packer)
{
    if (packer->used == 0)
        return packer->p;
    *packer->p = (unsigned char)packer->pending;
    return packer->p + 1;
}

static unsigned char *write_main(unsigned char *out, const struct main_plan *plan, const double *values,
                                 uint32_t count, bool big)
{
    out[0] = MEBO_ALP_MAIN;
    out[1] = (unsigned char)plan->e;
    out[2] = (unsigned char)plan->f;
    out[3] = (unsigned char)plan->width;
    wire_store32(out + 4, plan->exceptions, big);
    wire_store64(out + 8, (uint64_t)plan->min, big);
    struct packer packer = {.p = out + MEBO_ALP_MAIN_BYTES};
    uint32_t exceptions = 0;
    for (uint32_t i = 0; i < count; i++) {
        int64_t code;
        bool exact = main_code(values[i], plan->e, plan->f, &code);
        exceptions += !exact;
        pack(&packer, exact ? (uint64_t)code - (uint64_t)plan->min : 0, plan->width);
    }
    out = pack_end(&packer);
    for (uint32_t i = 0; i < count && exceptions > 0; i++) {
        int64_t code;
        if (main_code(values[i], plan->e, plan->f, &code))
            continue;
        wire_store32(out, i, big);
        wire_store64(out + 4, wire_bits_of(values[i]), big);
        out += MEBO_ALP_MAIN_EXCEPTION;
        exceptions--;
    }
    return out;
}

struct split_plan {
    unsigned right; /* bits of the right part */
    unsigned width; /* bits of a dictionary code */
    unsigned entries;
    uint16_t left[MEBO_ALP_DICTIONARY];
    uint32_t exceptions;
    uint64_t bits;
};

/* Puts `left`, seen `seen` times, into its place among the most frequent (ties: the smaller first). */
static void rank_left(struct split_plan *plan, uint32_t times[static MEBO_ALP_DICTIONARY], uint16_t left,
                      uint32_t seen)
{
    unsigned at = plan->entries;
    while (at > 0 && (times[at - 1] < seen || (times[at - 1] == seen && plan->left[at - 1] > left)))
        at--;
    if (at == MEBO_ALP_DICTIONARY)
        return;
    if (plan->entries < MEBO_ALP_DICTIONARY)
        plan->entries++;
    for (unsigned i = plan->entries - 1; i > at; i--) {
        plan->left[i] = plan->left[i - 1];
        times[i] = times[i - 1];
    }
    plan->left[at] = left;
    times[at] = seen;
}

/* The dictionary and size of `values` with `right` bits on the right. */
static void plan_split(struct split_plan *plan, unsigned right, const double *values, uint32_t count,
                       uint32_t *left_counts)
{
    *plan = (struct split_plan){.right = right};
    uint32_t times[MEBO_ALP_DICTIONARY] = {0}, covered = 0;
    for (uint32_t i = 0; i < count; i++)
        left_counts[wire_bits_of(values[i]) >> right]++;
    for (uint32_t i = 0; i < count; i++) { /* each different left part once; leaves the counts zero */
        uint32_t *seen = &left_counts[wire_bits_of(values[i]) >> right];
        if (*seen == 0)
            continue;
        rank_left(plan, times, (uint16_t)(wire_bits_of(values[i]) >> right), *seen);
        *seen = 0;
    }
    for (unsigned i = 0; i < plan->entries; i++)
        covered += times[i];
    plan->exceptions = count - covered;
    plan->width = plan->entries <= 1 ? 1 : wire_bit_length(plan->entries - 1);
    plan->bits = SPLIT_FIXED_BITS + (uint64_t)plan->entries * 16 + (uint64_t)count * (plan->width + right) +
                 (uint64_t)plan->exceptions * SPLIT_EXCEPTION_BITS;
}

static void choose_split(struct split_plan *plan, const struct sample *sample, const double *values,
                         uint32_t count, uint32_t *left_counts)
{
    uint64_t best = UINT64_MAX;
    unsigned right = 63;
    for (unsigned left = 1; left <= SPLIT_MAX_LEFT; left++) {
        plan_split(plan, 64 - left, sample->values, sample->count, left_counts);
        if (plan->bits < best) {
            best = plan->bits;
            right = 64 - left;
        }
    }
    plan_split(plan, right, values, count, left_counts);
}

static unsigned left_code(const struct split_plan *plan, uint16_t left)
{
    unsigned code = 0;
    while (code < plan->entries && plan->left[code] != left)
        code++;
    return code;
}

static unsigned char *write_split(unsigned char *out, const struct split_plan *plan, const double *values,
                                  uint32_t count, bool big)
{
    out[0] = MEBO_ALP_SPLIT;
    out[1] = (unsigned char)plan->right;
    out[2] = (unsigned char)plan->width;
    out[3] = (unsigned char)plan->entries;
    wire_store32(out + 4, plan->exceptions, big);
    out += MEBO_ALP_SPLIT_BYTES;
    for (unsigned i = 0; i < plan->entries; i++, out += 2)
        wire_store16(out, plan->left[i], big);
    struct packer codes = {.p = out};
    for (uint32_t i = 0; i < count; i++) {
        unsigned code = left_code(plan, (uint16_t)(wire_bits_of(values[i]) >> plan->right));
        pack(&codes, code < plan->entries ? code : 0, plan->width);
    }
    struct packer rights = {.p = pack_end(&codes)};
    for (uint32_t i = 0; i < count; i++)
        pack(&rights, wire_bits_of(values[i]) & UINT64_MAX >> (64 - plan->right), plan->right);
    out = pack_end(&rights);
    for (uint32_t i = 0; i < count && plan->exceptions > 0; i++) {
        uint16_t left = (uint16_t)(wire_bits_of(values[i]) >> plan->right);
        if (left_code(plan, left) < plan->entries)
            continue;
        wire_store32(out, i, big);
        wire_store16(out + 4, left, big);
        out += MEBO_ALP_SPLIT_EXCEPTION;
    }
    return out;
}

unsigned char *mebo_alp_encode(unsigned char *out, const double *values, uint32_t count, bool big,
                               uint32_t *left_counts)
{
    struct sample sample;
    struct main_plan plan;
    uint64_t raw_bits = (uint64_t)count * 64;
    take_sample(&sample, values, count);
    plan_main(&plan, &sample, values, count);
    if (plan.possible && plan.exceptions == 0 && plan.bits <= raw_bits)
        return write_main(out, &plan, values, count, big);
    struct split_plan split;
    choose_split(&split, &sample, values, count, left_counts);
    if (plan.possible && plan.bits <= split.bits && plan.bits <= raw_bits)
        return write_main(out, &plan, values, count, big);
    if (split.bits <= raw_bits)
        return write_split(out, &split, values, count, big);
    out[0] = MEBO_ALP_RAW;
    return mebo_raw_encode(out + 1, values, count, big);
}
