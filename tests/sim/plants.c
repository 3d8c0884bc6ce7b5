#include "cluster/plant.h"

#include <stdio.h>
#include <string.h>

#ifdef CLUSTER_PLANTS

enum plant plant_chosen = PLANT_NONE;

/* Each, and the invariant that it breaks. */
static const struct {
    const char *name, *breaks;
} PLANTS[PLANT_COUNT] = {
    [PLANT_NONE] = {"none", ""},
    [PLANT_NO_FENCE] = {"no-fence", "owned"},
    [PLANT_NO_RESET] = {"no-reset", "delivered"},
    [PLANT_TRUST_ABSENCE] = {"trust-absence", "alive"},
    [PLANT_NO_CAS] = {"no-cas", "commit"},
    [PLANT_GROW_FIRST] = {"grow-first", "owned"},
    [PLANT_LATE_LEADER] = {"late-leader", "lease"},
    [PLANT_EARLY_CLAIM] = {"early-claim", "one-id"},
    [PLANT_DEAF] = {"deaf", "holder-only"},
    [PLANT_KEEP_JUDGING] = {"keep-judging", "one-judge"},
    [PLANT_NO_CAMPAIGN] = {"no-campaign", "leader"},
    [PLANT_ROLL_MOVES] = {"roll-moves", "roll"},
    [PLANT_EMERGENCY_ALL] = {"emergency-all", "movement"},
    [PLANT_NO_ORPHANS] = {"no-orphans", "owned"},
    [PLANT_EMPTY_FILTERS] = {"empty-filters", "filtered"},
};

bool plant_choose(const char *name)
{
    for (int i = 0; i < PLANT_COUNT; i++)
        if (strcmp(PLANTS[i].name, name) == 0) {
            plant_chosen = (enum plant)i;
            return true;
        }
    return false;
}

void plant_list(void)
{
    for (int i = PLANT_NONE + 1; i < PLANT_COUNT; i++)
        printf("%s %s\n", PLANTS[i].name, PLANTS[i].breaks);
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
