// The keys. One row each: what it is called, where it goes, its default, its range, what it means. Everything else reads this.
#include "config_internal.h"

#include <assert.h>

#define COUNT(keys) (sizeof(keys) / sizeof(keys)[0])
#define AT(type, field) .offset = offsetof(type, field)

#define MS 1.0
#define SECOND 1000.0
#define MINUTE (60 * SECOND)
#define HOUR (60 * MINUTE)
#define DAY (24 * HOUR)
#define KIB 1024.0
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)
#define MANY 1e6

static const char *const auth_names[] = {"key", "client", "none", NULL};
static const char *const stream_names[] = {"live", "verified", NULL};
static const char *const rescue_names[] = {"chain", "same_model", "off", NULL};
static const char *const gone_names[] = {"cancel", "drain", NULL};
static const char *const client_retries_names[] = {"never", "shed", "passthrough", NULL};
static const char *const log_format_names[] = {"logfmt", "json", NULL};
static const char *const log_level_names[] = {"error", "warn", "info", "debug", NULL};

static const sj_key retry_keys[] = {
    {"strategy", SJ_KEY_ENUM, AT(sj_retry_block, v.backoff.strategy), .text = "full_jitter",
     .names = sj_backoff_names, .help = "how the waits between attempts grow"},
    {"base", SJ_KEY_DURATION, AT(sj_retry_block, v.backoff.base_ms), .text = "500ms", .min = 1 * MS,
     .max = HOUR, .help = "the first wait"},
    {"cap", SJ_KEY_DURATION, AT(sj_retry_block, v.backoff.cap_ms), .text = "8s", .min = 1 * MS, .max = DAY,
     .help = "no wait grows beyond it"},
    {"min", SJ_KEY_DURATION, AT(sj_retry_block, v.backoff.min_ms), .text = "0s", .max = HOUR,
     .help = "no exponential wait is shorter"},
    {"exponential_base", SJ_KEY_FLOAT, AT(sj_retry_block, v.backoff.exponential_base), .text = "2.0",
     .min = 1, .max = 100, .help = "factor from one wait to the next"},
    {"jitter", SJ_KEY_FLOAT, AT(sj_retry_block, v.backoff.jitter), .text = "0.3", .max = 1,
     .help = "of strategy \"jitter\": the wait is multiplied by 1-jitter .. 1+jitter"},
    {"random_max", SJ_KEY_DURATION, AT(sj_retry_block, v.backoff.random_max_ms), .text = "2s", .max = HOUR,
     .help = "of strategy \"plus_random\": up to this is added"},
    {"throttle_base", SJ_KEY_DURATION, AT(sj_retry_block, v.throttle_base_ms), .text = "1s", .min = 1 * MS,
     .max = HOUR, .help = "the first wait after a 429 that does not say how long"},
    {"throttle_cap", SJ_KEY_DURATION, AT(sj_retry_block, v.throttle_cap_ms), .text = "20s", .min = 1 * MS,
     .max = DAY, .help = "the longest of those waits"},
    {"max_hint", SJ_KEY_DURATION, AT(sj_retry_block, v.max_hint_ms), .text = "120s", .max = DAY,
     .help = "a Retry-After beyond it is not waited for: next target, or the 429 goes to the client"},
    {"max_attempts", SJ_KEY_INT, AT(sj_retry_block, v.max_attempts), .text = "5", .min = 1, .max = 100,
     .help = "attempts on the last target of a chain"},
    {"max_attempts_before_fallback", SJ_KEY_INT, AT(sj_retry_block, v.max_attempts_before_fallback),
     .text = "2", .min = 1, .max = 100, .help = "attempts on each target before it"},
    {"max_wait_total", SJ_KEY_DURATION, AT(sj_retry_block, v.max_wait_total_ms), .text = "60s", .max = DAY,
     .help = "all waits of one exchange together; waits that the upstream asked for do not count"},
    {"statuses", SJ_KEY_STATUSES, AT(sj_retry_block, v.rules.statuses), .text = "408,429,500,502-504,520-529",
     .min = 400, .max = 599, .help = "answers that are retried; \"502-504\" is a range"},
    {"error_codes", SJ_KEY_STRINGS, AT(sj_retry_block, v.rules.error_codes),
     .text = "rate_limit,server_error,timeout,capacity,overloaded", .max = 64,
     .help = "a 200 with an error object whose code contains one of these is a failure"},
};

