// The breaker of our own side (BEHAVIOUR 7): opens when DNS, routing or connecting fails across two or more distinct origins with no success
// anywhere in the span; one provider's outage never opens it, nor keeps it open: half-open it takes failed probes of two origins to reopen.
// Thread-safe: one mutex; admission and success cost one atomic load while nothing fails. The rates of the rules are not used.
#ifndef SJ_GLOBAL_BREAKER_H
#define SJ_GLOBAL_BREAKER_H

#include "breaker.h"

typedef struct sj_global_breaker sj_global_breaker;

sj_global_breaker *sj_global_breaker_new(const sj_breaker_rules *rules, uint64_t seed, int64_t now_ms);
void sj_global_breaker_free(sj_global_breaker **global); // NULL-safe
void sj_global_breaker_set_rules(sj_global_breaker *global, const sj_breaker_rules *rules);
__attribute__((warn_unused_result)) bool sj_global_breaker_admit(sj_global_breaker *global, int64_t now_ms, sj_breaker_permit *permit, int64_t *retry_at_ms, sj_breaker_change *change);
// Whether admit would say yes, changing nothing.
bool sj_global_breaker_would_admit(sj_global_breaker *global, int64_t now_ms, int64_t *retry_at_ms);
// origin: hash of scheme, host and port. own_side: the failure was ours; other failures count as "reached" (a success here).
void sj_global_breaker_report(sj_global_breaker *global, sj_breaker_permit *permit, sj_breaker_outcome outcome, bool own_side, uint64_t origin,
                              uint64_t exchange_id, int64_t now_ms, sj_breaker_change *change);
sj_breaker_state sj_global_breaker_state(sj_global_breaker *global);
void sj_global_breaker_force(sj_global_breaker *global, sj_breaker_state state, int64_t now_ms, sj_breaker_change *change);

#endif
