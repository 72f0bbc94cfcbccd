#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "commands.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sysexits.h>
#include <unistd.h>

// One connection: reads the request's head, says one thing, closes.
typedef struct sj_answerer {
    int listener;
    const char *answer;
    char request[1024];
    pthread_t thread;
} sj_answerer;

static void *answer(void *argument) {
    sj_answerer *own = argument;
    int fd = accept(own->listener, NULL, NULL);
    size_t n = 0;
    ssize_t got = 1;
    while (got > 0 && !strstr(own->request, "\r\n\r\n")) {
        got = recv(fd, own->request + n, sizeof own->request - 1 - n, 0);
        n += got > 0 ? (size_t)got : 0;
    }
    (void)!send(fd, own->answer, strlen(own->answer), MSG_NOSIGNAL);
    close(fd);
    return NULL;
}

static int run(const char *option, const char *value, const char *more) {
    char *argv[] = {strdup("health"), strdup(option), strdup(value), more ? strdup(more) : NULL, NULL};
    int code = sj_cmd_health(more ? 4 : 3, argv);
    for (int i = 0; i < 4; i++)
        free(argv[i]);
    return code;
}

static int listen_tcp(int *port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, size), 0);
    assert_int_equal(listen(fd, 4), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &size), 0);
    *port = ntohs(address.sin_port);
    return fd;
}

static void answers_are_judged(void **state) {
    (void)state;
    static const struct {
        const char *path, *answer, *more;
        int code;
        const char *asked;
    } cases[] = {
        {"/healthz", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n", NULL, 0,
         "GET /healthz HTTP/1.1\r\n"},
        {"", "HTTP/1.0 204 No Content\r\n\r\n", NULL, 0, "GET /healthz HTTP/1.1\r\n"},
        {"", "HTTP/1.1 200 OK\r\n\r\n", "--ready", 0, "GET /readyz HTTP/1.1\r\n"},
        {"/readyz", "HTTP/1.1 503 Service Unavailable\r\n\r\n", NULL, 1, "GET /readyz HTTP/1.1\r\n"},
        {"/", "HTTP/1.1 301 Moved\r\n\r\n", NULL, 1, "GET /healthz HTTP/1.1\r\n"},
        {"/x?y=z", "SSH-2.0-OpenSSH_9.2\r\n", NULL, 1, "GET /x?y=z HTTP/1.1\r\n"},
        {"", "HTTP/1.1", NULL, 1, "GET /healthz HTTP/1.1\r\n"},
        {"", "", NULL, 1, "GET /healthz HTTP/1.1\r\n"},
    };
    int port, listener = listen_tcp(&port);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        sj_answerer own = {.listener = listener, .answer = cases[i].answer};
        assert_int_equal(pthread_create(&own.thread, NULL, answer, &own), 0);
        char url[128];
        (void)snprintf(url, sizeof url, "http://127.0.0.1:%d%s", port, cases[i].path);
        assert_int_equal(run("--url", url, cases[i].more), cases[i].code);
        pthread_join(own.thread, NULL);
        assert_int_equal(strncmp(own.request, cases[i].asked, strlen(cases[i].asked)), 0);
        assert_non_null(strstr(own.request, "\r\nHost: "));
    }
    char url[64];
    (void)snprintf(url, sizeof url, "http://127.0.0.1:%d/", port);
    close(listener);
    assert_int_equal(run("--url", url, NULL), 1); // nobody listens any more
}

static void environment_and_unix_sockets(void **state) {
    (void)state;
    char directory[] = "/tmp/sj-health-XXXXXX";
    assert_non_null(mkdtemp(directory));
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    (void)snprintf(address.sun_path, sizeof address.sun_path, "%s/s", directory);
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(listener, 4), 0);
    char url[256];
    (void)snprintf(url, sizeof url, "unix:%s", address.sun_path);
    for (int from_environment = 0; from_environment < 2; from_environment++) {
        sj_answerer own = {.listener = listener, .answer = "HTTP/1.1 200 OK\r\n\r\n"};
        assert_int_equal(pthread_create(&own.thread, NULL, answer, &own), 0);
        if (from_environment) {
            assert_int_equal(setenv("STORMJIB_LISTEN", url, 1), 0);
            char *argv[] = {(char[]){"health"}, NULL};
            assert_int_equal(sj_cmd_health(1, argv), 0);
            unsetenv("STORMJIB_LISTEN");
        } else {
            assert_int_equal(run("--url", url, NULL), 0);
        }
        pthread_join(own.thread, NULL);
    }
    close(listener);
    unlink(address.sun_path);
    rmdir(directory);
}

static void wrong_usage_is_told(void **state) {
    (void)state;
    static const char *const urls[] = {
        "https://127.0.0.1/", "127.0.0.1:8080", "http://", "http://h:123456789/",
        "http://h/a b",       "unix:",          "ftp://x"};
    for (size_t i = 0; i < sizeof urls / sizeof urls[0]; i++)
        assert_int_equal(run("--url", urls[i], NULL), EX_USAGE);
    assert_int_equal(run("--url", "http://127.0.0.1:1/", "extra"), EX_USAGE);
    assert_int_equal(run("--what", "x", NULL), EX_USAGE);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_are_judged),
        cmocka_unit_test(environment_and_unix_sockets),
        cmocka_unit_test(wrong_usage_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
