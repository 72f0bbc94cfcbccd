#include "retry_hint.h"

#include "duration.h"

#include <limits.h>

static sj_slice value_of(const sj_headers *headers, const char *name) {
    return sj_slice_trim(sj_headers_get(headers, name));
}

// Digits with an optional point. No sign, no exponent, no "nan" and "inf", which a float parser would take.
static bool is_plain_number(sj_slice text) {
    for (size_t i = 0; i < text.n; i++) {
        if ((text.p[i] < '0' || text.p[i] > '9') && text.p[i] != '.')
            return false;
    }
    return text.n > 0;
}

static bool read_number(sj_slice text, sj_bare_number unit, int64_t *ms) {
    return is_plain_number(text) && sj_duration_parse(text, unit, ms);
}

// ---- what an answer says ------------------------------------------------------------------------------------------

typedef struct answer {
    const sj_headers *headers;
    int64_t wall_now_ms;
} answer;

// 0: already past, or too far apart to be true.
static int64_t from_to(int64_t start_ms, int64_t end_ms) {
    int64_t difference;
    if (__builtin_sub_overflow(end_ms, start_ms, &difference))
        return 0;
    return difference > 0 ? difference : 0;
}

// Each reader gives the wait it found, or 0.

static int64_t read_retry_after_ms(const answer *a) {
    static const char *const names[] = {"retry-after-ms", "x-ms-retry-after-ms"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        int64_t ms = 0;
        if (read_number(value_of(a->headers, names[i]), SJ_BARE_MILLISECONDS, &ms) && ms > 0)
            return ms;
    }
    return 0;
}

static int64_t read_retry_after(const answer *a) {
    sj_slice value = value_of(a->headers, "retry-after");
    int64_t ms = 0, until_ms = 0;
    if (read_number(value, SJ_BARE_SECONDS, &ms))
        return ms;
    if (!sj_http_date_parse(value, &until_ms))
        return 0;
    // The upstream's clock set the date: measured against its own Date, no skew matters.
    int64_t sent_ms = 0;
    if (!sj_http_date_parse(value_of(a->headers, "date"), &sent_ms))
        sent_ms = a->wall_now_ms;
    return from_to(sent_ms, until_ms);
}

// A duration; or a bare number: seconds when under 30 days, else a Unix time in seconds, or in ms when too large for those.
static int64_t read_reset(sj_slice value, int64_t wall_now_ms) {
    const int64_t month_ms = INT64_C(30) * 24 * 3600 * 1000;
    int64_t ms = 0;
    bool in_seconds = sj_duration_parse(value, SJ_BARE_SECONDS, &ms);
    if (in_seconds && (ms < month_ms || !is_plain_number(value)))
        return ms;
    if (!in_seconds && !read_number(value, SJ_BARE_MILLISECONDS, &ms))
        return 0;
    return from_to(wall_now_ms, ms);
}

// "0", or below.
static bool says_nothing_left(sj_slice remaining) {
    if (remaining.n && remaining.p[0] == '-')
        return is_plain_number(sj_slice_from(remaining, 1));
    int64_t left = 1;
    return read_number(remaining, SJ_BARE_SECONDS, &left) && left == 0;
}

// Whether the field's name is the given prefix, whatever its case, and something behind it.
static bool has_prefix(sj_slice name, sj_slice prefix) {
    return name.n > prefix.n && sj_slice_equal_nocase((sj_slice){name.p, prefix.n}, prefix);
}

static bool is_exhausted(const sj_headers *headers, sj_slice dimension) {
    const sj_slice prefix = SJ_SLICE("x-ratelimit-remaining-");
    for (size_t i = 0; i < headers->count; i++) {
        sj_header header = sj_headers_at(headers, i);
        if (has_prefix(header.name, prefix) &&
            sj_slice_equal_nocase(sj_slice_from(header.name, prefix.n), dimension))
            return says_nothing_left(sj_slice_trim(header.value));
    }
    return false;
}

// Each dimension (requests, tokens, tokens-minute ...) tells when it is full again, exhausted or not.
typedef struct resets {
    int64_t last_exhausted_ms, first_ms; // 0: none
} resets;

static resets read_resets(const answer *a) {
    const sj_slice prefix = SJ_SLICE("x-ratelimit-reset-");
    resets found = {0};
    for (size_t i = 0; i < a->headers->count; i++) {
        sj_header header = sj_headers_at(a->headers, i);
        if (!has_prefix(header.name, prefix))
            continue;
        int64_t ms = read_reset(sj_slice_trim(header.value), a->wall_now_ms);
        if (ms <= 0)
            continue;
        if (found.first_ms == 0 || ms < found.first_ms)
            found.first_ms = ms;
        if (ms > found.last_exhausted_ms && is_exhausted(a->headers, sj_slice_from(header.name, prefix.n)))
            found.last_exhausted_ms = ms;
    }
    return found;
}

