// The demo's client and judge, against the mock in a thread: what it counts as an answer, and what it reads from metrics.
#include "demo.h"
#include "demo_client.h"
#include "mock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

typedef struct rig {
    uv_loop_t loop, mock_loop;
    uv_async_t stop;
    uv_thread_t thread;
    sj_mock *mock;
    char origin[64];
} rig;

static rig self;

static void on_stop(uv_async_t *stop) {
    sj_mock_close(&self.mock);
    uv_close((uv_handle_t *)stop, NULL);
}

static void run(void *loop) {
    (void)uv_run(loop, UV_RUN_DEFAULT);
}

static int setup(void **state) {
    (void)state;
    sj_mock_rules rules;
    sj_mock_rules_init(&rules);
    rules.words = SJ_DEMO_WORDS;
    assert_int_equal(uv_loop_init(&self.loop), 0);
    assert_int_equal(uv_loop_init(&self.mock_loop), 0);
    assert_int_equal(uv_async_init(&self.mock_loop, &self.stop, on_stop), 0);
    self.mock = sj_mock_new(&self.mock_loop, &rules);
    assert_non_null(self.mock);
    (void)snprintf(self.origin, sizeof self.origin, "http://127.0.0.1:%d", sj_mock_port(self.mock));
    return uv_thread_create(&self.thread, run, &self.mock_loop);
}

static int teardown(void **state) {
    (void)state;
    assert_int_equal(uv_async_send(&self.stop), 0);
    assert_int_equal(uv_thread_join(&self.thread), 0);
    return uv_loop_close(&self.mock_loop) != 0 || uv_loop_close(&self.loop) != 0;
}

// A request of our own, with a body, to the mock's control paths.
static void on_over(sj_demo_call *call, void *owner) {
    (void)call;
    sj_upstream_close(owner);
}

static void set_rules(const char *json) {
    sj_upstream *upstream = sj_upstream_new(&self.loop);
    sj_demo_call call;
    sj_demo_call_init(&call, on_over, &upstream);
    assert_true(sj_buffer_text(&call.request, json));
    assert_true(sj_demo_call_start(&call, upstream, self.origin, "POST", "/mock/rules"));
    (void)uv_run(&self.loop, UV_RUN_DEFAULT);
    assert_int_equal(call.status, 200);
    sj_demo_call_free(&call);
}

static void on_progress(const sj_demo_tally *tally, void *context) {
    (void)context;
    assert_true(tally->failed <= tally->done);
}

static sj_demo_tally load(void) {
    sj_demo_load load = {.origin = self.origin, .requests = 40, .concurrency = 7, .on_progress = on_progress};
    sj_demo_tally tally;
    assert_true(sj_demo_load_run(&self.loop, &load, &tally));
    assert_int_equal(tally.done, 40);
    assert_int_equal(tally.streams, 10);
    return tally;
}

static void test_all_good(void **state) {
    (void)state;
    sj_demo_tally tally = load();
    assert_int_equal(tally.failed, 0);
    assert_true(sj_demo_percentile(&tally, 0.5) > 0);
    assert_true(sj_demo_percentile(&tally, 0.99) >= sj_demo_percentile(&tally, 0.5));
    sj_demo_tally_free(&tally);
}

static void test_every_kind_of_failure(void **state) {
    (void)state;
    static const struct {
        const char *rules;
        sj_demo_result whole, streamed;
    } rows[] = {
        {"{\"fault\":\"1*429\"}", SJ_DEMO_429, SJ_DEMO_429},
        {"{\"fault\":\"1*503\"}", SJ_DEMO_5XX, SJ_DEMO_5XX},
        {"{\"fault\":\"1*404\"}", SJ_DEMO_OTHER_STATUS, SJ_DEMO_OTHER_STATUS},
        {"{\"fault\":\"1*reset\"}", SJ_DEMO_RESET, SJ_DEMO_RESET},
        {"{\"fault\":\"1*empty\"}", SJ_DEMO_NOT_ANSWER, SJ_DEMO_NOT_ANSWER},
        {"{\"fault\":\"1*error-body\"}", SJ_DEMO_NOT_ANSWER, SJ_DEMO_NOT_ANSWER},
        {"{\"fault\":\"1*cut-5\"}", SJ_DEMO_BROKEN, SJ_DEMO_BROKEN},
        {"{\"fault\":\"1*late-error-5\"}", SJ_DEMO_NOT_ANSWER, SJ_DEMO_BROKEN},
        {"{\"fault\":\"1*no-done\"}", SJ_DEMO_GOOD, SJ_DEMO_BROKEN},
        {"{\"variant\":3,\"fault\":\"1*ok\"}", SJ_DEMO_WRONG, SJ_DEMO_WRONG},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        set_rules(rows[i].rules);
        sj_demo_tally tally = load();
        int whole = rows[i].whole == rows[i].streamed ? 40 : 30;
        if (tally.by[rows[i].whole] != whole || tally.by[rows[i].whole] + tally.by[rows[i].streamed] < 40)
            fail_msg("%s: %d %s, %d %s", rows[i].rules, tally.by[rows[i].whole],
                     sj_demo_result_name(rows[i].whole), tally.by[rows[i].streamed],
                     sj_demo_result_name(rows[i].streamed));
        sj_demo_tally_free(&tally);
    }
}

static void test_nobody_there(void **state) {
    (void)state;
    sj_demo_load load = {
        .origin = "http://127.0.0.1:1", .requests = 3, .concurrency = 5, .on_progress = on_progress};
    sj_demo_tally tally;
    sj_buffer out = sj_buffer_with_max(100);
    assert_true(sj_demo_load_run(&self.loop, &load, &tally));
    assert_int_equal(tally.by[SJ_DEMO_NO_CONNECTION], 3);
    assert_float_equal(sj_demo_percentile(&tally, 0.5), 0, 0);
    assert_false(sj_demo_fetch(&self.loop, "http://127.0.0.1:1", "GET", "/", &out));
    assert_true(sj_demo_fetch(&self.loop, self.origin, "GET", "/mock/health", &out));
    sj_buffer_free(&out);
    sj_demo_tally_free(&tally);
}

static void test_events_from_metrics(void **state) {
    (void)state;
    static const char metrics[] = "# HELP stormjib_retries_total x\n"
                                  "stormjib_retries_total{target=\"a\",reason=\"503\"} 4\n"
                                  "stormjib_retries_total{target=\"b\",reason=\"429\"} 3\n"
                                  "stormjib_retries_total_of_others 100\n"
                                  "stormjib_breaker_transitions_total{from=\"closed\",to=\"open\"} 2\n"
                                  "stormjib_breaker_transitions_total{from=\"open\",to=\"half_open\"} 2\n"
                                  "stormjib_dropped_events_total 1";
    double events[SJ_DEMO_EVENTS] = {0};
    sj_demo_read_events(metrics, sizeof metrics - 1, events);
    assert_float_equal(events[0], 7, 0);
    double sum = 0;
    for (int i = 0; i < SJ_DEMO_EVENTS; i++)
        sum += events[i];
    assert_float_equal(sum, 10, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_all_good, setup, teardown),
        cmocka_unit_test_setup_teardown(test_every_kind_of_failure, setup, teardown),
        cmocka_unit_test_setup_teardown(test_nobody_there, setup, teardown),
        cmocka_unit_test(test_events_from_metrics),
    };
    if (!sj_upstream_global_init())
        return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    sj_upstream_global_end();
    return failed;
}
