// For Docker's HEALTHCHECK and the like: one question to a running proxy, over a plain socket, within three seconds.
#include "commands.h"
#include "config.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

enum { LIMIT_MS = 3000, MAX_HOST = 256, MAX_PATH_BYTES = 1024, MAX_TEXT = 256 * 1024 };

typedef struct sj_place {
    char host[MAX_HOST], port[8];
    char unix_path[sizeof((struct sockaddr_un *)0)->sun_path]; // "" for TCP
    char path[MAX_PATH_BYTES];
} sj_place;

static void help(void) {
    (void)puts("usage: stormjib health [--url URL | -c FILE] [--ready]\n\n"
               "Asks a running proxy whether it is well. Exit: 0 yes, 1 no, 64 wrong usage.\n\n"
               "  --url URL           http://127.0.0.1:8080/healthz, or unix:/run/stormjib.sock\n"
               "  -c, --config FILE   the listener of this configuration\n"
               "  --ready             /readyz instead of /healthz: will it take new work\n"
               "  --help\n\n"
               "Without either: the first address of STORMJIB_LISTEN, else 127.0.0.1:8080.");
}

// ---- where -------------------------------------------------------------------------------------------------------------------

// Where a listener for all addresses can be reached from here.
static const char *reachable(const char *host) {
    return strcmp(host, "0.0.0.0") == 0 ? "127.0.0.1" : strcmp(host, "::") == 0 ? "::1" : host;
}

static bool set_unix(sj_place *place, sj_slice path) {
    if (path.n == 0 || path.n >= sizeof place->unix_path)
        return false;
    memcpy(place->unix_path, path.p, path.n);
    return true;
}

// "host:port", "[::1]:port", "unix:/path".
static bool set_address(sj_place *place, sj_slice text) {
    if (sj_slice_starts(text, SJ_SLICE("unix:")))
        return set_unix(place, sj_slice_from(text, 5));
    const char *colon = text.n ? memrchr(text.p, ':', text.n) : NULL;
    sj_slice host = {text.p, colon ? (size_t)(colon - text.p) : 0};
    sj_slice port = colon ? sj_slice_from(text, host.n + 1) : (sj_slice){NULL, 0};
    if (host.n > 1 && host.p[0] == '[' && host.p[host.n - 1] == ']')
        host = (sj_slice){host.p + 1, host.n - 2};
    if (host.n == 0 || host.n >= MAX_HOST || port.n == 0 || port.n >= sizeof place->port)
        return false;
    memcpy(place->host, host.p, host.n);
    memcpy(place->port, port.p, port.n);
    (void)memmove(place->host, reachable(place->host), strlen(reachable(place->host)) + 1);
    return true;
}

static bool set_url(sj_place *place, const char *url) {
    if (strncmp(url, "unix:", 5) == 0)
        return set_address(place, sj_slice_of(url));
    if (strncmp(url, "http://", 7) != 0)
        return false;
    const char *authority = url + 7, *path = strchr(authority, '/');
    sj_slice address = {authority, path ? (size_t)(path - authority) : strlen(authority)};
    for (const char *p = path; p && *p; p++)
        if (*p <= ' ' || *p == 0x7F)
            return false;
    if (path && strlen(path) < sizeof place->path && path[1])
        memcpy(place->path, path, strlen(path) + 1);
    char with_port[MAX_HOST + 8];
    bool has_port = address.n && address.p[address.n - 1] != ']' && memchr(address.p, ':', address.n);
    int n = snprintf(with_port, sizeof with_port, "%.*s%s", (int)address.n, address.p, has_port ? "" : ":80");
    return n > 0 && (size_t)n < sizeof with_port && set_address(place, sj_slice_of(with_port));
}

static bool set_from_config(sj_place *place, const char *path) {
    sj_buffer error = sj_buffer_with_max(MAX_TEXT), warnings = sj_buffer_with_max(MAX_TEXT);
    sj_config *config = NULL;
    bool ok = sj_config_load(path, &config, &error, &warnings) && config->listen_count > 0;
    if (!ok)
        (void)fprintf(stderr, "%.*s", (int)error.n, error.n ? error.p : "");
    if (ok && config->listens[0].unix_path)
        ok = set_unix(place, sj_slice_of(config->listens[0].unix_path));
    else if (ok)
        ok = snprintf(place->host, MAX_HOST, "%s", reachable(config->listens[0].host)) < MAX_HOST &&
             snprintf(place->port, sizeof place->port, "%d", config->listens[0].port) > 0;
    sj_config_unref(&config);
    sj_buffer_free(&error);
    sj_buffer_free(&warnings);
    return ok;
}

static bool set_from_environment(sj_place *place) {
    const char *listen = getenv("STORMJIB_LISTEN");
    if (!listen || !*listen)
        listen = "127.0.0.1:8080";
    return set_address(place, sj_slice_trim((sj_slice){listen, strcspn(listen, ",")}));
}

// ---- the question --------------------------------------------------------------------------------------------------------------

static int64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

// 0, or an errno.
static int wait_for(int fd, short events, int64_t deadline_ms) {
    for (;;) {
        int64_t left_ms = deadline_ms - now_ms();
        if (left_ms <= 0)
            return ETIMEDOUT;
        struct pollfd poll_fd = {.fd = fd, .events = events};
        int n = poll(&poll_fd, 1, (int)left_ms);
        if (n > 0)
            return 0;
        if (n < 0 && errno != EINTR)
            return errno;
    }
}

static int connect_to(const struct sockaddr *address, socklen_t size, int64_t deadline_ms, int *out) {
    int fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return errno;
    int error = connect(fd, address, size) == 0 ? 0 : errno;
    if (error == EINPROGRESS) {
        error = wait_for(fd, POLLOUT, deadline_ms);
        socklen_t n = sizeof error;
        if (error == 0)
            (void)getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &n);
    }
    if (error)
        close(fd);
    else
        *out = fd;
    return error;
}

