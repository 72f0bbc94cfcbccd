#include "commands.h"

#include "announce.h"
#include "server.h"
#include "upstream.h"

#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sysexits.h>
#include <unistd.h>

static const char help[] = "Usage: stormjib [-c FILE]\n"
                           "Serves: a local proxy that makes OpenAI-format APIs dependable. Point your "
                           "application's base URL at http://127.0.0.1:8080/v1.\n"
                           "\n"
                           "  -c, --config FILE  the configuration; without it, from the environment:\n"
                           "                     OPENAI_API_KEY, and STORMJIB_UPSTREAM or OPENAI_BASE_URL "
                           "(default https://api.openai.com/v1)\n"
                           "  -h, --help         this text\n"
                           "\n"
                           "SIGHUP reloads the file, SIGTERM and SIGINT drain and end (twice: at once).\n"
                           "Other commands: demo, mock, check, health, config; each takes --help.\n";

static void print(FILE *out, const sj_buffer *text) {
    if (text->n)
        (void)fwrite(text->p, 1, text->n, out);
}

// Each exchange needs two descriptors, so as many as we may have.
static void raise_descriptor_limit(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
}

static void say_ready(sj_announcer *announcer, const sj_config *config, const sj_server *server) {
    for (size_t i = 0; i < config->listen_count; i++) {
        const sj_listen *listen = &config->listens[i];
        if (listen->unix_path)
            sj_announce_as(announcer, SJ_LOG_INFO, "listening",
                           "stormjib " SJ_VERSION " listening on unix:%s", listen->unix_path);
        else
            sj_announce_as(announcer, SJ_LOG_INFO, "listening",
                           "stormjib " SJ_VERSION " listening on http://%s:%d/v1", listen->host,
                           listen->port ? listen->port : sj_server_port(server));
    }
    if (config->admin_enabled && !config->admin.unix_path)
        sj_announce_as(announcer, SJ_LOG_INFO, "listening", "admin on http://%s:%d/", config->admin.host,
                       sj_server_admin_port(server));
}

static void reload(sj_announcer *announcer, sj_server *server) {
    sj_buffer message = sj_buffer_with_max(128 * 1024);
    bool ok = sj_server_reload_file(server, &message);
    sj_server_view view;
    sj_server_view_take(server, &view);
    if (view.config)
        sj_announcer_configure(announcer, view.config->log_format, view.config->log_level);
    sj_server_view_release(&view);
    sj_announce_reload(announcer, ok, sj_buffer_slice(&message));
    sj_buffer_free(&message);
}

static sj_server *hurried; // for the handler of a second signal

static void on_second_signal(int number) {
    (void)number;
    sj_server_hurry(hurried);
}

// Signals are blocked in every thread and awaited here; while draining, another one hurries.
static int wait_for_signals(sj_announcer *announcer, sj_server **server, const sigset_t *signals) {
    for (;;) {
        int number;
        if (sigwait(signals, &number) != 0)
            continue;
        if (number != SIGHUP)
            break;
        reload(announcer, *server);
    }
    hurried = *server;
    struct sigaction action = {.sa_handler = on_second_signal};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    sigset_t again;
    sigemptyset(&again);
    sigaddset(&again, SIGTERM);
    sigaddset(&again, SIGINT);
    sj_announce(
        announcer, SJ_LOG_INFO, "draining",
        SJ_SLICE("draining: running exchanges finish, new ones are refused; a second signal ends at once"));
    pthread_sigmask(SIG_UNBLOCK, &again, NULL);
    sj_server_drain(*server);
    pthread_sigmask(SIG_BLOCK, &again, NULL); // before it is freed
    hurried = NULL;
    sj_server_stop(server);
    return EX_OK;
}

static int run(sj_announcer *announcer, sj_config *config, sj_buffer *error) {
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGHUP);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
    raise_descriptor_limit();
    int code = EX_UNAVAILABLE;
    sj_server *server = sj_upstream_global_init() ? sj_server_start(config, error) : NULL;
    if (server) {
        say_ready(announcer, config, server);
        code = wait_for_signals(announcer, &server, &signals);
    } else
        sj_announce(announcer, SJ_LOG_ERROR, "start", sj_buffer_slice(error));
    sj_upstream_global_end();
    return code;
}

static int serve(const char *path) {
    sj_config *config = NULL;
    sj_buffer error = sj_buffer_with_max(64 * 1024), warnings = sj_buffer_with_max(64 * 1024);
    if (!sj_config_load(path, &config, &error, &warnings)) {
        print(stderr, &error);
        sj_buffer_free(&error);
        sj_buffer_free(&warnings);
        return sj_config_exit_code(path);
    }
    sj_announcer *announcer = sj_announcer_new(config->log_format, config->log_level);
    if (announcer)
        sj_announce(announcer, SJ_LOG_WARN, "config", sj_buffer_slice(&warnings));
    int code = announcer ? run(announcer, config, &error) : EX_OSERR;
    sj_announcer_free(&announcer);
    sj_config_unref(&config);
    sj_buffer_free(&warnings);
    sj_buffer_free(&error);
    return code;
}

int sj_cmd_serve(int argc, char **argv) {
    static const struct option options[] = {
        {"config", required_argument, NULL, 'c'}, {"help", no_argument, NULL, 'h'}, {0}};
    const char *path = NULL;
    int option;
    while ((option = getopt_long(argc, argv, "c:h", options, NULL)) != -1) {
        if (option == 'c')
            path = optarg;
        else {
            (void)fputs(help, option == 'h' ? stdout : stderr);
            return option == 'h' ? EX_OK : EX_USAGE;
        }
    }
    if (optind < argc) {
        const char *what = argv[optind];
        if (!path && access(what, F_OK) == 0)
            (void)fprintf(stderr, "stormjib: '%s' is no command; to serve with that file: stormjib -c %s\n",
                          what, what);
        else
            (void)fprintf(stderr, "stormjib: unknown command or argument '%s'; see stormjib --help\n", what);
        return EX_USAGE;
    }
    return serve(path);
}
