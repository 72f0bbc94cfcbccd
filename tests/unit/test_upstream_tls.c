// TLS with a private CA: verification, its failures, reuse. The server is the openssl command's, answering what the test writes to it.
#include "upstream_bench.h"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

static sj_headers no_headers;

typedef struct tls_server {
    bench *b;
    uv_process_t process;
    uv_pipe_t in, out;
    char origin[64], ca_file[128], directory[64];
    char seen[8192]; // what clients sent
    size_t n;
    int requests;
} tls_server;

static bool run(const char *directory, const char *command) {
    char line[1024];
    (void)snprintf(line, sizeof line, "cd %s && %s >/dev/null 2>&1", directory, command);
    return system(line) == 0;
}

static bool make_certificates(const char *directory) {
    static const char *const COMMANDS[] = {
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem "
        "-days 2 -subj /CN=ca",
        "openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout leaf.key -out leaf.csr -subj "
        "/CN=leaf",
        "echo subjectAltName=IP:127.0.0.1 | tee leaf.ext",
        "openssl x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -CAcreateserial -extfile leaf.ext -out "
        "leaf.pem -days 2",
    };
    for (size_t i = 0; i < sizeof COMMANDS / sizeof COMMANDS[0]; i++) {
        if (!run(directory, COMMANDS[i]))
            return false;
    }
    return true;
}

static int free_port(void) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    assert_int_equal(bind(fd, (struct sockaddr *)&address, length), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &length), 0);
    (void)close(fd);
    return ntohs(address.sin_port);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer) {
    (void)suggested;
    tls_server *server = handle->data;
    *buffer = uv_buf_init(server->seen + server->n, (unsigned)(sizeof server->seen - 1 - server->n));
}

static void on_out(uv_stream_t *stream, ssize_t n, const uv_buf_t *buffer) {
    (void)buffer;
    tls_server *server = stream->data;
    if (n <= 0) {
        (void)uv_read_stop(stream);
        return;
    }
    server->n += (size_t)n;
    server->seen[server->n] = '\0';
    if (!strstr(server->seen, "\r\n\r\n"))
        return;
    static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    uv_buf_t out = uv_buf_init((char *)(uintptr_t)answer, sizeof answer - 1);
    assert_int_equal(uv_try_write((uv_stream_t *)&server->in, &out, 1), (int)(sizeof answer - 1));
    server->requests++;
    server->n = 0;
}

static void tls_open(tls_server *server, bench *b) {
    memset(server, 0, sizeof *server);
    server->b = b;
    (void)snprintf(server->directory, sizeof server->directory, "/tmp/stormjib-test-tls-XXXXXX");
    assert_non_null(mkdtemp(server->directory));
    assert_true(make_certificates(server->directory));
    char port[32];
    (void)snprintf(port, sizeof port, "127.0.0.1:%d", free_port());
    (void)snprintf(server->origin, sizeof server->origin, "https://%s", port);
    (void)snprintf(server->ca_file, sizeof server->ca_file, "%s/ca.pem", server->directory);
    (void)uv_pipe_init(&b->loop, &server->in, 0);
    (void)uv_pipe_init(&b->loop, &server->out, 0);
    server->in.data = server->out.data = server;
    // Bounded, whatever becomes of this test.
    char *arguments[] = {"timeout", "60",    "openssl",  "s_server", "-quiet",   "-accept",
                         port,      "-cert", "leaf.pem", "-key",     "leaf.key", NULL};
    uv_stdio_container_t stdio[3] = {
        {.flags = UV_CREATE_PIPE | UV_READABLE_PIPE, .data.stream = (uv_stream_t *)&server->in},
        {.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE, .data.stream = (uv_stream_t *)&server->out},
        {.flags = UV_IGNORE},
    };
    uv_process_options_t options = {
        .file = "timeout", .args = arguments, .cwd = server->directory, .stdio = stdio, .stdio_count = 3};
    assert_int_equal(uv_spawn(&b->loop, &server->process, &options), 0);
    assert_int_equal(uv_read_start((uv_stream_t *)&server->out, on_alloc, on_out), 0);
}

static void tls_close(tls_server *server) {
    (void)uv_process_kill(&server->process, SIGTERM);
    uv_close((uv_handle_t *)&server->process, NULL);
    uv_close((uv_handle_t *)&server->in, NULL);
    uv_close((uv_handle_t *)&server->out, NULL);
    char command[128];
    (void)snprintf(command, sizeof command, "rm -rf %s", server->directory);
    assert_true(run("/", command));
}

static sj_attempt_spec tls_spec(const tls_server *server) {
    sj_attempt_spec spec = bench_get(server->b, &no_headers);
    spec.origin = server->origin;
    spec.ca_file = server->ca_file;
    return spec;
}