static const sj_key race_keys[] = {
    {"enabled", SJ_KEY_BOOL, AT(sj_race_block, v.enabled), .text = "true",
     .help = "start the next target beside a silent one; whoever has content first wins"},
    {"after", SJ_KEY_DURATION, AT(sj_race_block, v.after_ms), .text = "10s", .min = 1 * MS, .max = HOUR,
     .help = "a stream's silence until then"},
    {"after_whole", SJ_KEY_DURATION, AT(sj_race_block, v.after_whole_ms), .text = "60s", .min = 1 * MS,
     .max = HOUR, .help = "the same for answers that are not streamed"},
    {"other_model", SJ_KEY_BOOL, AT(sj_race_block, v.other_model), .text = "false",
     .help = "true: also race against another model"},
};

static const sj_key breaker_keys[] = {
    {"enabled", SJ_KEY_BOOL, AT(sj_breaker_block, v.enabled), .text = "true",
     .help = "false: it never opens"},
    {"failure_threshold", SJ_KEY_INT, AT(sj_breaker_block, v.failure_threshold), .text = "5", .min = 1,
     .max = MANY, .help = "failures in a row that open it"},
    {"failure_span", SJ_KEY_DURATION, AT(sj_breaker_block, v.failure_span_ms), .text = "1s", .max = HOUR,
     .help = "they must be spread over at least this, so that a few random ones do not open it"},
    {"window", SJ_KEY_DURATION, AT(sj_breaker_block, v.window_ms), .text = "60s", .min = 1 * SECOND,
     .max = HOUR, .help = "the rates below are taken over it"},
    {"minimum_calls", SJ_KEY_INT, AT(sj_breaker_block, v.minimum_calls), .text = "10", .min = 1, .max = MANY,
     .help = "with fewer calls in the window no rate opens it"},
    {"failure_rate", SJ_KEY_FLOAT, AT(sj_breaker_block, v.failure_rate), .text = "0.5", .max = 1,
     .help = "failed share that opens it; 0 = off"},
    {"slow_rate", SJ_KEY_FLOAT, AT(sj_breaker_block, v.slow_rate), .text = "0.0", .max = 1,
     .help = "slow share that opens it; 0 = off"},
    {"slow_call", SJ_KEY_DURATION, AT(sj_breaker_block, v.slow_call_ms), .text = "30s", .min = 1 * MS,
     .max = HOUR, .help = "a stream whose first content comes later is slow"},
    {"slow_call_whole", SJ_KEY_DURATION, AT(sj_breaker_block, v.slow_call_whole_ms), .text = "120s",
     .min = 1 * MS, .max = HOUR, .help = "a whole answer that takes longer is slow"},
    {"recovery_timeout", SJ_KEY_DURATION, AT(sj_breaker_block, v.recovery_timeout_ms), .text = "10s",
     .min = 1 * MS, .max = DAY, .help = "open for this long (+-20 %) before it is probed"},
    {"recovery_growth", SJ_KEY_FLOAT, AT(sj_breaker_block, v.recovery_growth), .text = "1.0", .min = 1,
     .max = 10, .help = "factor on that for each reopening in a row; 1 = none"},
    {"recovery_cap", SJ_KEY_DURATION, AT(sj_breaker_block, v.recovery_cap_ms), .text = "300s", .min = 1 * MS,
     .max = DAY, .help = "it does not grow beyond; at least recovery_timeout"},
    {"probe_timeout", SJ_KEY_DURATION, AT(sj_breaker_block, v.probe_timeout_ms), .text = "30s", .min = 1 * MS,
     .max = HOUR, .help = "a streamed probe without a first byte by then has failed"},
    {"half_open_max_calls", SJ_KEY_INT, AT(sj_breaker_block, v.half_open_max_calls), .text = "3", .min = 1,
     .max = SJ_BREAKER_PROBES_MAX, .help = "probes that may run at once"},
    {"success_threshold", SJ_KEY_FLOAT, AT(sj_breaker_block, v.success_threshold), .text = "0.5",
     .min = 0.001, .max = 1, .help = "share of half_open_max_calls that must succeed to close it"},
    {"max_open_wait", SJ_KEY_DURATION, AT(sj_breaker_block, v.max_open_wait_ms), .text = "15s", .max = HOUR,
     .help = "with nothing else available, wait up to this for it to reopen; 0s = fail at once"},
};

