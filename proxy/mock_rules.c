#include "mock.h"

#include "duration.h"

#include <math.h>
#include <stdlib.h>

enum { MAX_DELAY_MS = 600000 };

typedef bool (*setter)(void *member, sj_slice value, double low, double high);

static bool parse_number(sj_slice text, double *out) {
    char copy[64];
    if (text.n == 0 || text.n >= sizeof copy)
        return false;
    memcpy(copy, text.p, text.n);
    copy[text.n] = 0;
    char *end;
    *out = strtod(copy, &end);
    return *end == 0 && isfinite(*out);
}

static sj_slice take_until(sj_slice *text, char separator) {
    if (text->n == 0)
        return (sj_slice){"", 0};
    const char *end = memchr(text->p, separator, text->n);
    sj_slice part = {text->p, end ? (size_t)(end - text->p) : text->n};
    *text = sj_slice_from(*text, end ? part.n + 1 : part.n);
    return sj_slice_trim(part);
}

// ---- delays -------------------------------------------------------------------------------------

static bool parse_ms(sj_slice text, double *out) {
    int64_t ms;
    if (!sj_duration_parse(sj_slice_trim(text), SJ_BARE_SECONDS, &ms) || ms > MAX_DELAY_MS)
        return false;
    *out = (double)ms;
    return true;
}

bool sj_mock_delay_parse(sj_slice text, sj_mock_delay *out) {
    static const char prefix[] = "lognormal:";
    sj_mock_delay delay = {.shape = SJ_MOCK_FIXED};
    const char *dots = memmem(text.p, text.n, "..", 2);
    if (sj_slice_starts(text, SJ_SLICE(prefix))) {
        delay.shape = SJ_MOCK_LOGNORMAL;
        text = sj_slice_from(text, sizeof prefix - 1);
        sj_slice median = take_until(&text, ',');
        if (!parse_ms(median, &delay.a) || !parse_number(text, &delay.b) || delay.b < 0 || delay.b > 5)
            return false;
    } else if (dots) {
        delay.shape = SJ_MOCK_UNIFORM;
        size_t n = (size_t)(dots - text.p);
        if (!parse_ms((sj_slice){text.p, n}, &delay.a) || !parse_ms(sj_slice_from(text, n + 2), &delay.b) ||
            delay.b < delay.a)
            return false;
    } else if (!parse_ms(text, &delay.a)) {
        return false;
    }
    *out = delay;
    return true;
}

// Box and Muller.
static double draw_normal(sj_rng *rng) {
    double u = 1.0 - sj_rng_unit(rng);
    return sqrt(-2.0 * log(u)) * cos(2.0 * M_PI * sj_rng_unit(rng));
}

int64_t sj_mock_delay_draw(const sj_mock_delay *delay, sj_rng *rng) {
    double ms = delay->a;
    if (delay->shape == SJ_MOCK_UNIFORM)
        ms += (delay->b - delay->a) * sj_rng_unit(rng);
    else if (delay->shape == SJ_MOCK_LOGNORMAL)
        ms *= exp(delay->b * draw_normal(rng));
    return ms > MAX_DELAY_MS ? MAX_DELAY_MS : (int64_t)llround(ms);
}

// ---- one setter for each type of rule -----------------------------------------------------------

static bool set_double(void *member, sj_slice value, double low, double high) {
    double number;
    if (!parse_number(value, &number) || number < low || number > high)
        return false;
    *(double *)member = number;
    return true;
}

static bool set_int(void *member, sj_slice value, double low, double high) {
    double number;
    if (!set_double(&number, value, low, high) || number != floor(number))
        return false;
    *(int *)member = (int)number;
    return true;
}

static bool set_seed(void *member, sj_slice value, double low, double high) {
    double number;
    if (!set_double(&number, value, low, high) || number != floor(number))
        return false;
    *(uint64_t *)member = (uint64_t)number;
    return true;
}

static bool set_flag(void *member, sj_slice value, double low, double high) {
    (void)low;
    (void)high;
    bool on = value.n == 0 || sj_slice_equal(value, SJ_SLICE("true"));
    if (!on && !sj_slice_equal(value, SJ_SLICE("false")))
        return false;
    *(bool *)member = on;
    return true;
}

