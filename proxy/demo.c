#include "demo.h"

#include "demo_client.h"
#include "mock.h"
#include "server.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sysexits.h>
#include <unistd.h>

enum { MAX_METRICS = 4 * 1024 * 1024, MAX_MESSAGES = 64 * 1024, INTERRUPTED = 130 };

typedef struct demo {
    const sj_demo_options *options;
    uv_loop_t loop; // of the load
    uv_loop_t mock_loop;
    uv_thread_t mock_thread;
    uv_async_t mock_stop;
    sj_mock *mock;
    int mock_port;
    sj_server *server;
    char upstream[64], proxy[64], admin[64]; // origins
    const char *phase;
    uint64_t last_line_ns;
} demo;

// ---- the upstream -------------------------------------------------------------------------------

static void on_mock_stop(uv_async_t *stop) {
    demo *d = stop->data;
    sj_mock_close(&d->mock);
    uv_close((uv_handle_t *)stop, NULL);
}

static void run_mock(void *loop) {
    (void)uv_run(loop, UV_RUN_DEFAULT);
}

// A tenth of a real API's times, so that the demo is over soon; the configuration below scales its waits alike.
static bool mock_rules(const sj_demo_options *options, sj_mock_rules *rules) {
    sj_mock_rules_init(rules);
    rules->fail = options->fail;
    rules->seed = options->seed;
    rules->words = SJ_DEMO_WORDS;
    rules->tokens_per_second = 500;
    static const char mix[] =
        "2*429, 429; retry-after-ms=60, 2*500, 2*503, reset, cut, cut-close, cut-reset, error-body, empty";
    sj_buffer error = sj_buffer_with_max(MAX_MESSAGES);
    bool ok = sj_mock_rules_set(rules, SJ_SLICE("mix"), SJ_SLICE(mix), &error) &&
              sj_mock_delay_parse(SJ_SLICE("lognormal:20ms,0.4"), &rules->latency);
    sj_buffer_free(&error);
    return ok;
}

static bool start_mock(demo *d) {
    sj_mock_rules rules;
    if (!mock_rules(d->options, &rules) || uv_loop_init(&d->mock_loop) != 0)
        return false;
    (void)uv_async_init(&d->mock_loop, &d->mock_stop, on_mock_stop);
    d->mock_stop.data = d;
    d->mock = sj_mock_new(&d->mock_loop, &rules);
    if (d->mock) {
        d->mock_port = sj_mock_port(d->mock);
        (void)snprintf(d->upstream, sizeof d->upstream, "http://127.0.0.1:%d", d->mock_port);
        if (uv_thread_create(&d->mock_thread, run_mock, &d->mock_loop) == 0)
            return true;
    }
    (void)fprintf(stderr, "stormjib demo: cannot start the upstream: %s\n", strerror(errno));
    on_mock_stop(&d->mock_stop);
    (void)uv_run(&d->mock_loop, UV_RUN_DEFAULT);
    (void)uv_loop_close(&d->mock_loop);
    return false;
}

static void stop_mock(demo *d) {
    (void)uv_async_send(&d->mock_stop);
    (void)uv_thread_join(&d->mock_thread);
    (void)uv_loop_close(&d->mock_loop);
}

// ---- the proxy ----------------------------------------------------------------------------------

static const char configuration[] =
    "listen = \"127.0.0.1:%d\";\n"
    "admin = \"127.0.0.1:0\";\n"
    "workers = 1;\n"
    "upstreams = { demo = { base_url = \"%s/v1\"; auth = \"none\"; }; };\n"
    "routes = ( { model = \"*\"; chain = [ \"demo\" ]; } );\n"
    "retry = { base = \"50ms\"; cap = \"800ms\"; throttle_base = \"100ms\"; };\n"
    "log = { level = \"error\"; };\n";

// Configurations are read from files; this one never has a name.
static bool load_config(const char *text, size_t n, sj_config **config, sj_buffer *error) {
    sj_buffer warnings = sj_buffer_with_max(MAX_MESSAGES);
    char path[40];
    int fd = memfd_create("demo.conf", MFD_CLOEXEC);
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    bool ok = fd >= 0 && write(fd, text, n) == (ssize_t)n && sj_config_load(path, config, error, &warnings);
    if (fd >= 0)
        (void)close(fd);
    sj_buffer_free(&warnings);
    return ok;
}

static bool start_proxy(demo *d) {
    char text[sizeof configuration + 100];
    sj_buffer error = sj_buffer_with_max(MAX_MESSAGES);
    sj_config *config = NULL;
    int n = snprintf(text, sizeof text, configuration, d->options->port, d->upstream);
    if (load_config(text, (size_t)n, &config, &error))
        d->server = sj_server_start(config, &error);
    sj_config_unref(&config);
    if (d->server) {
        (void)snprintf(d->proxy, sizeof d->proxy, "http://127.0.0.1:%d", sj_server_port(d->server));
        (void)snprintf(d->admin, sizeof d->admin, "http://127.0.0.1:%d", sj_server_admin_port(d->server));
    } else {
        (void)fprintf(stderr, "stormjib demo: cannot start the proxy: %.*s\n", (int)error.n,
                      error.p ? error.p : "");
    }
    sj_buffer_free(&error);
    return d->server != NULL;
}

// ---- the runs -----------------------------------------------------------------------------------

