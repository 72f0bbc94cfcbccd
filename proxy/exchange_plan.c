#include "exchange_internal.h"

#include "coalesce.h"
#include "http_rules.h"
#include "setup_plan.h"

#include <stdlib.h>

enum { VERIFIED_KEEPALIVE_MS = 15000 };

// ---- who asks -------------------------------------------------------------------------------------------------------------------

static bool same_secret(sj_slice a, sj_slice b) {
    if (a.n != b.n)
        return false;
    unsigned char difference = 0;
    for (size_t i = 0; i < a.n; i++)
        difference |= (unsigned char)(a.p[i] ^ b.p[i]);
    return difference == 0;
}

static sj_slice bearer_token(sj_slice authorization) {
    sj_slice prefix = SJ_SLICE("Bearer ");
    if (authorization.n < prefix.n || !sj_slice_equal_nocase((sj_slice){authorization.p, prefix.n}, prefix))
        return authorization;
    return sj_slice_trim(sj_slice_from(authorization, prefix.n));
}

static sj_slice client_credential(const sj_exchange *e) {
    sj_slice authorization = sj_headers_get(e->headers, "Authorization");
    if (authorization.p)
        return bearer_token(authorization);
    sj_slice key = sj_headers_get(e->headers, "api-key");
    return key.p ? key : sj_headers_get(e->headers, "x-api-key");
}

bool exchange_authorise(sj_exchange *e) {
    const sj_config *config = exchange_config(e);
    sj_slice given = client_credential(e);
    bool known = false;
    for (size_t i = 0; i < config->client_key_count; i++)
        known |= same_secret(given, sj_slice_of(config->client_keys[i]));
    e->credential_is_ours = known;
    return known || config->client_key_count == 0;
}

// ---- the plan -------------------------------------------------------------------------------------------------------------------

// A model as it may stand in a header, a log line and a label: printable ASCII without the trail's separators.
static sj_slice plain_model(const char *model, char *out, size_t size) {
    size_t n = 0;
    for (; model[n] && n + 1 < size; n++)
        out[n] = model[n] > ' ' && model[n] < 0x7f && model[n] != ',' && model[n] != '"' ? model[n] : '_';
    out[n] = '\0';
    return (sj_slice){out, n};
}

// Whether what identifies the client may be sent there at all.
static bool is_clients_origin(const sj_exchange *e, size_t upstream) {
    const sj_upstream_config *config = &exchange_config(e)->upstreams[upstream];
    if (config->auth == SJ_AUTH_CLIENT)
        return true;
    return config->auth != SJ_AUTH_NONE &&
           sj_setup_same_origin(e->setup, upstream, e->route->hops[0].upstream);
}

static bool sends_client_credential(const sj_exchange *e, size_t upstream) {
    sj_auth auth = exchange_config(e)->upstreams[upstream].auth;
    return !e->credential_is_ours && (auth == SJ_AUTH_UNSET || auth == SJ_AUTH_CLIENT) &&
           is_clients_origin(e, upstream);
}

static bool add_hop(sj_exchange *e, size_t i) {
    const sj_hop_config *hop = &e->route->hops[i];
    char plain[SJ_JSON_MAX_MODEL];
    sj_slice model = plain_model(hop->model ? hop->model : e->facts.model, plain, sizeof plain);
    bool rewrites = hop->model && strcmp(hop->model, e->facts.model) != 0;
    sj_hop made = sj_setup_hop(e->setup, e->route, i, model, e->facts.stream, exchange_now(e));
    if (!made.target)
        return false;
    made.credential = sends_client_credential(e, hop->upstream)
                          ? sj_setup_hash(e->setup, client_credential(e))
                          : sj_setup_key_hash(e->setup, hop->upstream);
    made.rewrites_model = rewrites;
    e->requests[i] = (hop_request){.upstream = hop->upstream, .model = rewrites ? hop->model : NULL};
    e->hops[i] = made;
    e->hop_count++;
    return true;
}

