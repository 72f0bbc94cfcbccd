// How each way of ending is classified (LIBRARIES "libcurl" 10).
#include "upstream_bench.h"

#include "upstream_private.h"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

static sj_headers no_headers;

typedef struct ending {
    const char *name;
    raw_reply reply;
    sj_end end;
    int status, heads;
    size_t body_n;
} ending;

#define HEAD "HTTP/1.1 200 OK\r\n"
#define LONG_100                                                                                             \
    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"

static const ending ENDINGS[] = {
    {"length", {.text = HEAD "Content-Length: 3\r\n\r\nabc"}, SJ_END_WHOLE, 200, 1, 3},
    {"no content", {.text = "HTTP/1.1 204 No Content\r\n\r\n"}, SJ_END_WHOLE, 204, 1, 0},
    {"error status",
     {.text = "HTTP/1.1 503 Busy\r\nRetry-After: 2\r\nContent-Length: 0\r\n\r\n"},
     SJ_END_WHOLE,
     503,
     1,
     0},
    {"redirect",
     {.text = "HTTP/1.1 302 F\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"},
     SJ_END_WHOLE,
     302,
     1,
     0},
    {"odd location",
     {.text = "HTTP/1.1 302 F\r\nLocation: ht!tp://[:::\r\nContent-Length: 0\r\n\r\n"},
     SJ_END_WHOLE,
     302,
     1,
     0},
    {"unauthorized",
     {.text = "HTTP/1.1 401 U\r\nWWW-Authenticate: Basic realm=\"x\"\r\nContent-Length: 1\r\n\r\nu"},
     SJ_END_WHOLE,
     401,
     1,
     1},
    {"no reason", {.text = "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n"}, SJ_END_WHOLE, 200, 1, 0},
    {"chunked",
     {.text = HEAD "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;ext=1\r\nde\r\n0\r\n\r\n"},
     SJ_END_WHOLE,
     200,
     1,
     5},
    {"until close", {.text = HEAD "\r\nabcd", .then = RAW_CLOSE}, SJ_END_WHOLE, 200, 1, 4},
    {"until close, 1.0", {.text = "HTTP/1.0 200 OK\r\n\r\nabcd", .then = RAW_CLOSE}, SJ_END_WHOLE, 200, 1, 4},
    {"encoded",
     {.text = HEAD "Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc"},
     SJ_END_WHOLE,
     200,
     1,
     3},
    {"interim",
     {.text = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" HEAD
              "Content-Length: 1\r\n\r\na"},
     SJ_END_WHOLE,
     200,
     1,
     1},
    {"too long by some", {.text = HEAD "Content-Length: 3\r\n\r\nabcdef"}, SJ_END_WHOLE, 200, 1, 3},

    {"too short",
     {.text = HEAD "Content-Length: 10\r\n\r\nabc", .then = RAW_CLOSE},
     SJ_END_BROKEN,
     200,
     1,
     3},
    {"reset in the body",
     {.text = HEAD "Content-Length: 10\r\n\r\nabc", .then = RAW_RESET},
     SJ_END_BROKEN,
     200,
     1,
     3},
    {"reset until close", {.text = HEAD "\r\nabc", .then = RAW_RESET}, SJ_END_BROKEN, 200, 1, 3},
    {"chunked cut",
     {.text = HEAD "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", .then = RAW_CLOSE},
     SJ_END_BROKEN,
     200,
     1,
     3},
    {"chunked cut inside",
     {.text = HEAD "Transfer-Encoding: chunked\r\n\r\n9\r\nabc", .then = RAW_CLOSE},
     SJ_END_BROKEN,
     200,
     1,
     3},
    {"bad chunk",
     {.text = HEAD "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n"},
     SJ_END_BROKEN,
     200,
     1,
     3},
    {"cut in the head", {.text = HEAD "Content-Le", .then = RAW_CLOSE}, SJ_END_BROKEN, 200, 0, 0},
    {"cut after the status", {.text = HEAD, .then = RAW_CLOSE}, SJ_END_BROKEN, 200, 0, 0},
    {"interim only", {.text = "HTTP/1.1 100 Continue\r\n\r\n", .then = RAW_CLOSE}, SJ_END_BROKEN, 0, 0, 0},
    {"bad trailer",
     {.text = HEAD "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n odd\r\n\r\n"},
     SJ_END_BROKEN,
     200,
     1,
     1},

    {"close", {.then = RAW_CLOSE}, SJ_END_NO_ANSWER, 0, 0, 0},
    {"reset", {.then = RAW_RESET}, SJ_END_NO_ANSWER, 0, 0, 0},

    {"not http", {.text = "SSH-2.0-OpenSSH\r\n", .then = RAW_CLOSE}, SJ_END_GARBAGE, 0, 0, 0},
    {"html", {.text = "<html>no</html>", .then = RAW_CLOSE}, SJ_END_GARBAGE, 0, 0, 0},
    {"status word", {.text = "HTTP/1.1 OK\r\n\r\n", .then = RAW_CLOSE}, SJ_END_GARBAGE, 0, 0, 0},
    {"status 42", {.text = "HTTP/1.1 042 No\r\nContent-Length: 0\r\n\r\n"}, SJ_END_GARBAGE, 0, 0, 0},
    {"status 2000", {.text = "HTTP/1.1 2000 No\r\nContent-Length: 0\r\n\r\n"}, SJ_END_GARBAGE, 0, 0, 0},
    {"negative length", {.text = HEAD "Content-Length: -1\r\n\r\n"}, SJ_END_GARBAGE, 200, 0, 0},
    {"word length", {.text = HEAD "Content-Length: many\r\n\r\n"}, SJ_END_GARBAGE, 200, 0, 0},
    {"folded", {.text = HEAD "A: b\r\n c\r\nContent-Length: 0\r\n\r\n"}, SJ_END_GARBAGE, 200, 0, 0},
    {"space before the colon", {.text = HEAD "Content-Length : 0\r\n\r\n"}, SJ_END_GARBAGE, 200, 0, 0},
    {"no colon", {.text = HEAD "oops\r\nContent-Length: 0\r\n\r\n"}, SJ_END_GARBAGE, 200, 0, 0},
    {"protocol switch", {.text = "HTTP/1.1 101 Switch\r\nUpgrade: x\r\n\r\nabc"}, SJ_END_GARBAGE, 101, 0, 0},
    {"endless line", {.text = HEAD "X: ", .filler = 2 * 1024 * 1024}, SJ_END_GARBAGE, 200, 0, 0},
    {"endless first line", {.text = "HTTP/1.1 200 ", .filler = 2 * 1024 * 1024}, SJ_END_GARBAGE, 0, 0, 0},
};

