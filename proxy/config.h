// The configuration: one table (key, type, default, range, help) that parses, checks, documents and prints itself. libconfig syntax.
// An sj_config is immutable once loaded and reference counted; a reload loads another one and swaps it whole. Contract: CONFIG in the manual
// (`stormjib config`), conf/README.md. The only module that includes libconfig.h.
#ifndef SJ_CONFIG_H
#define SJ_CONFIG_H

#include "cost.h"
#include "journey.h"

typedef enum sj_auth { SJ_AUTH_KEY, SJ_AUTH_CLIENT, SJ_AUTH_NONE, SJ_AUTH_UNSET } sj_auth; // UNSET: no api_key, no auth: the client's, to the first target's origin only
typedef enum sj_stream_mode { SJ_STREAM_LIVE, SJ_STREAM_VERIFIED } sj_stream_mode;
typedef enum sj_client_gone_mode { SJ_CLIENT_GONE_CANCEL, SJ_CLIENT_GONE_DRAIN } sj_client_gone_mode;
typedef enum sj_client_retries { SJ_CLIENT_RETRIES_NEVER, SJ_CLIENT_RETRIES_SHED, SJ_CLIENT_RETRIES_PASSTHROUGH } sj_client_retries;
typedef enum sj_rescue_mode { SJ_RESCUE_CHAIN, SJ_RESCUE_SAME_MODEL, SJ_RESCUE_OFF } sj_rescue_mode;
typedef enum sj_log_format { SJ_LOG_LOGFMT, SJ_LOG_JSON } sj_log_format;
typedef enum sj_log_level { SJ_LOG_ERROR, SJ_LOG_WARN, SJ_LOG_INFO, SJ_LOG_DEBUG } sj_log_level;

typedef struct sj_race_rules {
    bool enabled;
    int64_t after_ms, after_whole_ms;
    bool other_model;
} sj_race_rules;

typedef struct sj_listen {
    char *host;      // NULL for a unix socket; "127.0.0.1", "::1", "0.0.0.0"
    int port;        // 0: any free one, printed at start
    char *unix_path; // NULL for TCP
} sj_listen;

typedef struct sj_pair {
    char *name, *value;
} sj_pair;

typedef struct sj_context_size {
    char *model; // glob
    int64_t tokens;
} sj_context_size;

typedef struct sj_upstream_config {
    char *name;
    char *base_url;         // as given, without userinfo
    char *origin;           // "https://host[:port]"
    char *base_path;        // "" or "/v1": no trailing slash
    char **api_keys;        // secrets, expanded
    size_t api_key_count;
    sj_auth auth;
    char *api_key_header;   // "Authorization"
    char *api_key_prefix;   // "Bearer "; empty when api_key_header is another header, unless set
    sj_pair *headers;       // added to (replacing the client's of that name)
    size_t header_count;
    char *query;            // "api-version=2024-10-21&x=y", ready to append; "" none
    char *ca_file, *proxy;  // NULL none
    int64_t connect_timeout_ms, first_byte_timeout_ms, idle_timeout_ms, answer_timeout_ms;
    sj_admission_rules admission; // max_concurrent, queue.max_waiting, queue.timeout
    bool standing_queue;
    bool prefill, adaptive;
    int64_t requests_per_minute, tokens_per_minute; // 0 off
    sj_context_size *contexts;
    size_t context_count;
    sj_target_rules rules;  // breaker and budget, nearest block already merged key by key
    bool embedded;          // base_url = "mock": the embedded misbehaving upstream
} sj_upstream_config;

typedef struct sj_hop_config {
    size_t upstream;          // index into upstreams
    char *model;              // NULL: the model the client asked for
    sj_retry_policy retry;    // nearest block already merged key by key; its strings belong to the configuration
    sj_race_rules race;
} sj_hop_config;

typedef struct sj_route_config {
    char *path, *model; // globs
    sj_hop_config *hops;
    size_t hop_count;
    sj_stream_mode stream;
    int64_t keepalive_ms;     // 0 off
    bool replay;              // hosted tools etc. may be repeated
    sj_rescue_mode rescue;
    int max_concurrent;       // 0 off
    int64_t stale_if_error_ms;// 0 off
    char *degraded;           // NULL off
    sj_client_gone_mode on_client_gone;
    int64_t drain_for_ms;
    bool coalesce;            // retries join exchanges in flight
    sj_client_retries client_retries;
    bool fallback_on_refusal, retry_conflict; // already merged into the hops' rules
} sj_route_config;

typedef struct sj_config {
    char *path; // NULL: from the environment
    sj_listen *listens;
    size_t listen_count;
    sj_listen admin;
    bool admin_enabled;
    char *admin_token; // NULL none
    int workers;       // >= 1, cores already resolved
    size_t max_body_bytes, inspect_max_bytes;
    int64_t drain_timeout_ms, deadline_ms, fallback_gate_ms, stream_max_ms;
    bool forwarded, labels;
    sj_upstream_config *upstreams;
    size_t upstream_count;
    sj_route_config *routes;
    size_t route_count;
    bool global_breaker_enabled;
    sj_breaker_rules global_breaker;
    size_t store_max_bytes;
    int64_t sticky_min_ms;
    int sticky_failures;
    int limit_connections;
    int64_t header_timeout_ms, body_timeout_ms, keepalive_timeout_ms; // limits.*
    size_t body_memory_bytes;
    sj_log_format log_format;
    sj_log_level log_level;
    char **client_keys; // secrets
    size_t client_key_count;
    sj_price *prices, *compare_prices; // what is paid; another list to compare it with
    size_t price_count, compare_price_count;
    bool has_seed;
    uint64_t seed;
} sj_config;

// Loads and checks. On failure *config is NULL and *error holds every problem found, one a line, each with file:line, the key, what is allowed
// and, for unknown keys, the nearest known one. Warnings (for example: not loopback without client_keys) go to *warnings. Errors never show a
// secret's value. path NULL: from the environment alone (STORMJIB_UPSTREAM or OPENAI_BASE_URL, OPENAI_API_KEY,
// STORMJIB_LISTEN, STORMJIB_ADMIN ...). STORMJIB_LISTEN also holds for a file that has no `listen`.
__attribute__((warn_unused_result)) bool sj_config_load(const char *path, sj_config **config, sj_buffer *error, sj_buffer *warnings);
// What a command ends with when that file could not be loaded: EX_NOINPUT when it is not there or may not be read, else EX_CONFIG.
int sj_config_exit_code(const char *path);
sj_config *sj_config_ref(sj_config *config); // atomic
void sj_config_unref(sj_config **config);    // NULL-safe

// Changed keys of `to` that need a restart (listen, admin, workers), as a comma-separated text; empty: none.
void sj_config_needs_restart(const sj_config *from, const sj_config *to, sj_buffer *out);

// The first route that matches; model empty matches only globs that match "". NULL: none (404).
const sj_route_config *sj_config_route(const sj_config *config, sj_slice path, sj_slice model);

// `stormjib config`: every key with type, default, range and help, from the table that parses.
__attribute__((warn_unused_result)) bool sj_config_document(sj_buffer *out);
// `stormjib config -c FILE`: the effective configuration in the same syntax (loads to the same configuration), secrets as "***".
__attribute__((warn_unused_result)) bool sj_config_print(const sj_config *config, sj_buffer *out);

#endif