static void on_progress(const sj_demo_tally *tally, void *context) {
    demo *d = context;
    bool tty = isatty(STDERR_FILENO) == 1;
    uint64_t now = uv_hrtime();
    if (!tty && now - d->last_line_ns < 1000000000)
        return;
    d->last_line_ns = now;
    (void)fprintf(stderr, "%s%-18s %6d of %d answered, %d failed%s", tty ? "\r" : "", d->phase,
                  tally->done - tally->failed, d->options->requests, tally->failed, tty ? "" : "\n");
}

static bool fetch_number(demo *d, const char *name, double *out) {
    sj_buffer text = sj_buffer_with_max(MAX_METRICS);
    bool ok = sj_demo_fetch(&d->loop, d->upstream, "GET", "/mock/stats", &text);
    cJSON *json = ok ? cJSON_ParseWithLength(text.p, text.n) : NULL;
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(json, name);
    ok = cJSON_IsNumber(item);
    if (ok)
        *out = item->valuedouble;
    cJSON_Delete(json);
    sj_buffer_free(&text);
    return ok;
}

// The upstream begins anew, so that both runs meet the same sequence of faults.
static int run_side(demo *d, const char *phase, const char *origin, sj_demo_side *side) {
    sj_buffer ignored = sj_buffer_with_max(MAX_MESSAGES);
    bool ready = sj_demo_fetch(&d->loop, d->upstream, "POST", "/mock/reset", &ignored);
    sj_buffer_free(&ignored);
    sj_demo_load load = {.origin = origin,
                         .requests = d->options->requests,
                         .concurrency = d->options->concurrency,
                         .on_progress = on_progress,
                         .context = d};
    d->phase = phase;
    d->last_line_ns = uv_hrtime();
    if (!ready)
        return EX_SOFTWARE;
    bool whole = sj_demo_load_run(&d->loop, &load, &side->tally);
    d->last_line_ns = 0;
    on_progress(&side->tally, d);
    if (isatty(STDERR_FILENO) == 1)
        (void)fputc('\n', stderr);
    if (!whole)
        return INTERRUPTED;
    return fetch_number(d, "attempts", &side->attempts) ? EX_OK : EX_SOFTWARE;
}

static int run_both(demo *d, sj_demo_outcome *outcome) {
    int code = run_side(d, "directly:", d->upstream, &outcome->direct);
    if (code == EX_OK)
        code = run_side(d, "through stormjib:", d->proxy, &outcome->proxied);
    if (code != EX_OK)
        return code;
    sj_buffer metrics = sj_buffer_with_max(MAX_METRICS);
    if (sj_demo_fetch(&d->loop, d->admin, "GET", "/metrics", &metrics))
        sj_demo_read_events(metrics.p, metrics.n, outcome->events);
    sj_buffer_free(&metrics);
    return EX_OK;
}

// ---- staying up ---------------------------------------------------------------------------------

static void on_signal(uv_signal_t *signal, int number) {
    (void)number;
    uv_stop(signal->loop);
}

static void serve(demo *d) {
    static const char body[] =
        "{\"model\":\"gpt-4.1\",%s\"messages\":[{\"role\":\"user\",\"content\":\"hello\"}]}";
    char whole[200], streamed[200];
    (void)snprintf(whole, sizeof whole, body, "");
    (void)snprintf(streamed, sizeof streamed, body, "\"stream\":true,");
    (void)printf("\nUp until Ctrl-C. Base URL: %s/v1  (metrics and dashboard: %s/)\n"
                 "  curl -s  %s/v1/chat/completions -H 'Content-Type: application/json' -d '%s'\n"
                 "  curl -sN %s/v1/chat/completions -H 'Content-Type: application/json' -d '%s'\n",
                 d->proxy, d->admin, d->proxy, whole, d->proxy, streamed);
    (void)fflush(stdout);
    uv_signal_t signals[2];
    static const int numbers[2] = {SIGINT, SIGTERM};
    for (int i = 0; i < 2; i++) {
        (void)uv_signal_init(&d->loop, &signals[i]);
        (void)uv_signal_start(&signals[i], on_signal, numbers[i]);
    }
    (void)uv_run(&d->loop, UV_RUN_DEFAULT);
    for (int i = 0; i < 2; i++)
        uv_close((uv_handle_t *)&signals[i], NULL);
    (void)uv_run(&d->loop, UV_RUN_DEFAULT);
}

static int run(demo *d) {
    sj_demo_outcome outcome = {0};
    int code = run_both(d, &outcome);
    if (code == EX_OK && d->options->json)
        sj_demo_report_json(d->options, &outcome, stdout);
    else if (code == EX_OK)
        sj_demo_report_table(&outcome, stdout);
    if (code == EX_OK && d->options->serve)
        serve(d);
    if (code == EX_SOFTWARE)
        (void)fputs("stormjib demo: the embedded upstream does not answer its control requests\n", stderr);
    sj_demo_tally_free(&outcome.direct.tally);
    sj_demo_tally_free(&outcome.proxied.tally);
    return code;
}

int sj_demo_run(const sj_demo_options *options) {
    demo d = {.options = options};
    if (uv_loop_init(&d.loop) != 0 || !sj_upstream_global_init())
        return EX_OSERR;
    int code = EX_UNAVAILABLE;
    if (start_mock(&d)) {
        (void)fprintf(
            stderr, "An upstream on %s/v1 that fails %.1f %% of all attempts, and stormjib in front of it.\n",
            d.upstream, options->fail * 100);
        if (start_proxy(&d)) {
            code = run(&d);
            sj_server_stop(&d.server);
        }
        stop_mock(&d);
    }
    (void)uv_loop_close(&d.loop);
    sj_upstream_global_end();
    return code;
}