// On a connection of its own, and on one that had served: only the wordless deaths differ.
static void test_endings(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof ENDINGS / sizeof ENDINGS[0]; i++) {
        const ending *e = &ENDINGS[i];
        for (int reused = 0; reused < 2; reused++) {
            const raw_reply replies[] = {{.text = HEAD "Content-Length: 0\r\n\r\n"}, e->reply};
            bench b;
            bench_open(&b, replies + 1 - reused, 1 + (size_t)reused);
            sj_attempt_spec spec = bench_get(&b, &no_headers);
            probe p;
            if (reused) {
                bench_exchange(&b, &p, &spec);
                probe_free(&p);
            }
            bench_exchange(&b, &p, &spec);
            sj_end expected = reused && e->end == SJ_END_NO_ANSWER ? SJ_END_STALE : e->end;
            if (p.end.end != expected || (p.heads > 0 && p.status != e->status) || p.heads != e->heads ||
                p.body_n != e->body_n)
                fail_msg("%s (%s): end %d, wanted %d; status %d, heads %d, body %zu; %s", e->name,
                         reused ? "reused" : "fresh", p.end.end, expected, p.status, p.heads, p.body_n,
                         p.end.detail);
            assert_true(p.end.sent);
            assert_false(p.end.own_side);
            assert_int_equal(p.end.reused, reused);
            assert_int_equal(p.ends, 1);
            // Never a second copy, on no connection.
            bench_idle(&b, 5);
            assert_int_equal(b.server.requests, 1 + reused);
            assert_int_equal(b.server.connections, 1);
            assert_int_equal(p.end.end == SJ_END_WHOLE, p.end.detail[0] == '\0');
            probe_free(&p);
            bench_close(&b);
        }
    }
}

