#include "log_sink.h"

#include "access_log.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

typedef enum sj_sink_kind {
    SINK_FILE, // never blocks: all at once
    SINK_SOCKET, // journald and the like: MSG_DONTWAIT
    SINK_PIPE, // pipe or terminal, opened anew: an open file of our own that may be non-blocking
    SINK_SHARED, // the same where it cannot be opened anew: asked before each write
} sj_sink_kind;

struct sj_log_sink {
    pthread_mutex_t lock;
    int fd, own_fd; // own_fd: -1 or ours to close
    int users;
    sj_sink_kind kind;
    char rest[SJ_LOG_MAX_LINE]; // of a line that the reader took a part of
    size_t rest_n;
    sj_log_sink *next;
};

static pthread_mutex_t all_lock = PTHREAD_MUTEX_INITIALIZER;
static sj_log_sink *all;

static int open_anew(int fd) {
    char path[40];
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
}

static bool recognise(sj_log_sink *sink) {
    struct stat info;
    if (fstat(sink->fd, &info) != 0)
        return false;
    sink->own_fd = -1;
    sink->kind = S_ISSOCK(info.st_mode) ? SINK_SOCKET : SINK_FILE;
    if (S_ISFIFO(info.st_mode) || (S_ISCHR(info.st_mode) && isatty(sink->fd))) {
        sink->own_fd = open_anew(sink->fd);
        sink->kind = sink->own_fd >= 0 ? SINK_PIPE : SINK_SHARED;
    }
    return true;
}

sj_log_sink *sj_log_sink_open(int fd) {
    pthread_mutex_lock(&all_lock);
    sj_log_sink *sink = all;
    while (sink && sink->fd != fd)
        sink = sink->next;
    if (sink) {
        sink->users++;
    } else if ((sink = calloc(1, sizeof *sink)) != NULL) {
        sink->fd = fd;
        sink->users = 1;
        if (recognise(sink)) {
            pthread_mutex_init(&sink->lock, NULL);
            sink->next = all;
            all = sink;
        } else {
            free(sink);
            sink = NULL;
        }
    }
    pthread_mutex_unlock(&all_lock);
    return sink;
}

void sj_log_sink_close(sj_log_sink **sink) {
    sj_log_sink *gone = *sink;
    if (!gone)
        return;
    *sink = NULL;
    pthread_mutex_lock(&all_lock);
    if (--gone->users == 0) {
        sj_log_sink **at = &all;
        while (*at != gone)
            at = &(*at)->next;
        *at = gone->next;
        if (gone->own_fd >= 0)
            close(gone->own_fd);
        pthread_mutex_destroy(&gone->lock);
        free(gone);
    }
    pthread_mutex_unlock(&all_lock);
}

static bool would_take(int fd) {
    struct pollfd poll_fd = {.fd = fd, .events = POLLOUT};
    return poll(&poll_fd, 1, 0) == 1 && (poll_fd.revents & (POLLOUT | POLLERR | POLLHUP));
}

static ssize_t put(const sj_log_sink *sink, const char *p, size_t n) {
    ssize_t put = -1;
    do {
        if (sink->kind == SINK_SOCKET)
            put = send(sink->fd, p, n, MSG_DONTWAIT | MSG_NOSIGNAL);
        else if (sink->kind == SINK_SHARED && !would_take(sink->fd))
            errno = EAGAIN;
        else
            put = write(sink->own_fd >= 0 ? sink->own_fd : sink->fd, p, n);
    } while (put < 0 && errno == EINTR);
    return put;
}

// Whole lines, as many as one write may hold. A pipe takes up to PIPE_BUF bytes as one piece or not at all, and a writable one has that room.
static size_t whole_lines(const sj_log_sink *sink, sj_slice text) {
    if (sink->kind == SINK_FILE || text.n <= PIPE_BUF)
        return text.n;
    const char *end = memrchr(text.p, '\n', PIPE_BUF);
    return end ? (size_t)(end - text.p) + 1 : text.n;
}

static bool put_rest(sj_log_sink *sink, bool *broken) {
    if (sink->rest_n == 0)
        return true;
    ssize_t n = put(sink, sink->rest, sink->rest_n);
    if (n < 0) {
        *broken = errno != EAGAIN && errno != EWOULDBLOCK;
        return false;
    }
    sink->rest_n -= (size_t)n;
    memmove(sink->rest, sink->rest + n, sink->rest_n);
    return sink->rest_n == 0;
}

// What was cut stands at the front of sink->rest from now on, so that no other line comes in between. Returns the bytes it took over.
static size_t keep_rest(sj_log_sink *sink, sj_slice text, size_t written) {
    if (written == 0 || text.p[written - 1] == '\n')
        return 0;
    const char *end = memchr(text.p + written, '\n', text.n - written);
    size_t n = end ? (size_t)(end - text.p) + 1 - written : text.n - written;
    assert(n <= sizeof sink->rest);
    memcpy(sink->rest, text.p + written, n);
    sink->rest_n = n;
    return n;
}

size_t sj_log_sink_write(sj_log_sink *sink, sj_slice text, bool *broken) {
    size_t done = 0;
    *broken = false;
    pthread_mutex_lock(&sink->lock);
    bool going = put_rest(sink, broken);
    while (going && done < text.n) {
        sj_slice left = sj_slice_from(text, done);
        size_t wanted = whole_lines(sink, left);
        ssize_t n = put(sink, left.p, wanted);
        if (n < 0) {
            *broken = errno != EAGAIN && errno != EWOULDBLOCK;
            break;
        }
        done += (size_t)n + keep_rest(sink, left, (size_t)n);
        going = (size_t)n == wanted;
    }
    pthread_mutex_unlock(&sink->lock);
    return done;
}
