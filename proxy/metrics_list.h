// Every metric of the program, declared once. X(id, kind, unit, where it is kept, labels, name without "stormjib_", help).
// SHARD: counted in the workers' shards. READ: taken when rendered, from the server's view, the registry or the process.
// SECONDS are kept in microseconds, DOLLARS in billionths.
#ifndef SJ_METRICS_LIST_H
#define SJ_METRICS_LIST_H

// clang-format off
#define SJ_METRICS(X) \
    X(EXCHANGES, COUNTER, ONE, SHARD, TARGET, RESULT, STATUS_CLASS, \
      "exchanges_total", "Client requests that are over.") \
    X(IN_FLIGHT, GAUGE, ONE, SHARD, NONE, NONE, NONE, \
      "exchanges_in_flight", "Client requests being answered.") \
    X(RESPONSES, COUNTER, ONE, SHARD, STATUS, NONE, NONE, \
      "responses_total", "Answers to clients by HTTP status.") \
    X(REFUSALS, COUNTER, ONE, SHARD, CODE, NONE, NONE, \
      "refusals_total", "Answers that were errors of our own, by code.") \
    X(DURATION, HISTOGRAM, SECONDS, SHARD, TARGET, STREAM, NONE, \
      "exchange_duration_seconds", "From a request's head to the end of its answer.") \
    X(FIRST_CONTENT, HISTOGRAM, SECONDS, SHARD, TARGET, STREAM, NONE, \
      "first_content_seconds", "From a request's head to the first content sent to the client.") \
    X(UPSTREAM_DURATION, HISTOGRAM, SECONDS, SHARD, TARGET, NONE, NONE, \
      "upstream_duration_seconds", "Time of the attempt that answered.") \
    X(WAITED, COUNTER, SECONDS, SHARD, TARGET, NONE, NONE, \
      "wait_seconds_total", "Time that exchanges waited between attempts.") \
    X(QUEUE_WAITED, COUNTER, SECONDS, SHARD, TARGET, NONE, NONE, \
      "queue_seconds_total", "Time that exchanges waited for a slot.") \
    X(TOKENS, COUNTER, ONE, SHARD, TARGET, TOKEN, NONE, \
      "tokens_total", "Tokens as reported by the upstream's usage blocks; cached ones are part of the input.") \
    X(COST, COUNTER, DOLLARS, SHARD, TARGET, NONE, NONE, \
      "cost_dollars_total", "What answers cost: prices times tokens as reported.") \
    X(COST_SAVED, COUNTER, DOLLARS, SHARD, TARGET, AGAINST, NONE, \
      "cost_saved_dollars_total", "What this target's answers cost less than at the chain's first target, or in compare_prices.") \
    X(COST_EXTRA, COUNTER, DOLLARS, SHARD, TARGET, AGAINST, NONE, \
      "cost_extra_dollars_total", "What this target's answers cost more than at the chain's first target, or in compare_prices.") \
    X(COST_UNKNOWN, COUNTER, ONE, SHARD, TARGET, NONE, NONE, \
      "cost_unknown_total", "Answers that were not counted as cost: no usage block came, or the model has no price.") \
    X(BYTES_IN, COUNTER, ONE, SHARD, NONE, NONE, NONE, \
      "request_body_bytes_total", "Bytes of request bodies.") \
    X(BYTES_OUT, COUNTER, ONE, SHARD, NONE, NONE, NONE, \
      "response_body_bytes_total", "Bytes of answers sent.") \
    X(DROPPED_EVENTS, COUNTER, ONE, SHARD, TARGET, NONE, NONE, \
      "dropped_events_total", "Stream events left out because their data was not JSON.") \
    X(ATTEMPTS, COUNTER, ONE, SHARD, TARGET, OUTCOME, NONE, \
      "attempts_total", "Attempts that ended, by class of outcome.") \
    X(ATTEMPT_STATUSES, COUNTER, ONE, SHARD, STATUS, NONE, NONE, \
      "attempt_responses_total", "Answers of upstreams by HTTP status.") \
    X(RETRIES, COUNTER, ONE, SHARD, TARGET, REASON, NONE, \
      "retries_total", "Attempts repeated on the same target, by cause.") \
    X(RETRY_DELAYS, COUNTER, SECONDS, SHARD, SOURCE, NONE, NONE, \
      "retry_delay_seconds_total", "Delays decided before retries, by what set them.") \
    X(FALLBACKS, COUNTER, ONE, SHARD, TARGET, REASON, NONE, \
      "fallbacks_total", "Moves to this target from the one before it in its chain, by cause.") \
    X(RACES, COUNTER, ONE, SHARD, TARGET, NONE, NONE, \
      "races_total", "Times that this target was asked beside a silent one.") \
    X(RESCUES, COUNTER, ONE, SHARD, TARGET, SOURCE, NONE, \
      "rescues_total", "Streams that broke and went on from this target, by how: replay or continuation.") \
    X(STALE_SERVED, COUNTER, ONE, SHARD, TARGET, REASON, NONE, \
      "stale_served_total", "Stored answers of this target served because nothing answered, by cause.") \
    X(DEGRADED_SERVED, COUNTER, ONE, SHARD, TARGET, REASON, NONE, \
      "degraded_served_total", "Configured texts served because nothing answered, by cause.") \
    X(BREAKER_CHANGES, COUNTER, ONE, SHARD, TARGET, FROM, TO, \
      "breaker_transitions_total", "Changes of a target's circuit breaker.") \
    X(GLOBAL_CHANGES, COUNTER, ONE, SHARD, FROM, TO, NONE, \
      "global_breaker_transitions_total", "Changes of the global circuit breaker.") \
    X(BUDGET_REFUSED, COUNTER, ONE, SHARD, TARGET, NONE, NONE, \
      "budget_refused_total", "Retries that the budget did not allow.") \
    X(HINT_GATES, COUNTER, ONE, SHARD, TARGET, NONE, NONE, \
      "hint_gates_total", "Waits that an upstream asked for.") \
    X(QUEUED, COUNTER, ONE, SHARD, TARGET, NONE, NONE, \
      "queued_total", "Times that an exchange had to wait for a slot.") \
    X(COALESCED, COUNTER, ONE, SHARD, TARGET, NONE, NONE, \
      "coalesced_total", "Retries of clients that joined a request in flight.") \
    X(DRAINS, COUNTER, ONE, SHARD, TARGET, NONE, NONE, \
      "drains_total", "Attempts read on after their client had left.") \
    X(ALERTS, COUNTER, ONE, SHARD, TARGET, OUTCOME, NONE, \
      "alerts_total", "Troubles that need a person: rejected credentials, untrusted certificates.") \
    X(UPSTREAM_OPENED, COUNTER, ONE, SHARD, NONE, NONE, NONE, \
      "upstream_connections_opened_total", "Connections opened to upstreams.") \
    X(UPSTREAM_REUSED, COUNTER, ONE, SHARD, NONE, NONE, NONE, \
      "upstream_connections_reused_total", "Attempts sent on a connection that had served before.") \
    X(ATTEMPTS_RUNNING, GAUGE, ONE, SHARD, NONE, NONE, NONE, \
      "attempts_running", "Attempts being carried.") \
    X(CLIENT_CONNECTIONS, GAUGE, ONE, SHARD, NONE, NONE, NONE, \
      "client_connections", "Open connections of clients.") \
    X(LOG_DROPPED, COUNTER, ONE, SHARD, NONE, NONE, NONE, \
      "log_lines_dropped_total", "Log lines lost because nobody read them in time.") \
    X(BREAKER_STATE, GAUGE, ONE, READ, TARGET, STATE, NONE, \
      "breaker_state", "1 for the state that a target's circuit breaker is in.") \
    X(BREAKER_OPEN_FOR, GAUGE, ONE, READ, TARGET, NONE, NONE, \
      "breaker_open_remaining_seconds", "Until an open breaker lets probes through; 0 when not open.") \
    X(GLOBAL_STATE, GAUGE, ONE, READ, STATE, NONE, NONE, \
      "global_breaker_state", "1 for the state that the global circuit breaker is in.") \
    X(TARGET_RUNNING, GAUGE, ONE, READ, TARGET, NONE, NONE, \
      "target_in_flight", "Attempts in flight by target.") \
    X(BUDGET_LEFT, GAUGE, ONE, READ, TARGET, NONE, NONE, \
      "budget_available", "What is left of a target's retry budget.") \
    X(GATES, GAUGE, ONE, READ, TARGET, NONE, NONE, \
      "hint_gates", "Hint gates that hold now.") \
    X(STALE_RESULTS, COUNTER, ONE, READ, TARGET, NONE, NONE, \
      "breaker_stale_results_total", "Results of an older breaker generation, which changed nothing.") \
    X(SLOTS_TAKEN, GAUGE, ONE, READ, UPSTREAM, NONE, NONE, \
      "upstream_in_flight", "Slots taken by upstream.") \
    X(SLOTS_WAITING, GAUGE, ONE, READ, UPSTREAM, NONE, NONE, \
      "upstream_waiting", "Exchanges that wait for a slot, by upstream.") \
    X(SLOTS_LIMIT, GAUGE, ONE, READ, UPSTREAM, NONE, NONE, \
      "upstream_limit", "Slots that an upstream has now.") \
    X(SLOTS_MAX, GAUGE, ONE, READ, UPSTREAM, NONE, NONE, \
      "upstream_limit_max", "Slots that an upstream may have: max_concurrent.") \
    X(SLOTS_CUTS, COUNTER, ONE, READ, UPSTREAM, NONE, NONE, \
      "upstream_limit_cuts_total", "Times that an upstream's congestion cut its limit.") \
    X(KEY_RESTING, GAUGE, ONE, READ, UPSTREAM, KEY, NONE, \
      "key_resting", "1 while one of an upstream's several keys rests because the upstream refused it.") \
    X(KEY_REFUSALS, COUNTER, ONE, READ, UPSTREAM, KEY, REASON, \
      "key_refusals_total", "Times that the upstream refused one of its several keys: dead (401, 403) or exhausted (429, quota).") \
    X(STORE_ANSWERS, GAUGE, ONE, READ, NONE, NONE, NONE, \
      "store_answers", "Answers kept for the day nothing answers.") \
    X(STORE_BYTES, GAUGE, ONE, READ, NONE, NONE, NONE, \
      "store_bytes", "Memory of the answers kept, their requests included.") \
    X(STORE_EVICTED, COUNTER, ONE, READ, NONE, NONE, NONE, \
      "store_evicted_total", "Stored answers that had to make room for others.") \
    X(WORKERS, GAUGE, ONE, READ, NONE, NONE, NONE, \
      "workers", "Worker threads.") \
    X(DRAINING, GAUGE, ONE, READ, NONE, NONE, NONE, \
      "draining", "1 while shutting down.") \
    X(BODY_MEMORY, GAUGE, ONE, READ, NONE, NONE, NONE, \
      "body_memory_bytes", "Memory held by request bodies, and by answers that a retry may join.") \
    X(RELOADS, COUNTER, ONE, READ, OK, NONE, NONE, \
      "config_reloads_total", "Reloads of the configuration by result.") \
    X(BUILD_INFO, GAUGE, ONE, READ, VERSION, NONE, NONE, \
      "build_info", "Always 1; the version is its label.") \
    X(START_TIME, GAUGE, ONE, READ, NONE, NONE, NONE, \
      "start_time_seconds", "When this process started, as Unix time.") \
    X(UPTIME, GAUGE, ONE, READ, NONE, NONE, NONE, \
      "uptime_seconds", "Since this process started.") \
    X(RSS, GAUGE, ONE, READ, NONE, NONE, NONE, \
      "resident_memory_bytes", "Resident memory of this process.") \
    X(CPU, COUNTER, ONE, READ, NONE, NONE, NONE, \
      "cpu_seconds_total", "User and system CPU time of this process.") \
    X(OPEN_FDS, GAUGE, ONE, READ, NONE, NONE, NONE, \
      "open_fds", "Open file descriptors of this process.")
// clang-format on

#endif