static const sj_key budget_keys[] = {
    {"enabled", SJ_KEY_BOOL, AT(sj_budget_block, v.enabled), .text = "true",
     .help = "false: retries cost nothing"},
    {"capacity", SJ_KEY_INT, AT(sj_budget_block, v.capacity), .text = "500", .min = 1, .max = MANY,
     .help = "what a target's retries may cost before successes pay it back"},
    {"retry_cost", SJ_KEY_INT, AT(sj_budget_block, v.retry_cost), .text = "14", .max = MANY,
     .help = "what one retry costs"},
    {"throttle_cost", SJ_KEY_INT, AT(sj_budget_block, v.throttle_cost), .text = "5", .max = MANY,
     .help = "what one retry after a throttle or a timeout costs"},
    {"floor_per_minute", SJ_KEY_INT, AT(sj_budget_block, v.floor_per_minute), .text = "6",
     .max = SJ_BUDGET_FLOOR_MAX,
     .help = "retries that still pass when it is empty (and at most a tenth of the requests, or 1)"},
};

static const sj_key queue_keys[] = {
    {"max_waiting", SJ_KEY_INT, AT(sj_queue_block, max_waiting), .text = "1024", .max = MANY,
     .help = "requests that may wait for a slot of one upstream; beyond: 503 queue_full"},
    {"timeout", SJ_KEY_DURATION, AT(sj_queue_block, timeout_ms), .text = "300s", .min = 1 * MS, .max = DAY,
     .help = "longest wait for a slot; the deadline holds too"},
    {"standing_queue", SJ_KEY_BOOL, AT(sj_queue_block, standing_queue), .text = "false",
     .help = "a queue that was never empty for 30s shortens the allowed wait to 2s"},
};

static const sj_key context_keys[] = {
    {"model", SJ_KEY_STRING, .required = true, AT(sj_context_source, v.model), .min = 1, .max = 255,
     .example = "gpt-4.1*", .help = "model name or glob"},
    {"tokens", SJ_KEY_INT64, .required = true, AT(sj_context_source, v.tokens), .min = 1, .max = 1e9,
     .example = "128000", .help = "its context length"},
};

static const sj_key price_keys[] = {
    {"model", SJ_KEY_STRING, .required = true, AT(sj_price_source, v.model), .min = 1, .max = 255,
     .example = "gpt-4.1*",
     .help = "glob on the model's name, or on \"upstream/model\"; the first match holds"},
    {"input", SJ_KEY_FLOAT, .required = true, AT(sj_price_source, v.input), .max = MANY, .example = "8.0",
     .help = "US dollars per 1M tokens"},
    {"output", SJ_KEY_FLOAT, .required = true, AT(sj_price_source, v.output), .max = MANY, .example = "8.0",
     .help = "US dollars per 1M tokens"},
    {"cached_input", SJ_KEY_FLOAT, AT(sj_price_source, v.cached_input), .max = MANY, .example = "2.0",
     .help = "of input tokens that the upstream had cached; unset: as input"},
};

