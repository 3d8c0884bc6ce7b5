/* Writing ALP columns. Which scheme and parameters a column gets is fixed by the format's writer, so that the
 * same values give the same bytes everywhere: a sample of about 32 values chooses, the whole column decides.
 */
#include "mebo/column.h"
#include "mebo/wire.h"

#include <math.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

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

/* v as an integer at exponents (e, f), still a double: half to even below 2^51, half away from zero above. */
static inline double scale(double v, unsigned e, unsigned f)
{
    double s = v * mebo_alp_power[e] * mebo_alp_inverse[f], size = fabs(s);
    if (size < round_range)
        return (s + round_magic) - round_magic;
    if (size < 2 * round_range) /* doubles are halves here */
        return copysign((double)(int64_t)(size + 0.5), s);
    return s; /* whole already, infinite, or no number */
}

/* What is known of the sample at one (e, f), as far as it has been looked at. */
struct estimate {
    double low, high; /* of the integers, low > high while there is none */
    uint64_t exceptions;
};

static void estimate_one(struct estimate *estimate, double v, unsigned e, unsigned f)
{
    double d = scale(v, e, f);
    if (fabs(d) >= integer_range || d * mebo_alp_power[f] * mebo_alp_inverse[e] != v) {
        estimate->exceptions++;
        return;
    }
    estimate->low = d < estimate->low ? d : estimate->low;
    estimate->high = d > estimate->high ? d : estimate->high;
}

enum { CHUNK = 8 };

#ifdef __SSE2__
/* Two values at once: this search is most of what an ALP column costs to write. False, with nothing added,
 * when a value needs the other rounding. */
static bool estimate_pairs(struct estimate *estimate, const double *values, unsigned e, unsigned f)
{
    const __m128d up = _mm_set1_pd(mebo_alp_power[e]), down = _mm_set1_pd(mebo_alp_inverse[f]);
    const __m128d back_up = _mm_set1_pd(mebo_alp_power[f]), back_down = _mm_set1_pd(mebo_alp_inverse[e]);
    const __m128d magic = _mm_set1_pd(round_magic), range = _mm_set1_pd(round_range),
                  none = _mm_set1_pd(-0.0);
    __m128d low = _mm_set1_pd(INFINITY), high = _mm_set1_pd(-INFINITY), inside = _mm_cmpeq_pd(low, low);
    __m128i exceptions = _mm_setzero_si128();
    for (unsigned i = 0; i < CHUNK; i += 2) {
        __m128d v = _mm_loadu_pd(values + i);
        __m128d s = _mm_mul_pd(_mm_mul_pd(v, up), down);
        __m128d d = _mm_sub_pd(_mm_add_pd(s, magic), magic);
        __m128d wrong = _mm_cmpneq_pd(_mm_mul_pd(_mm_mul_pd(d, back_up), back_down), v);
        inside = _mm_and_pd(inside, _mm_cmplt_pd(_mm_andnot_pd(none, s), range));
        exceptions = _mm_sub_epi64(exceptions, _mm_castpd_si128(wrong));
        low = _mm_min_pd(_mm_or_pd(_mm_and_pd(wrong, _mm_set1_pd(INFINITY)), _mm_andnot_pd(wrong, d)), low);
        high =
            _mm_max_pd(_mm_or_pd(_mm_and_pd(wrong, _mm_set1_pd(-INFINITY)), _mm_andnot_pd(wrong, d)), high);
    }
    if (_mm_movemask_pd(inside) != 3)
        return false;
    double lows[2], highs[2];
    uint64_t counts[2];
    _mm_storeu_pd(lows, low);
    _mm_storeu_pd(highs, high);
    memcpy(counts, &exceptions, sizeof counts);
    for (unsigned k = 0; k < 2; k++) {
        estimate->low = lows[k] < estimate->low ? lows[k] : estimate->low;
        estimate->high = highs[k] > estimate->high ? highs[k] : estimate->high;
        estimate->exceptions += counts[k];
    }
    return true;
}
#else
static bool estimate_pairs(struct estimate *estimate, const double *values, unsigned e, unsigned f)
{
    (void)estimate, (void)values, (void)e, (void)f;
    return false;
}
#endif

