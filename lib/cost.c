#include "cost.h"

#include "glob.h"
#include "text.h"

enum { NAME_MAX_BYTES = 1024 };

static const double MOST = 1e18;

static sj_slice full_name(sj_slice upstream, sj_slice model, char out[NAME_MAX_BYTES]) {
    sj_text name = sj_text_into(out, NAME_MAX_BYTES);
    sj_text_add(&name, upstream);
    sj_text_put(&name, "/");
    sj_text_add(&name, model);
    return sj_slice_of(out);
}

const sj_price *sj_price_find(const sj_price *prices, size_t count, sj_slice upstream, sj_slice model) {
    char text[NAME_MAX_BYTES];
    sj_slice name = full_name(upstream, model, text);
    for (size_t i = 0; i < count; i++) {
        sj_slice glob = sj_slice_of(prices[i].model);
        if (sj_glob_match(glob, model) || sj_glob_match(glob, name))
            return &prices[i];
    }
    return NULL;
}

static double at_least_0(int64_t tokens) {
    return tokens > 0 ? (double)tokens : 0;
}

int64_t sj_cost_of(const sj_price *price, const sj_usage *usage) {
    if (!price || (usage->prompt_tokens < 0 && usage->completion_tokens < 0))
        return SJ_COST_UNKNOWN;
    double input = at_least_0(usage->prompt_tokens), cached = at_least_0(usage->cached_tokens);
    if (cached > input)
        cached = input;
    double cached_price = price->cached_input < 0 ? price->input : price->cached_input;
    // A dollar per 1M tokens is a thousand billionths a token.
    double cost = 1000 * ((input - cached) * price->input + cached * cached_price +
                          at_least_0(usage->completion_tokens) * price->output);
    return cost < MOST ? (int64_t)(cost + 0.5) : (int64_t)MOST;
}