static const sj_key upstream_keys[] = {
    {"base_url", SJ_KEY_STRING, .required = true, AT(sj_upstream_source, v.base_url), .min = 1, .max = 2048,
     .example = "https://api.openai.com/v1",
     .help = "where the API lives, with its path; \"mock\" is the embedded misbehaving upstream"},
    {"api_key", SJ_KEY_SECRET, AT(sj_upstream_source, api_key), .min = 1, .max = 4096,
     .example = "${OPENAI_API_KEY}", .help = "our credential there"},
    {"api_keys", SJ_KEY_SECRETS, AT(sj_upstream_source, v.api_keys), .min = 1, .max = 64,
     .example = "${KEY_A},${KEY_B}",
     .help = "several: one that is refused (401, 403, 429, quota) gives way to the next and rests"},
    {"auth", SJ_KEY_ENUM, AT(sj_upstream_source, v.auth), .names = auth_names, .example = "key",
     .help = "\"key\" is the default with api_key, \"client\" passes the client's own credential on, "
             "\"none\" sends none; "
             "unset and without api_key the client's goes there only when this is the chain's first origin"},
    {"api_key_header", SJ_KEY_STRING, AT(sj_upstream_source, v.api_key_header), .text = "Authorization",
     .min = 1, .max = 128, .help = "header that carries the key; \"api-key\" for Azure"},
    {"api_key_prefix", SJ_KEY_STRING, AT(sj_upstream_source, v.api_key_prefix), .max = 128,
     .example = "Bearer ",
     .help = "stands before the key; \"Bearer \" in Authorization and nothing in another header unless set"},
    {"headers", SJ_KEY_PAIRS, AT(sj_upstream_source, headers), .max = 64,
     .example = "( { name = \"X-Team\"; value = \"search\"; } )",
     .help = "added to each request, in place of the client's of that name; the form { X-Team = \"search\"; "
             "} works too"},
    {"query", SJ_KEY_PAIRS, AT(sj_upstream_source, query), .max = 64,
     .example = "( { name = \"api-version\"; value = \"2024-10-21\"; } )",
     .help = "query parameters added to each request; the form { api-version = \"2024-10-21\"; } works too"},
    {"ca_file", SJ_KEY_STRING, AT(sj_upstream_source, v.ca_file), .min = 1, .max = 4096,
     .example = "private-ca.pem",
     .help = "certificates to trust instead of the system's, PEM; relative to the configuration's folder"},
    {"proxy", SJ_KEY_STRING, AT(sj_upstream_source, v.proxy), .min = 1, .max = 2048,
     .example = "http://proxy.example:3128",
     .help = "HTTP or SOCKS proxy on the way there; the environment's proxies are not used"},
    {"connect_timeout", SJ_KEY_DURATION, AT(sj_upstream_source, v.connect_timeout_ms), .text = "10s",
     .min = 1 * MS, .max = HOUR, .help = "DNS, TCP and TLS together"},
    {"first_byte_timeout", SJ_KEY_DURATION, AT(sj_upstream_source, v.first_byte_timeout_ms), .text = "120s",
     .min = 1 * MS, .max = DAY, .help = "silence before a stream's first byte"},
    {"idle_timeout", SJ_KEY_DURATION, AT(sj_upstream_source, v.idle_timeout_ms), .text = "120s",
     .min = 1 * MS, .max = DAY, .help = "silence between a stream's events"},
    {"answer_timeout", SJ_KEY_DURATION, AT(sj_upstream_source, v.answer_timeout_ms), .text = "600s",
     .min = 1 * MS, .max = DAY, .help = "an answer that is not streamed, from start to end"},
    {"max_concurrent", SJ_KEY_INT, AT(sj_upstream_source, v.admission.max_concurrent), .text = "256",
     .min = 1, .max = MANY, .help = "attempts that may run there at once, over all workers"},
    {"adaptive", SJ_KEY_BOOL, AT(sj_upstream_source, v.adaptive), .text = "true",
     .help = "lower that number while the upstream shows congestion, raise it again when it recovers"},
    {"requests_per_minute", SJ_KEY_INT64, AT(sj_upstream_source, v.requests_per_minute), .text = "0",
     .max = 1e9, .help = "pace of requests; 0 = off"},
    {"tokens_per_minute", SJ_KEY_INT64, AT(sj_upstream_source, v.tokens_per_minute), .text = "0", .max = 1e12,
     .help = "pace of tokens; 0 = off"},
    {"prefill", SJ_KEY_BOOL, AT(sj_upstream_source, v.prefill), .text = "false",
     .help = "it goes on from a partial assistant message, so a broken stream may be continued there"},
    {"context", SJ_KEY_GROUPS, AT(sj_upstream_source, contexts), .max = 1000, .block = &sj_block_context,
     .help = "context lengths: a prompt that is too long goes to a larger one"},
    {"retry", SJ_KEY_GROUP, AT(sj_upstream_source, retry), .block = &sj_block_retry,
     .help = "as at top level, for this upstream"},
    {"race", SJ_KEY_GROUP, AT(sj_upstream_source, race), .block = &sj_block_race,
     .help = "as at top level, for this upstream"},
    {"breaker", SJ_KEY_GROUP, AT(sj_upstream_source, breaker), .block = &sj_block_breaker,
     .help = "as at top level, for this upstream"},
    {"budget", SJ_KEY_GROUP, AT(sj_upstream_source, budget), .block = &sj_block_budget,
     .help = "as at top level, for this upstream"},
    {"queue", SJ_KEY_GROUP, AT(sj_upstream_source, queue), .block = &sj_block_queue,
     .help = "as at top level, for this upstream"},
};