/* As estimate_one for CHUNK values. */
static void estimate_chunk(struct estimate *estimate, const double *values, unsigned e, unsigned f)
{
    if (estimate_pairs(estimate, values, e, f))
        return;
    for (unsigned i = 0; i < CHUNK; i++)
        estimate_one(estimate, values[i], e, f);
}

static uint64_t estimated_bits(const struct estimate *estimate, uint32_t count)
{
    uint64_t range = 0;
    if (estimate->low <= estimate->high)
        range = (uint64_t)(int64_t)estimate->high - (uint64_t)(int64_t)estimate->low;
    return (uint64_t)count * wire_bit_length(range) + estimate->exceptions * MAIN_EXCEPTION_BITS;
}

/* Estimated bits of the sample at (e, f). They only grow, so that a part of the sample that reaches `best` is
 * enough. */
static uint64_t estimate_main(const struct sample *sample, unsigned e, unsigned f, uint64_t best)
{
    struct estimate estimate = {.low = INFINITY, .high = -INFINITY};
    uint32_t i = 0;
    for (; i + CHUNK <= sample->count; i += CHUNK) {
        estimate_chunk(&estimate, sample->values + i, e, f);
        if (estimated_bits(&estimate, sample->count) >= best)
            return best;
    }
    for (; i < sample->count; i++)
        estimate_one(&estimate, sample->values[i], e, f);
    return estimated_bits(&estimate, sample->count);
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
        for (unsigned f = 0; f <= e && best > 0; f++) {
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
    uint64_t most = (uint64_t)count * 64 / MAIN_EXCEPTION_BITS; /* with more, raw is smaller */
    int64_t low = INT64_MAX, high = INT64_MIN, code = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (!main_code(values[i], plan->e, plan->f, &code)) {
            if (++plan->exceptions > most)
                return;
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

static unsigned char *write_split_codes(unsigned char *out, const struct split_plan *plan,
                                        const double *values, uint32_t count, const uint32_t *codes_of_left)
{
    struct packer codes = {.p = out};
    for (uint32_t i = 0; i < count; i++) {
        uint32_t code = codes_of_left[wire_bits_of(values[i]) >> plan->right];
        pack(&codes, code ? code - 1 : 0, plan->width);
    }
    struct packer rights = {.p = pack_end(&codes)};
    for (uint32_t i = 0; i < count; i++)
        pack(&rights, wire_bits_of(values[i]) & UINT64_MAX >> (64 - plan->right), plan->right);
    return pack_end(&rights);
}

static unsigned char *write_split(unsigned char *out, const struct split_plan *plan, const double *values,
                                  uint32_t count, bool big, uint32_t *left_counts)
{
    out[0] = MEBO_ALP_SPLIT;
    out[1] = (unsigned char)plan->right;
    out[2] = (unsigned char)plan->width;
    out[3] = (unsigned char)plan->entries;
    wire_store32(out + 4, plan->exceptions, big);
    out += MEBO_ALP_SPLIT_BYTES;
    for (unsigned i = 0; i < plan->entries; i++, out += 2) {
        wire_store16(out, plan->left[i], big);
        left_counts[plan->left[i]] = i + 1; /* for a while, the code of each left part, + 1 */
    }
    out = write_split_codes(out, plan, values, count, left_counts);
    for (uint32_t i = 0; i < count && plan->exceptions > 0; i++) {
        uint16_t left = (uint16_t)(wire_bits_of(values[i]) >> plan->right);
        if (left_counts[left])
            continue;
        wire_store32(out, i, big);
        wire_store16(out + 4, left, big);
        out += MEBO_ALP_SPLIT_EXCEPTION;
    }
    for (unsigned i = 0; i < plan->entries; i++)
        left_counts[plan->left[i]] = 0;
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
        return write_split(out, &split, values, count, big, left_counts);
    out[0] = MEBO_ALP_RAW;
    return mebo_raw_encode(out + 1, values, count, big);
}
