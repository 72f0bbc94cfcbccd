// Whatever the headers say: a hint is positive or absent, never earlier than the number it came from; dates and durations survive
// being written and read again.
#include "duration.h"
#include "retry_hint.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <time.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

// The first byte of a line picks its header, so that the fuzzer need not guess names.
static const char *const names[] = {
    "Retry-After",
    "retry-after-ms",
    "x-ms-retry-after-ms",
    "Date",
    "x-ratelimit-reset",
    "x-ratelimit-reset-requests",
    "X-RateLimit-Remaining-Requests",
    "x-ratelimit-reset-tokens",
    "x-ratelimit-remaining-tokens",
    "x-ratelimit-reset-tokens-minute",
    "x-should-retry",
    "X-Stainless-Timeout",
    "x-stainless-read-timeout",
    "x-stainless-retry-count",
    "x-stormjib-deadline",
};

static void read_lines(sj_slice text, sj_headers *headers) {
    while (text.n) {
        const char *end = memchr(text.p, '\n', text.n);
        size_t n = end ? (size_t)(end - text.p) : text.n;
        if (n) {
            const char *name = names[(unsigned char)text.p[0] % (sizeof names / sizeof *names)];
            if (!sj_headers_add(headers, sj_slice_of(name), (sj_slice){text.p + 1, n - 1}))
                return;
        }
        text = sj_slice_from(text, end ? n + 1 : n);
    }
}

static void check_hint(const sj_headers *headers, int status, int64_t now_ms) {
    sj_retry_hint hint = sj_retry_hint_read(headers, status, now_ms);
    assert(hint.wait_ms >= 0);
    assert((hint.wait_ms > 0) == (hint.source != SJ_HINT_NONE));
    assert(hint.source < SJ_HINT_RATELIMIT_RESET_DIMENSION || status == 429);
    assert(sj_hint_source_name(hint.source));
    sj_slice value = sj_slice_trim(sj_headers_get(headers, "retry-after"));
    if (hint.source != SJ_HINT_RETRY_AFTER)
        return;
    assert(value.n > 0);
    char *end = NULL;
    double seconds = strtod(value.p, &end); // values are terminated
    if (end == value.p + value.n)
        assert((double)hint.wait_ms >= floor(seconds * 1000)); // never early
}

static void check_patience(const sj_headers *headers) {
    sj_client_patience patience = sj_client_patience_read(headers);
    assert(patience.timeout_ms >= 0 && patience.retry_count >= 0);
}

static const char *const forms[] = {"%a, %d %b %Y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y",
                                    "%A, %d-%b-%y %H:%M:%S GMT"};

// A date that is taken, written anew and read again is the same moment.
static void check_date(sj_slice value) {
    int64_t ms = 0, again_ms = 0;
    if (!sj_http_date_parse(value, &ms))
        return;
    assert(ms % 1000 == 0);
    time_t seconds = (time_t)(ms / 1000);
    struct tm tm;
    if (!gmtime_r(&seconds, &tm) || tm.tm_year + 1900 < 1000 || tm.tm_year + 1900 > 9999)
        return; // strftime would not write four digits
    for (size_t i = 0; i < 2; i++) {
        char text[64];
        size_t n = strftime(text, sizeof text, forms[i], &tm);
        assert(sj_http_date_parse((sj_slice){text, n}, &again_ms) && again_ms == ms);
    }
}

// Valid dates of this century, and the same with one byte changed.
static void check_written_dates(uint64_t number) {
    time_t seconds = (time_t)(number % UINT64_C(3155760000));
    struct tm tm;
    if (!gmtime_r(&seconds, &tm))
        return;
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        char text[64];
        int64_t ms = 0;
        size_t n = strftime(text, sizeof text, forms[i], &tm);
        assert(sj_http_date_parse((sj_slice){text, n}, &ms) && ms == (int64_t)seconds * 1000);
        text[(number >> 32) % n] = (char)(number >> 56);
        check_date((sj_slice){text, n});
    }
}

static void check_duration(sj_slice value) {
    int64_t ms = -1, again_ms = -1, bare_ms = -1;
    bool strict = sj_duration_parse(value, SJ_BARE_REFUSED, &ms);
    bool bare = sj_duration_parse(value, SJ_BARE_SECONDS, &bare_ms);
    assert(!strict || (bare && bare_ms == ms));
    assert(strict == (ms >= 0) && bare == (bare_ms >= 0));
    char text[40];
    sj_duration_format(bare_ms, text, sizeof text);
    // Rounded up, the very longest one is past what can be read.
    if (bare && bare_ms < INT64_MAX / 1000000)
        assert(sj_duration_parse(sj_slice_of(text), SJ_BARE_REFUSED, &again_ms) && again_ms == bare_ms);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    int64_t now_ms = 0;
    if (size < sizeof now_ms + 1)
        return 0;
    memcpy(&now_ms, data, sizeof now_ms);
    int status = data[sizeof now_ms] % 2 ? 429 : 503;
    sj_slice text = sj_slice_from((sj_slice){(const char *)data, size}, sizeof now_ms + 1);
    sj_headers headers;
    sj_headers_init(&headers);
    read_lines(text, &headers);
    check_hint(&headers, status, now_ms);
    check_patience(&headers);
    check_written_dates((uint64_t)now_ms);
    for (size_t i = 0; i < headers.count; i++) {
        check_date(sj_headers_at(&headers, i).value);
        check_duration(sj_headers_at(&headers, i).value);
    }
    sj_headers_free(&headers);
    return 0;
}