// The last of the exhausted ones; when none says that it is, the first of all.
static int64_t read_reset_dimensions(const answer *a) {
    resets found = read_resets(a);
    return found.last_exhausted_ms ? found.last_exhausted_ms : found.first_ms;
}

static int64_t read_ratelimit_reset(const answer *a) {
    return read_reset(value_of(a->headers, "x-ratelimit-reset"), a->wall_now_ms);
}

static int64_t read_exhausted(const answer *a) {
    int64_t ms = read_resets(a).last_exhausted_ms;
    if (!says_nothing_left(value_of(a->headers, "x-ratelimit-remaining")))
        return ms;
    int64_t all = read_ratelimit_reset(a);
    return all > ms ? all : ms;
}

// In order of precedence.
static const struct {
    sj_hint_source source;
    int only_status; // 0: any
    int64_t (*read)(const answer *);
} readers[] = {
    {SJ_HINT_RETRY_AFTER_MS, 0, read_retry_after_ms},
    {SJ_HINT_RETRY_AFTER, 0, read_retry_after},
    {SJ_HINT_RATELIMIT_RESET_DIMENSION, 429, read_reset_dimensions},
    {SJ_HINT_RATELIMIT_RESET, 429, read_ratelimit_reset},
};

static sj_should_retry read_should_retry(const sj_headers *headers) {
    sj_slice value = value_of(headers, "x-should-retry");
    if (sj_slice_equal(value, SJ_SLICE("true"))) // exact, as the SDKs read it
        return SJ_SHOULD_RETRY_YES;
    return sj_slice_equal(value, SJ_SLICE("false")) ? SJ_SHOULD_RETRY_NO : SJ_SHOULD_RETRY_UNSAID;
}

sj_retry_hint sj_retry_hint_read(const sj_headers *headers, int status, int64_t wall_now_ms) {
    sj_retry_hint hint = {.should_retry = read_should_retry(headers)};
    const answer a = {headers, wall_now_ms};
    if (status != 429)
        hint.exhausted_ms = read_exhausted(&a);
    for (size_t i = 0; i < sizeof readers / sizeof *readers; i++) {
        if (readers[i].only_status && readers[i].only_status != status)
            continue;
        int64_t ms = readers[i].read(&a);
        if (ms <= 0)
            continue;
        hint.wait_ms = ms;
        hint.source = readers[i].source;
        break;
    }
    return hint;
}

const char *sj_hint_source_name(sj_hint_source source) {
    static const char *const names[] = {
        [SJ_HINT_NONE] = "none",
        [SJ_HINT_RETRY_AFTER_MS] = "retry-after-ms",
        [SJ_HINT_RETRY_AFTER] = "retry-after",
        [SJ_HINT_RATELIMIT_RESET_DIMENSION] = "x-ratelimit-reset-*",
        [SJ_HINT_RATELIMIT_RESET] = "x-ratelimit-reset",
    };
    return names[source];
}

// ---- what the client says -----------------------------------------------------------------------------------------

static int read_retry_count(sj_slice text) {
    int64_t count = 0;
    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] < '0' || text.p[i] > '9')
            return 0;
        count = count * 10 + (text.p[i] - '0');
        count = count < INT_MAX ? count : INT_MAX;
    }
    return (int)count;
}

// The SDK gives up after t: answer a little before that.
static int64_t before_the_sdk_gives_up(int64_t ms) {
    int64_t tenth = ms / 10;
    return ms - (tenth < 1000 ? tenth : 1000);
}

sj_client_patience sj_client_patience_read(const sj_headers *request) {
    static const char *const sdk_names[] = {"x-stainless-timeout", "x-stainless-read-timeout"};
    int64_t least = INT64_MAX, ms = 0;
    for (size_t i = 0; i < sizeof sdk_names / sizeof *sdk_names; i++) {
        if (!read_number(value_of(request, sdk_names[i]), SJ_BARE_SECONDS, &ms) || ms == 0)
            continue;
        ms = before_the_sdk_gives_up(ms);
        least = ms < least ? ms : least;
    }
    if (sj_duration_parse(value_of(request, "x-stormjib-deadline"), SJ_BARE_SECONDS, &ms) && ms > 0)
        least = ms < least ? ms : least;
    return (sj_client_patience){
        .timeout_ms = least == INT64_MAX ? 0 : least,
        .retry_count = read_retry_count(value_of(request, "x-stainless-retry-count")),
    };
}
