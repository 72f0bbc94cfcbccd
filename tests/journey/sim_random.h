// Worlds drawn from a seed: most are storms of minutes, some are days and a few are weeks of sparse traffic with bursts. Everything that can be
// configured is, everything that can go wrong does.
#ifndef SIM_RANDOM_H
#define SIM_RANDOM_H

#include "sim.h"

void sim_random_rules(sim_rules *rules, uint64_t seed);

#endif