// An answer with too much behind it taints its connection.
static void test_excess_is_not_reused(void **state) {
    (void)state;
    static const raw_reply replies[] = {
        {.text = HEAD "Content-Length: 3\r\n\r\nabcHTTP/1.1 500 Evil\r\n\r\n"},
        {.text = HEAD "Content-Length: 1\r\n\r\nb"}};
    bench b;
    bench_open(&b, replies, 2);
    probe p;
    sj_attempt_spec spec = bench_get(&b, &no_headers);
    bench_exchange(&b, &p, &spec);
    assert_string_equal(p.body, "abc");
    probe_free(&p);
    bench_exchange(&b, &p, &spec);
    assert_int_equal(p.end.end, SJ_END_WHOLE);
    assert_string_equal(p.body, "b");
    assert_false(p.end.reused);
    assert_int_equal(b.server.connections, 2);
    probe_free(&p);
    bench_close(&b);
}

static void test_trailers(void **state) {
    (void)state;
    static const raw_reply replies[] = {
        {.text = HEAD
         "Transfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n1\r\na\r\n0\r\nX-T: one\r\nx-t: two\r\n\r\n"}};
    bench b;
    bench_open(&b, replies, 1);
    for (int i = 0; i < 2; i++) {
        probe p;
        sj_attempt_spec spec = bench_get(&b, &no_headers);
        bench_exchange(&b, &p, &spec);
        assert_int_equal(p.end.end, SJ_END_WHOLE);
        assert_int_equal(p.head.count, 2);
        assert_int_equal(p.trailers.count, 2);
        assert_string_equal(sj_headers_at(&p.trailers, 0).name.p, "X-T");
        assert_string_equal(sj_headers_at(&p.trailers, 1).value.p, "two");
        probe_free(&p);
    }
    assert_int_equal(b.server.connections, 1);
    bench_close(&b);
}

static char *many_fields(int count, const char *value) {
    size_t room = (size_t)count * (strlen(value) + 16) + 256;
    char *text = malloc(room);
    size_t n = (size_t)snprintf(text, room, HEAD "Content-Length: 0\r\n");
    for (int i = 0; i < count; i++)
        n += (size_t)snprintf(text + n, room - n, "X-%d: %s\r\n", i, value);
    (void)snprintf(text + n, room - n, "\r\n");
    return text;
}

static void check_many(int count, const char *value, sj_end expected) {
    char *text = many_fields(count, value);
    const raw_reply replies[] = {{.text = text}};
    bench b;
    bench_open(&b, replies, 1);
    probe p;
    sj_attempt_spec spec = bench_get(&b, &no_headers);
    bench_exchange(&b, &p, &spec);
    assert_int_equal(p.end.end, expected);
    if (expected == SJ_END_WHOLE) {
        assert_int_equal(p.head.count, count + 1);
        char name[32];
        (void)snprintf(name, sizeof name, "X-%d", count - 1);
        assert_string_equal(sj_headers_at(&p.head, (size_t)count).name.p, name);
    } else {
        assert_int_equal(p.heads, 0);
    }
    probe_free(&p);
    bench_close(&b);
    free(text);
}

static void test_many_headers(void **state) {
    (void)state;
    check_many(300, LONG_100, SJ_END_WHOLE);
    check_many(999, "v", SJ_END_WHOLE);
    check_many(1000, "v", SJ_END_GARBAGE);
    check_many(990, LONG_100 LONG_100 LONG_100, SJ_END_GARBAGE);
}

// A head that never ends, of lines that are each fine.
static void test_endless_interim(void **state) {
    (void)state;
    enum { COUNT = 20000 };
    static const char one[] = "HTTP/1.1 100 Continue\r\n\r\n";
    char *text = malloc(COUNT * (sizeof one - 1) + 1);
    for (size_t i = 0; i < COUNT; i++)
        memcpy(text + i * (sizeof one - 1), one, sizeof one);
    const raw_reply replies[] = {{.text = text}};
    bench b;
    bench_open(&b, replies, 1);
    probe p;
    sj_attempt_spec spec = bench_get(&b, &no_headers);
    bench_exchange(&b, &p, &spec);
    assert_int_equal(p.end.end, SJ_END_GARBAGE);
    probe_free(&p);
    bench_close(&b);
    free(text);
}

