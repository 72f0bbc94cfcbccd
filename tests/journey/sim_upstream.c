#include "sim_upstream.h"

#include <math.h>

// The stations of a stream.
typedef enum station { AT_HEAD, AT_ROLE, AT_CONTENT, AT_FINISH, AT_DONE, AT_END, PAST_END } station;

// What each fate looks like from outside, and where a stream turns bad.
static const struct fate_row {
    const char *name;
    sj_end end;
    int status; // 0: no head
    station turn;
    sj_finding finding; // of a whole answer
    const char *code; // of the error object
} fates[SIM_FATES] = {
    [SIM_GOOD] = {"good", SJ_END_WHOLE, 200, PAST_END, SJ_FINDING_GOOD, ""},
    [SIM_429] = {"429", SJ_END_WHOLE, 429, PAST_END, SJ_FINDING_GOOD, "rate_limit_exceeded"},
    [SIM_429_HINT] = {"429 with a hint", SJ_END_WHOLE, 429, PAST_END, SJ_FINDING_GOOD, "rate_limit_exceeded"},
    [SIM_500] = {"500", SJ_END_WHOLE, 500, PAST_END, SJ_FINDING_GOOD, "server_error"},
    [SIM_503] = {"503", SJ_END_WHOLE, 503, PAST_END, SJ_FINDING_GOOD, ""},
    [SIM_503_HINT] = {"503 with a hint", SJ_END_WHOLE, 503, PAST_END, SJ_FINDING_GOOD, ""},
    [SIM_504] = {"504", SJ_END_WHOLE, 504, PAST_END, SJ_FINDING_GOOD, ""},
    [SIM_RESET] = {"reset", SJ_END_NO_ANSWER, 0, AT_HEAD, SJ_FINDING_GOOD, ""},
    [SIM_RESET_WITHIN] = {"reset within", SJ_END_BROKEN, 200, AT_ROLE, SJ_FINDING_GOOD, ""},
    [SIM_REFUSED] = {"connection refused", SJ_END_NEVER_SENT, 0, AT_HEAD, SJ_FINDING_GOOD, ""},
    [SIM_STALE] = {"stale connection", SJ_END_STALE, 0, AT_HEAD, SJ_FINDING_GOOD, ""},
    [SIM_GARBAGE] = {"garbage", SJ_END_GARBAGE, 0, AT_HEAD, SJ_FINDING_GOOD, ""},
    [SIM_SILENT] = {"silence", SJ_END_TIMED_OUT, 0, AT_HEAD, SJ_FINDING_GOOD, ""},
    [SIM_SILENT_WITHIN] = {"silence within", SJ_END_WHOLE, 200, AT_ROLE, SJ_FINDING_GOOD, ""},
    [SIM_ERROR_BODY] = {"error body", SJ_END_WHOLE, 200, AT_ROLE, SJ_FINDING_ERROR, "server_error"},
    [SIM_ERROR_WITHIN] = {"error within", SJ_END_WHOLE, 200, AT_FINISH, SJ_FINDING_ERROR, "overloaded"},
    [SIM_EMPTY] = {"empty", SJ_END_WHOLE, 200, AT_ROLE, SJ_FINDING_EMPTY, ""},
    [SIM_NO_FINISH] = {"no finish", SJ_END_WHOLE, 200, AT_FINISH, SJ_FINDING_TRUNCATED, ""},
    [SIM_NO_DONE] = {"no [DONE]", SJ_END_WHOLE, 200, AT_DONE, SJ_FINDING_GOOD, ""},
    [SIM_NO_DONE_OPEN] = {"no [DONE], left open", SJ_END_WHOLE, 200, AT_DONE, SJ_FINDING_GOOD, ""},
    [SIM_WHOLE_RESET] = {"reset behind the end", SJ_END_BROKEN, 200, AT_END, SJ_FINDING_GOOD, ""},
    [SIM_400] = {"400", SJ_END_WHOLE, 400, PAST_END, SJ_FINDING_GOOD, "invalid_request_error"},
    [SIM_401] = {"401", SJ_END_WHOLE, 401, PAST_END, SJ_FINDING_GOOD, "invalid_api_key"},
    [SIM_402] = {"402", SJ_END_WHOLE, 402, PAST_END, SJ_FINDING_GOOD, ""},
    [SIM_TOO_LONG] = {"too long", SJ_END_WHOLE, 400, PAST_END, SJ_FINDING_GOOD, "context_length_exceeded"},
    [SIM_NO_MODEL] = {"no such model", SJ_END_WHOLE, 404, PAST_END, SJ_FINDING_GOOD, "model_not_found"},
    [SIM_CALLER_BODY] = {"error body of the caller", SJ_END_WHOLE, 200, AT_ROLE, SJ_FINDING_ERROR,
                         "invalid_request_error"},
    [SIM_QUOTA_BODY] = {"error body of a quota", SJ_END_WHOLE, 200, AT_ROLE, SJ_FINDING_ERROR,
                        "insufficient_quota"},
    [SIM_403] = {"403", SJ_END_WHOLE, 403, PAST_END, SJ_FINDING_GOOD, ""},
    [SIM_408] = {"408", SJ_END_WHOLE, 408, PAST_END, SJ_FINDING_GOOD, ""},
    [SIM_409] = {"409", SJ_END_WHOLE, 409, PAST_END, SJ_FINDING_GOOD, ""},
    [SIM_529] = {"529", SJ_END_WHOLE, 529, PAST_END, SJ_FINDING_GOOD, ""},
    [SIM_POLICY] = {"against the policy", SJ_END_WHOLE, 400, PAST_END, SJ_FINDING_GOOD,
                    "content_policy_violation"},
    [SIM_NOT_JSON] = {"not JSON", SJ_END_WHOLE, 200, AT_ROLE, SJ_FINDING_NOT_JSON, ""},
    [SIM_500_FINAL] = {"500, not to be repeated", SJ_END_WHOLE, 500, PAST_END, SJ_FINDING_GOOD, ""},
    [SIM_400_AGAIN] = {"400, to be repeated", SJ_END_WHOLE, 400, PAST_END, SJ_FINDING_GOOD, ""},
    [SIM_LAST_ONE] = {"good, the last for a while", SJ_END_WHOLE, 200, PAST_END, SJ_FINDING_GOOD, ""},
    [SIM_NO_STREAM] = {"no stream", SJ_END_WHOLE, 200, PAST_END, SJ_FINDING_GOOD, ""},
    [SIM_CONNECT_TIMEOUT] = {"connect timeout", SJ_END_NEVER_SENT, 0, AT_HEAD, SJ_FINDING_GOOD, ""},
    [SIM_TLS] = {"certificate not trusted", SJ_END_TLS_UNVERIFIED, 0, AT_HEAD, SJ_FINDING_GOOD, ""},
    [SIM_LOCAL] = {"own side at fault", SJ_END_LOCAL, 0, AT_HEAD, SJ_FINDING_GOOD, ""},
};

