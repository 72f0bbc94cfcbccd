#include "http_date.h"

enum { YEAR, MONTH, DAY, HOUR, MINUTE, SECOND, PARTS };

typedef struct date {
    int64_t part[PARTS]; // month and day from 1
} date;

static const char *const short_days[] = {"Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun", NULL};
static const char *const long_days[] = {"Monday", "Tuesday",  "Wednesday", "Thursday",
                                        "Friday", "Saturday", "Sunday",    NULL};
static const char *const months[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul",
                                     "Aug", "Sep", "Oct", "Nov", "Dec", NULL};

// The letters of the forms below: a name out of a list, or a number of so many digits.
static const struct {
    char letter;
    int part; // PARTS: not needed
    const char *const *names;
    size_t digits;
} fields[] = {
    {'a', PARTS, short_days, 0}, {'A', PARTS, long_days, 0}, {'b', MONTH, months, 0}, {'Y', YEAR, NULL, 4},
    {'y', YEAR, NULL, 2},        {'d', DAY, NULL, 2},        {'e', DAY, NULL, 2},     {'H', HOUR, NULL, 2},
    {'M', MINUTE, NULL, 2},      {'S', SECOND, NULL, 2},
};

static const char *const forms[] = {
    "%a, %d %b %Y %H:%M:%S GMT",
    "%A, %d-%b-%y %H:%M:%S GMT",
    "%a %b %e %H:%M:%S %Y",
};

// The place in the list, from 1, of the name that *text starts with.
static bool take_name(sj_slice *text, const char *const *names, int64_t *place) {
    for (*place = 1; *names; names++, ++*place) {
        sj_slice name = sj_slice_of(*names);
        if (text->n >= name.n && sj_slice_equal_nocase((sj_slice){text->p, name.n}, name)) {
            *text = sj_slice_from(*text, name.n);
            return true;
        }
    }
    return false;
}

// Exactly so many digits; where `padded`, the first may be a blank.
static bool take_number(sj_slice *text, size_t digits, bool padded, int64_t *value) {
    if (text->n < digits)
        return false;
    *value = 0;
    for (size_t i = 0; i < digits; i++) {
        char c = text->p[i];
        if (c == ' ' && padded && i == 0)
            c = '0';
        if (c < '0' || c > '9')
            return false;
        *value = *value * 10 + (c - '0');
    }
    *text = sj_slice_from(*text, digits);
    return true;
}

static bool take_field(sj_slice *text, char letter, date *d) {
    size_t i = 0;
    while (fields[i].letter != letter)
        i++;
    int64_t value = 0;
    bool ok = fields[i].names ? take_name(text, fields[i].names, &value)
                              : take_number(text, fields[i].digits, letter == 'e', &value);
    if (letter == 'y')
        value += value < 70 ? 2000 : 1900;
    if (fields[i].part < PARTS)
        d->part[fields[i].part] = value;
    return ok;
}

static bool read_form(sj_slice text, const char *form, date *d) {
    for (; *form; form++) {
        if (*form == '%') {
            if (!take_field(&text, *++form, d))
                return false;
            continue;
        }
        if (text.n == 0 || text.p[0] != *form)
            return false;
        text = sj_slice_from(text, 1);
    }
    return text.n == 0;
}

static bool is_leap(int64_t year) {
    return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
}

// A leap second counts as the first of the next minute.
static bool exists(const date *d) {
    static const int lengths[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap_day = d->part[MONTH] == 2 && is_leap(d->part[YEAR]);
    int64_t length = lengths[d->part[MONTH] - 1] + leap_day;
    return d->part[YEAR] >= 1 && d->part[DAY] >= 1 && d->part[DAY] <= length && d->part[HOUR] < 24 &&
           d->part[MINUTE] < 60 && d->part[SECOND] <= 60;
}

// Days since 1970-01-01 in the Gregorian calendar.
static int64_t day_number(const date *d) {
    static const int before_month[] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334};
    const int64_t until_1970 = 719162; // from 0001-01-01
    int64_t years = d->part[YEAR] - 1;
    int64_t days = years * 365 + years / 4 - years / 100 + years / 400;
    bool past_leap_day = d->part[MONTH] > 2 && is_leap(d->part[YEAR]);
    return days + before_month[d->part[MONTH] - 1] + past_leap_day + d->part[DAY] - 1 - until_1970;
}

bool sj_http_date_parse(sj_slice text, int64_t *unix_ms) {
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        date d = {0};
        if (!read_form(text, forms[i], &d) || !exists(&d))
            continue;
        int64_t minutes = (day_number(&d) * 24 + d.part[HOUR]) * 60 + d.part[MINUTE];
        *unix_ms = (minutes * 60 + d.part[SECOND]) * 1000;
        return true;
    }
    return false;
}