#define NOT_IN_A_ROUTE(word)                                                                                 \
    "a " word " belongs to a target, and a target that several routes share cannot obey two of them: "       \
    "set it in the upstream or at top level"

static const sj_key route_keys[] = {
    {"path", SJ_KEY_STRING, AT(sj_route_source, v.path), .text = "*", .min = 1, .max = 255,
     .help = "glob on the request's path: \"*/embeddings\""},
    {"model", SJ_KEY_STRING, AT(sj_route_source, v.model), .text = "*", .min = 1, .max = 255,
     .help = "glob on the request's model; a request without one matches \"*\""},
    {"chain", SJ_KEY_STRINGS, .required = true, AT(sj_route_source, chain), .min = 1, .max = 32,
     .example = "strong/gpt-4.1,strong/gpt-4.1-mini",
     .help = "targets, best first: \"upstream/model\", or \"upstream\" for the model the client asked for"},
    {"stream", SJ_KEY_ENUM, AT(sj_route_source, v.stream), .text = "live", .names = stream_names,
     .help = "\"verified\" holds a stream back until it is complete, so that a break is never seen"},
    {"keepalive", SJ_KEY_DURATION, AT(sj_route_source, v.keepalive_ms), .text = "0s", .max = HOUR,
     .help = "commit early and send an SSE comment this often while waiting; 0s = off"},
    {"replay", SJ_KEY_BOOL, AT(sj_route_source, v.replay), .text = "true",
     .help = "false: requests with hosted tools are never repeated once sent"},
    {"rescue", SJ_KEY_ENUM, AT(sj_route_source, v.rescue), .text = "chain", .names = rescue_names,
     .help = "who may take over a stream that broke after its first byte"},
    {"max_concurrent", SJ_KEY_INT, AT(sj_route_source, v.max_concurrent), .text = "0", .max = MANY,
     .help = "exchanges of this route at once, waits between attempts included; 0 = no bound of its own"},
    {"stale_if_error", SJ_KEY_DURATION, AT(sj_route_source, v.stale_if_error_ms), .text = "0s",
     .max = 365 * DAY,
     .help = "when nothing answers, a stored answer to the same request (temperature 0, embeddings) up to "
             "this old; 0s = off"},
    {"degraded", SJ_KEY_TEXT, AT(sj_route_source, v.degraded), .min = 1, .max = SJ_CONFIG_MAX_TEXT,
     .example = "The assistant is busy. Please try again in a minute.",
     .help = "when nothing answers, this text as a well-formed completion, labelled x-stormjib-degraded"},
    {"on_client_gone", SJ_KEY_ENUM, AT(sj_route_source, v.on_client_gone), .text = "cancel",
     .names = gone_names, .help = "\"drain\" reads the answer on, so that its usage is counted"},
    {"drain_for", SJ_KEY_DURATION, AT(sj_route_source, v.drain_for_ms), .text = "30s", .min = 1 * MS,
     .max = HOUR, .help = "\"drain\" for at most this long"},
    {"coalesce", SJ_KEY_BOOL, AT(sj_route_source, v.coalesce), .text = "true",
     .help = "a client's retry of a request that is still being answered joins it instead of paying twice"},
    {"client_retries", SJ_KEY_ENUM, AT(sj_route_source, v.client_retries), .text = "never",
     .names = client_retries_names,
     .help = "\"never\" tells SDKs not to retry our errors, \"shed\" lets them after an instant refusal, "
             "\"passthrough\" says nothing"},
    {"fallback_on_refusal", SJ_KEY_BOOL, AT(sj_route_source, v.fallback_on_refusal), .text = "false",
     .help = "true: a content-policy refusal goes to the next target"},
    {"retry_conflict", SJ_KEY_BOOL, AT(sj_route_source, v.retry_conflict), .text = "false",
     .help = "true: a 409 is retried"},
    {"retry", SJ_KEY_GROUP, AT(sj_route_source, retry), .block = &sj_block_retry,
     .help = "as at top level, for this route"},
    {"race", SJ_KEY_GROUP, AT(sj_route_source, race), .block = &sj_block_race,
     .help = "as at top level, for this route"},
    {"breaker", SJ_KEY_REFUSED, .help = NOT_IN_A_ROUTE("breaker")},
    {"budget", SJ_KEY_REFUSED, .help = NOT_IN_A_ROUTE("budget")},
    {"queue", SJ_KEY_REFUSED, .help = NOT_IN_A_ROUTE("queue")},
};

