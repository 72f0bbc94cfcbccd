// The mock over real sockets: what leaves byte by byte, how connections end, and that a client that leaves is noticed at once.
#include "mock.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

// ---- the mock in a thread of its own ------------------------------------------------------------

typedef struct rig {
    uv_loop_t loop;
    uv_async_t stop;
    uv_thread_t thread;
    sj_mock *mock;
    int port;
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
    rules.words = 6;
    assert_int_equal(uv_loop_init(&self.loop), 0);
    assert_int_equal(uv_async_init(&self.loop, &self.stop, on_stop), 0);
    self.mock = sj_mock_new(&self.loop, &rules);
    assert_non_null(self.mock);
    self.port = sj_mock_port(self.mock);
    return uv_thread_create(&self.thread, run, &self.loop);
}

static int teardown(void **state) {
    (void)state;
    assert_int_equal(uv_async_send(&self.stop), 0);
    assert_int_equal(uv_thread_join(&self.thread), 0);
    return uv_loop_close(&self.loop); // UV_EBUSY if a handle were left
}

// ---- a client that sees bytes -------------------------------------------------------------------

static int64_t now_ms(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static int dial(void) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)self.port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

static void say(int fd, const char *text) {
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

typedef struct heard {
    char text[200000];
    size_t n;
    char end; // 'F' FIN, 'R' RST, 'S' silence, 'U' until was seen
} heard;

static heard got; // too large for the stack

// Reads on until the text `until` is there (NULL: to the end), or nothing came for quiet_ms.
static const heard *hear_more(int fd, const char *until, int quiet_ms) {
    for (;;) {
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        if (poll(&wait, 1, quiet_ms) == 0) {
            got.end = 'S';
            return &got;
        }
        ssize_t n = recv(fd, got.text + got.n, sizeof got.text - 1 - got.n, 0);
        if (n <= 0) {
            got.end = n == 0 ? 'F' : 'R';
            return &got;
        }
        got.n += (size_t)n;
        got.text[got.n] = 0;
        if (until && strstr(got.text, until)) {
            got.end = 'U';
            return &got;
        }
    }
}

static const heard *hear(int fd, const char *until, int quiet_ms) {
    got.n = 0;
    got.text[0] = 0;
    return hear_more(fd, until, quiet_ms);
}

static const char *post(const char *fault, bool stream) {
    static char text[2000];
    char body[500];
    int n = snprintf(body, sizeof body,
                     "{\"model\":\"m\",\"stream\":%s,\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}",
                     stream ? "true" : "false");
    (void)snprintf(
        text, sizeof text,
        "POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\nx-mock-fault: %s\r\n\r\n%s",
        n, fault, body);
    return text;
}

static int count(const char *text, const char *what) {
    int found = 0;
    for (; (text = strstr(text, what)); text += strlen(what))
        found++;
    return found;
}

// GET /mock/... on a connection of its own.
static const char *control(const char *method, const char *path, const char *body) {
    char request[1000];
    int fd = dial();
    (void)snprintf(request, sizeof request,
                   "%s %s HTTP/1.1\r\nHost: a\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n%s", method,
                   path, strlen(body), body);
    say(fd, request);
    assert_int_equal(hear(fd, NULL, 5000)->end, 'F');
    (void)close(fd);
    const char *end = strstr(got.text, "\r\n\r\n");
    assert_non_null(end);
    return end + 4;
}

// ---- how answers end ----------------------------------------------------------------------------

static void test_endings(void **state) {
    (void)state;
    static const struct {
        const char *fault;
        bool stream;
        char end; // with keep-alive asked for: 'S' when the connection stays
        int events; // "data: " lines, -1 whatever
        const char *has, *lacks;
    } rows[] = {
        {"ok", false, 'S', -1, "\"finish_reason\":\"stop\"", "chunked"},
        {"ok", true, 'S', 9, "[DONE]\n\n\r\n0\r\n\r\n", NULL},
        {"429; retry-after=2", true, 'S', -1, "Retry-After: 2\r\n", "data:"},
        {"503; body=html", false, 'S', -1, "<html>", "error"},
        {"503; body=none", false, 'S', -1, "Content-Length: 0\r\n", "Content-Type"},
        {"close", false, 'F', -1, "", "HTTP"},
        {"reset", false, 'R', -1, "", "HTTP"},
        {"timeout", false, 'S', -1, "", "HTTP"},
        {"timeout-20ms", false, 'F', -1, "", "HTTP"},
        {"garbage", false, 'F', -1, "ICY", "HTTP"},
        {"head-silence", true, 'S', 0, "chunked\r\n\r\n", "data:"},
        {"head-close", true, 'F', 0, "chunked\r\n\r\n", "data:"},
        {"head-reset", true, 'R', 0, "chunked\r\n\r\n", "data:"},
        {"cut-3", true, 'S', 3, "0\r\n\r\n", "finish_reason\":\"stop"},
        {"cut-99", true, 'S', 7, "0\r\n\r\n", "finish_reason\":\"stop"},
        {"cut", false, 'F', -1, "\"id\"", "finish_reason"},
        {"cut-close-3", true, 'F', 3, "data: ", "\r\n0\r\n"},
        {"cut-reset-3", true, 'R', 3, "data: ", "\r\n0\r\n"},
        {"bad-chunk-3", true, 'F', 3, "zz no chunk", "\r\n0\r\n"},
        {"bad-chunk", false, 'F', -1, "chunked", "usage"},
        {"stall-3", true, 'S', 3, "data: ", "\r\n0\r\n"},
        {"stall", false, 'S', -1, "\"id\"", "finish_reason"},
        {"late-error-3; status=503", true, 'S', 4, "\"overloaded\"", "[DONE]"},
        {"first-error; code=rate_limit", true, 'S', 1, "\"code\":\"rate_limit\"", "choices"},
        {"error-body", false, 'S', -1, "200 OK", "choices"},
        {"empty", true, 'S', 0, "Content-Length: 0\r\n\r\n", "chunked"},
        {"truncated", false, 'S', -1, "\"id\"", "finish_reason"},
        {"truncated", true, 'S', -1, "0\r\n\r\n", "[DONE]"},
        {"short-length", false, 'F', -1, "\"id\"", "reasoning_tokens\":0}}}"},
        {"no-done", true, 'S', 8, "\"stop\"", "[DONE]"},
        {"finish-silence", true, 'S', 8, "\"stop\"", "\r\n0\r\n"},
        {"non-json-3", true, 'S', 12, "no JSON", NULL},
        {"odd-sse", true, 'S', 0, "data:[DONE]\r\n\r\n", NULL},
        {"informational", false, 'S', -1, "103 Early Hints", "418"},
        {"gzip", true, 'S', 0, "Content-Encoding: gzip", NULL},
        {"nonsense", true, 'S', -1, "400 Bad Request", "choices"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int fd = dial();
        say(fd, post(rows[i].fault, rows[i].stream));
        // Silence can only be told by waiting: first for what must come, then a little.
        bool stays = rows[i].end == 'S';
        const heard *h =
            hear(fd, stays && rows[i].has[0] ? rows[i].has : NULL, stays && !rows[i].has[0] ? 60 : 5000);
        if (stays)
            (void)hear_more(fd, NULL, 60);
        if (h->end != rows[i].end || !strstr(h->text, rows[i].has) ||
            (rows[i].lacks && strstr(h->text, rows[i].lacks)) ||
            (rows[i].events >= 0 && count(h->text, "data: ") != rows[i].events))
            fail_msg("%s: ended by %c with %d events:\n%s", rows[i].fault, h->end, count(h->text, "data: "),
                     h->text);
        (void)close(fd);
    }
}

static void test_slow_first_sends_the_head_at_once(void **state) {
    (void)state;
    int fd = dial();
    int64_t start = now_ms();
    say(fd, post("slow-first-400ms", true));
    (void)hear(fd, "\r\n\r\n", 2000);
    int64_t head = now_ms() - start;
    assert_null(strstr(got.text, "data:"));
    (void)hear(fd, "[DONE]", 2000);
    assert_true(now_ms() - start >= 399);
    assert_true(head < 300);
    (void)close(fd);
}

static void test_pace(void **state) {
    (void)state;
    (void)control("POST", "/mock/rules", "{\"tokens-per-second\":100,\"latency\":\"30ms\"}");
    int fd = dial();
    int64_t start = now_ms();
    say(fd, post("ok", true));
    assert_int_equal(hear(fd, "0\r\n\r\n", 2000)->end, 'U');
    assert_true(now_ms() - start >= 105); // 30 ms, and eight gaps of 10 ms between nine events
    (void)close(fd);
}

// ---- requests -----------------------------------------------------------------------------------

static void test_pipelined_requests_in_order(void **state) {
    (void)state;
    char both[8000];
    (void)snprintf(both, sizeof both, "%s", post("slow-20ms", false));
    size_t n = strlen(both);
    (void)snprintf(both + n, sizeof both - n, "%s", post("418", false));
    int fd = dial();
    say(fd, both);
    const heard *h = hear(fd, "418", 2000);
    assert_int_equal(h->end, 'U');
    assert_non_null(strstr(h->text, "HTTP/1.1 200 OK"));
    assert_true(strstr(h->text, "200 OK") < strstr(h->text, "418"));
    (void)close(fd);
}

static void test_chunked_request_byte_by_byte(void **state) {
    (void)state;
    static const char request[] =
        "\r\nPOST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        "5;x=y\r\n{\"mod\r\n"
        "42\r\nel\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"chunky bacon egg\"}]}\r\n"
        "0\r\nTrailer: x\r\n\r\n";
    int fd = dial();
    for (const char *p = request; *p; p++)
        assert_int_equal(send(fd, p, 1, MSG_NOSIGNAL), 1);
    assert_int_equal(hear(fd, "chunky bacon egg", 2000)->end, 'U');
    (void)close(fd);
}

static void test_expect_continue(void **state) {
    (void)state;
    int fd = dial();
    say(fd, "POST /v1/moderations HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n");
    assert_int_equal(hear(fd, "100 Continue\r\n\r\n", 2000)->end, 'U');
    say(fd, "{}");
    assert_int_equal(hear(fd, "200 OK", 2000)->end, 'U');
    (void)close(fd);
}

static void test_bad_requests(void **state) {
    (void)state;
    static const struct {
        const char *request, *answer;
    } rows[] = {
        {"nonsense\r\n\r\n", "400"},
        {"GET / HTTP/2.0\r\n\r\n", "400"},
        {"GET / HTTP/1.1\r\nno colon\r\n\r\n", "400"},
        {"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n", "400"},
        {"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", "400"},
        {"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "400"},
        {"POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", "413"},
        {"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nfffffffff\r\n", "413"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int fd = dial();
        say(fd, rows[i].request);
        const heard *h = hear(fd, NULL, 2000);
        if (h->end != 'F' || strncmp(h->text + 9, rows[i].answer, 3) != 0)
            fail_msg("%s got %s", rows[i].request, h->text);
        (void)close(fd);
    }
}

static void test_http_1_0_stream_ends_with_the_connection(void **state) {
    (void)state;
    static const char body[] = "{\"model\":\"m\",\"stream\":true,\"messages\":[]}";
    char request[300];
    (void)snprintf(request, sizeof request,
                   "POST /v1/chat/completions HTTP/1.0\r\nContent-Length: %zu\r\n\r\n%s", sizeof body - 1,
                   body);
    int fd = dial();
    say(fd, request);
    const heard *h = hear(fd, NULL, 2000);
    assert_int_equal(h->end, 'F');
    assert_null(strstr(h->text, "chunked"));
    assert_non_null(strstr(h->text, "data: [DONE]\n\n"));
    (void)close(fd);
}

static void test_key(void **state) {
    (void)state;
    (void)control("POST", "/mock/rules", "{\"key\":\"k1\"}");
    static const struct {
        const char *header, *status;
    } rows[] = {{"X: y", "401"},
                {"Authorization: Bearer k2", "401"},
                {"Authorization: Bearer k1", "200"},
                {"api-key: k1", "200"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char request[200];
        (void)snprintf(request, sizeof request, "GET /v1/models HTTP/1.1\r\n%s\r\n\r\n", rows[i].header);
        int fd = dial();
        say(fd, request);
        (void)hear(fd, "}", 2000);
        assert_memory_equal(got.text + 9, rows[i].status, 3);
        (void)close(fd);
    }
}

// ---- evidence -----------------------------------------------------------------------------------

// The log once it has the text; fails after 5 s.
static const char *await_log(const char *text) {
    int64_t until = now_ms() + 5000;
    for (;;) {
        const char *log = control("GET", "/mock/log", "");
        if (strstr(log, text))
            return log;
        if (now_ms() > until)
            fail_msg("no %s in %s", text, log);
        (void)poll(NULL, 0, 2);
    }
}

static void test_client_gone_is_noticed(void **state) {
    (void)state;
    static const char *const faults[] = {"timeout", "stall-1", "head-silence", "slow-10s", "finish-silence"};
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        (void)control("DELETE", "/mock/log", "");
        int fd = dial();
        say(fd, post(faults[i], true));
        (void)await_log("\"outcome\":\"running\"");
        int64_t left = now_ms();
        (void)close(fd);
        (void)await_log("\"outcome\":\"client_");
        assert_true(now_ms() - left < 2000);
    }
}

static void test_client_gone_within_a_stream(void **state) {
    (void)state;
    (void)control("POST", "/mock/rules", "{\"tokens-per-second\":50,\"words\":1000}");
    int fd = dial();
    say(fd, post("ok", true));
    assert_int_equal(hear(fd, "hi", 2000)->end, 'U');
    struct linger abort_it = {.l_onoff = 1};
    (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &abort_it, sizeof abort_it);
    (void)close(fd);
    const char *log = await_log("\"outcome\":\"client_reset\"");
    const char *events = strstr(log, "\"events\":");
    assert_non_null(events);
    assert_in_range(atoi(events + 9), 2, 100);
}

static void test_log_tells_of_the_request(void **state) {
    (void)state;
    int fd = dial();
    say(fd,
        "POST /v1/embeddings?x=1 HTTP/1.1\r\nAuthorization: Bearer secret\r\nX-Stainless-Retry-Count: 2\r\n"
        "Idempotency-Key: i1\r\nUser-Agent: me \xff\r\nContent-Length: "
        "27\r\n\r\n{\"model\":\"e\",\"input\":\"abc\"} ");
    assert_int_equal(hear(fd, "}}", 2000)->end, 'U');
    (void)close(fd);
    const char *log = control("GET", "/mock/log?since=0&limit=1", "");
    static const char *const parts[] = {"\"number\":1,",           "\"path\":\"/v1/embeddings\"",
                                        "\"model\":\"e\"",         "\"retry_count\":2",
                                        "\"body_bytes\":27",       "\"idempotency_key\":\"i1\"",
                                        "\"user_agent\":\"me ?\"", "\"outcome\":\"answered\"",
                                        "\"status\":200",          "\"authorization\":\""};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        if (!strstr(log, parts[i]))
            fail_msg("no %s in %s", parts[i], log);
    }
    assert_null(strstr(log, "secret"));
    assert_non_null(strstr(control("GET", "/mock/stats", ""), "\"attempts\":1,"));
    (void)control("POST", "/mock/reset", "");
    assert_non_null(strstr(control("GET", "/mock/stats", ""), "\"attempts\":0,"));
    assert_non_null(strstr(control("GET", "/mock/nothing", ""), "\"ok\":false"));
}

#define WIRE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        WIRE(test_endings),
        WIRE(test_slow_first_sends_the_head_at_once),
        WIRE(test_pace),
        WIRE(test_pipelined_requests_in_order),
        WIRE(test_chunked_request_byte_by_byte),
        WIRE(test_expect_continue),
        WIRE(test_bad_requests),
        WIRE(test_http_1_0_stream_ends_with_the_connection),
        WIRE(test_key),
        WIRE(test_client_gone_is_noticed),
        WIRE(test_client_gone_within_a_stream),
        WIRE(test_log_tells_of_the_request),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
