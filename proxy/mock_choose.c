#include "mock_choose.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdlib.h>

void sj_mock_choose_init(sj_mock_choose *choose, const sj_mock_rules *rules, int64_t now_ms) {
    *choose = (sj_mock_choose){.rules = *rules, .outages_from_ms = now_ms};
}

void sj_mock_choose_free(sj_mock_choose *choose) {
    free(choose->script);
    free(choose->script_times);
    choose->script = NULL;
    choose->script_times = NULL;
    choose->script_count = choose->script_first = 0;
}

static bool complain(sj_buffer *error, const char *what) {
    if (!sj_buffer_text(error, what))
        sj_buffer_clear(error);
    return false;
}

// ---- one attempt --------------------------------------------------------------------------------

static bool script_wraps(sj_mock_choose *choose) {
    if (!choose->script_repeat || choose->script_count == 0)
        return false;
    for (size_t i = 0; i < choose->script_count; i++)
        choose->script[i].times = choose->script_times[i];
    choose->script_first = 0;
    return true;
}

static bool take_from_script(sj_mock_choose *choose, const sj_mock_attempt_facts *facts, sj_mock_fault *out) {
    if (choose->script_first == choose->script_count && !script_wraps(choose))
        return false;
    for (size_t i = choose->script_first; i < choose->script_count; i++) {
        sj_mock_fault *entry = &choose->script[i];
        if (entry->times <= 0 || !sj_mock_fault_applies(entry, facts->path, facts->model))
            continue;
        *out = *entry;
        entry->times--;
        while (choose->script_first < choose->script_count && choose->script[choose->script_first].times <= 0)
            choose->script_first++;
        return true;
    }
    return false;
}

static bool in_outage(const sj_mock_choose *choose, const sj_mock_attempt_facts *facts, sj_mock_fault *out) {
    int64_t at_ms = facts->now_ms - choose->outages_from_ms;
    for (int i = 0; i < choose->rules.outage_count; i++) {
        const sj_mock_outage *outage = &choose->rules.outages[i];
        if (at_ms < outage->start_ms || at_ms - outage->start_ms >= outage->duration_ms ||
            !sj_mock_fault_applies(&outage->fault, facts->path, facts->model))
            continue;
        *out = outage->fault;
        return true;
    }
    return false;
}

// A bucket of one second's worth.
static bool over_rate(sj_mock_choose *choose, int64_t now_ms, double *wait_s) {
    double rate = choose->rules.limit_per_second;
    if (rate <= 0)
        return false;
    double size = rate < 1 ? 1 : rate;
    choose->bucket += rate * (double)(now_ms - choose->bucket_at_ms) / 1000.0;
    if (choose->bucket > size || choose->bucket_at_ms == 0)
        choose->bucket = size;
    choose->bucket_at_ms = now_ms;
    if (choose->bucket >= 1) {
        choose->bucket -= 1;
        return false;
    }
    *wait_s = ceil((1 - choose->bucket) / rate);
    return true;
}

static bool over_limit(sj_mock_choose *choose, const sj_mock_attempt_facts *facts, sj_mock_fault *out) {
    double wait_s = 0;
    int concurrent = choose->rules.limit_concurrent;
    bool over = (concurrent > 0 && facts->running > concurrent) || over_rate(choose, facts->now_ms, &wait_s);
    if (!over)
        return false;
    if (!sj_mock_fault_parse(SJ_SLICE("429"), out, NULL))
        return false;
    if (wait_s > 0)
        (void)snprintf(out->headers, sizeof out->headers, "Retry-After: %.0f\r\n", wait_s);
    return true;
}

static bool strike(const sj_mock_odds *list, int count, double scale, double *u,
                   const sj_mock_attempt_facts *facts, sj_mock_fault *out) {
    for (int i = 0; i < count; i++) {
        if (!sj_mock_fault_applies(&list[i].fault, facts->path, facts->model))
            continue;
        *u -= list[i].p * scale;
        if (*u < 0) {
            *out = list[i].fault;
            return true;
        }
    }
    return false;
}

