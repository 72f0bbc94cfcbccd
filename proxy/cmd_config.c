#include "commands.h"
#include "config.h"

#include <getopt.h>
#include <stdio.h>
#include <sysexits.h>
#include <unistd.h>

enum { TEXT_MAX_BYTES = 64 * 1024 * 1024 };

static void help(FILE *out) {
    (void)fputs(
        "usage: stormjib config            every key with its default and meaning, as a file to start from\n"
        "       stormjib config -c FILE    what FILE comes to, defaults filled in and secrets masked\n"
        "       stormjib config -e         the same for the environment that `stormjib` without a file "
        "starts from\n"
        "\n"
        "Problems go to standard error, one a line with file and line. Exit codes: 0 fine, 64 wrong use,\n"
        "66 no such file, 78 the configuration is wrong.\n",
        out);
}

static void put(FILE *out, const sj_buffer *text) {
    if (text->n)
        (void)fwrite(text->p, 1, text->n, out);
}

static int document(void) {
    sj_buffer text = sj_buffer_with_max(TEXT_MAX_BYTES);
    int code = sj_config_document(&text) ? EX_OK : EX_OSERR;
    put(stdout, &text);
    sj_buffer_free(&text);
    return code;
}

// path NULL: the environment.
static int effective(const char *path) {
    sj_config *config = NULL;
    sj_buffer error = sj_buffer_with_max(TEXT_MAX_BYTES), warnings = error, text = error;
    int code = EX_OK;
    if (!sj_config_load(path, &config, &error, &warnings))
        code = sj_config_exit_code(path);
    else if (!sj_config_print(config, &text))
        code = EX_OSERR;
    put(stderr, &warnings);
    put(stderr, &error);
    put(stdout, &text);
    sj_config_unref(&config);
    sj_buffer_free(&text);
    sj_buffer_free(&warnings);
    sj_buffer_free(&error);
    return code;
}

static int run(int argc, char **argv) {
    static const struct option long_options[] = {
        {"config", required_argument, NULL, 'c'},
        {"environment", no_argument, NULL, 'e'},
        {"help", no_argument, NULL, 'h'},
        {0},
    };
    const char *path = NULL;
    bool environment = false;
    optind = 0; // glibc: scan afresh
    for (int option; (option = getopt_long(argc, argv, "c:eh", long_options, NULL)) != -1;) {
        if (option == 'c') {
            path = optarg;
        } else if (option == 'e') {
            environment = true;
        } else {
            help(option == 'h' ? stdout : stderr);
            return option == 'h' ? EX_OK : EX_USAGE;
        }
    }
    if (optind < argc || (path && environment)) {
        help(stderr);
        return EX_USAGE;
    }
    return path || environment ? effective(path) : document();
}

int sj_cmd_config(int argc, char **argv) {
    int code = run(argc, argv);
    return fflush(stdout) != 0 || ferror(stdout) ? EX_IOERR : code;
}