static const sj_key store_keys[] = {
    {"max", SJ_KEY_SIZE, AT(sj_loaded, config.store_max_bytes), .text = "64MiB", .max = 64 * GIB,
     .help = "memory for stored answers, used only by routes with stale_if_error"},
};

static const sj_key sticky_keys[] = {
    {"min", SJ_KEY_DURATION, AT(sj_loaded, config.sticky_min_ms), .text = "60s", .max = DAY,
     .help = "after a fallback exchanges start at the cheaper target for at least this"},
    {"failures", SJ_KEY_INT, AT(sj_loaded, config.sticky_failures), .text = "3", .min = 1, .max = 1000,
     .help = "failures in a row there that turn back to the strong one"},
};

static const sj_key limits_keys[] = {
    {"connections", SJ_KEY_INT, AT(sj_loaded, config.limit_connections), .text = "10000", .min = 1,
     .max = MANY, .help = "client connections in all; beyond: 503 overloaded"},
    {"header_timeout", SJ_KEY_DURATION, AT(sj_loaded, config.header_timeout_ms), .text = "30s",
     .min = 10 * MS, .max = HOUR, .help = "for a request's headers to be complete"},
    {"body_timeout", SJ_KEY_DURATION, AT(sj_loaded, config.body_timeout_ms), .text = "60s", .min = 10 * MS,
     .max = DAY,
     .help =
         "in this time a request body ends or brings another 64 KiB, and a client takes some of its answer"},
    {"keepalive_timeout", SJ_KEY_DURATION, AT(sj_loaded, config.keepalive_timeout_ms), .text = "75s",
     .min = 10 * MS, .max = DAY, .help = "for the next request on an idle connection"},
    {"body_memory", SJ_KEY_SIZE, AT(sj_loaded, config.body_memory_bytes), .text = "512MiB", .min = MIB,
     .max = 1024 * GIB, .help = "memory that all request bodies may hold; beyond: 503 overloaded"},
};

static const sj_key log_keys[] = {
    {"format", SJ_KEY_ENUM, AT(sj_loaded, config.log_format), .text = "logfmt", .names = log_format_names,
     .help = "how log lines are written"},
    {"level", SJ_KEY_ENUM, AT(sj_loaded, config.log_level), .text = "info", .names = log_level_names,
     .help = "the least important lines that are still written"},
};