static bool by_chance(const sj_mock_choose *choose, const sj_mock_attempt_facts *facts, double u,
                      sj_mock_fault *out) {
    const sj_mock_rules *rules = &choose->rules;
    double weights = 0;
    for (int i = 0; i < rules->mix_count; i++)
        weights += rules->mix[i].p;
    return strike(rules->odds, rules->odds_count, 1, &u, facts, out) ||
           (weights > 0 && strike(rules->mix, rules->mix_count, rules->fail / weights, &u, facts, out));
}

static bool pick(sj_mock_choose *choose, const sj_mock_attempt_facts *facts, double u, sj_mock_choice *out,
                 sj_buffer *error) {
    out->by = "header";
    if (facts->fault_header.n)
        return sj_mock_fault_parse(facts->fault_header, &out->fault, error);
    out->by = "model";
    if (sj_mock_fault_of_model(facts->model, &out->fault))
        return true;
    out->by = "script";
    if (take_from_script(choose, facts, &out->fault))
        return true;
    out->by = "outage";
    if (in_outage(choose, facts, &out->fault))
        return true;
    out->by = "limit";
    if (over_limit(choose, facts, &out->fault))
        return true;
    out->by = "chance";
    if (by_chance(choose, facts, u, &out->fault))
        return true;
    out->by = "";
    return sj_mock_fault_parse(SJ_SLICE("ok"), &out->fault, error);
}

// Of an upstream that has more to do than it can: each attempt takes its turn, wanted or not. False: the line is too long.
static bool stand_in_line(sj_mock_choose *choose, int64_t now_ms, sj_rng *rng, int64_t *wait_ms) {
    *wait_ms = 0;
    if (choose->rules.capacity <= 0)
        return true;
    double now = (double)now_ms;
    double turn = choose->busy_until_ms > now ? choose->busy_until_ms : now;
    if (turn - now > (double)sj_mock_delay_draw(&choose->rules.backlog, rng))
        return false;
    choose->busy_until_ms = turn + 1000 / choose->rules.capacity;
    *wait_ms = (int64_t)(turn - now);
    return true;
}

bool sj_mock_choose_next(sj_mock_choose *choose, const sj_mock_attempt_facts *facts, sj_mock_choice *out,
                         sj_buffer *error) {
    sj_rng rng;
    sj_rng_seed(&rng, choose->rules.seed * 0x9e3779b97f4a7c15u + ++choose->attempts);
    double u = sj_rng_unit(&rng);
    int64_t wait_ms;
    if (!pick(choose, facts, u, out, error))
        return false;
    if (!stand_in_line(choose, facts->now_ms, &rng, &wait_ms)) {
        out->by = "limit";
        if (!sj_mock_fault_parse(SJ_SLICE("503"), &out->fault, error))
            return false;
    }
    sj_mock_delay latency = choose->rules.latency;
    if (facts->latency_header.n && !sj_mock_delay_parse(facts->latency_header, &latency))
        return complain(error, "x-mock-latency is written 200ms, 50ms..300ms or lognormal:200ms,0.5");
    out->latency_ms = sj_mock_delay_draw(&latency, &rng);
    out->first_token_ms = sj_mock_delay_draw(&choose->rules.first_token, &rng);
    if (out->fault.latency_ms >= 0)
        out->latency_ms = out->fault.latency_ms;
    if (out->fault.kind == SJ_MOCK_SLOW)
        out->latency_ms += out->fault.arg_ms;
    if (out->fault.kind == SJ_MOCK_SLOW_FIRST)
        out->first_token_ms += out->fault.arg_ms;
    out->latency_ms += wait_ms;
    return true;
}

// ---- scripts and rules as JSON ------------------------------------------------------------------

// A scalar as the text it would be on the command line.
static bool scalar_text(const cJSON *item, sj_buffer *out) {
    if (cJSON_IsString(item))
        return sj_buffer_text(out, item->valuestring);
    if (cJSON_IsBool(item))
        return sj_buffer_text(out, cJSON_IsTrue(item) ? "true" : "false");
    return cJSON_IsNumber(item) && sj_buffer_printf(out, "%.17g", item->valuedouble);
}

static sj_slice text_of(const sj_buffer *buffer) {
    return buffer->n ? sj_buffer_slice(buffer) : (sj_slice){"", 0};
}