const char *sim_fate_name(sim_fate fate) {
    return fates[fate].name;
}

static int64_t exponential(int64_t mean_ms, sj_rng *rng) {
    return (int64_t)(-log(1 - sj_rng_unit(rng)) * (double)mean_ms);
}

static bool within_limit(sim_upstream *upstream, uint64_t credential, int64_t now_ms) {
    double rate = upstream->mood.requests_per_s;
    if (rate <= 0)
        return true;
    size_t i = credential % (uint64_t)SIM_CREDENTIALS;
    double tokens = upstream->tokens[i] + rate / 1000 * (double)(now_ms - upstream->filled_ms[i]);
    upstream->filled_ms[i] = now_ms;
    upstream->tokens[i] = fmin(tokens, rate); // a second's worth
    if (upstream->tokens[i] < 1)
        return false;
    upstream->tokens[i] -= 1;
    return true;
}

static sim_fate draw_fate(const sim_mood *mood, bool fresh, sj_rng *rng) {
    double u = sj_rng_unit(rng);
    for (int fate = 0; fate < SIM_FATES; fate++) {
        if (u < mood->chance[fate])
            return fate == SIM_STALE && fresh ? SIM_GOOD : (sim_fate)fate;
        u -= mood->chance[fate];
    }
    return SIM_GOOD;
}

int64_t sim_upstream_begin(sim_upstream *upstream, sim_attempt *attempt, bool stream, bool fresh,
                           uint64_t credential, int64_t now_ms, sj_rng *rng) {
    const sim_mood *mood = &upstream->mood;
    sim_fate fate = draw_fate(mood, fresh, rng);
    bool reaches = fates[fate].status > 0 || fate == SIM_RESET || fate == SIM_GARBAGE || fate == SIM_SILENT;
    if (reaches && mood->dead >> credential & 1)
        fate = SIM_401;
    else if (reaches && !within_limit(upstream, credential, now_ms))
        fate = mood->limit_hints ? SIM_429_HINT : SIM_429;
    *attempt = (sim_attempt){.fate = fate, .stream = stream, .turn = (int)fates[fate].turn};
    attempt->events = 1 + (int)sj_rng_between(rng, 0, 5);
    if ((fate == SIM_RESET_WITHIN || fate == SIM_SILENT_WITHIN) && attempt->events % 2)
        attempt->turn = AT_FINISH;
    if (fate == SIM_429_HINT || fate == SIM_503_HINT || fate == SIM_LAST_ONE)
        attempt->hint_ms = 1 + sj_rng_between(rng, 0, mood->hint_ms);
    upstream->sent += reaches;
    if (++upstream->running > upstream->most_running)
        upstream->most_running = upstream->running;
    if (fate == SIM_SILENT)
        return -1;
    return fate == SIM_STALE ? 0 : mood->latency_ms / 10 + exponential(mood->latency_ms, rng);
}

