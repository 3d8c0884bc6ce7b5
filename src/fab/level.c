/* How runs differ from one another: what a chart's history is made of. */
#include "fab/plan.h"

/* All in sigma of the sensor's noise. */
static const double matching = 3.0;    /* from chamber to chamber */
static const double maintenance = 0.6; /* a maintenance leaves the chamber a little different */
static const double wander = 0.6;      /* slow, over weeks */
static const double lot = 0.25; /* incoming wafers differ from lot to lot, for all sensors of a group */
static const double run_own = 0.5, run_group = 0.4;
static const double first_wafer = 0.3; /* the chamber is colder at a lot's first wafer */

enum { WANDER_RUNS = 60 }; /* from one knot of the slow wander to the next */

static double normal_for(const struct fab *fab, enum fab_purpose purpose, uint64_t a, uint64_t b, uint64_t c)
{
    struct fab_random random = fab_random_of(fab, purpose, a, b, c);
    return fab_random_normal(&random, &fab->normal);
}

/* Between knots that are drawn for themselves, so that any run's place can be had at once. */
static double wander_at(const struct fab *fab, const struct fab_run *run, size_t sensor)
{
    uint64_t knot = run->number / WANDER_RUNS;
    double t = (double)(run->number % WANDER_RUNS) / WANDER_RUNS;
    double before = normal_for(fab, FAB_FOR_WANDER, run->chamber, sensor, knot);
    double after = normal_for(fab, FAB_FOR_WANDER, run->chamber, sensor, knot + 1);
    return before + (after - before) * t * t * (3 - 2 * t);
}

double fab_level(const struct fab *fab, const struct fab_run *run, size_t index)
{
    const struct fab_sensor *sensor = &fab->sensors[index];
    size_t tool = run->chamber / fab->options.chambers_per_tool;
    uint64_t wafer =
        run->number * fab->options.chambers_per_tool + run->chamber % fab->options.chambers_per_tool;
    double day = (double)run->start_us / (86400.0 * 1e6);
    double age = (double)run->runs_since_maintenance / (double)fab->options.maintenance_runs;
    double level = matching * normal_for(fab, FAB_FOR_MATCHING, run->chamber, index, 0);
    level += maintenance * normal_for(fab, FAB_FOR_MAINTENANCE, run->chamber, index, run->maintenance);
    level += wander * wander_at(fab, run, index);
    level += sensor->ageing * age;
    level += sensor->season * fab_wave(day + sensor->season_phase);
    level += lot * normal_for(fab, FAB_FOR_LOT, tool, wafer / FAB_LOT_WAFERS, 1 + sensor->group);
    level += run_group * normal_for(fab, FAB_FOR_GROUP, run->chamber, run->number, 1 + sensor->group);
    level += run_own * normal_for(fab, FAB_FOR_RUN, run->chamber, run->number, 1 + index);
    return wafer % FAB_LOT_WAFERS < fab->options.chambers_per_tool ? level + first_wafer : level;
}
