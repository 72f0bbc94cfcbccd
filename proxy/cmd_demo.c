#include "commands.h"
#include "demo.h"

#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sysexits.h>

static const char help[] =
    "usage: stormjib demo [OPTION]...\n\n"
    "Starts an OpenAI-format upstream that fails now and then and stormjib in front of it, asks both the "
    "same\n"
    "questions without retrying anything itself, and shows what the client saw. Needs no network and no "
    "key.\n\n"
    "  --requests N     for each of the two; default 600\n"
    "  --concurrency N  at once; default 20\n"
    "  --fail RATE      share of attempts that fail upstream; default 0.083\n"
    "  --seed N         another number, other faults; default 1\n"
    "  --serve          stays up afterwards, to be tried with curl or an SDK, until Ctrl-C\n"
    "  --port N         of the proxy; default 8080 with --serve, else any free one\n"
    "  --json           the result as one JSON object\n"
    "  --help\n";

enum { MAX_REQUESTS = 10000000, MAX_CONCURRENCY = 10000 };

// One number of the command line within its range.
static bool read_number(const char *name, const char *text, double low, double high, double *out) {
    char *end;
    *out = strtod(text, &end);
    if (end != text && *end == 0 && *out >= low && *out <= high)
        return true;
    (void)fprintf(stderr, "stormjib demo: --%s cannot be '%s'; it is a number from %g to %g\n", name, text,
                  low, high);
    return false;
}

static const struct option names[] = {
    {"requests", required_argument, NULL, 'r'},
    {"concurrency", required_argument, NULL, 'c'},
    {"fail", required_argument, NULL, 'f'},
    {"seed", required_argument, NULL, 's'},
    {"port", required_argument, NULL, 'p'},
    {"serve", no_argument, NULL, 'S'},
    {"json", no_argument, NULL, 'j'},
    {"help", no_argument, NULL, 'h'},
    {0},
};

// EX_OK: go on.
static int read_option(int option, sj_demo_options *out) {
    double number;
    switch (option) {
    case 'r':
        if (!read_number("requests", optarg, 1, MAX_REQUESTS, &number))
            return EX_USAGE;
        out->requests = (int)number;
        return EX_OK;
    case 'c':
        if (!read_number("concurrency", optarg, 1, MAX_CONCURRENCY, &number))
            return EX_USAGE;
        out->concurrency = (int)number;
        return EX_OK;
    case 'f':
        return read_number("fail", optarg, 0, 1, &out->fail) ? EX_OK : EX_USAGE;
    case 's':
        if (!read_number("seed", optarg, 0, 9007199254740992.0, &number))
            return EX_USAGE;
        out->seed = (uint64_t)number;
        return EX_OK;
    case 'p':
        if (!read_number("port", optarg, 0, 65535, &number))
            return EX_USAGE;
        out->port = (int)number;
        return EX_OK;
    case 'S':
        out->serve = true;
        return EX_OK;
    case 'j':
        out->json = true;
        return EX_OK;
    default:
        (void)fputs("see stormjib demo --help\n", stderr);
        return EX_USAGE;
    }
}

// Client, proxy and upstream all live in this process.
static void raise_file_limit(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
}

int sj_cmd_demo(int argc, char **argv) {
    sj_demo_options options = {.requests = 600, .concurrency = 20, .fail = 0.083, .seed = 1, .port = -1};
    int option;
    while ((option = getopt_long(argc, argv, "h", names, NULL)) != -1) {
        if (option == 'h') {
            (void)fputs(help, stdout);
            return EX_OK;
        }
        int code = read_option(option, &options);
        if (code != EX_OK)
            return code;
    }
    if (optind < argc) {
        (void)fprintf(stderr, "stormjib demo: '%s' is no option; see --help\n", argv[optind]);
        return EX_USAGE;
    }
    if (options.port < 0)
        options.port = options.serve ? 8080 : 0;
    (void)signal(SIGPIPE, SIG_IGN);
    raise_file_limit();
    return sj_demo_run(&options);
}
