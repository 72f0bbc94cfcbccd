#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "access_log.h"

#include <cJSON.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

typedef struct sj_pipe {
    int in, out;
    sj_log *log;
    char text[128 * 1024];
    size_t n;
} sj_pipe;

static void open_pipe(sj_pipe *p, sj_log_format format, sj_log_level level) {
    int fds[2];
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    p->out = fds[0];
    p->in = fds[1];
    p->n = 0;
    assert_int_equal(fcntl(p->out, F_SETFL, O_NONBLOCK), 0);
    p->log = sj_log_new_to(p->in, format, level);
    assert_non_null(p->log);
}

static void close_pipe(sj_pipe *p) {
    sj_log_free(&p->log);
    assert_null(p->log);
    close(p->in);
    close(p->out);
}

// Everything that is in the pipe now, NUL-terminated.
static const char *read_pipe(sj_pipe *p) {
    ssize_t n;
    while ((n = read(p->out, p->text + p->n, sizeof p->text - 1 - p->n)) > 0)
        p->n += (size_t)n;
    p->text[p->n] = '\0';
    return p->text;
}

static const char *flushed(sj_pipe *p) {
    assert_false(sj_log_flush(p->log));
    p->n = 0;
    return read_pipe(p);
}

static sj_record a_record(void) {
    return (sj_record){
        .request_id = "req-1",
        .peer = "127.0.0.1:5000",
        .method = SJ_SLICE("POST"),
        .path = SJ_SLICE("/v1/chat/completions"),
        .model = "gpt-4.1",
        .target = "cheap/deepseek-v3.2",
        .fallback = "breaker open",
        .trail = "strong/gpt-4.1 503 410ms, wait 520ms, cheap/deepseek-v3.2 200 150ms",
        .upstream_request_id = "",
        .status = 200,
        .stream = true,
        .attempts = 2,
        .retries = 1,
        .total_us = 1080449,
        .first_content_us = 700051,
        .wait_ms = 520,
        .upstream_ms = 150,
        .bytes_in = 300,
        .bytes_out = 4000,
        .usage = {.prompt_tokens = 12, .completion_tokens = 0, .total_tokens = 12, .cached_tokens = -1},
    };
}

static void exchange_logfmt(void **state) {
    (void)state;
    static sj_pipe p;
    open_pipe(&p, SJ_LOG_LOGFMT, SJ_LOG_INFO);
    sj_record record = a_record();
    sj_log_exchange(p.log, &record);
    const char *text = flushed(&p);
    // ts=2025-01-31T23:59:59.999Z and then what can be known.
    struct tm parts = {0};
    const char *rest = strptime(text, "ts=%Y-%m-%dT%H:%M:%S", &parts);
    assert_non_null(rest);
    assert_true(labs((long)(timegm(&parts) - time(NULL))) <= 2);
    assert_int_equal(rest[0], '.');
    assert_string_equal(
        rest + 4,
        "Z level=info event=completed request_id=req-1 peer=127.0.0.1:5000 method=POST "
        "path=/v1/chat/completions gen_ai.request.model=gpt-4.1 target=cheap/deepseek-v3.2 status=200 "
        "result=ok stream=true attempts=2 retries=1 fallback=\"breaker open\" total_ms=1080.4 "
        "first_content_ms=700.1 wait_ms=520 upstream_ms=150 bytes_in=300 bytes_out=4000 "
        "gen_ai.usage.input_tokens=12 gen_ai.usage.output_tokens=0 "
        "trail=\"strong/gpt-4.1 503 410ms, wait 520ms, cheap/deepseek-v3.2 200 150ms\"\n");
    close_pipe(&p);
}