static bool add_hops(sj_exchange *e) {
    size_t count = e->route->hop_count < EXCHANGE_MAX_HOPS ? e->route->hop_count : EXCHANGE_MAX_HOPS;
    e->hops = calloc(count, sizeof *e->hops + sizeof *e->requests);
    if (!e->hops)
        return false;
    e->requests = (hop_request *)(e->hops + count);
    for (size_t i = 0; i < count; i++)
        if (!add_hop(e, i))
            return false;
    return true;
}

static sj_repeat repeat_of(const sj_exchange *e) {
    if (e->context.generation)
        return SJ_REPEAT_FREELY;
    bool safe = sj_slice_equal(e->method, SJ_SLICE("GET")) || e->is_head;
    return safe ? SJ_REPEAT_SAFE : SJ_REPEAT_UNSENT;
}

// `store: true` beyond the path's default: responses store by default, the others do not.
static bool is_replayable(const sj_exchange *e) {
    bool unusual_store = e->facts.store && e->context.protocol != SJ_PROTOCOL_RESPONSES;
    bool hosted = e->facts.hosted_tools && !e->route->replay;
    return !unusual_store && !e->facts.background && !hosted;
}

static sj_slice peer_address(const sj_exchange *e) {
    sj_slice peer = sj_slice_of(e->peer);
    const char *colon = strrchr(e->peer, ':');
    if (colon)
        peer.n = (size_t)(colon - e->peer);
    return peer;
}

sj_slice exchange_client_name(const sj_exchange *e) {
    sj_slice credential = client_credential(e);
    return credential.p ? credential : peer_address(e);
}

// About four bytes of JSON a token, and as many as may be generated. Pictures and sound in a body are far fewer tokens than bytes: bounded.
static int64_t likely_tokens(const sj_exchange *e) {
    enum { INPUT_MAX = 32768 };
    if (!e->context.generation || !e->facts.is_object)
        return 0;
    int64_t input = (int64_t)(sj_body_bytes(e->body).n / 4);
    return (input < INPUT_MAX ? input : INPUT_MAX) + e->facts.max_tokens * e->facts.choices;
}

// Held back until it is complete: by the route, or for this request. Streams of unknown protocol are never complete, and never held.
static bool is_verified(const sj_exchange *e) {
    sj_slice asked = sj_headers_get(e->headers, "x-stormjib-stream");
    bool wanted =
        asked.p ? sj_slice_equal_nocase(asked, SJ_SLICE("verified")) : e->route->stream == SJ_STREAM_VERIFIED;
    bool known = e->context.protocol != SJ_PROTOCOL_OPAQUE && e->context.protocol != SJ_PROTOCOL_JSON;
    return wanted && known && e->facts.stream;
}

static int64_t keepalive_ms(const sj_exchange *e) {
    if (!e->facts.stream || !e->context.generation || e->context.protocol == SJ_PROTOCOL_OPAQUE ||
        e->context.protocol == SJ_PROTOCOL_JSON)
        return 0;
    return e->route->keepalive_ms > 0 || !e->context.verified ? e->route->keepalive_ms
                                                              : VERIFIED_KEEPALIVE_MS;
}

// Only what may be asked again, and is not held back anyway.
static bool is_rescuable(const sj_exchange *e) {
    return e->route->rescue != SJ_RESCUE_OFF && e->facts.stream && !e->context.verified &&
           repeat_of(e) == SJ_REPEAT_FREELY && is_replayable(e);
}

