// The start without a file, and the `config` subcommand.
#include "commands.h"
#include "config_text.h"

#include <sysexits.h>
#include <unistd.h>

static const char *const variables[] = {
    "OPENAI_API_KEY",       "OPENAI_BASE_URL",     "STORMJIB_UPSTREAM",
    "STORMJIB_LISTEN",      "STORMJIB_ADMIN",      "STORMJIB_ADMIN_TOKEN",
    "STORMJIB_CLIENT_KEYS", "STORMJIB_LOG_FORMAT", "STORMJIB_FALLBACK_MODEL",
};

static int clear(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof variables / sizeof *variables; i++)
        (void)unsetenv(variables[i]);
    return 0;
}

static sj_config *load_environment(void) {
    sj_config *config = load_file(NULL);
    assert_string_equal(said_error, "");
    assert_null(config->path);
    return config;
}

static void test_key_alone(void **state) {
    (void)state;
    (void)setenv("OPENAI_API_KEY", "sk-secret", 1);
    sj_config *c = load_environment();
    assert_string_equal(said_warnings, "");
    assert_int_equal(c->upstream_count, 1);
    assert_string_equal(c->upstreams[0].name, "default");
    assert_string_equal(c->upstreams[0].base_url, "https://api.openai.com/v1");
    assert_string_equal(c->upstreams[0].api_keys[0], "sk-secret");
    assert_int_equal(c->upstreams[0].auth, SJ_AUTH_KEY);
    assert_int_equal(c->route_count, 1);
    assert_string_equal(c->routes[0].path, "*");
    assert_string_equal(c->routes[0].model, "*");
    assert_int_equal(c->routes[0].hop_count, 1);
    assert_null(c->routes[0].hops[0].model);
    char *shown = print_config(c);
    assert_null(strstr(shown, "sk-secret"));
    free(shown);
    sj_config_unref(&c);
}

static void test_everything(void **state) {
    (void)state;
    (void)setenv("OPENAI_BASE_URL", "http://127.0.0.1:8080/v1",
                 1); // what the client is told; ours goes first
    (void)setenv("STORMJIB_UPSTREAM", "http://10.0.0.7:9000", 1);
    (void)setenv("STORMJIB_LISTEN", "0.0.0.0:8080,unix:/run/x.sock", 1);
    (void)setenv("STORMJIB_ADMIN", "", 1);
    (void)setenv("STORMJIB_CLIENT_KEYS", "secret-a, secret-b", 1);
    (void)setenv("STORMJIB_LOG_FORMAT", "json", 1);
    (void)setenv("STORMJIB_FALLBACK_MODEL", "org/small \"mini\"", 1);
    sj_config *c = load_environment();
    assert_string_equal(said_warnings, "");
    assert_string_equal(c->upstreams[0].origin, "http://10.0.0.7:9000");
    assert_string_equal(c->upstreams[0].base_path, "");
    assert_int_equal(c->upstreams[0].auth, SJ_AUTH_UNSET);
    assert_int_equal(c->listen_count, 2);
    assert_string_equal(c->listens[1].unix_path, "/run/x.sock");
    assert_false(c->admin_enabled);
    assert_int_equal(c->client_key_count, 2);
    assert_string_equal(c->client_keys[1], "secret-b");
    assert_int_equal(c->log_format, SJ_LOG_JSON);
    assert_int_equal(c->routes[0].hop_count, 2);
    assert_null(c->routes[0].hops[0].model);
    assert_string_equal(c->routes[0].hops[1].model, "org/small \"mini\"");
    sj_config_unref(&c);
}

static void assert_refused(const char *said) {
    assert_null(load_file(NULL));
    if (!strstr(said_error, said))
        print_error("%swanted %s\n", said_error, said);
    assert_non_null(strstr(said_error, said));
    assert_null(strstr(said_error, "secret"));
}

