#include "commands.h"
#include "mock.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sysexits.h>

enum { DEFAULT_PORT = 9101, MAX_SCRIPT_BYTES = 16 * 1024 * 1024, MAX_MESSAGE = 4096 };

static void help(void) {
    (void)puts("usage: stormjib mock [--OPTION VALUE]...\n\n"
               "An OpenAI-format upstream that misbehaves as told. It answers chat/completions, completions, "
               "responses,\n"
               "messages, embeddings, moderations, images/generations, audio/speech, audio/transcriptions "
               "and models, "
               "below any path.\n"
               "An answer follows from the request: \"echo:<crc32 of the last user message> <its beginning> "
               "<words>\".\n"
               "`tools` and a last message with the word \"tool\" in it: a tool call.\n\nOptions:");
    sj_mock_rules_help(stdout);
    (void)puts(
        "  --script FILE            JSON array, an entry for each attempt: \"429; retry-after=2\", 503,\n"
        "                           {\"fault\": \"cut\", \"after\": 3, \"times\": 2, \"model\": \"gpt-*\"};\n"
        "                           or {\"repeat\": true, \"entries\": [...]}. Used up: the other rules "
        "hold\n"
        "  --help\n\n"
        "A fault is chosen by, in this order:\n"
        "  the request's headers    x-mock-fault: 429; retry-after=2   (also x-mock-latency: 200ms, "
        "x-mock-words: 100)\n"
        "  its model's name         mock-429, mock-timeout, mock-cut-3, mock-slow-2s\n"
        "  the script, an outage, the limits, then chance (--fault, --fail with --mix)\n");
    sj_mock_faults_help(stdout);
    (void)puts(
        "\nWhile it runs, never struck by faults:\n"
        "  GET  /mock/log?since=N&limit=M   every attempt numbered above N: request, fault, outcome, times\n"
        "  GET  /mock/stats                 totals\n"
        "  POST /mock/rules {\"fail\": 0.5}   options by name, from now on (outages count from now)\n"
        "  POST /mock/script [...]          as in --script\n"
        "  POST /mock/reset                 as if just started\n"
        "  DELETE /mock/log, /mock/stats, /mock/script;  GET /mock/health");
}

static bool read_file(const char *path, sj_buffer *out) {
    FILE *file = fopen(path, "rb");
    if (!file)
        return false;
    char chunk[16 * 1024];
    size_t n;
    bool ok = true;
    while (ok && (n = fread(chunk, 1, sizeof chunk, file)) > 0)
        ok = sj_buffer_append(out, chunk, n);
    ok = ok && !ferror(file);
    (void)fclose(file);
    return ok;
}

typedef struct options {
    sj_mock_rules rules;
    const char *script;
} options;

static int read_option(int argc, char **argv, int *at, options *out) {
    sj_slice name = sj_slice_of(argv[*at]);
    if (!sj_slice_starts(name, SJ_SLICE("--"))) {
        (void)fprintf(stderr, "stormjib mock: '%s' is no option; see --help\n", argv[*at]);
        return EX_USAGE;
    }
    name = sj_slice_from(name, 2);
    const char *equals = memchr(name.p, '=', name.n);
    const char *value = equals ? equals + 1 : "";
    if (equals)
        name.n = (size_t)(equals - name.p);
    else if (!sj_mock_rules_is_flag(name) && *at + 1 < argc)
        value = argv[++*at];
    if (sj_slice_equal(name, SJ_SLICE("script"))) {
        out->script = value;
        return EX_OK;
    }
    sj_buffer error = sj_buffer_with_max(MAX_MESSAGE);
    bool ok = sj_mock_rules_set(&out->rules, name, sj_slice_of(value), &error);
    if (!ok)
        (void)fprintf(stderr, "stormjib mock: --%.*s\n", (int)error.n, error.p);
    sj_buffer_free(&error);
    return ok ? EX_OK : EX_USAGE;
}

static int load_script(sj_mock *mock, const char *path) {
    sj_buffer text = sj_buffer_with_max(MAX_SCRIPT_BYTES), error = sj_buffer_with_max(MAX_MESSAGE);
    int code = EX_OK;
    if (!read_file(path, &text)) {
        (void)fprintf(stderr, "stormjib mock: cannot read %s: %s\n", path, strerror(errno));
        code = EX_NOINPUT;
    } else if (!sj_mock_script(mock, sj_buffer_slice(&text), &error)) {
        (void)fprintf(stderr, "stormjib mock: %s: %.*s\n", path, (int)error.n, error.p);
        code = EX_DATAERR;
    }
    sj_buffer_free(&text);
    sj_buffer_free(&error);
    return code;
}

typedef struct process {
    sj_mock *mock;
    uv_signal_t signals[2];
} process;

static void end_process(process *self) {
    sj_mock_close(&self->mock);
    for (int i = 0; i < 2; i++) {
        if (!uv_is_closing((uv_handle_t *)&self->signals[i]))
            uv_close((uv_handle_t *)&self->signals[i], NULL);
    }
}

static void on_signal(uv_signal_t *signal, int number) {
    (void)number;
    end_process(signal->data);
}

// A descriptor for each of thousands of streams.
static void raise_file_limit(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static int run(const options *chosen) {
    uv_loop_t loop;
    process self = {0};
    if (uv_loop_init(&loop) != 0)
        return EX_OSERR;
    static const int numbers[2] = {SIGTERM, SIGINT};
    for (int i = 0; i < 2; i++) {
        (void)uv_signal_init(&loop, &self.signals[i]);
        self.signals[i].data = &self;
        (void)uv_signal_start(&self.signals[i], on_signal, numbers[i]);
    }
    self.mock = sj_mock_new(&loop, &chosen->rules);
    int code = EX_OK;
    if (!self.mock) {
        (void)fprintf(stderr, "stormjib mock: cannot listen on %s:%d: %s; choose another --port\n",
                      chosen->rules.listen, chosen->rules.port, strerror(errno));
        code = EX_UNAVAILABLE;
    } else if (chosen->script) {
        code = load_script(self.mock, chosen->script);
    }
    if (code != EX_OK) {
        end_process(&self);
    } else {
        bool v6 = strchr(chosen->rules.listen, ':') != NULL;
        (void)printf("mock upstream on http://%s%s%s:%d/v1\n", v6 ? "[" : "", chosen->rules.listen,
                     v6 ? "]" : "", sj_mock_port(self.mock));
        (void)fflush(stdout);
    }
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    (void)uv_loop_close(&loop);
    return code;
}

int sj_cmd_mock(int argc, char **argv) {
    options chosen = {0};
    sj_mock_rules_init(&chosen.rules);
    chosen.rules.port = DEFAULT_PORT;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            help();
            return EX_OK;
        }
        int code = read_option(argc, argv, &i, &chosen);
        if (code != EX_OK)
            return code;
    }
    (void)signal(SIGPIPE, SIG_IGN);
    raise_file_limit();
    return run(&chosen);
}
