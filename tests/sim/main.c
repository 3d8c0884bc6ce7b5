/* build/sim: one seed, or many until the time is up. */
#include "faults.h"
#include "invariants.h"
#include "world.h"

#include "base/clock.h"
#include "cluster/plant.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct totals {
    double hours;
    uint64_t worlds, steps;
    uint64_t faults[FAULT_COUNT];
    uint64_t checked[INVARIANT_COUNT];
    struct recovery recoveries[FAULT_COUNT];
};

struct run {
    struct sim_options options;
    uint64_t first, last;
    double seconds; /* of real time; 0: no limit */
    bool quiet, list_plants;
    const char *plant;
};

static const char USAGE[] =
    "usage: sim [--seed S | --seeds FIRST-LAST] [--defenders N] [--chambers M] [--hours H] [--seconds T]\n"
    "           [--faults KIND,KIND,...] [--only INVARIANT] [--trace] [--quiet] [--plant NAME | "
    "--list-plants]\n"
    "Simulates whole clusters, each from a seed, and checks what must hold. Ends with status 1 at the first "
    "seed that\n"
    "breaks something, and prints the command that replays it. Without N, M or H each seed chooses its "
    "own.\n";

/* What a seed's world is like, where nothing else is said. */
static void shape(struct sim_options *options)
{
    struct sim_random random;
    sim_random_seed(&random, options->seed ^ UINT64_C(0x5eed));
    bool large = sim_random_chance(&random, 0.03);
    int64_t defenders = large ? sim_random_between(&random, 20, 60) : sim_random_between(&random, 3, 7);
    int64_t each = sim_random_between(&random, 3, large ? 20 : 10);
    if (options->defenders == 0)
        options->defenders = (size_t)defenders;
    if (options->chambers == 0)
        options->chambers = options->defenders * (size_t)each;
    if (options->hours <= 0)
        options->hours = large ? 0.5 : 2;
    if (options->publish_per_s <= 0)
        options->publish_per_s = 0.5 + (double)options->defenders / 20;
}

static void add_up(struct totals *totals, const struct world *world)
{
    totals->hours += (double)world->now_us / (3600.0 * SIM_SECOND_US);
    totals->worlds++;
    totals->steps += world->steps;
    for (int i = 0; i < FAULT_COUNT; i++) {
        totals->faults[i] += faults_injected(world->faults, (enum fault_kind)i);
        const struct recovery *recovery = invariants_recovery(world->invariants, (enum fault_kind)i);
        totals->recoveries[i].count += recovery->count;
        totals->recoveries[i].sum_s += recovery->sum_s;
        if (recovery->worst_s > totals->recoveries[i].worst_s)
            totals->recoveries[i].worst_s = recovery->worst_s;
    }
    for (int i = 0; i < INVARIANT_COUNT; i++)
        totals->checked[i] += invariants_checked(world->invariants, (enum invariant)i);
}

static void print_totals(const struct totals *totals, double took_s)
{
    printf("worlds %" PRIu64 "  cluster-hours %.1f  steps %" PRIu64 "  seconds %.1f\n", totals->worlds,
           totals->hours, totals->steps, took_s);
    for (int i = 0; i < FAULT_COUNT; i++) {
        const struct recovery *recovery = &totals->recoveries[i];
        printf("fault %-20s %8" PRIu64, fault_name((enum fault_kind)i), totals->faults[i]);
        if (recovery->count)
            printf("   alone %6" PRIu64
                   " times: all chambers served again after %6.2f s on average, %6.2f s at most",
                   recovery->count, recovery->sum_s / (double)recovery->count, recovery->worst_s);
        putchar('\n');
    }
    for (int i = 0; i < INVARIANT_COUNT; i++)
        printf("invariant %-12s %10" PRIu64 " checks\n", invariant_name((enum invariant)i),
               totals->checked[i]);
}

