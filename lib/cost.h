// What an answer costs: prices per 1M tokens times what its usage block says. Pure.
#ifndef SJ_COST_H
#define SJ_COST_H

#include "completion.h"

typedef struct sj_price {
    char *model;          // glob: on the model, or on "upstream/model"
    double input, output; // US dollars per 1M tokens
    double cached_input;  // of input tokens that the upstream had cached; below 0: as input
} sj_price;

// Amounts are whole billionths of a dollar, never below 0; SJ_COST_UNKNOWN: no price, or no usage.
enum { SJ_COST_UNKNOWN = -1, SJ_COST_PER_DOLLAR = 1000 * 1000 * 1000 };

// The first row that matches; NULL none.
const sj_price *sj_price_find(const sj_price *prices, size_t count, sj_slice upstream, sj_slice model);
// price NULL: unknown. At most 1e18.
int64_t sj_cost_of(const sj_price *price, const sj_usage *usage);

// Zero-initialised: nothing is known.
typedef struct sj_costs {
    bool known; // the actual amount; the others are by themselves
    int64_t actual;
    int64_t at_first; // the same tokens at the chain's first target, when another one answered
    int64_t compared; // the same tokens of that model in another price list
    bool unknown;     // an answer that should have a cost and has none: no usage was told, or its model has no price
} sj_costs;

static inline bool sj_cost_is_known(int64_t cost) { return cost >= 0; }
// What was saved against another amount, below 0 when it would have been cheaper; 0 when either is unknown.
static inline int64_t sj_cost_saved(int64_t against, int64_t actual) {
    return sj_cost_is_known(against) && sj_cost_is_known(actual) ? against - actual : 0;
}

#endif
