// When nothing answers (BEHAVIOUR 11): a stored answer, else a configured text, in place of an error that is not the caller's.
#ifndef SJ_EXCHANGE_STAND_IN_H
#define SJ_EXCHANGE_STAND_IN_H

#include "exchange_internal.h"

// Before a step that would tell the client of an error: true when something else has gone out instead.
bool exchange_stand_in(sj_exchange *e, const sj_step *step);

// What most exchanges are asked.
static inline bool exchange_has_stand_in(const sj_exchange *e) {
    return e->route->stale_if_error_ms > 0 || e->route->degraded;
}

#endif