static const sj_key top_keys[] = {
    {"listen", SJ_KEY_STRINGS, AT(sj_loaded, listen), .text = "127.0.0.1:8080", .min = 1, .max = 16,
     .help = "where clients connect: \"host:port\", \"[::1]:8080\", \"unix:/path\", or an array of them; "
             "needs a restart"},
    {"admin", SJ_KEY_STRING, AT(sj_loaded, admin), .text = "127.0.0.1:8081", .max = 255,
     .help = "metrics, state, breaker control and dashboard; \"\" turns it off; needs a restart"},
    {"admin_token", SJ_KEY_SECRET, AT(sj_loaded, config.admin_token), .min = 1, .max = 4096,
     .example = "${ADMIN_TOKEN}", .help = "bearer token of the admin listener; required beyond loopback"},
    {"client_keys", SJ_KEY_SECRETS, AT(sj_loaded, config.client_keys), .min = 1, .max = 1000,
     .example = "${PROXY_KEY}",
     .help = "only clients with one of these are served; they are never forwarded"},
    {"workers", SJ_KEY_INT, AT(sj_loaded, config.workers), .text = "0", .max = 256,
     .help = "threads; 0 = one per core; needs a restart"},
    {"max_body", SJ_KEY_SIZE, AT(sj_loaded, config.max_body_bytes), .text = "64MiB", .min = KIB,
     .max = 64 * GIB, .help = "largest request body; beyond: 413"},
    {"inspect_max", SJ_KEY_SIZE, AT(sj_loaded, config.inspect_max_bytes), .text = "1MiB", .min = KIB,
     .max = GIB, .help = "whole answers up to this are checked before the client sees them"},
    {"drain_timeout", SJ_KEY_DURATION, AT(sj_loaded, config.drain_timeout_ms), .text = "30s", .max = DAY,
     .help = "after SIGTERM running exchanges may take this long"},
    {"deadline", SJ_KEY_DURATION, AT(sj_loaded, config.deadline_ms), .text = "600s", .min = 1 * MS,
     .max = DAY, .help = "until an answer begins, with all retries and waits"},
    {"fallback_gate", SJ_KEY_DURATION, AT(sj_loaded, config.fallback_gate_ms), .text = "10s", .max = DAY,
     .help = "a target that asks for a longer wait is skipped"},
    {"stream_max", SJ_KEY_DURATION, AT(sj_loaded, config.stream_max_ms), .text = "0s", .max = 7 * DAY,
     .help = "cut a stream after this; 0s = never"},
    {"forwarded", SJ_KEY_BOOL, AT(sj_loaded, config.forwarded), .text = "false",
     .help = "true: Via and X-Forwarded-* are sent upstream"},
    {"labels", SJ_KEY_BOOL, AT(sj_loaded, config.labels), .text = "true",
     .help = "false: answers carry no x-stormjib-* headers"},
    {"seed", SJ_KEY_INT64, AT(sj_loaded, seed), .max = (double)INT64_MAX, .example = "1",
     .help = "fixes all jitter; reproduces whole runs only with one worker"},
    {"upstreams", SJ_KEY_NAMED, .required = true, AT(sj_loaded, upstreams), .min = 1, .max = 256,
     .block = &sj_block_upstream, .help = "the APIs behind the proxy, by a name of your choice"},
    {"routes", SJ_KEY_GROUPS, AT(sj_loaded, routes), .min = 1, .max = 1000, .block = &sj_block_route,
     .help = "which requests go where; the first match wins; without routes everything goes to the only "
             "upstream"},
    {"retry", SJ_KEY_GROUP, AT(sj_loaded, retry), .block = &sj_block_retry,
     .help = "trying again; may also stand in a route or an upstream, the nearest wins key by key, in that "
             "order"},
    {"breaker", SJ_KEY_GROUP, AT(sj_loaded, breaker), .block = &sj_block_breaker,
     .help = "leaving a failing target alone; may also stand in an upstream"},
    {"global_breaker", SJ_KEY_GROUP, AT(sj_loaded, global_breaker), .block = &sj_block_global_breaker,
     .help = "the same for failures of our own side (DNS, routing, connecting) across several origins; takes "
             "nothing from breaker"},
    {"budget", SJ_KEY_GROUP, AT(sj_loaded, budget), .block = &sj_block_budget,
     .help = "what retries may cost, per target, so that they never become the storm; may also stand in an "
             "upstream"},
    {"queue", SJ_KEY_GROUP, AT(sj_loaded, queue), .block = &sj_block_queue,
     .help = "waiting for a slot; may also stand in an upstream"},
    {"race", SJ_KEY_GROUP, AT(sj_loaded, race), .block = &sj_block_race,
     .help = "late first token; may also stand in a route or an upstream"},
    {"sticky", SJ_KEY_GROUP, .block = &sj_block_sticky, .help = "staying with a fallback"},
    {"store", SJ_KEY_GROUP, .block = &sj_block_store, .help = "stored answers"},
    {"limits", SJ_KEY_GROUP, .block = &sj_block_limits, .help = "what the client side may take"},
    {"log", SJ_KEY_GROUP, .block = &sj_block_log, .help = "log lines"},
    {"prices", SJ_KEY_GROUPS, AT(sj_loaded, prices), .max = 1000, .block = &sj_block_price,
     .help = "what is paid: each answer's cost goes into the log and the metrics, and what a cheaper target "
             "of the chain saved"},
    {"compare_prices", SJ_KEY_GROUPS, AT(sj_loaded, compare_prices), .max = 1000, .block = &sj_block_price,
     .help = "another price list for the same models, such as the maker's: what was saved against it"},
};