static void test_refusals(void **state) {
    (void)state;
    assert_refused("environment: no upstream: set OPENAI_API_KEY");
    assert_non_null(strstr(said_error, "`stormjib demo`"));
    assert_non_null(strstr(said_error, "conf/default.conf"));
    (void)setenv("OPENAI_BASE_URL", "http://localhost:8080/v1", 1);
    assert_refused("points at this proxy's own listener; name the API behind it in STORMJIB_UPSTREAM");
    (void)setenv("OPENAI_BASE_URL", "http://me:secret@h/v1", 1);
    assert_refused("the URL holds a user name or password");
    (void)setenv("OPENAI_BASE_URL", "http://h/v1", 1);
    (void)setenv("STORMJIB_LOG_FORMAT", "secret", 1);
    assert_refused("key 'log.format': the value of ${STORMJIB_LOG_FORMAT} is none of \"logfmt\", \"json\"");
    (void)unsetenv("STORMJIB_LOG_FORMAT");
    (void)setenv("STORMJIB_ADMIN", "0.0.0.0:8081", 1);
    assert_refused("key 'admin': is reachable from other machines; set STORMJIB_ADMIN_TOKEN");
    (void)setenv("STORMJIB_ADMIN_TOKEN", "secret\n", 1);
    assert_refused("the value of ${STORMJIB_ADMIN_TOKEN} contains a line end");
    (void)setenv("STORMJIB_ADMIN_TOKEN", "${secret}", 1);
    assert_refused("STORMJIB_ADMIN_TOKEN names another variable");
    (void)setenv("STORMJIB_ADMIN_TOKEN", "x", 1);
    (void)setenv("STORMJIB_FALLBACK_MODEL", "a\nb", 1);
    assert_refused("STORMJIB_FALLBACK_MODEL is no model's name");
}

// Standard output goes into a file meanwhile; the caller frees what was said.
static int run(char *const *words, char **said) {
    char *argv[8] = {0};
    int argc = 0;
    while (words[argc]) {
        argv[argc] = words[argc];
        argc++;
    }
    FILE *out = tmpfile();
    assert_non_null(out);
    (void)fflush(stdout);
    int kept = dup(STDOUT_FILENO);
    assert_true(kept >= 0 && dup2(fileno(out), STDOUT_FILENO) >= 0);
    int code = sj_cmd_config(argc, argv);
    assert_true(dup2(kept, STDOUT_FILENO) >= 0);
    (void)close(kept);
    long n = (fseek(out, 0, SEEK_END), ftell(out));
    rewind(out);
    *said = calloc(1, (size_t)n + 1);
    assert_non_null(*said);
    assert_int_equal(fread(*said, 1, (size_t)n, out), n);
    (void)fclose(out);
    return code;
}

static void test_command(void **state) {
    (void)state;
    char name[] = "config", c[] = "-c", e[] = "-e", help[] = "--help", wrong[] = "--wrong",
         missing[] = "/nonexistent/x.conf";
    static const struct {
        int code, words;
        const char *said;
    } rows[] = {{EX_OK, 0, "first_byte_timeout = \"120s\";"},
                {EX_OK, 1, "usage: stormjib config"},
                {EX_USAGE, 2, ""},
                {EX_NOINPUT, 3, ""},
                {EX_CONFIG, 4, ""},
                {EX_USAGE, 5, ""}};
    char *const words[][5] = {{name},    {name, help},         {name, wrong}, {name, c, missing},
                              {name, e}, {name, c, missing, e}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char *said;
        assert_int_equal(run(words[rows[i].words], &said), rows[i].code);
        assert_non_null(strstr(said, rows[i].said));
        assert_int_equal(*said == '\0', *rows[i].said == '\0');
        free(said);
    }
    (void)setenv("OPENAI_API_KEY", "sk-secret", 1);
    char *said;
    assert_int_equal(run(words[4], &said), EX_OK);
    assert_non_null(strstr(said, "api_keys = [ \"***\" ];"));
    assert_null(strstr(said, "sk-secret"));
    free(said);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_key_alone, clear),
        cmocka_unit_test_setup(test_everything, clear),
        cmocka_unit_test_setup(test_refusals, clear),
        cmocka_unit_test_setup(test_command, clear),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
