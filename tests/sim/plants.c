#include "cluster/plant.h"

#include <stdio.h>
#include <string.h>

#ifdef CLUSTER_PLANTS

enum plant plant_chosen = PLANT_NONE;

static const char *const NAMES[PLANT_COUNT] = {
    [PLANT_NONE] = "none",
    [PLANT_NO_FENCE] = "no-fence",
    [PLANT_NO_RESET] = "no-reset",
    [PLANT_TRUST_ABSENCE] = "trust-absence",
    [PLANT_NO_CAS] = "no-cas",
    [PLANT_GROW_FIRST] = "grow-first",
    [PLANT_LATE_LEADER] = "late-leader",
    [PLANT_EARLY_CLAIM] = "early-claim",
    [PLANT_ROLL_MOVES] = "roll-moves",
    [PLANT_EMERGENCY_ALL] = "emergency-all",
    [PLANT_NO_ORPHANS] = "no-orphans",
    [PLANT_EMPTY_FILTERS] = "empty-filters",
    [PLANT_ACK_EARLY] = "ack-early",
};

bool plant_choose(const char *name)
{
    for (int i = 0; i < PLANT_COUNT; i++)
        if (strcmp(NAMES[i], name) == 0) {
            plant_chosen = (enum plant)i;
            return true;
        }
    return false;
}

void plant_list(void)
{
    for (int i = PLANT_NONE + 1; i < PLANT_COUNT; i++)
        puts(NAMES[i]);
}

#else

bool plant_choose(const char *name)
{
    return strcmp(name, "none") == 0;
}

void plant_list(void)
{
}

#endif
