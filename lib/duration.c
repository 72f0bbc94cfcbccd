#include "duration.h"

#include <inttypes.h>
#include <stdio.h>

#define NS_PER_US UINT64_C(1000)
#define NS_PER_MS (1000 * NS_PER_US)
#define NS_PER_S (1000 * NS_PER_MS)

typedef struct unit {
    const char *name;
    uint64_t ns;
} unit;

static const unit units[] = {
    {"ns", 1},
    {"us", NS_PER_US},
    {"\xc2\xb5s", NS_PER_US}, // U+00B5 micro sign
    {"\xce\xbcs", NS_PER_US}, // U+03BC Greek mu
    {"ms", NS_PER_MS},
    {"s", NS_PER_S},
    {"m", 60 * NS_PER_S},
    {"h", 3600 * NS_PER_S},
};

typedef struct total {
    uint64_t ns;
    bool rest; // something smaller than a nanosecond is left over
} total;

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static sj_slice take_digits(sj_slice *text) {
    size_t n = 0;
    while (n < text->n && is_digit(text->p[n]))
        n++;
    sj_slice digits = {text->p, n};
    *text = sj_slice_from(*text, n);
    return digits;
}

// The letters up to the next number.
static uint64_t take_unit_ns(sj_slice *text) {
    size_t n = 0;
    while (n < text->n && text->p[n] != '.' && !is_digit(text->p[n]))
        n++;
    sj_slice name = {text->p, n};
    *text = sj_slice_from(*text, n);
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        if (sj_slice_equal(name, sj_slice_of(units[i].name)))
            return units[i].ns;
    }
    return 0;
}

static bool add_ns(total *sum, uint64_t ns) {
    if (ns > (uint64_t)INT64_MAX - sum->ns)
        return false;
    sum->ns += ns;
    return true;
}

static bool add_whole(total *sum, sj_slice digits, uint64_t unit_ns) {
    uint64_t value = 0;
    for (size_t i = 0; i < digits.n; i++) {
        value = value * 10 + (uint64_t)(digits.p[i] - '0');
        if (value > (uint64_t)INT64_MAX / unit_ns)
            return false;
    }
    return add_ns(sum, value * unit_ns);
}

// From the last digit to the first, so that any number of them is exact.
static bool add_fraction(total *sum, sj_slice digits, uint64_t unit_ns) {
    uint64_t value = 0;
    for (size_t i = digits.n; i-- > 0;) {
        value += (uint64_t)(digits.p[i] - '0') * unit_ns;
        sum->rest |= value % 10 != 0;
        value /= 10;
    }
    return add_ns(sum, value);
}

// One "1.5h". Without a unit it must be the whole text.
static bool add_part(total *sum, sj_slice *text, uint64_t bare_ns) {
    sj_slice whole = take_digits(text);
    sj_slice fraction = {NULL, 0};
    if (text->n && text->p[0] == '.') {
        *text = sj_slice_from(*text, 1);
        fraction = take_digits(text);
    }
    if (whole.n + fraction.n == 0)
        return false;
    uint64_t unit_ns = text->n == 0 ? bare_ns : take_unit_ns(text);
    return unit_ns != 0 && add_whole(sum, whole, unit_ns) && add_fraction(sum, fraction, unit_ns);
}

bool sj_duration_parse(sj_slice text, sj_bare_number bare, int64_t *ms) {
    if (text.n && text.p[0] == '+')
        text = sj_slice_from(text, 1);
    if (text.n == 0)
        return false;
    if (sj_slice_equal(text, SJ_SLICE("0"))) { // Go's one number without a unit
        *ms = 0;
        return true;
    }
    static const uint64_t bare_units_ns[] = {
        [SJ_BARE_REFUSED] = 0,
        [SJ_BARE_SECONDS] = NS_PER_S,
        [SJ_BARE_MILLISECONDS] = NS_PER_MS,
    };
    total sum = {0};
    uint64_t bare_ns = bare_units_ns[bare];
    while (text.n) {
        if (!add_part(&sum, &text, bare_ns))
            return false;
        bare_ns = 0;
    }
    *ms = (int64_t)(sum.ns / NS_PER_MS + (sum.rest || sum.ns % NS_PER_MS != 0));
    return true;
}

// "2.5": seconds below a minute, without trailing zeros.
static int print_seconds(char *out, size_t n, uint64_t ms) {
    uint64_t fraction = ms % 1000;
    int digits = 3;
    while (digits > 1 && fraction % 10 == 0) {
        fraction /= 10;
        digits--;
    }
    if (fraction == 0)
        return snprintf(out, n, "%" PRIu64 "s", ms / 1000);
    return snprintf(out, n, "%" PRIu64 ".%0*" PRIu64 "s", ms / 1000, digits, fraction);
}

void sj_duration_format(int64_t ms, char *out, size_t n) {
    char text[48];
    int used = 0;
    uint64_t rest = ms < 0 ? 0 - (uint64_t)ms : (uint64_t)ms;
    if (ms < 0)
        text[used++] = '-';
    if (rest > 0 && rest < 1000) {
        (void)snprintf(text + used, sizeof text - (size_t)used, "%" PRIu64 "ms", rest);
        (void)snprintf(out, n, "%s", text);
        return;
    }
    uint64_t hours = rest / 3600000, minutes = rest / 60000 % 60, below = rest % 60000;
    if (hours)
        used += snprintf(text + used, sizeof text - (size_t)used, "%" PRIu64 "h", hours);
    if (minutes)
        used += snprintf(text + used, sizeof text - (size_t)used, "%" PRIu64 "m", minutes);
    if (below || rest == 0)
        used += print_seconds(text + used, sizeof text - (size_t)used, below);
    text[used] = '\0';
    (void)snprintf(out, n, "%s", text);
}