void sim_upstream_end(sim_upstream *upstream) {
    upstream->running--;
}

// ---- news -----------------------------------------------------------------------------------------------

static bool tells_events(const sim_attempt *attempt) {
    return attempt->stream && attempt->fate != SIM_NO_STREAM && fates[attempt->fate].status == 200;
}

static sim_news ends(const sim_attempt *attempt, sj_end end, bool whole, bool lacks_done) {
    const struct fate_row *row = &fates[attempt->fate];
    bool events = tells_events(attempt);
    sim_news news = {.kind = SIM_NEWS_END, .next_ms = -1};
    news.over.facts = (sj_attempt_facts){
        .end = end,
        .status = row->status,
        .inspected = row->status == 200 && !events,
        .finding = events ? SJ_FINDING_GOOD : row->finding,
        .stream_incomplete = events && end == SJ_END_WHOLE && !whole && !lacks_done,
        .error_code = row->code,
        .error_message = "",
    };
    news.over.whole = whole;
    news.over.lacks_only_done = lacks_done;
    news.over.own_side = end == SJ_END_NEVER_SENT;
    news.over.connect_timed_out = attempt->fate == SIM_CONNECT_TIMEOUT;
    news.over.sent = !news.over.own_side && end != SJ_END_TLS_UNVERIFIED && end != SJ_END_LOCAL;
    news.over.tokens =
        whole && attempt->events % 2 ? 100 * attempt->events : 0; // not every answer counts them
    return news;
}

static sim_news tells(unsigned says, int64_t next_ms) {
    return (sim_news){.kind = SIM_NEWS_SAYS, .says = says, .next_ms = next_ms};
}

static sim_news turns_bad(sim_attempt *attempt) {
    sim_fate fate = attempt->fate;
    switch (fate) {
    case SIM_SILENT_WITHIN:
    case SIM_NO_DONE_OPEN:
        return (sim_news){.next_ms = -1};
    case SIM_ERROR_BODY:
    case SIM_ERROR_WITHIN:
    case SIM_CALLER_BODY:
    case SIM_QUOTA_BODY:
        attempt->at = PAST_END;
        return (sim_news){.kind = SIM_NEWS_ERROR, .code = fates[fate].code, .next_ms = 1};
    default:
        return ends(attempt, fates[fate].end, fate == SIM_WHOLE_RESET, fate == SIM_NO_DONE);
    }
}

static sim_news stream_news(const sim_upstream *upstream, sim_attempt *attempt, sj_rng *rng) {
    int64_t pace = 1 + exponential(upstream->mood.latency_ms / 10, rng);
    if (attempt->at == (int)attempt->turn)
        return turns_bad(attempt);
    switch (attempt->at++) {
    case AT_ROLE:
        return tells(0, pace);
    case AT_CONTENT:
        if (--attempt->events > 0)
            attempt->at = AT_CONTENT;
        return tells(SJ_SAYS_CONTENT, pace);
    case AT_FINISH:
        return tells(SJ_SAYS_FINISH | SJ_SAYS_ALL_BUT_DONE, pace);
    case AT_DONE:
        return tells(SJ_SAYS_DONE | SJ_SAYS_WHOLE, 1);
    case AT_END:
        return ends(attempt, SJ_END_WHOLE, true, false);
    default: // behind an error event
        return ends(attempt, SJ_END_WHOLE, false, false);
    }
}

// Which header says so matters to nobody but the trail.
static sj_retry_hint says_when(const sim_attempt *attempt) {
    sj_retry_hint hint = {0};
    if (attempt->fate == SIM_500_FINAL)
        hint.should_retry = SJ_SHOULD_RETRY_NO;
    else if (attempt->fate == SIM_400_AGAIN)
        hint.should_retry = SJ_SHOULD_RETRY_YES;
    else if (attempt->fate == SIM_LAST_ONE)
        hint.exhausted_ms = attempt->hint_ms;
    else if (attempt->hint_ms > 0) {
        hint.wait_ms = attempt->hint_ms;
        hint.source = SJ_HINT_RETRY_AFTER_MS + (unsigned)attempt->hint_ms % SJ_HINT_RATELIMIT_RESET;
    }
    return hint;
}

sim_news sim_upstream_news(const sim_upstream *upstream, sim_attempt *attempt, sj_rng *rng) {
    const struct fate_row *row = &fates[attempt->fate];
    if (row->status == 0)
        return ends(attempt, row->end, false, false);
    if (attempt->at == AT_HEAD) {
        attempt->at = AT_ROLE;
        sim_news head = {.kind = SIM_NEWS_HEAD, .status = row->status, .next_ms = 1};
        head.hint = says_when(attempt);
        return head;
    }
    if (tells_events(attempt))
        return stream_news(upstream, attempt, rng);
    return attempt->fate == SIM_SILENT_WITHIN ? (sim_news){.next_ms = -1}
                                              : ends(attempt, row->end, true, false);
}