// The first attempts come while the command still starts.
static void wait_until_up(tls_server *server) {
    sj_attempt_spec spec = tls_spec(server);
    for (int i = 0; i < 250; i++) {
        probe p;
        bench_exchange(server->b, &p, &spec);
        sj_end end = p.end.end;
        probe_free(&p);
        if (end == SJ_END_WHOLE)
            return;
        if (end != SJ_END_NEVER_SENT)
            fail_msg("end %d: %s", end, p.end.detail);
        bench_idle(server->b, 20);
    }
    fail_msg("the server did not come up");
}

static void check_end(tls_server *server, const sj_attempt_spec *spec, sj_end end, bool sent,
                      const char *detail) {
    probe p;
    bench_exchange(server->b, &p, spec);
    if (p.end.end != end || p.end.sent != sent || !strcasestr(p.end.detail, detail))
        fail_msg("end %d, wanted %d; sent %d; %s", p.end.end, end, p.end.sent, p.end.detail);
    assert_int_equal(p.heads, end == SJ_END_WHOLE);
    assert_false(p.end.own_side);
    probe_free(&p);
}

static void test_tls(void **state) {
    (void)state;
    if (system("openssl version >/dev/null 2>&1") != 0)
        skip();
    static const raw_reply replies[] = {{.then = RAW_CLOSE},
                                        {.text = "HTTP/1.1 400 Plain\r\n\r\n", .then = RAW_CLOSE}};
    bench b;
    bench_open(&b, replies, 2);
    tls_server server;
    tls_open(&server, &b);
    wait_until_up(&server);

    // One connection, a handshake, and many requests.
    int before = server.requests;
    for (int i = 0; i < 5; i++) {
        sj_attempt_spec spec = tls_spec(&server);
        probe p;
        bench_exchange(&b, &p, &spec);
        assert_int_equal(p.end.end, SJ_END_WHOLE);
        assert_string_equal(p.body, "ok");
        assert_true(p.end.reused);
        assert_int_equal(p.end.connect_ms, 0);
        probe_free(&p);
    }
    assert_int_equal(server.requests, before + 5);

    // The command serves one connection at a time: the kept one has to go before another is made.
    sj_upstream_close(&b.upstream);
    b.upstream = sj_upstream_new(&b.loop);
    assert_non_null(b.upstream);
    sj_attempt_spec spec = tls_spec(&server);
    spec.ca_file = NULL;
    check_end(&server, &spec, SJ_END_TLS_UNVERIFIED, false, "certificate");
    spec = tls_spec(&server);
    char origin[64];
    (void)snprintf(origin, sizeof origin, "https://localhost%s", strrchr(server.origin, ':'));
    spec.origin = origin;
    check_end(&server, &spec, SJ_END_TLS_UNVERIFIED, false, "name");
    spec = tls_spec(&server);
    spec.ca_file = "/nonexistent/ca.pem";
    check_end(&server, &spec, SJ_END_LOCAL, false, "certificate");
    assert_int_equal(server.requests, before + 5);
    spec = tls_spec(&server);
    check_end(&server, &spec, SJ_END_WHOLE, true, "");
    assert_int_equal(server.requests, before + 6);

    // TLS to a port that speaks something else, that hangs up, that says nothing.
    (void)snprintf(origin, sizeof origin, "https://127.0.0.1:%d", b.server.port);
    spec.origin = origin;
    b.server.at_first_byte = true;
    check_end(&server, &spec, SJ_END_NEVER_SENT, false, "SSL");
    check_end(&server, &spec, SJ_END_NEVER_SENT, false, "SSL");
    assert_int_equal(b.server.requests, 2);
    b.server.at_first_byte = false;
    spec.connect_timeout_ms = 100;
    probe p;
    bench_exchange(&b, &p, &spec);
    assert_int_equal(p.end.end, SJ_END_NEVER_SENT);
    assert_string_equal(p.end.detail, "Connect timed out");
    assert_true(p.end.own_side);
    probe_free(&p);

    // The server goes while its connection is idle: that connection is not tried.
    spec = tls_spec(&server);
    check_end(&server, &spec, SJ_END_WHOLE, true, "");
    tls_close(&server);
    bench_idle(&b, 100);
    bench_exchange(&b, &p, &spec);
    assert_int_equal(p.end.end, SJ_END_NEVER_SENT);
    assert_false(p.end.sent);
    probe_free(&p);
    bench_close(&b);
}

int main(void) {
    sj_headers_init(&no_headers);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_tls)};
    if (!sj_upstream_global_init())
        return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    sj_upstream_global_end();
    return failed;
}