static bool parse_faults(const char *list, uint64_t *faults)
{
    *faults = 0;
    while (*list) {
        size_t length = strcspn(list, ",");
        enum fault_kind kind = fault_parse(list, length);
        if (kind == FAULT_COUNT && !(length == 4 && strncmp(list, "none", 4) == 0)) {
            fprintf(stderr, "sim: no fault is called \"%.*s\"; there are:", (int)length, list);
            for (int i = 0; i < FAULT_COUNT; i++)
                fprintf(stderr, " %s", fault_name((enum fault_kind)i));
            fputc('\n', stderr);
            return false;
        }
        if (kind != FAULT_COUNT)
            *faults |= UINT64_C(1) << kind;
        list += length + (list[length] == ',');
    }
    return true;
}

static bool parse_seeds(const char *text, struct run *run)
{
    char *end;
    run->first = run->last = strtoull(text, &end, 10);
    if (*end == '-')
        run->last = strtoull(end + 1, &end, 10);
    return *end == '\0' && run->last >= run->first;
}

static bool parse_option(struct run *run, const char *name, const char *value)
{
    if (strcmp(name, "--seed") == 0 || strcmp(name, "--seeds") == 0)
        return parse_seeds(value, run);
    if (strcmp(name, "--defenders") == 0)
        return (run->options.defenders = strtoull(value, NULL, 10)) > 0;
    if (strcmp(name, "--chambers") == 0)
        return (run->options.chambers = strtoull(value, NULL, 10)) > 0;
    if (strcmp(name, "--hours") == 0)
        return (run->options.hours = atof(value)) > 0;
    if (strcmp(name, "--seconds") == 0)
        return (run->seconds = atof(value)) > 0;
    if (strcmp(name, "--only") == 0)
        return (run->options.only = invariant_parse(value)) >= 0;
    if (strcmp(name, "--faults") == 0)
        return parse_faults(value, &run->options.faults);
    if (strcmp(name, "--plant") == 0) {
        run->plant = value;
        return plant_choose(value);
    }
    return false;
}

static bool parse(int argc, char **argv, struct run *run)
{
    *run = (struct run){.options = {.faults = UINT64_MAX, .only = -1}, .first = 1, .last = 1};
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--trace") == 0) {
            run->options.trace = true;
        } else if (strcmp(argv[i], "--quiet") == 0) {
            run->quiet = true;
        } else if (strcmp(argv[i], "--list-plants") == 0) {
            run->list_plants = true;
        } else if (i + 1 == argc || !parse_option(run, argv[i], argv[i + 1])) {
            fputs(USAGE, stderr);
            return false;
        } else {
            i++;
        }
    }
    return true;
}

static bool run_seed(const struct run *run, uint64_t seed, struct totals *totals)
{
    struct sim_options options = run->options;
    options.seed = seed;
    shape(&options);
    struct world world;
    world_open(&world, &options);
    bool well = world_run(&world);
    if (!well) {
        printf("replay: sim --seed %" PRIu64 " --defenders %zu --chambers %zu --hours %g --trace", seed,
               options.defenders, options.chambers, options.hours);
        if (options.faults != UINT64_MAX) {
            printf(" --faults ");
            for (int i = 0, n = 0; i < FAULT_COUNT; i++)
                if (options.faults >> i & 1)
                    printf("%s%s", n++ ? "," : "", fault_name((enum fault_kind)i));
        }
        if (options.only >= 0)
            printf(" --only %s", invariant_name((enum invariant)options.only));
        if (run->plant)
            printf(" --plant %s", run->plant);
        putchar('\n');
    }
    add_up(totals, &world);
    world_close(&world);
    return well;
}

int main(int argc, char **argv)
{
    struct run run;
    if (!parse(argc, argv, &run))
        return 2;
    if (run.list_plants) {
        plant_list();
        return 0;
    }
    struct totals totals = {0};
    int64_t began_ns = clock_mono_ns();
    bool well = true;
    for (uint64_t seed = run.first; well && seed <= run.last; seed++) {
        well = run_seed(&run, seed, &totals);
        fflush(stdout);
        if (run.seconds > 0 && (double)(clock_mono_ns() - began_ns) / 1e9 > run.seconds)
            break;
    }
    if (!run.quiet)
        print_totals(&totals, (double)(clock_mono_ns() - began_ns) / 1e9);
    return well ? 0 : 1;
}