static void check_never_sent(bench *b, const char *origin, const char *detail) {
    probe p;
    sj_attempt_spec spec = bench_get(b, &no_headers);
    spec.origin = origin;
    spec.connect_timeout_ms = strcmp(detail, "Connect timed out") == 0 ? 300 : 5000;
    bench_exchange(b, &p, &spec);
    assert_int_equal(p.end.end, SJ_END_NEVER_SENT);
    assert_false(p.end.sent);
    assert_true(p.end.own_side);
    assert_false(p.end.reused);
    assert_string_equal(p.end.detail, detail);
    probe_free(&p);
}

static int listen_on(int backlog, char *origin, size_t size) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    assert_int_equal(bind(fd, (struct sockaddr *)&address, length), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &length), 0);
    if (backlog >= 0)
        assert_int_equal(listen(fd, backlog), 0);
    (void)snprintf(origin, size, "http://127.0.0.1:%d", ntohs(address.sin_port));
    return fd;
}

static void test_never_sent(void **state) {
    (void)state;
    static const raw_reply replies[] = {{.text = HEAD "\r\n"}};
    bench b;
    bench_open(&b, replies, 1);
    char origin[64];
    int bound = listen_on(-1, origin, sizeof origin);
    check_never_sent(&b, origin, "Connection refused");
    // A label beyond 63 bytes: the resolver refuses it without asking anybody.
    check_never_sent(&b, "http://" LONG_100 ".invalid", "Could not resolve host");
    (void)close(bound);

    // A backlog that is full: the next connect gets no answer.
    int full = listen_on(0, origin, sizeof origin);
    int held[2];
    for (int i = 0; i < 2; i++) {
        struct sockaddr_in address;
        socklen_t length = sizeof address;
        assert_int_equal(getsockname(full, (struct sockaddr *)&address, &length), 0);
        held[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        (void)connect(held[i], (struct sockaddr *)&address, length);
    }
    check_never_sent(&b, origin, "Connect timed out");
    (void)close(held[0]);
    (void)close(held[1]);
    (void)close(full);
    assert_int_equal(b.server.connections, 0);
    bench_close(&b);
}

static int listen_full(uint32_t address, int port, int held[2]) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in where = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(address), .sin_port = htons((uint16_t)port)};
    assert_int_equal(bind(fd, (struct sockaddr *)&where, sizeof where), 0);
    assert_int_equal(listen(fd, 0), 0);
    for (int i = 0; i < 2; i++) {
        held[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        (void)connect(held[i], (struct sockaddr *)&where, sizeof where);
    }
    return fd;
}

// A name with several addresses: curl closes the sockets of those that fail without a word, and the next one may get the same number.
static void check_addresses(bench *b, const char *addresses, sj_end end) {
    char origin[64], entry[128];
    probe p;
    sj_attempt_spec spec = bench_get(b, &no_headers);
    bench_exchange(b, &p, &spec);
    probe_free(&p);
    (void)snprintf(origin, sizeof origin, "http://many.test:%d", b->server.port);
    (void)snprintf(entry, sizeof entry, "+many.test:%d:%s", b->server.port, addresses);
    struct curl_slist *entries = curl_slist_append(NULL, entry);
    assert_int_equal(curl_easy_setopt(b->upstream->idle->easy, CURLOPT_RESOLVE, entries), CURLE_OK);
    spec.origin = origin;
    spec.fresh = true;
    spec.connect_timeout_ms = 400;
    bench_exchange(b, &p, &spec);
    if (p.end.end != end)
        fail_msg("%s: end %d, wanted %d; %s", addresses, p.end.end, end, p.end.detail);
    probe_free(&p);
    assert_int_equal(curl_easy_setopt(b->upstream->idle->easy, CURLOPT_RESOLVE, NULL), CURLE_OK);
    curl_slist_free_all(entries);
}

