// The mock's promises that need no socket: the language of faults, who chooses them, and the log of attempts.
#include "mock_choose.h"
#include "mock_log.h"
#include <cjson/cJSON.h>

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

// ---- the language -------------------------------------------------------------------------------

static void test_fault_names(void **state) {
    (void)state;
    static const struct {
        const char *text, *name; // name NULL: refused
    } rows[] = {
        {"429", "429"},
        {" 429 ; retry-after=2 ", "429"},
        {"status-503", "503"},
        {"quota", "429"},
        {"cut", "cut-2"},
        {"cut-5", "cut-5"},
        {"cut; after=3", "cut-3"},
        {"slow-2s", "slow-2000ms"},
        {"slow-200ms", "slow-200ms"},
        {"slow-first-1s", "slow-first-1000ms"},
        {"finish-silence", "finish-silence"},
        {"timeout", "timeout"},
        {"timeout; for=5s", "timeout-5000ms"},
        {"ok", "ok"},
        {"", NULL},
        {"cutt", NULL},
        {"cut-x", NULL},
        {"ok-3", NULL},
        {"1429", NULL},
        {"199", NULL},
        {"429; retry-after", NULL},
        {"429; nonsense=1", NULL},
        {"429; body=xml", NULL},
        {"429; header=no colon", NULL},
        {"slow-soon", NULL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        sj_mock_fault fault;
        char name[40] = "";
        bool ok = sj_mock_fault_parse(sj_slice_of(rows[i].text), &fault, NULL);
        if (ok != (rows[i].name != NULL))
            fail_msg("'%s' was %s", rows[i].text, ok ? "taken" : "refused");
        if (ok)
            sj_mock_fault_name(&fault, name, sizeof name);
        assert_string_equal(name, rows[i].name ? rows[i].name : "");
    }
}

static void test_fault_headers(void **state) {
    (void)state;
    sj_mock_fault fault;
    assert_true(sj_mock_fault_parse(SJ_SLICE("429; retry-after-ms=1500; reset-tokens=6m0s; header=X-A: b c"),
                                    &fault, NULL));
    assert_string_equal(fault.headers,
                        "retry-after-ms: 1500\r\nx-ratelimit-reset-tokens: 6m0s\r\nX-A: b c\r\n");
    sj_buffer error = sj_buffer_with_max(200);
    assert_false(sj_mock_fault_parse(SJ_SLICE("header=a"), &fault, &error));
    assert_non_null(memmem(error.p, error.n, "header=a", 8));
    sj_buffer_free(&error);
}

static void test_fault_of_model(void **state) {
    (void)state;
    sj_mock_fault fault;
    assert_true(sj_mock_fault_of_model(SJ_SLICE("mock-429"), &fault));
    assert_int_equal(fault.status, 429);
    assert_true(sj_mock_fault_of_model(SJ_SLICE("openai/mock-cut-3"), &fault));
    assert_int_equal(fault.after, 3);
    assert_false(sj_mock_fault_of_model(SJ_SLICE("mock-gpt"), &fault));
    assert_false(sj_mock_fault_of_model(SJ_SLICE("gpt-429"), &fault));
    assert_false(sj_mock_fault_of_model(SJ_SLICE(""), &fault));
}

static void test_delays(void **state) {
    (void)state;
    sj_mock_delay delay;
    sj_rng rng;
    sj_rng_seed(&rng, 5);
    assert_true(sj_mock_delay_parse(SJ_SLICE("200ms"), &delay));
    assert_int_equal(sj_mock_delay_draw(&delay, &rng), 200);
    assert_true(sj_mock_delay_parse(SJ_SLICE("50ms..300ms"), &delay));
    int64_t low = 1000, high = 0;
    for (int i = 0; i < 1000; i++) {
        int64_t ms = sj_mock_delay_draw(&delay, &rng);
        low = ms < low ? ms : low;
        high = ms > high ? ms : high;
    }
    assert_in_range(low, 50, 60);
    assert_in_range(high, 290, 300);
    assert_true(sj_mock_delay_parse(SJ_SLICE("lognormal:200ms,0.5"), &delay));
    int below = 0;
    for (int i = 0; i < 2000; i++)
        below += sj_mock_delay_draw(&delay, &rng) < 200;
    assert_in_range(below, 900, 1100); // the median is 200
    static const char *const bad[] = {"",     "x", "300ms..50ms", "lognormal:200ms", "lognormal:200ms,-1",
                                      "1000h"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(sj_mock_delay_parse(sj_slice_of(bad[i]), &delay));
}

static void test_rules(void **state) {
    (void)state;
    static const struct {
        const char *name, *value;
        bool ok;
    } rows[] = {
        {"fail", "0.083", true},
        {"fail", "1.1", false},
        {"fail", "x", false},
        {"mix", "3*429; retry-after=1, 500", true},
        {"mix", "", false},
        {"fault", "0.5*cut; after=3", true},
        {"fault", "1.5*cut", false},
        {"outage", "10s,5s | 60s,1m,timeout", true},
        {"outage", "10s", false},
        {"words", "0", false},
        {"seed", "9007199254740992", true},
        {"port", "65536", false},
        {"strict-models", "true", true},
        {"nonsense", "1", false},
    };
    sj_mock_rules rules;
    sj_mock_rules_init(&rules);
    sj_buffer error = sj_buffer_with_max(1000);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        bool ok = sj_mock_rules_set(&rules, sj_slice_of(rows[i].name), sj_slice_of(rows[i].value), &error);
        if (ok != rows[i].ok)
            fail_msg("%s=%s was %s", rows[i].name, rows[i].value, ok ? "taken" : "refused");
        assert_true(ok || error.n > 0);
        sj_buffer_clear(&error);
    }
    assert_int_equal(rules.mix_count, 2);
    assert_float_equal(rules.mix[0].p, 3, 0);
    assert_string_equal(rules.mix[0].fault.headers, "Retry-After: 1\r\n");
    assert_int_equal(rules.outage_count, 2);
    assert_int_equal(rules.outages[1].fault.kind, SJ_MOCK_TIMEOUT);
    sj_buffer_free(&error);
}

// ---- who chooses --------------------------------------------------------------------------------

static sj_mock_choose chooser(const char *name, const char *value) {
    sj_mock_rules rules;
    sj_mock_choose choose;
    sj_buffer error = sj_buffer_with_max(1000);
    sj_mock_rules_init(&rules);
    if (name)
        assert_true(sj_mock_rules_set(&rules, sj_slice_of(name), sj_slice_of(value), &error));
    sj_mock_choose_init(&choose, &rules, 0);
    sj_buffer_free(&error);
    return choose;
}

static sj_mock_choice ask(sj_mock_choose *choose, const char *model, int64_t now_ms) {
    sj_mock_attempt_facts facts = {.path = SJ_SLICE("/v1/chat/completions"),
                                   .model = sj_slice_of(model),
                                   .running = 1,
                                   .now_ms = now_ms};
    sj_mock_choice choice;
    sj_buffer error = sj_buffer_with_max(1000);
    assert_true(sj_mock_choose_next(choose, &facts, &choice, &error));
    sj_buffer_free(&error);
    return choice;
}

static void test_chance_is_seeded(void **state) {
    (void)state;
    sj_mock_choose first = chooser("fail", "0.083"), second = chooser("fail", "0.083"),
                   other = chooser("fail", "0.083");
    other.rules.seed = 2;
    int failed = 0, differs = 0;
    int kinds[SJ_MOCK_KIND_COUNT] = {0};
    for (int i = 0; i < 10000; i++) {
        sj_mock_choice a = ask(&first, "m", 0), b = ask(&second, "m", 0), c = ask(&other, "m", 0);
        assert_int_equal(a.fault.kind, b.fault.kind);
        assert_int_equal(a.fault.status, b.fault.status);
        failed += a.fault.kind != SJ_MOCK_OK;
        differs += a.fault.kind != c.fault.kind;
        kinds[a.fault.kind]++;
    }
    assert_in_range(failed, 730, 930); // 830, 3.6 standard deviations
    assert_true(differs > 500);
    assert_in_range(kinds[SJ_MOCK_RESET], 50, 120); // one part in ten
    assert_in_range(kinds[SJ_MOCK_STATUS], 7 * 60, 7 * 110);
}

static void test_odds_by_model(void **state) {
    (void)state;
    sj_mock_choose choose = chooser("fault", "1*503; model=gpt-*, 0*reset");
    for (int i = 0; i < 100; i++) {
        assert_int_equal(ask(&choose, "gpt-4.1", 0).fault.status, 503);
        assert_int_equal(ask(&choose, "deepseek", 0).fault.kind, SJ_MOCK_OK);
    }
}

static void test_outage(void **state) {
    (void)state;
    sj_mock_choose choose = chooser("outage", "1s,2s");
    assert_int_equal(ask(&choose, "m", 999).fault.kind, SJ_MOCK_OK);
    assert_int_equal(ask(&choose, "m", 1000).fault.status, 503);
    assert_string_equal(ask(&choose, "m", 2999).by, "outage");
    assert_int_equal(ask(&choose, "m", 3000).fault.kind, SJ_MOCK_OK);
    sj_buffer error = sj_buffer_with_max(1000);
    assert_true(sj_mock_choose_rules(&choose, SJ_SLICE("{\"outage\":\"0s,1s,timeout\"}"), 5000, &error));
    assert_int_equal(ask(&choose, "m", 5500).fault.kind, SJ_MOCK_TIMEOUT);
    assert_int_equal(ask(&choose, "m", 6000).fault.kind, SJ_MOCK_OK);
    assert_false(sj_mock_choose_rules(&choose, SJ_SLICE("{\"fail\":1,\"bad\":2}"), 0, &error));
    assert_float_equal(choose.rules.fail, 0, 0); // all or nothing
    sj_buffer_free(&error);
}

static void test_limit_per_second(void **state) {
    (void)state;
    sj_mock_choose choose = chooser("limit-per-second", "10");
    int passed = 0;
    for (int64_t ms = 1; ms <= 2000; ms += 10)
        passed += ask(&choose, "m", ms).fault.kind == SJ_MOCK_OK;
    assert_in_range(passed, 29, 30); // a bucket of ten, and two seconds of ten
    sj_mock_choice refused = ask(&choose, "m", 2001);
    assert_int_equal(refused.fault.status, 429);
    assert_string_equal(refused.fault.headers, "Retry-After: 1\r\n");
}

static void test_capacity(void **state) {
    (void)state;
    sj_mock_choose choose = chooser("capacity", "10");
    sj_buffer error = sj_buffer_with_max(1000);
    assert_true(sj_mock_choose_rules(&choose, SJ_SLICE("{\"backlog\":\"500ms\"}"), 1, &error));
    for (int i = 0; i < 6; i++) // 100 ms each, one after the other
        assert_int_equal(ask(&choose, "m", 1).latency_ms, 100 * i);
    assert_int_equal(ask(&choose, "m", 1).fault.status, 503); // the line is full
    assert_int_equal(ask(&choose, "m", 301).latency_ms, 300);
    assert_int_equal(ask(&choose, "m", 60000).latency_ms, 0); // idle time is not saved up
    assert_int_equal(ask(&choose, "m", 60000).latency_ms, 100);
    sj_buffer_free(&error);
}

static void test_script(void **state) {
    (void)state;
    sj_mock_choose choose = chooser(NULL, NULL);
    sj_buffer error = sj_buffer_with_max(1000);
    assert_true(sj_mock_choose_script(
        &choose, SJ_SLICE("[429, {\"fault\":\"cut\",\"after\":4,\"times\":2,\"model\":\"a*\"}, \"reset\"]"),
        &error));
    assert_int_equal(sj_mock_choose_script_left(&choose), 4);
    assert_int_equal(ask(&choose, "b", 0).fault.status, 429);
    assert_int_equal(ask(&choose, "b", 0).fault.kind, SJ_MOCK_RESET); // the entry before is for others
    assert_int_equal(ask(&choose, "b", 0).fault.kind, SJ_MOCK_OK);
    assert_int_equal(ask(&choose, "abc", 0).fault.after, 4);
    assert_int_equal(ask(&choose, "mock-500", 0).fault.status,
                     500); // a model's name goes before, and takes nothing
    assert_int_equal(ask(&choose, "abc", 0).fault.kind, SJ_MOCK_CUT);
    assert_int_equal(ask(&choose, "abc", 0).fault.kind, SJ_MOCK_OK);
    assert_true(
        sj_mock_choose_script(&choose, SJ_SLICE("{\"repeat\":true,\"entries\":[503,\"ok\"]}"), &error));
    for (int i = 0; i < 5; i++) {
        assert_int_equal(ask(&choose, "b", 0).fault.status, 503);
        assert_int_equal(ask(&choose, "b", 0).fault.kind, SJ_MOCK_OK);
    }
    static const char *const bad[] = {"",     "{}",       "[[]]",
                                      "[{}]", "[\"no\"]", "[{\"fault\":\"cut\",\"after\":\"x\"}]"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(sj_mock_choose_script(&choose, sj_slice_of(bad[i]), &error));
    assert_int_equal(sj_mock_choose_script_left(&choose),
                     0 + 2 - 2); // the old one stays, used up until the next call
    sj_mock_choose_free(&choose);
    sj_buffer_free(&error);
}

// ---- the log ------------------------------------------------------------------------------------

static void test_log_is_a_ring(void **state) {
    (void)state;
    sj_mock_log log;
    uint64_t number = 0;
    sj_mock_log_init(&log, 300);
    for (int i = 0; i < 1000; i++) {
        sj_mock_log_entry *entry = sj_mock_log_add(&log, &number);
        assert_non_null(entry);
        assert_ptr_equal(entry, sj_mock_log_find(&log, number));
        sj_mock_log_end(&log, number, 1, 200, SJ_MOCK_ANSWERED);
    }
    assert_null(sj_mock_log_find(&log, 700));
    assert_int_equal(sj_mock_log_find(&log, 701)->number, 701);
    sj_buffer out = sj_buffer_with_max(1000000);
    assert_true(sj_mock_log_write(&log, 690, 5, &out));
    cJSON *json = cJSON_ParseWithLength(out.p, out.n);
    const cJSON *entries = cJSON_GetObjectItem(json, "entries");
    assert_int_equal(cJSON_GetNumberValue(cJSON_GetObjectItem(json, "dropped")), 10);
    assert_int_equal(cJSON_GetArraySize(entries), 5);
    assert_int_equal(cJSON_GetNumberValue(cJSON_GetObjectItem(cJSON_GetArrayItem(entries, 0), "number")),
                     701);
    cJSON_Delete(json);
    sj_mock_log_clear(&log);
    assert_null(sj_mock_log_find(&log, 1000));
    assert_int_equal(log.outcomes[SJ_MOCK_ANSWERED], 1000);
    assert_int_equal(log.running, 0);
    sj_buffer_free(&out);
    sj_mock_log_free(&log);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fault_names),
        cmocka_unit_test(test_fault_headers),
        cmocka_unit_test(test_fault_of_model),
        cmocka_unit_test(test_delays),
        cmocka_unit_test(test_rules),
        cmocka_unit_test(test_chance_is_seeded),
        cmocka_unit_test(test_odds_by_model),
        cmocka_unit_test(test_outage),
        cmocka_unit_test(test_limit_per_second),
        cmocka_unit_test(test_capacity),
        cmocka_unit_test(test_script),
        cmocka_unit_test(test_log_is_a_ring),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