static bool make_journey(sj_exchange *e) {
    sj_client_patience patience = sj_client_patience_read(e->headers);
    int64_t now = exchange_now(e);
    sj_plan plan = sj_setup_plan(e->setup, e->route, now);
    plan.hops = e->hops;
    plan.hop_count = e->hop_count;
    e->client = sj_setup_hash(e->setup, exchange_client_name(e));
    plan.waiter = (sj_waiter){
        .worker = e->worker->index, .exchange_id = e->id, .client = e->client, .tokens = likely_tokens(e)};
    plan.repeat = repeat_of(e);
    plan.movable = e->facts.is_object && !e->facts.model_spans_overflow && e->facts.model_span_count > 0;
    plan.bound = e->facts.bound_to_upstream;
    plan.replayable = is_replayable(e);
    plan.stream = e->facts.stream;
    plan.client_retrying = patience.retry_count >= 1;
    if (patience.timeout_ms > 0 && now + patience.timeout_ms < plan.deadline_ms)
        plan.deadline_ms = now + patience.timeout_ms;
    e->deadline_ms = plan.deadline_ms;
    e->is_repeat = sj_coalesce_is_repeat(e->headers, patience.retry_count);
    plan.verified = e->context.verified;
    plan.rescue = e->context.rescue;
    plan.keepalive_ms = keepalive_ms(e);
    if (e->context.generation && e->route->on_client_gone == SJ_CLIENT_GONE_DRAIN)
        plan.drain_ms = e->route->drain_for_ms;
    plan.seed = sj_rng_next(&e->worker->rng);
    e->journey = sj_journey_new(&plan);
    return e->journey != NULL;
}

plan_fault exchange_plan(sj_exchange *e) {
    static const plan_fault no_memory = {SJ_REFUSAL_OVERLOADED,
                                         "Out of memory. Try again after Retry-After."};
    sj_slice body = e->body ? sj_body_bytes(e->body) : (sj_slice){NULL, 0};
    if (body.n)
        sj_request_facts_read(body, &e->facts);
    e->context.generation = sj_http_is_generation(e->method, e->path);
    e->context.protocol = e->context.generation ? sj_protocol_of(e->path) : SJ_PROTOCOL_OPAQUE;
    e->context.choices = e->facts.is_object ? e->facts.choices : 1;
    e->context.inspect_max = exchange_config(e)->inspect_max_bytes;
    e->route = sj_config_route(exchange_config(e), e->path, sj_slice_of(e->facts.model));
    if (!e->route)
        return (plan_fault){SJ_REFUSAL_NOT_FOUND,
                            "No route matches this path and model. Add a route, or one with model = \"*\"."};
    e->context.verified = is_verified(e);
    e->context.rescue = is_rescuable(e);
    return add_hops(e) && make_journey(e) ? (plan_fault){SJ_REFUSAL_NONE, NULL} : no_memory;
}

// ---- one attempt's request ------------------------------------------------------------------------------------------------------

static bool is_replaced(const sj_upstream_config *upstream, sj_slice name) {
    for (size_t i = 0; i < upstream->header_count; i++)
        if (sj_slice_equal_nocase(name, sj_slice_of(upstream->headers[i].name)))
            return true;
    return upstream->auth == SJ_AUTH_KEY &&
           sj_slice_equal_nocase(name, sj_slice_of(upstream->api_key_header));
}

