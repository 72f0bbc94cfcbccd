// A model of an upstream: how an attempt fares there, and the news of it one by one. Its moods change with the weather.
#ifndef SIM_UPSTREAM_H
#define SIM_UPSTREAM_H

#include "journey.h"

enum { SIM_CREDENTIALS = 8 };

// How an attempt fares.
typedef enum sim_fate {
    SIM_GOOD,
    SIM_429,
    SIM_429_HINT,
    SIM_500,
    SIM_503,
    SIM_503_HINT,
    SIM_504,
    SIM_RESET, // before an answer byte
    SIM_RESET_WITHIN, // after the head; of a stream: somewhere
    SIM_REFUSED, // the connection: never sent
    SIM_STALE, // only of a reused connection
    SIM_GARBAGE,
    SIM_SILENT, // never a byte
    SIM_SILENT_WITHIN, // a head, perhaps content, then silence
    SIM_ERROR_BODY, // 200 with an error object; of a stream: its first event
    SIM_ERROR_WITHIN, // an error event after content
    SIM_EMPTY, // 200 without anything
    SIM_NO_FINISH, // a stream that ends too soon
    SIM_NO_DONE, // a stream without [DONE] that ends
    SIM_NO_DONE_OPEN, // and one that stays open
    SIM_WHOLE_RESET, // reset behind the end
    SIM_400,
    SIM_401,
    SIM_402,
    SIM_TOO_LONG,
    SIM_NO_MODEL,
    SIM_CALLER_BODY, // 200 with the caller's own error; of a stream: its first event
    SIM_QUOTA_BODY,
    SIM_403,
    SIM_408,
    SIM_409,
    SIM_529,
    SIM_POLICY, // the text is not to the upstream's taste
    SIM_NOT_JSON, // 200 that is none; of a stream: cut
    SIM_500_FINAL, // x-should-retry: false
    SIM_400_AGAIN, // x-should-retry: true
    SIM_LAST_ONE, // good, and says that nothing is left for a while
    SIM_NO_STREAM, // a whole answer, also to a request for a stream
    SIM_CONNECT_TIMEOUT,
    SIM_TLS,
    SIM_LOCAL, // not even tried: our own side's fault
    SIM_FATES,
} sim_fate;

const char *sim_fate_name(sim_fate fate);

// Chances per attempt, of SIM_GOOD what is left; sums up to 1 at most.
typedef struct sim_mood {
    double chance[SIM_FATES];
    int64_t latency_ms; // mean time to the head, on top of a tenth of it
    int64_t hint_ms; // of the hints: up to that
    double requests_per_s; // rate limit per credential; 0 none
    unsigned dead; // a bit for each credential that is not accepted
    bool limit_hints; // whether a refusal by that limit says when
} sim_mood;

typedef struct sim_upstream {
    sim_mood mood;
    double tokens[SIM_CREDENTIALS];
    int64_t filled_ms[SIM_CREDENTIALS];
    long sent; // requests that reached it
    int running, most_running;
} sim_upstream;

// One attempt there. next: what the upstream's next news will be.
typedef struct sim_attempt {
    sim_fate fate;
    bool stream;
    int events; // content events still to come
    int at, turn; // stations of a stream: where it is, where it turns bad
    int64_t hint_ms; // 0 none
} sim_attempt;

typedef enum sim_news_kind {
    SIM_NEWS_NONE,
    SIM_NEWS_HEAD,
    SIM_NEWS_SAYS,
    SIM_NEWS_ERROR,
    SIM_NEWS_END
} sim_news_kind;

typedef struct sim_news {
    sim_news_kind kind;
    int status;
    sj_retry_hint hint;
    unsigned says;
    const char *code; // of an error
    sj_attempt_over over;
    int64_t next_ms; // until the following news; -1: none will come
} sim_news;

// An attempt arrives. Returns the time until its first news, -1: never.
int64_t sim_upstream_begin(sim_upstream *upstream, sim_attempt *attempt, bool stream, bool fresh,
                           uint64_t credential, int64_t now_ms, sj_rng *rng);
sim_news sim_upstream_news(const sim_upstream *upstream, sim_attempt *attempt, sj_rng *rng);
// Its transfer is over, or was cancelled.
void sim_upstream_end(sim_upstream *upstream);

#endif