static int connect_unix(const sj_place *place, int64_t deadline_ms, int *out) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path, place->unix_path, sizeof address.sun_path);
    return connect_to((const struct sockaddr *)&address, sizeof address, deadline_ms, out);
}

static const char *connect_tcp(const sj_place *place, int64_t deadline_ms, int *out) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV}, *found = NULL;
    int failed = getaddrinfo(place->host, place->port, &hints, &found);
    if (failed)
        return gai_strerror(failed);
    int error = ETIMEDOUT;
    for (const struct addrinfo *at = found; at && error; at = at->ai_next)
        error = connect_to(at->ai_addr, at->ai_addrlen, deadline_ms, out);
    freeaddrinfo(found);
    return error ? strerror(error) : NULL;
}

static const char *send_all(int fd, const char *bytes, size_t n, int64_t deadline_ms) {
    while (n) {
        ssize_t sent = send(fd, bytes, n, MSG_NOSIGNAL);
        if (sent >= 0) {
            bytes += sent;
            n -= (size_t)sent;
            continue;
        }
        if (errno != EAGAIN && errno != EINTR)
            return strerror(errno);
        int error = wait_for(fd, POLLOUT, deadline_ms);
        if (error)
            return strerror(error);
    }
    return NULL;
}

// The answer's first bytes, enough for its status line.
static const char *read_status(int fd, int64_t deadline_ms, int *status) {
    char text[16] = "";
    size_t n = 0;
    while (n < 12) {
        ssize_t got = recv(fd, text + n, 12 - n, 0);
        if (got > 0) {
            n += (size_t)got;
            continue;
        }
        if (got == 0)
            return "the connection was closed before an answer";
        if (errno != EAGAIN && errno != EINTR)
            return strerror(errno);
        int error = wait_for(fd, POLLIN, deadline_ms);
        if (error)
            return strerror(error);
    }
    if (sscanf(text, "HTTP/1.%*1d %3d", status) != 1)
        return "what answers there is no HTTP server";
    return NULL;
}

static const char *ask(const sj_place *place, int *status) {
    int64_t deadline_ms = now_ms() + LIMIT_MS;
    int fd = -1;
    const char *problem = NULL;
    if (place->unix_path[0]) {
        int error = connect_unix(place, deadline_ms, &fd);
        problem = error ? strerror(error) : NULL;
    } else {
        problem = connect_tcp(place, deadline_ms, &fd);
    }
    if (problem)
        return problem;
    char request[MAX_PATH_BYTES + 128];
    int n = snprintf(
        request, sizeof request,
        "GET %s HTTP/1.1\r\nHost: localhost\r\nUser-Agent: stormjib-health\r\nConnection: close\r\n\r\n",
        place->path);
    problem = send_all(fd, request, (size_t)n, deadline_ms);
    if (!problem)
        problem = read_status(fd, deadline_ms, status);
    close(fd);
    return problem;
}

// ---- the command ---------------------------------------------------------------------------------------------------------------

typedef struct sj_health_options {
    const char *url, *config;
    bool ready;
} sj_health_options;

// EX_OK: go on. -1: help was wanted.
static int read_options(int argc, char **argv, sj_health_options *out) {
    static const struct option known[] = {{"url", required_argument, NULL, 'u'},
                                          {"config", required_argument, NULL, 'c'},
                                          {"ready", no_argument, NULL, 'r'},
                                          {"help", no_argument, NULL, 'h'},
                                          {0}};
    int option;
    optind = 1;
    while ((option = getopt_long(argc, argv, "c:h", known, NULL)) != -1) {
        if (option == 'u')
            out->url = optarg;
        else if (option == 'c')
            out->config = optarg;
        else if (option == 'r')
            out->ready = true;
        else
            return option == 'h' ? -1 : EX_USAGE;
    }
    if (optind == argc && !(out->url && out->config))
        return EX_OK;
    (void)fputs("stormjib health: one of --url and -c, and nothing else; see --help\n", stderr);
    return EX_USAGE;
}

int sj_cmd_health(int argc, char **argv) {
    sj_health_options options = {0};
    int code = read_options(argc, argv, &options);
    if (code == -1) {
        help();
        return EX_OK;
    }
    if (code != EX_OK)
        return code;
    sj_place place = {0};
    (void)snprintf(place.path, sizeof place.path, "%s", options.ready ? "/readyz" : "/healthz");
    if (options.url && !set_url(&place, options.url)) {
        (void)fputs("stormjib health: --url takes http://HOST:PORT/PATH or unix:/PATH\n", stderr);
        return EX_USAGE;
    }
    // A file that was spoilt after the start says nothing about the proxy that runs: then the environment has to do.
    if (!options.url && !(options.config && set_from_config(&place, options.config)) &&
        !set_from_environment(&place)) {
        (void)fputs("stormjib health: STORMJIB_LISTEN is no HOST:PORT\n", stderr);
        return EX_USAGE;
    }
    int status = 0;
    const char *problem = ask(&place, &status);
    const char *at = place.unix_path[0] ? place.unix_path : place.host;
    const char *colon = place.unix_path[0] ? "" : ":";
    if (problem)
        (void)fprintf(stderr, "stormjib health: %s%s%s: %s\n", at, colon, place.port, problem);
    else if (status < 200 || status > 299)
        (void)fprintf(stderr, "stormjib health: %s%s%s: %s answered %d\n", at, colon, place.port, place.path,
                      status);
    return problem || status < 200 || status > 299 ? 1 : EX_OK;
}