static void test_addresses(void **state) {
    (void)state;
    static const raw_reply replies[] = {{.text = HEAD "Content-Length: 1\r\n\r\na"}};
    bench b;
    bench_open(&b, replies, 1);
    int held[2];
    int full = listen_full(INADDR_LOOPBACK + 2, b.server.port, held);
    check_addresses(&b, "127.0.0.2,127.0.0.1", SJ_END_WHOLE);
    check_addresses(&b, "127.0.0.3,127.0.0.1", SJ_END_WHOLE);
    check_addresses(&b, "127.0.0.2,127.0.0.4,127.0.0.5", SJ_END_NEVER_SENT);
    check_addresses(&b, "127.0.0.3,127.0.0.2", SJ_END_NEVER_SENT);
    check_addresses(&b, "[::1],127.0.0.1", SJ_END_WHOLE);
    (void)close(held[0]);
    (void)close(held[1]);
    (void)close(full);
    bench_close(&b);
}

static void test_unfit_specs(void **state) {
    (void)state;
    static const raw_reply replies[] = {{.text = HEAD "\r\n"}};
    bench b;
    bench_open(&b, replies, 1);
    probe p;
    probe_init(&p);
    sj_attempt_spec spec = bench_get(&b, &no_headers);
    spec.method = SJ_SLICE("GE T");
    assert_null(sj_attempt_start(b.upstream, &spec, &PROBE_HANDLERS, &p));
    spec = bench_get(&b, &no_headers);
    spec.target = SJ_SLICE("/a b");
    assert_null(sj_attempt_start(b.upstream, &spec, &PROBE_HANDLERS, &p));
    spec.target = SJ_SLICE("/a\r\nX: y");
    assert_null(sj_attempt_start(b.upstream, &spec, &PROBE_HANDLERS, &p));
    sj_headers headers;
    sj_headers_init(&headers);
    assert_true(sj_headers_add(&headers, SJ_SLICE("X"), SJ_SLICE("a\r\nY: z")));
    spec = bench_get(&b, &headers);
    assert_null(sj_attempt_start(b.upstream, &spec, &PROBE_HANDLERS, &p));
    sj_headers_free(&headers);
    // What only curl can tell is told by the end.
    spec = bench_get(&b, &no_headers);
    spec.origin = "ftp://127.0.0.1";
    bench_exchange(&b, &p, &spec);
    assert_int_equal(p.end.end, SJ_END_LOCAL);
    assert_false(p.end.sent);
    assert_int_equal(sj_upstream_read(b.upstream).running, 0);
    probe_free(&p);
    bench_close(&b);
}

static void on_other(uv_poll_t *poll, int status, int events) {
    (void)poll, (void)status, (void)events;
}

// Somebody left a watch on a number that curl's socket gets: one attempt ends, the others go on.
static void test_unwatchable(void **state) {
    (void)state;
    static const raw_reply replies[] = {{.text = HEAD "Content-Length: 1\r\n\r\na"}};
    bench b;
    bench_open(&b, replies, 1);
    probe first, second;
    probe_init(&first);
    probe_init(&second);
    sj_attempt_spec spec = bench_get(&b, &no_headers);
    uv_poll_t other;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(uv_poll_init(&b.loop, &other, fd), 0);
    assert_int_equal(uv_poll_start(&other, UV_PRIORITIZED, on_other), 0);
    (void)uv_run(&b.loop, UV_RUN_NOWAIT);
    (void)close(fd);
    bench_start(&b, &first, &spec);
    bench_start(&b, &second, &spec);
    assert_true(bench_run(&b, &first.ends, 1, 5000));
    assert_true(bench_run(&b, &second.ends, 1, 5000));
    assert_int_equal(first.end.end, SJ_END_LOCAL);
    assert_false(first.end.sent);
    assert_int_equal(second.end.end, SJ_END_WHOLE);
    uv_close((uv_handle_t *)&other, NULL);
    probe_free(&first);
    probe_free(&second);
    bench_close(&b);
}

int main(void) {
    sj_headers_init(&no_headers);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_endings),         cmocka_unit_test(test_excess_is_not_reused),
        cmocka_unit_test(test_trailers),        cmocka_unit_test(test_many_headers),
        cmocka_unit_test(test_endless_interim), cmocka_unit_test(test_never_sent),
        cmocka_unit_test(test_unfit_specs),     cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_unwatchable),
    };
    if (!sj_upstream_global_init())
        return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    sj_upstream_global_end();
    return failed;
}
