#include "setup_plan.h"

#include "glob.h"

static int64_t context_tokens(const sj_upstream_config *upstream, sj_slice model) {
    for (size_t i = 0; i < upstream->context_count; i++)
        if (sj_glob_match(sj_slice_of(upstream->contexts[i].model), model))
            return upstream->contexts[i].tokens;
    return 0;
}

static int64_t race_after_ms(const sj_race_rules *race, bool stream) {
    if (!race->enabled)
        return 0;
    return stream ? race->after_ms : race->after_whole_ms;
}

sj_hop sj_setup_hop(sj_setup *setup, const sj_route_config *route, size_t hop, sj_slice model, bool stream,
                    int64_t now_ms) {
    const sj_hop_config *config = &route->hops[hop];
    const sj_upstream_config *upstream = &sj_setup_config(setup)->upstreams[config->upstream];
    sj_target *target = sj_setup_target(setup, config->upstream, model, now_ms);
    return (sj_hop){
        .target = target,
        .label = target ? sj_target_name(target) : "",
        .retry = &config->retry,
        .keys = sj_setup_keys(setup, config->upstream),
        .credentials = sj_setup_key_hashes(setup, config->upstream),
        .first_byte_timeout_ms = upstream->first_byte_timeout_ms,
        .idle_timeout_ms = upstream->idle_timeout_ms,
        .answer_timeout_ms = upstream->answer_timeout_ms,
        .max_open_wait_ms = upstream->rules.breaker.max_open_wait_ms,
        .context_tokens = context_tokens(upstream, model),
        .race_after_ms = race_after_ms(&config->race, stream),
        .race_other_model = config->race.other_model,
        .model = sj_setup_hash(setup, model),
        .same_upstream = config->upstream == route->hops[0].upstream,
        .prefill = upstream->prefill,
    };
}

sj_plan sj_setup_plan(const sj_setup *setup, const sj_route_config *route, int64_t now_ms) {
    const sj_config *config = sj_setup_config(setup);
    return (sj_plan){
        .deadline_ms = now_ms + config->deadline_ms,
        .stream_max_ms = config->stream_max_ms,
        .fallback_gate_ms = config->fallback_gate_ms,
        .rescue = route->rescue != SJ_RESCUE_OFF,
        .rescue_other_model = route->rescue == SJ_RESCUE_CHAIN,
        .sticky = route->hop_count > 1 ? sj_setup_sticky(setup, route) : NULL,
        .route_slots = sj_setup_route_slots(setup, route),
    };
}

sj_admission_rules sj_setup_admission_rules(const sj_upstream_config *upstream) {
    sj_admission_rules rules = upstream->admission;
    rules.adaptive = upstream->adaptive;
    rules.standing_queue = upstream->standing_queue;
    rules.pace = (sj_pace_rules){upstream->requests_per_minute, upstream->tokens_per_minute};
    return rules;
}
