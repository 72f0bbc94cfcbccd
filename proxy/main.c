#include "commands.h"

#include <stdio.h>
#include <string.h>
#include <sysexits.h>

static const struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *help;
} commands[] = {
    {"serve", sj_cmd_serve, "the proxy itself; also what happens without a command"},
    {"check", sj_cmd_check, "are the upstreams there, do they know the keys, is the configuration right"},
    {"health", sj_cmd_health, "is a running proxy well; for HEALTHCHECK"},
    {"config", sj_cmd_config, "every key with its default, or what a configuration comes to"},
    {"demo", sj_cmd_demo, "shows what it does: the proxy before a failing upstream, no key needed"},
    {"mock", sj_cmd_mock, "the misbehaving OpenAI-format upstream alone, for tests"},
};

enum { COMMANDS = sizeof commands / sizeof *commands };

static void help(FILE *out) {
    (void)fputs("stormjib " SJ_VERSION ": a local reverse proxy that makes OpenAI-format APIs dependable\n\n"
                "usage: stormjib [-c FILE]             serve\n"
                "       stormjib COMMAND [OPTION]...\n\n",
                out);
    for (size_t i = 0; i < COMMANDS; i++)
        (void)fprintf(out, "  %-8s %s\n", commands[i].name, commands[i].help);
    (void)fputs("\nstormjib COMMAND --help says more; stormjib serve --help of serving.\n", out);
}

int main(int argc, char **argv) {
    const char *name = argc > 1 ? argv[1] : "";
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) {
        help(stdout);
        return EX_OK;
    }
    if (strcmp(name, "--version") == 0) {
        puts("stormjib " SJ_VERSION);
        return EX_OK;
    }
    for (size_t i = 0; i < COMMANDS; i++) {
        if (strcmp(name, commands[i].name) == 0)
            return commands[i].run(argc - 1, argv + 1);
    }
    // Without a command it serves.
    return sj_cmd_serve(argc, argv);
}
