/* How long an assignment takes, how even it is, and how many chambers it moves beside the fewest that any
 * could. */
#include "assign/assign.h"
#include "base/clock.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { NAME_BYTES = 24, RUNS_MIN = 9, RUNS_MAX = 501 };

static const int64_t BUDGET_NS = INT64_C(250000000); /* of one row */
static const double SKEW = 120;                      /* the heaviest weight over the lightest */

/* Of parti's WeightedConsistentHash (Go), 5,000 partitions on 64 workers, weighted; its own benchmark, 2-core
 * machine. */
static const char PEER_WARM[] = "0.92 ms, up to 1.30 x the mean",
                  PEER_COLD[] = "2.30 ms, up to 1.30 x the mean";

struct fab {
    struct assign_chamber *chambers;
    struct assign_defender *defenders;
    char (*names)[NAME_BYTES];
    size_t chamber_count, defender_count;
    struct assign_options options;
    struct arena arena;
};

static void die(const char *what)
{
    fprintf(stderr, "bench_assign: %s\n", what);
    exit(1);
}

static void *checked(void *memory)
{
    if (memory == NULL)
        die("out of memory");
    return memory;
}

static double next_random(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (double)(*state >> 11) / 9007199254740992.0;
}

/* Weights are those of contexts, in points: equal, or spread evenly over the logarithm. */
static void fab_make(struct fab *fab, size_t chambers, size_t defenders_max, bool skewed)
{
    uint64_t seed = 1;
    *fab = (struct fab){.chamber_count = chambers, .options = assign_options_default()};
    arena_init(&fab->arena, (size_t)1 << 20);
    fab->chambers = checked(calloc(chambers, sizeof *fab->chambers));
    fab->names = checked(calloc(chambers, sizeof *fab->names));
    fab->defenders = checked(calloc(defenders_max, sizeof *fab->defenders));
    for (size_t i = 0; i < chambers; i++) {
        snprintf(fab->names[i], NAME_BYTES, "TOOL%05zu:PM%zu", i / 4, i % 4 + 1);
        double weight = skewed ? 30000 * pow(SKEW, next_random(&seed)) : 120000;
        fab->chambers[i] = (struct assign_chamber){fab->names[i], (int64_t)weight, ASSIGN_NOBODY};
    }
    for (size_t j = 0; j < defenders_max; j++)
        fab->defenders[j].number = (int32_t)j;
}

static void fab_free(struct fab *fab)
{
    free(fab->chambers);
    free(fab->names);
    free(fab->defenders);
    arena_free(&fab->arena);
}

static int ascending(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* One row: the change from the assignment in force to `defenders` members; the result is then in force. */
static void bench_change(struct fab *fab, const char *change, size_t defenders, enum assign_mode mode,
                         const char *peer)
{
    static int64_t times[RUNS_MAX];
    struct assign_input input = {.chambers = fab->chambers,
                                 .chamber_count = fab->chamber_count,
                                 .defenders = fab->defenders,
                                 .defender_count = defenders,
                                 .options = fab->options,
                                 .mode = mode};
    struct assign_result result;
    struct error err;
    size_t runs = 0;
    for (int64_t begin = clock_mono_ns();
         runs < RUNS_MAX && (runs < RUNS_MIN || clock_mono_ns() - begin < BUDGET_NS); runs++) {
        arena_reset(&fab->arena);
        int64_t start = clock_mono_ns();
        if (assign_compute(&input, &fab->arena, &result, &err))
            die(err.text);
        times[runs] = clock_mono_ns() - start;
    }
    qsort(times, runs, sizeof *times, ascending);
    const struct assign_statistics *s = &result.statistics;
    printf("  %-22s %8.3f %8.3f   %8.3f %8.3f  %7zu %7zu %6.3f %6.2f %%   %s\n", change,
           (double)times[0] / 1e6, (double)times[runs / 2] / 1e6, s->heaviest, s->lightest, s->moved,
           s->moved_least, s->moved_least ? (double)s->moved / (double)s->moved_least : 1.0,
           100.0 * (double)s->moved / (double)fab->chamber_count, peer);
    for (size_t i = 0; i < fab->chamber_count; i++)
        fab->chambers[i].owner = result.owners[i];
    fab->defender_count = defenders;
}

/* As bench_change, with the `gone` lowest numbers gone; they are back for the next row. */
static void bench_crash(struct fab *fab, const char *change, size_t gone, enum assign_mode mode,
                        const char *peer)
{
    struct assign_defender *all = fab->defenders;
    size_t count = fab->defender_count;
    fab->defenders = all + gone;
    bench_change(fab, change, count - gone, mode, peer);
    fab->defenders = all;
    fab->defender_count = count;
}

static void bench_fab(size_t chambers, size_t from, size_t to, bool skewed, bool peer)
{
    struct fab fab;
    char text[32];
    fab_make(&fab, chambers, to, skewed);
    printf("%zu chambers, %s weights\n", chambers, skewed ? "120-fold skewed" : "equal");
    snprintf(text, sizeof text, "first, on %zu", from);
    bench_change(&fab, text, from, ASSIGN_NORMAL, peer ? PEER_COLD : "");
    bench_change(&fab, "nothing changed", from, ASSIGN_NORMAL, peer ? PEER_WARM : "");
    snprintf(text, sizeof text, "%zu to %zu", from, to);
    bench_change(&fab, text, to, ASSIGN_NORMAL, peer ? PEER_WARM : "");
    bench_crash(&fab, "one crashed", 1, ASSIGN_EMERGENCY, peer ? PEER_WARM : "");
    bench_change(&fab, "it is back", to, ASSIGN_NORMAL, peer ? PEER_WARM : "");
    snprintf(text, sizeof text, "%zu to %zu", to, from);
    bench_change(&fab, text, from, ASSIGN_NORMAL, peer ? PEER_WARM : "");
    fab.options.balance_max = 1.05;
    snprintf(text, sizeof text, "%zu to %zu at 1.05", from, to);
    bench_change(&fab, text, to, ASSIGN_NORMAL, peer ? PEER_WARM : "");
    fab_free(&fab);
}

int main(void)
{
    printf(
        "Assignment of chambers to defenders. No one above 1.20 x the mean; those below 0.80 x are lifted\n"
        "while no more than 20 %% of the chambers move. `least` is the lower bound of movement for the "
        "balance\n"
        "reached (src/assign/assign.h). The peer's figures are published ones, not measured here.\n\n"
        "  %-22s %8s %8s   %8s %8s  %7s %7s %6s %8s   %s\n",
        "change", "min ms", "median", "heaviest", "lightest", "moved", "least", "ratio", "of all",
        "peer: parti WeightedConsistentHash");
    for (int skewed = 0; skewed < 2; skewed++) {
        bench_fab(2400, 30, 45, skewed, false);
        bench_fab(5000, 30, 45, skewed, false);
        bench_fab(5000, 64, 80, skewed, true);
        bench_fab(100000, 1000, 1100, skewed, false);
    }
    return 0;
}