#define BLOCK(words, list, type)                                                                             \
    {                                                                                                        \
        .title = words, .keys = list, .count = COUNT(list), .size = sizeof(type),                            \
        .given = offsetof(type, given)                                                                       \
    }
// Their keys lie in the configuration itself.
#define INNER_BLOCK(words, list)                                                                             \
    { .title = words, .keys = list, .count = COUNT(list), .given = SJ_NO_GIVEN }

const sj_block sj_block_top = BLOCK("the top level", top_keys, sj_loaded);
const sj_block sj_block_upstream = BLOCK("an upstream", upstream_keys, sj_upstream_source);
const sj_block sj_block_route = BLOCK("a route", route_keys, sj_route_source);
const sj_block sj_block_retry = BLOCK("retry", retry_keys, sj_retry_block);
const sj_block sj_block_race = BLOCK("race", race_keys, sj_race_block);
const sj_block sj_block_breaker = BLOCK("breaker", breaker_keys, sj_breaker_block);
const sj_block sj_block_global_breaker = BLOCK("global_breaker", breaker_keys, sj_breaker_block);
const sj_block sj_block_budget = BLOCK("budget", budget_keys, sj_budget_block);
const sj_block sj_block_queue = BLOCK("queue", queue_keys, sj_queue_block);
const sj_block sj_block_price = BLOCK("prices", price_keys, sj_price_source);
const sj_block sj_block_context = BLOCK("context", context_keys, sj_context_source);
const sj_block sj_block_store = INNER_BLOCK("store", store_keys);
const sj_block sj_block_sticky = INNER_BLOCK("sticky", sticky_keys);
const sj_block sj_block_limits = INNER_BLOCK("limits", limits_keys);
const sj_block sj_block_log = INNER_BLOCK("log", log_keys);

// Nearest to the reader first: a key that stands in the wrong place is looked for in this order.
const sj_block *const sj_blocks[] = {
    &sj_block_top,    &sj_block_upstream, &sj_block_route, &sj_block_retry,   &sj_block_breaker,
    &sj_block_budget, &sj_block_queue,    &sj_block_race,  &sj_block_limits,  &sj_block_log,
    &sj_block_store,  &sj_block_sticky,   &sj_block_price, &sj_block_context, NULL,
};

static_assert(COUNT(top_keys) <= 64 && COUNT(upstream_keys) <= 64 && COUNT(route_keys) <= 64,
              "sj_given has 64 bits");

const sj_key *sj_key_find(const sj_block *block, const char *name) {
    for (size_t i = 0; i < block->count; i++) {
        if (strcmp(block->keys[i].name, name) == 0)
            return &block->keys[i];
    }
    return NULL;
}

bool sj_key_given(const sj_given *given, const sj_block *block, const char *name) {
    const sj_key *key = sj_key_find(block, name);
    return key && (given->keys >> (key - block->keys) & 1) != 0;
}

bool sj_key_is_group(const sj_key *key) {
    return key->type == SJ_KEY_GROUP || key->type == SJ_KEY_GROUPS || key->type == SJ_KEY_NAMED;
}
