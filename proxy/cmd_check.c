#include "check.h"
#include "commands.h"
#include "key_source.h"
#include "upstream.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sysexits.h>

enum { MAX_TEXT = 256 * 1024, DEFAULT_TIMEOUT_S = 15 };

typedef struct sj_check_options {
    const char *path;
    bool offline;
    long timeout_s;
} sj_check_options;

static void help(void) {
    (void)puts(
        "usage: stormjib check [-c FILE] [--offline] [--timeout SECONDS]\n\n"
        "Loads the configuration and asks each upstream for its models, with each of its keys: is it there,\n"
        "does it know the key, does it list the models that the chains name. Without -c: the environment.\n\n"
        "  -c, --config FILE     the configuration\n"
        "      --offline         only the configuration; ask nobody\n"
        "      --timeout SECONDS how long to wait for answers (15)\n"
        "      --help\n\n"
        "Exit: 0 all is well, 64 wrong usage, 69 an upstream is unreachable or answers oddly,\n"
        "66 no such file, 77 a key was rejected, 78 the configuration is wrong.");
}

// EX_OK: go on. -1: help was wanted.
static int read_options(int argc, char **argv, sj_check_options *out) {
    static const struct option known[] = {{"config", required_argument, NULL, 'c'},
                                          {"offline", no_argument, NULL, 'o'},
                                          {"timeout", required_argument, NULL, 't'},
                                          {"help", no_argument, NULL, 'h'},
                                          {0}};
    int option;
    optind = 1;
    while ((option = getopt_long(argc, argv, "c:h", known, NULL)) != -1) {
        if (option == 'c')
            out->path = optarg;
        else if (option == 'o')
            out->offline = true;
        else if (option == 't')
            out->timeout_s = strtol(optarg, NULL, 10);
        else if (option == 'h')
            return -1;
        else
            return EX_USAGE;
    }
    if (optind < argc) {
        (void)fprintf(stderr, "stormjib check: '%s' is no option; a file is given with -c\n", argv[optind]);
        return EX_USAGE;
    }
    if (out->timeout_s < 1 || out->timeout_s > 3600) {
        (void)fputs("stormjib check: --timeout takes 1 to 3600 seconds\n", stderr);
        return EX_USAGE;
    }
    return EX_OK;
}

static sj_config *load(const char *path) {
    sj_buffer error = sj_buffer_with_max(MAX_TEXT), warnings = sj_buffer_with_max(MAX_TEXT);
    sj_config *config = NULL;
    bool ok = sj_config_load(path, &config, &error, &warnings);
    if (warnings.n)
        (void)fprintf(stderr, "%.*s", (int)warnings.n, warnings.p);
    if (!ok)
        (void)fprintf(stderr, "%.*s", (int)error.n, error.n ? error.p : "");
    sj_buffer_free(&error);
    sj_buffer_free(&warnings);
    return config;
}

// Which line or variable to look at.
static void tell_key(const sj_config *config, const sj_check_result *result) {
    const sj_upstream_config *upstream = &config->upstreams[result->upstream];
    if (upstream->api_key_count == 0) {
        (void)printf("; it has auth = \"none\"\n");
        return;
    }
    if (upstream->api_key_count > 1)
        (void)printf(" to key %zu of %zu", result->key + 1, upstream->api_key_count);
    if (!config->path) {
        (void)printf("; look at the variable OPENAI_API_KEY\n");
        return;
    }
    sj_key_source source = sj_key_source_in_file(config->path, upstream->name, result->key);
    if (source.variable[0])
        (void)printf("; look at the variable %s (%s:%d)\n", source.variable, config->path, source.line);
    else if (source.line)
        (void)printf("; look at %s:%d\n", config->path, source.line);
    else
        (void)printf("; look at upstreams.%s.api_key\n", upstream->name);
}