static bool is_credential(sj_slice name) {
    static const char *const names[] = {"Authorization", "api-key", "x-api-key", "x-goog-api-key"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (sj_slice_equal_nocase(name, sj_slice_of(names[i])))
            return true;
    return false;
}

// Fields that are for one origin only.
static bool is_kept_from(const sj_exchange *e, size_t upstream, sj_slice name) {
    if (is_credential(name))
        return !sends_client_credential(e, upstream);
    return sj_slice_equal_nocase(name, SJ_SLICE("Cookie")) && !is_clients_origin(e, upstream);
}

static bool add_key(const sj_upstream_config *upstream, size_t key, sj_headers *out) {
    if (upstream->auth != SJ_AUTH_KEY || key >= upstream->api_key_count)
        return true;
    sj_buffer value = sj_buffer_with_max(16 * 1024);
    bool ok = sj_buffer_text(&value, upstream->api_key_prefix) &&
              sj_buffer_text(&value, upstream->api_keys[key]) &&
              sj_headers_add(out, sj_slice_of(upstream->api_key_header), sj_buffer_slice(&value));
    sj_buffer_free(&value);
    return ok;
}

static bool add_forwarded(const sj_exchange *e, sj_headers *out) {
    if (!exchange_config(e)->forwarded)
        return true;
    sj_slice host = sj_headers_get(e->headers, "Host");
    return sj_headers_add(out, SJ_SLICE("Via"), SJ_SLICE("1.1 stormjib")) &&
           sj_headers_add(out, SJ_SLICE("X-Forwarded-For"), peer_address(e)) &&
           (!host.p || sj_headers_add(out, SJ_SLICE("X-Forwarded-Host"), host)) &&
           sj_headers_add(out, SJ_SLICE("X-Forwarded-Proto"), SJ_SLICE("http"));
}

static bool request_headers(const sj_exchange *e, const leg *l, sj_headers *out) {
    size_t upstream_index = e->requests[l->hop].upstream;
    const sj_upstream_config *upstream = &exchange_config(e)->upstreams[upstream_index];
    bool ok = sj_http_forward_request(e->headers, out);
    for (size_t i = out->count; i-- > 0;) {
        sj_slice name = sj_headers_at(out, i).name;
        if (is_replaced(upstream, name) || is_kept_from(e, upstream_index, name))
            sj_headers_remove(out, i);
    }
    for (size_t i = 0; ok && i < upstream->header_count; i++)
        ok = sj_headers_add(out, sj_slice_of(upstream->headers[i].name),
                            sj_slice_of(upstream->headers[i].value));
    return ok && add_key(upstream, l->key, out) && add_forwarded(e, out);
}

static const char *model_json(sj_exchange *e, size_t hop) {
    hop_request *request = &e->requests[hop];
    if (request->model_json)
        return request->model_json;
    sj_buffer text = sj_buffer_with_max(4096);
    if (sj_json_encode_string(sj_slice_of(request->model), &text) && sj_buffer_append(&text, "", 1))
        request->model_json = text.p;
    else
        sj_buffer_free(&text);
    return request->model_json;
}

// False: the model's text could not be made. A body that cannot be spliced goes as it is (the journey has skipped such targets but the first).
static bool request_body(sj_exchange *e, const leg *l, sj_body_cursor *cursor) {
    const sj_request_facts *facts = &e->facts;
    *cursor = (sj_body_cursor){.bytes = sj_body_bytes(e->body)};
    if (l->continues)
        cursor->bytes = exchange_continuation(e, &facts);
    if (!e->requests[l->hop].model || !facts->is_object || facts->model_spans_overflow)
        return true;
    const char *text = model_json(e, l->hop);
    cursor->edits = facts->model_spans;
    cursor->edit_count = facts->model_span_count;
    cursor->replacement = sj_slice_of(text);
    return text != NULL;
}

sj_attempt *exchange_start_transfer(sj_exchange *e, leg *l, bool fresh, const sj_attempt_handlers *handlers) {
    const sj_upstream_config *upstream = &exchange_config(e)->upstreams[e->requests[l->hop].upstream];
    sj_buffer target = sj_buffer_with_max(64 * 1024);
    sj_headers headers;
    sj_headers_init(&headers);
    sj_body_cursor cursor;
    bool ok = sj_http_upstream_target(sj_slice_of(upstream->base_path), e->target,
                                      sj_slice_of(upstream->query), &target) &&
              request_headers(e, l, &headers) && (!e->body || request_body(e, l, &cursor));
    sj_attempt_spec spec = {
        .origin = sj_setup_origin(e->setup, e->requests[l->hop].upstream),
        .target = sj_buffer_slice(&target),
        .method = e->method,
        .headers = &headers,
        .body = e->body ? &cursor : NULL,
        .connect_timeout_ms = upstream->connect_timeout_ms,
        .fresh = fresh,
        .ca_file = upstream->ca_file,
        .proxy = upstream->proxy,
    };
    sj_attempt *transfer = ok ? sj_attempt_start(e->worker->upstream, &spec, handlers, l) : NULL;
    sj_headers_free(&headers);
    sj_buffer_free(&target);
    return transfer;
}