// high: the size of the array.
static bool set_text(void *member, sj_slice value, double low, double high) {
    (void)low;
    if ((double)value.n >= high)
        return false;
    memcpy(member, value.p, value.n);
    ((char *)member)[value.n] = 0;
    return true;
}

static bool set_delay(void *member, sj_slice value, double low, double high) {
    (void)low;
    (void)high;
    return sj_mock_delay_parse(value, member);
}

// "2*429; retry-after=1": a weight or probability, then a fault. The number may be left out: 1.
static bool parse_odds(sj_slice text, sj_mock_odds *out) {
    const char *star = text.n ? memchr(text.p, '*', text.n) : NULL;
    double p;
    if (star && parse_number(sj_slice_trim((sj_slice){text.p, (size_t)(star - text.p)}), &p))
        text = sj_slice_trim(sj_slice_from(text, (size_t)(star - text.p) + 1));
    else
        p = 1.0;
    out->p = p;
    return p >= 0 && sj_mock_fault_parse(text, &out->fault, NULL);
}

static bool parse_odds_list(sj_slice value, sj_mock_odds *list, int *count) {
    sj_mock_odds odds[SJ_MOCK_MAX_ODDS];
    int n = 0;
    while (value.n) {
        if (n == SJ_MOCK_MAX_ODDS || !parse_odds(take_until(&value, ','), &odds[n]))
            return false;
        n++;
    }
    memcpy(list, odds, (size_t)n * sizeof *odds);
    *count = n;
    return true;
}

static bool set_mix(void *member, sj_slice value, double low, double high) {
    (void)low;
    (void)high;
    sj_mock_rules *rules = member;
    return value.n && parse_odds_list(value, rules->mix, &rules->mix_count);
}

static bool set_odds(void *member, sj_slice value, double low, double high) {
    (void)low;
    sj_mock_rules *rules = member;
    sj_mock_rules next = *rules;
    if (!parse_odds_list(value, next.odds, &next.odds_count))
        return false;
    for (int i = 0; i < next.odds_count; i++) {
        if (next.odds[i].p > high)
            return false;
    }
    *rules = next;
    return true;
}

// "START,DURATION[,FAULT]" joined by '|'.
static bool parse_outage(sj_slice text, sj_mock_outage *out) {
    sj_slice start = take_until(&text, ',');
    sj_slice duration = take_until(&text, ',');
    sj_slice fault = text.n ? sj_slice_trim(text) : SJ_SLICE("503");
    return sj_duration_parse(start, SJ_BARE_SECONDS, &out->start_ms) &&
           sj_duration_parse(duration, SJ_BARE_SECONDS, &out->duration_ms) &&
           sj_mock_fault_parse(fault, &out->fault, NULL);
}

static bool set_outages(void *member, sj_slice value, double low, double high) {
    (void)low;
    (void)high;
    sj_mock_rules *rules = member;
    sj_mock_outage outages[SJ_MOCK_MAX_OUTAGES];
    int n = 0;
    while (value.n) {
        if (n == SJ_MOCK_MAX_OUTAGES || !parse_outage(take_until(&value, '|'), &outages[n]))
            return false;
        n++;
    }
    memcpy(rules->outages, outages, (size_t)n * sizeof *outages);
    rules->outage_count = n;
    return true;
}

// ---- the table ----------------------------------------------------------------------------------

#define MEMBER(name) offsetof(sj_mock_rules, name)

