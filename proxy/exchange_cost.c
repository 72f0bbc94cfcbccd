#include "exchange_internal.h"

// What the exchange's answer cost (BEHAVIOUR 15). Only where prices are configured.

static sj_slice model_at(const sj_exchange *e, size_t hop) {
    const char *model = e->route->hops[hop].model;
    return sj_slice_of(model ? model : e->facts.model);
}

static int64_t cost_at(const sj_exchange *e, const sj_price *prices, size_t count, size_t hop) {
    const sj_config *config = exchange_config(e);
    sj_slice upstream = sj_slice_of(config->upstreams[e->requests[hop].upstream].name);
    return sj_cost_of(sj_price_find(prices, count, upstream, model_at(e, hop)), &e->usage);
}

sj_costs exchange_costs(const sj_exchange *e, size_t hop) {
    sj_costs costs = {0};
    const sj_config *config = exchange_config(e);
    if (config->price_count == 0 || !e->journey)
        return costs;
    costs.at_first = SJ_COST_UNKNOWN;
    costs.actual = cost_at(e, config->prices, config->price_count, hop);
    costs.known = sj_cost_is_known(costs.actual);
    if (hop > 0)
        costs.at_first = cost_at(e, config->prices, config->price_count, 0);
    costs.compared = cost_at(e, config->compare_prices, config->compare_price_count, hop);
    costs.unknown = !costs.known && e->context.generation && e->has_answer_hop && e->status < 300;
    return costs;
}