static bool entry_text(const cJSON *entry, sj_buffer *out) {
    if (!cJSON_IsObject(entry))
        return scalar_text(entry, out);
    const cJSON *fault = cJSON_GetObjectItemCaseSensitive(entry, "fault");
    if (!fault || !scalar_text(fault, out))
        return false;
    const cJSON *member;
    cJSON_ArrayForEach(member, entry) {
        if (member != fault && (!sj_buffer_printf(out, "; %s=", member->string) || !scalar_text(member, out)))
            return false;
    }
    return true;
}

static bool read_entry(const cJSON *entry, sj_mock_fault *out, sj_buffer *error) {
    sj_buffer text = sj_buffer_with_max(4096);
    bool ok = entry_text(entry, &text);
    if (ok)
        ok = sj_mock_fault_parse(text_of(&text), out, error);
    else
        (void)complain(error, "an entry is a text, a status, or an object with `fault`");
    sj_buffer_free(&text);
    return ok;
}

static bool read_script(const cJSON *entries, sj_mock_choose *next, sj_buffer *error) {
    int count = cJSON_GetArraySize(entries);
    if (!cJSON_IsArray(entries) || count > SJ_MOCK_MAX_SCRIPT)
        return complain(error, "a script is a JSON array of at most 10000 entries");
    next->script = calloc((size_t)count + 1, sizeof *next->script);
    next->script_times = calloc((size_t)count + 1, sizeof *next->script_times);
    if (!next->script || !next->script_times)
        return false;
    const cJSON *entry;
    cJSON_ArrayForEach(entry, entries) {
        sj_mock_fault *fault = &next->script[next->script_count];
        if (!read_entry(entry, fault, error))
            return false;
        next->script_times[next->script_count++] = fault->times;
    }
    return true;
}

bool sj_mock_choose_script(sj_mock_choose *choose, sj_slice json, sj_buffer *error) {
    cJSON *root = cJSON_ParseWithLength(json.p, json.n);
    const cJSON *entries = cJSON_IsObject(root) ? cJSON_GetObjectItemCaseSensitive(root, "entries") : root;
    sj_mock_choose next = {0};
    bool ok = read_script(entries, &next, error);
    if (ok) {
        sj_mock_choose_free(choose);
        choose->script = next.script;
        choose->script_times = next.script_times;
        choose->script_count = next.script_count;
        choose->script_repeat = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(root, "repeat"));
    } else {
        sj_mock_choose_free(&next);
    }
    cJSON_Delete(root);
    return ok;
}

size_t sj_mock_choose_script_left(const sj_mock_choose *choose) {
    size_t left = 0;
    for (size_t i = choose->script_first; i < choose->script_count; i++)
        left += choose->script[i].times > 0 ? (size_t)choose->script[i].times : 0;
    return left;
}

static bool read_rules(const cJSON *root, sj_mock_rules *rules, sj_buffer *error) {
    if (!cJSON_IsObject(root))
        return complain(error, "rules are a JSON object");
    sj_buffer text = sj_buffer_with_max(16384);
    bool ok = true;
    const cJSON *member;
    cJSON_ArrayForEach(member, root) {
        sj_buffer_clear(&text);
        if (!scalar_text(member, &text))
            ok = complain(error, "a rule's value is a text, a number or a boolean");
        ok = ok && sj_mock_rules_set(rules, sj_slice_of(member->string), text_of(&text), error);
    }
    sj_buffer_free(&text);
    return ok;
}

bool sj_mock_choose_rules(sj_mock_choose *choose, sj_slice json, int64_t now_ms, sj_buffer *error) {
    cJSON *root = cJSON_ParseWithLength(json.p, json.n);
    sj_mock_rules next = choose->rules;
    bool ok = read_rules(root, &next, error);
    if (ok) {
        choose->rules = next;
        if (cJSON_GetObjectItemCaseSensitive(root, "outage"))
            choose->outages_from_ms = now_ms;
        if (cJSON_GetObjectItemCaseSensitive(root, "seed"))
            choose->attempts = 0;
    }
    cJSON_Delete(root);
    return ok;
}
