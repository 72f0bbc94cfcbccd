// Staying with a fallback (BEHAVIOUR 9): when the strong target is shut and a cheaper one answers, exchanges start there until the strong one is
// closed again and the stay has lasted its minimum; three failures in a row there turn the order back. One per route, shared by all workers.
// Thread-safe: one mutex, held for arithmetic only; while nothing is held a look costs one relaxed load.
#ifndef SJ_STICKY_H
#define SJ_STICKY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct sj_sticky sj_sticky;

typedef struct sj_sticky_rules {
    int64_t min_ms; // 60 s
    int failures; // 3
} sj_sticky_rules;

sj_sticky *sj_sticky_new(const sj_sticky_rules *rules); // NULL: out of memory
void sj_sticky_free(sj_sticky **sticky); // NULL-safe
// The hop that exchanges start at: 0, or the fallback that is stayed with. strong_closed: the first target would take ordinary traffic now.
size_t sj_sticky_first(sj_sticky *sticky, bool strong_closed, int64_t now_ms);
// Whether a fallback is being stayed with.
bool sj_sticky_holds(sj_sticky *sticky);
// A hop answered well. strong_shut: the first target's breaker was open or half-open then.
void sj_sticky_answered(sj_sticky *sticky, size_t hop, bool strong_shut, int64_t now_ms);
// A hop failed an exchange (not: was throttled, or was not asked).
void sj_sticky_failed(sj_sticky *sticky, size_t hop);

#endif
