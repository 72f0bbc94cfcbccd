#include "listener.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { BACKLOG = 4096 };

static const char *advice_for(int error) {
    switch (error) {
    case EADDRINUSE:
        return "another program uses it: stop that one or choose another port";
    case EACCES:
        return "ports below 1024 and foreign directories need more rights: choose another one";
    case EADDRNOTAVAIL:
        return "this machine has no such address";
    default:
        return "check the address";
    }
}

static int fail(const char *where, int error, int fd, sj_buffer *out) {
    sj_buffer_note(out, "cannot listen on %s: %s; %s\n", where, strerror(error), advice_for(error));
    if (fd >= 0)
        close(fd);
    return -1;
}

static int bound_port(int fd) {
    struct sockaddr_storage address;
    socklen_t length = sizeof address;
    if (getsockname(fd, (struct sockaddr *)&address, &length) != 0)
        return 0;
    if (address.ss_family == AF_INET6)
        return ntohs(((const struct sockaddr_in6 *)(const void *)&address)->sin6_port);
    return ntohs(((const struct sockaddr_in *)(const void *)&address)->sin_port);
}

static int open_tcp(const sj_listen *wanted, int *port, sj_buffer *error) {
    char where[300], service[8];
    (void)snprintf(where, sizeof where, "%s:%d", wanted->host, wanted->port);
    (void)snprintf(service, sizeof service, "%d", wanted->port);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *found = NULL;
    int failed = getaddrinfo(wanted->host, service, &hints, &found);
    if (failed) {
        sj_buffer_note(error, "cannot listen on %s: %s; write an address of this machine\n", where,
                       gai_strerror(failed));
        return -1;
    }
    int fd = socket(found->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int one = 1;
    bool ok = fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) == 0 &&
              bind(fd, found->ai_addr, found->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0;
    int why = errno;
    freeaddrinfo(found);
    if (!ok)
        return fail(where, why, fd, error);
    *port = bound_port(fd);
    return fd;
}

static bool answers(const struct sockaddr_un *address) {
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    bool yes =
        fd >= 0 && (connect(fd, (const struct sockaddr *)address, sizeof *address) == 0 || errno == EAGAIN);
    if (fd >= 0)
        close(fd);
    return yes;
}

static int open_unix(const sj_listen *wanted, int *port, sj_buffer *error) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    *port = 0;
    if (strlen(wanted->unix_path) >= sizeof address.sun_path)
        return fail(wanted->unix_path, ENAMETOOLONG, -1, error);
    (void)snprintf(address.sun_path, sizeof address.sun_path, "%s", wanted->unix_path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return fail(wanted->unix_path, errno, fd, error);
    if (bind(fd, (const struct sockaddr *)&address, sizeof address) != 0) {
        if (errno != EADDRINUSE || answers(&address))
            return fail(wanted->unix_path, errno ? errno : EADDRINUSE, fd, error);
        // Left behind: nobody is there.
        if (unlink(wanted->unix_path) != 0 ||
            bind(fd, (const struct sockaddr *)&address, sizeof address) != 0)
            return fail(wanted->unix_path, errno, fd, error);
    }
    if (listen(fd, BACKLOG) != 0)
        return fail(wanted->unix_path, errno, fd, error);
    return fd;
}

int sj_listener_open(const sj_listen *wanted, int *port, sj_buffer *error) {
    return wanted->unix_path ? open_unix(wanted, port, error) : open_tcp(wanted, port, error);
}

void sj_listener_close(const sj_listen *wanted, int fd) {
    if (fd < 0)
        return;
    close(fd);
    if (wanted->unix_path)
        unlink(wanted->unix_path);
}
