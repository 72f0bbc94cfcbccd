// What of HTTP's caching rules holds for answers that are kept for the day nothing answers (BEHAVIOUR 11): which exchanges are the same question,
// what of an answer is kept, how it is labelled. RFC 9111, RFC 5861 4 (stale-if-error), RFC 9211 (Cache-Status). Pure.
#ifndef SJ_STALE_H
#define SJ_STALE_H

#include "answer_store.h"
#include "json_span.h"
#include "refusal.h"

// The same question has the same answer: `temperature` 0, or embeddings; not in the background, where the answer is only a receipt.
bool sj_stale_is_repeatable(sj_slice path, const sj_request_facts *facts);

// What the client's Cache-Control says: no-store keeps nothing of this exchange, no-cache wants no stored answer.
typedef struct sj_stale_wish {
    bool may_keep, may_serve;
} sj_stale_wish;
sj_stale_wish sj_stale_wish_of(const sj_headers *request);

// Who asks: every key that the request brings, else its cookies; to be hashed. False: out's cap or memory.
__attribute__((warn_unused_result)) bool sj_stale_identity(const sj_headers *request, sj_buffer *out);
// What is asked besides the body: the target, and the fields that an answer may depend on (codings, the organisation and project, versions).
__attribute__((warn_unused_result)) bool sj_stale_question(sj_slice target, const sj_headers *request, sj_buffer *out);

// The fields of an answer that are worth keeping: not what was for that moment and that client alone (cookies, rate limits, retry hints), and
// no labels of ours but x-stormjib-target, the target that it comes from. False: it must not be kept at all, or there is no memory.
__attribute__((warn_unused_result)) bool sj_stale_keep(const sj_headers *answer, const char *target, sj_headers *out);

// Seconds since it was made: here, and before it came here (its own Age).
int64_t sj_stale_age_s(const sj_stored_answer *answer, int64_t now_ms);
// The fields that a client gets, Age and Cache-Status among them; target (SJ_STALE_TARGET bytes) is where it came from.
enum { SJ_STALE_TARGET = 512, SJ_STALE_STATUS = 96 };
__attribute__((warn_unused_result)) bool sj_stale_serve(const sj_stored_answer *answer, const char *detail, int64_t now_ms, sj_headers *out,
                                                        char *target);
// "stormjib; hit; ttl=-412; detail=breaker-open": stale for as long as it is old, since such answers have no freshness of their own.
void sj_stale_status(int64_t age_s, const char *detail, char out[SJ_STALE_STATUS]);

// Why a stored or degraded answer stands in, as a token; NULL: it may not, because the error is the caller's.
const char *sj_stale_detail(sj_refusal refusal);

#endif