static const struct rule {
    const char *name;
    setter set;
    size_t offset;
    double low, high;
    const char *form, *help;
} table[] = {
    {"listen", set_text, MEMBER(listen), 0, sizeof((sj_mock_rules *)0)->listen, "ADDRESS",
     "default 127.0.0.1"},
    {"port", set_int, MEMBER(port), 0, 65535, "N", "default 9101; 0: any free one"},
    {"seed", set_seed, MEMBER(seed), 0, 9007199254740992.0, "N",
     "same seed and same sequence of requests: same faults; default 1"},
    {"key", set_text, MEMBER(key), 0, sizeof((sj_mock_rules *)0)->key, "KEY",
     "401 unless Authorization: Bearer KEY (or api-key: KEY)"},
    {"fail", set_double, MEMBER(fail), 0, 1, "RATE",
     "share of attempts that a fault of the mix strikes; default 0"},
    {"mix", set_mix, 0, 0, 0, "LIST",
     "[WEIGHT*]FAULT, ...; default 3*429; retry-after=1, 2*500, 2*503, reset, error-body, empty"},
    {"fault", set_odds, 0, 0, 1, "LIST", "PROBABILITY*FAULT, ...: faults with a rate of their own"},
    {"outage", set_outages, 0, 0, 0, "LIST",
     "START,DURATION[,FAULT] | ...: everything fails meanwhile; FAULT 503"},
    {"latency", set_delay, MEMBER(latency), 0, 0, "DELAY",
     "time before the head: 200ms, 50ms..300ms, lognormal:200ms,0.5 (median, sigma)"},
    {"first-token", set_delay, MEMBER(first_token), 0, 0, "DELAY",
     "streams: from the head to the first event"},
    {"tokens-per-second", set_double, MEMBER(tokens_per_second), 0, 1e6, "N",
     "streams: events; 0: all at once"},
    {"words", set_int, MEMBER(words), 1, 20000, "N", "length of an answer; default 24"},
    {"variant", set_int, MEMBER(variant), 0, 1e9, "N", "another number, other texts to the same questions"},
    {"limit-concurrent", set_int, MEMBER(limit_concurrent), 0, 1e6, "N", "429 while more than N run; 0: off"},
    {"limit-per-second", set_double, MEMBER(limit_per_second), 0, 1e6, "N",
     "429 with Retry-After beyond N attempts a second; 0: off"},
    {"capacity", set_double, MEMBER(capacity), 0, 1e6, "N",
     "answers a second; the others wait in line, even for clients that have left; 0: any number"},
    {"backlog", set_delay, MEMBER(backlog), 0, 0, "DELAY",
     "503 to those who would wait longer in line; default 60s"},
    {"models", set_text, MEMBER(models), 0, sizeof((sj_mock_rules *)0)->models, "LIST",
     "what GET /v1/models lists"},
    {"strict-models", set_flag, MEMBER(strict_models), 0, 0, NULL, "404 model_not_found for all others"},
    {"log-size", set_int, MEMBER(log_size), 0, 1e6, "N", "attempts kept for GET /mock/log; default 100000"},
};

enum { RULES = sizeof table / sizeof *table };

static const struct rule *find_rule(sj_slice name) {
    for (size_t i = 0; i < RULES; i++) {
        if (sj_slice_equal(name, sj_slice_of(table[i].name)))
            return &table[i];
    }
    return NULL;
}

bool sj_mock_rules_is_flag(sj_slice name) {
    const struct rule *rule = find_rule(name);
    return rule && !rule->form;
}

bool sj_mock_rules_set(sj_mock_rules *rules, sj_slice name, sj_slice value, sj_buffer *error) {
    const struct rule *rule = find_rule(name);
    if (rule && rule->set((char *)rules + rule->offset, value, rule->low, rule->high))
        return true;
    int shown = (int)(value.n < 100 ? value.n : 100);
    bool said =
        rule ? sj_buffer_printf(error, "%s: cannot be '%.*s'; it is %s: %s", rule->name, shown, value.p,
                                rule->form ? rule->form : "true or false", rule->help)
             : sj_buffer_printf(error, "%.*s: no such rule", (int)(name.n < 100 ? name.n : 100), name.p);
    if (!said)
        sj_buffer_clear(error);
    return false;
}

void sj_mock_rules_help(FILE *out) {
    for (size_t i = 0; i < RULES; i++) {
        char option[40];
        (void)snprintf(option, sizeof option, "--%s %s", table[i].name, table[i].form ? table[i].form : "");
        (void)fprintf(out, "  %-24s %s\n", option, table[i].help);
    }
}

void sj_mock_rules_init(sj_mock_rules *rules) {
    *rules =
        (sj_mock_rules){.listen = "127.0.0.1",
                        .seed = 1,
                        .words = 24,
                        .backlog = {.shape = SJ_MOCK_FIXED, .a = 60000},
                        .models = "gpt-4.1,gpt-4.1-mini,gpt-4o-mini,deepseek-v3.2,text-embedding-3-small",
                        .log_size = SJ_MOCK_LOG_DEFAULT};
    static const char mix[] = "3*429; retry-after=1, 2*500, 2*503, reset, error-body, empty";
    if (!set_mix(rules, SJ_SLICE(mix), 0, 0))
        abort();
}