static void costs_are_dollars(void **state) {
    (void)state;
    static const struct {
        sj_costs costs;
        const char *expected; // NULL: none is told
    } cases[] = {
        {{.known = true, .actual = 630000, .at_first = 12000000, .compared = 600000},
         " cost_usd=0.00063 fallback_saved_usd=0.01137 compare_saved_usd=-0.00003 "},
        {{.known = true, .actual = 25000000001, .at_first = SJ_COST_UNKNOWN, .compared = SJ_COST_UNKNOWN},
         " cost_usd=25.000000001 trail="},
        {{.known = true, .actual = 3000000000, .at_first = 0, .compared = 3000000000},
         " cost_usd=3 fallback_saved_usd=-3 compare_saved_usd=0 "},
        {{.unknown = true}, NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        static sj_pipe p;
        open_pipe(&p, SJ_LOG_LOGFMT, SJ_LOG_INFO);
        sj_record record = a_record();
        record.costs = cases[i].costs;
        sj_log_exchange(p.log, &record);
        const char *text = flushed(&p);
        if (cases[i].expected)
            assert_non_null(strstr(text, cases[i].expected));
        else
            assert_null(strstr(text, "usd"));
        close_pipe(&p);
    }
}

static void exchange_json(void **state) {
    (void)state;
    static sj_pipe p;
    open_pipe(&p, SJ_LOG_JSON, SJ_LOG_WARN);
    sj_record record = a_record();
    sj_log_exchange(p.log, &record); // info: not wanted
    record.result = SJ_RESULT_REFUSED;
    record.refusal = SJ_REFUSAL_CIRCUIT_OPEN;
    record.status = 503;
    sj_log_exchange(p.log, &record);
    cJSON *json = cJSON_ParseWithOpts(flushed(&p), NULL, true);
    assert_non_null(json);
    assert_string_equal(cJSON_GetObjectItem(json, "level")->valuestring, "warn");
    assert_string_equal(cJSON_GetObjectItem(json, "code")->valuestring, "circuit_open");
    assert_string_equal(cJSON_GetObjectItem(json, "result")->valuestring, "refused");
    assert_int_equal(cJSON_GetObjectItem(json, "status")->valueint, 503);
    assert_true(cJSON_IsTrue(cJSON_GetObjectItem(json, "stream")));
    assert_true(cJSON_GetObjectItem(json, "total_ms")->valuedouble == 1080.4);
    cJSON_Delete(json);
    close_pipe(&p);
}

static void values_are_made_harmless(void **state) {
    (void)state;
    static const struct {
        const char *value, *logfmt, *json;
    } cases[] = {
        {"plain", "plain", "\"plain\""},
        {"", "\"\"", "\"\""},
        {"two words", "\"two words\"", "\"two words\""},
        {"a=b", "\"a=b\"", "\"a=b\""},
        {"say \"hi\"", "\"say \\\"hi\\\"\"", "\"say \\\"hi\\\"\""},
        {"back\\slash", "\"back\\\\slash\"", "\"back\\\\slash\""},
        {"line\nfeed\r\ttab", "\"line\\nfeed\\r\\ttab\"", "\"line\\nfeed\\r\\ttab\""},
        {"\x1b[31mred\x7f", "\"\\u001b[31mred\\u007f\"", "\"\\u001b[31mred\\u007f\""},
        {"\xc2\x9b"
         "1m",
         "\"\\u009b1m\"", "\"\\u009b1m\""},
        {"gr\xc3\xbc\xc3\x9f", "\"gr\xc3\xbc\xc3\x9f\"", "\"gr\xc3\xbc\xc3\x9f\""},
        {"\xff\xc3", "\"\xEF\xBF\xBD\xEF\xBF\xBD\"", "\"\xEF\xBF\xBD\xEF\xBF\xBD\""},
        {"\xed\xa0\x80", "\"\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\"",
         "\"\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\""},
        {"\xc0\xaf", "\"\xEF\xBF\xBD\xEF\xBF\xBD\"", "\"\xEF\xBF\xBD\xEF\xBF\xBD\""},
        {"\xf0\x9f\x8c\x8a", "\"\xf0\x9f\x8c\x8a\"", "\"\xf0\x9f\x8c\x8a\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (int json = 0; json < 2; json++) {
            static sj_pipe p;
            open_pipe(&p, json ? SJ_LOG_JSON : SJ_LOG_LOGFMT, SJ_LOG_INFO);
            sj_log_event(p.log, SJ_LOG_INFO, "test", sj_log_text("v", cases[i].value), sj_log_int("n", -7));
            char expected[128];
            (void)snprintf(expected, sizeof expected,
                           json ? "\"event\":\"test\",\"v\":%s,\"n\":-7}\n" : "event=test v=%s n=-7\n",
                           json ? cases[i].json : cases[i].logfmt);
            const char *text = flushed(&p);
            assert_non_null(strstr(text, expected));
            close_pipe(&p);
        }
}

static void long_values_are_cut(void **state) {
    (void)state;
    static char value[10000];
    for (int odd = 0; odd < 3; odd++) {
        memset(value, odd == 0 ? 'x' : odd == 1 ? '\x01' : '\xff', sizeof value - 1);
        static sj_pipe p;
        open_pipe(&p, SJ_LOG_JSON, SJ_LOG_INFO);
        sj_log_field fields[16];
        for (size_t i = 0; i < 16; i++)
            fields[i] = sj_log_text("value", value);
        sj_log_fields(p.log, SJ_LOG_INFO, "test", fields, 16);
        const char *text = flushed(&p);
        assert_true(p.n <= SJ_LOG_MAX_LINE);
        cJSON *json = cJSON_ParseWithOpts(text, NULL, true);
        assert_non_null(json);
        const char *first = cJSON_GetObjectItem(json, "value")->valuestring;
        assert_string_equal(first + strlen(first) - 3, "...");
        cJSON_Delete(json);
        close_pipe(&p);
    }
}

static void notes_have_their_levels(void **state) {
    (void)state;
    static const struct {
        sj_note note;
        const char *expected; // NULL: no line at level info
    } cases[] = {
        {{.kind = SJ_NOTE_ATTEMPT, .class = SJ_CLASS_SUCCESS, .status = 200, .ms = 5}, NULL},
        {{.kind = SJ_NOTE_ATTEMPT, .class = SJ_CLASS_FAILING, .status = 503, .ms = 5, .reason = "503"},
         "level=info event=attempt request_id=r target=a/m status=503 outcome=failing reason=503 ms=5\n"},
        {{.kind = SJ_NOTE_RETRY, .ms = 520, .source = "backoff", .reason = "503"},
         "level=warn event=retry request_id=r target=a/m reason=503 delay_ms=520 source=backoff\n"},
        {{.kind = SJ_NOTE_HINT_GATE, .ms = 7000, .source = "retry-after"},
         "level=warn event=hint_gate request_id=r target=a/m delay_ms=7000 source=retry-after\n"},
        {{.kind = SJ_NOTE_BREAKER,
          .change =
              {.changed = true, .from = SJ_BREAKER_CLOSED, .to = SJ_BREAKER_OPEN, .reason = "failure rate"}},
         "level=warn event=breaker request_id=r target=a/m from=closed to=open reason=\"failure rate\"\n"},
        {{.kind = SJ_NOTE_FALLBACK, .reason = "timeout"},
         "level=warn event=fallback request_id=r target=a/m reason=timeout\n"},
        {{.kind = SJ_NOTE_ALERT, .class = SJ_CLASS_CREDENTIAL, .status = 401, .reason = "401"},
         "level=warn event=alert request_id=r target=a/m status=401 outcome=credential reason=401\n"},
        {{.kind = SJ_NOTE_ALERT, .key = 3, .class = SJ_CLASS_CREDENTIAL, .status = 401, .reason = "401"},
         "level=warn event=alert request_id=r target=a/m key=3 status=401 outcome=credential reason=401\n"},
        {{.kind = SJ_NOTE_KEY,
          .key = 1,
          .class = SJ_CLASS_THROTTLED,
          .status = 429,
          .reason = "exhausted",
          .ms = 7000},
         "level=warn event=key request_id=r target=a/m key=1 status=429 outcome=throttled reason=exhausted "
         "delay_ms=7000\n"},
        {{.kind = SJ_NOTE_QUEUED}, NULL},
        {{.kind = SJ_NOTE_GRANT}, NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        static sj_pipe p;
        open_pipe(&p, SJ_LOG_LOGFMT, SJ_LOG_INFO);
        sj_log_note(p.log, "r", "a/m", &cases[i].note);
        const char *text = flushed(&p);
        if (cases[i].expected)
            assert_string_equal(strchr(text, ' ') + 1, cases[i].expected);
        else
            assert_string_equal(text, "");
        close_pipe(&p);
    }
}

// A reader that sleeps costs lines, never time; and it is told.
static void lines_are_dropped_not_waited_for(void **state) {
    (void)state;
    static sj_pipe p;
    open_pipe(&p, SJ_LOG_LOGFMT, SJ_LOG_INFO);
    sj_record record = a_record();
    int flags = fcntl(p.in, F_GETFL);
    for (int i = 0; i < 2000; i++)
        sj_log_exchange(p.log, &record);
    assert_true(sj_log_flush(p.log)); // something is left
    uint64_t dropped = sj_log_dropped(p.log);
    assert_true(dropped > 0 && dropped < 2000);
    assert_int_equal(fcntl(p.in, F_GETFL), flags); // the inherited descriptor is as it was
    bool left = true;
    for (int i = 0; i < 100 && left; i++) {
        read_pipe(&p);
        p.n = p.n > 4096 ? 4096 : p.n; // only the end matters
        left = sj_log_flush(p.log);
    }
    assert_false(left);
    p.n = 0;
    const char *text = read_pipe(&p);
    char expected[64];
    (void)snprintf(expected, sizeof expected, "event=log_dropped lines=%d\n", (int)dropped);
    assert_non_null(strstr(text, expected));
    close_pipe(&p);
}

// journald's stream: a socket that must not be made non-blocking for everybody who shares it.
static void sockets_are_not_waited_for(void **state) {
    (void)state;
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    sj_log *log = sj_log_new_to(fds[0], SJ_LOG_LOGFMT, SJ_LOG_INFO);
    sj_log_event(log, SJ_LOG_INFO, "first", sj_log_int("n", 1));
    assert_false(sj_log_flush(log));
    char text[4096];
    ssize_t n = recv(fds[1], text, sizeof text - 1, 0);
    assert_true(n > 20);
    text[n] = '\0';
    assert_non_null(strstr(text, "event=first n=1\n"));
    sj_record record = a_record();
    for (int i = 0; i < 20000; i++)
        sj_log_exchange(log, &record);
    assert_true(sj_log_flush(log));
    assert_true(sj_log_dropped(log) > 0);
    assert_int_equal(fcntl(fds[0], F_GETFL) & O_NONBLOCK, 0);
    sj_log_free(&log);
    close(fds[0]);
    close(fds[1]);
}

static void a_closed_pipe_is_survived(void **state) {
    (void)state;
    static sj_pipe p;
    open_pipe(&p, SJ_LOG_LOGFMT, SJ_LOG_INFO);
    close(p.out);
    p.out = -1;
    sj_log_event(p.log, SJ_LOG_INFO, "one", sj_log_int("n", 1));
    sj_log_event(p.log, SJ_LOG_INFO, "two", sj_log_int("n", 2));
    assert_false(sj_log_flush(p.log));
    assert_int_equal(sj_log_dropped(p.log), 2);
    close_pipe(&p);
}

enum { THREADS = 4, LINES = 1500 };

static void *write_many(void *argument) {
    sj_log *log = argument;
    for (int i = 0; i < LINES; i++) {
        sj_log_event(log, SJ_LOG_INFO, "line", sj_log_int("number", i),
                     sj_log_text("filler", "abcdefghijklmnopqrstuvwxyz"));
        if (i % 7 == 0)
            (void)sj_log_flush(log);
    }
    (void)sj_log_flush(log);
    return NULL;
}

// Several logs on one file: every line is whole, and those of one log keep their order.
static void lines_never_mix(void **state) {
    (void)state;
    char name[] = "/tmp/sj-log-XXXXXX";
    int fd = mkostemp(name, O_APPEND);
    assert_true(fd >= 0);
    unlink(name);
    sj_log *logs[THREADS];
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        logs[i] = sj_log_new_to(fd, SJ_LOG_LOGFMT, SJ_LOG_INFO);
        assert_int_equal(pthread_create(&threads[i], NULL, write_many, logs[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(sj_log_dropped(logs[i]), 0);
        sj_log_free(&logs[i]);
    }
    lseek(fd, 0, SEEK_SET);
    FILE *file = fdopen(fd, "r");
    char line[256];
    int lines = 0;
    long sum = 0;
    while (fgets(line, sizeof line, file)) {
        int number = -1;
        char end[40] = "";
        assert_int_equal(sscanf(line, "ts=%*s level=info event=line number=%d filler=%39s", &number, end), 2);
        assert_string_equal(end, "abcdefghijklmnopqrstuvwxyz");
        lines++;
        sum += number;
    }
    fclose(file);
    assert_int_equal(lines, THREADS * LINES);
    assert_int_equal(sum, (long)THREADS * LINES * (LINES - 1) / 2);
}

int main(void) {
    (void)signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exchange_logfmt),
        cmocka_unit_test(exchange_json),
        cmocka_unit_test(costs_are_dollars),
        cmocka_unit_test(values_are_made_harmless),
        cmocka_unit_test(long_values_are_cut),
        cmocka_unit_test(notes_have_their_levels),
        cmocka_unit_test(lines_are_dropped_not_waited_for),
        cmocka_unit_test(sockets_are_not_waited_for),
        cmocka_unit_test(a_closed_pipe_is_survived),
        cmocka_unit_test(lines_never_mix),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
