// Durations as people and APIs write them: Go's grammar ("300ms", "1.5h", "6m0s", "1h15m30.918s"; units ns us µs ms s m h).
#ifndef SJ_DURATION_H
#define SJ_DURATION_H

#include "slice.h"

#include <stdint.h>

typedef enum sj_bare_number { SJ_BARE_REFUSED, SJ_BARE_SECONDS, SJ_BARE_MILLISECONDS } sj_bare_number;

// Milliseconds, parts of one rounded up. False: malformed, negative, or past about 290 years; *ms is then untouched.
// SJ_BARE_SECONDS also takes a number without a unit ("59", "0.25") as seconds, as rate-limit headers write it; SJ_BARE_MILLISECONDS as
// milliseconds.
__attribute__((warn_unused_result)) bool sj_duration_parse(sj_slice text, sj_bare_number bare, int64_t *ms);
// "500ms", "2.5s", "1m30s"; always NUL-terminated within n bytes.
void sj_duration_format(int64_t ms, char *out, size_t n);

#endif