static void tell(const sj_config *config, const sj_check_result *result) {
    const sj_upstream_config *upstream = &config->upstreams[result->upstream];
    (void)printf("%-12s %s  ", upstream->name, upstream->base_url);
    switch (result->kind) {
    case SJ_CHECK_OK:
        (void)printf("ok, %zu model%s, %" PRId64 " ms", result->model_count,
                     result->model_count == 1 ? "" : "s", result->ms);
        if (upstream->api_key_count > 1)
            (void)printf(", key %zu of %zu", result->key + 1, upstream->api_key_count);
        (void)putchar('\n');
        break;
    case SJ_CHECK_EMBEDDED:
        (void)puts("the embedded upstream, not asked");
        break;
    case SJ_CHECK_CLIENTS_KEY:
        (void)printf("reachable, %" PRId64 " ms; it wants a key, which the clients have to bring\n",
                     result->ms);
        break;
    case SJ_CHECK_NO_LIST:
        (void)printf("reachable, %" PRId64 " ms, but lists no models: %s\n", result->ms, result->detail);
        break;
    case SJ_CHECK_ODD:
        (void)printf("ODD ANSWER: %s\n", result->detail);
        break;
    case SJ_CHECK_UNREACHABLE:
        (void)printf("UNREACHABLE: %s\n", result->detail);
        break;
    case SJ_CHECK_WRONG_KEY:
        (void)printf("%s: %s", upstream->api_key_count ? "WRONG KEY" : "KEY MISSING", result->detail);
        tell_key(config, result);
        break;
    }
}

static const sj_check_result *listing_of(const sj_check *check, size_t upstream) {
    for (size_t i = 0; i < check->count; i++)
        if (check->results[i].upstream == upstream && check->results[i].kind == SJ_CHECK_OK &&
            check->results[i].model_count)
            return &check->results[i];
    return NULL;
}

// Told once, at the first chain that names it.
static bool named_before(const sj_config *config, size_t route, size_t hop) {
    const sj_hop_config *wanted = &config->routes[route].hops[hop];
    for (size_t i = 0; i <= route; i++)
        for (size_t j = 0; j < (i == route ? hop : config->routes[i].hop_count); j++) {
            const sj_hop_config *other = &config->routes[i].hops[j];
            if (other->upstream == wanted->upstream && other->model &&
                strcmp(other->model, wanted->model) == 0)
                return true;
        }
    return false;
}

static void tell_models(const sj_config *config, const sj_check *check) {
    for (size_t i = 0; i < config->route_count; i++)
        for (size_t j = 0; j < config->routes[i].hop_count; j++) {
            const sj_hop_config *hop = &config->routes[i].hops[j];
            const sj_check_result *listing = hop->model ? listing_of(check, hop->upstream) : NULL;
            if (listing && !sj_check_lists(listing, hop->model) && !named_before(config, i, j))
                (void)printf("warning: route %zu names \"%s/%s\", which %s does not list\n", i + 1,
                             config->upstreams[hop->upstream].name, hop->model,
                             config->upstreams[hop->upstream].name);
        }
}

static int ask_upstreams(const sj_config *config, int64_t timeout_ms) {
    sj_check check;
    if (!sj_upstream_global_init() || !sj_check_run(config, timeout_ms, &check)) {
        (void)fputs("stormjib check: out of memory\n", stderr);
        return EX_OSERR;
    }
    int code = EX_OK;
    for (size_t i = 0; i < check.count; i++) {
        tell(config, &check.results[i]);
        if (check.results[i].kind == SJ_CHECK_WRONG_KEY)
            code = EX_NOPERM;
        else if (check.results[i].kind >= SJ_CHECK_ODD && code == EX_OK)
            code = EX_UNAVAILABLE;
    }
    tell_models(config, &check);
    sj_check_free(&check);
    sj_upstream_global_end();
    return code;
}

int sj_cmd_check(int argc, char **argv) {
    sj_check_options options = {.timeout_s = DEFAULT_TIMEOUT_S};
    int code = read_options(argc, argv, &options);
    if (code == -1) {
        help();
        return EX_OK;
    }
    if (code != EX_OK)
        return code;
    sj_config *config = load(options.path);
    if (!config)
        return sj_config_exit_code(options.path);
    (void)printf("configuration: %s: %zu upstream%s, %zu route%s\n",
                 options.path ? options.path : "environment", config->upstream_count,
                 config->upstream_count == 1 ? "" : "s", config->route_count,
                 config->route_count == 1 ? "" : "s");
    if (!options.offline)
        code = ask_upstreams(config, options.timeout_s * 1000);
    sj_config_unref(&config);
    return code;
}
