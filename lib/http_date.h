// HTTP-dates (RFC 9110 5.6.7): "Sun, 06 Nov 1994 08:49:37 GMT", and the obsolete forms of RFC 850 and asctime. No locale, no clock.
#ifndef SJ_HTTP_DATE_H
#define SJ_HTTP_DATE_H

#include "slice.h"

#include <stdint.h>

// Unix time in ms. Two-digit years: 70..99 are 19xx, the others 20xx. Names in any case; a wrong day of the week does not matter.
// False: malformed, or no such day; *unix_ms is then untouched.
__attribute__((warn_unused_result)) bool sj_http_date_parse(sj_slice text, int64_t *unix_ms);

#endif
