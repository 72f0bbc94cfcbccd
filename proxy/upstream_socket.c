// curl's sockets and its timer on the uv loop.
//
// A socket on which an answer came stays registered while it waits in curl's pool: starting and stopping a watch at every transfer costs
// more than the transfer's own reads and writes. All others (still connecting, a resolver's pipe) are dropped as soon as curl lets go of them,
// because curl closes those without telling us.
#include "upstream_private.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

struct sj_upstream_watcher {
    uv_poll_t poll;
    sj_upstream *upstream;
    int fd;
    int wanted; // what curl waits for; 0: nothing, the watch is only kept
    int registered; // what the loop watches
    bool idle; // with wanted 0: in curl\'s pool, not a paused transfer\'s
};

_Static_assert(CURL_POLL_IN == UV_READABLE && CURL_POLL_OUT == UV_WRITABLE,
               "the two libraries' bits are the same");
_Static_assert(CURL_CSELECT_IN == UV_READABLE && CURL_CSELECT_OUT == UV_WRITABLE, "and curl's second set");

static void act(sj_upstream *upstream, curl_socket_t fd, int bits) {
    int running = 0;
    upstream->in_curl++;
    (void)curl_multi_socket_action(upstream->multi, fd, bits, &running);
    upstream->in_curl--;
    sj_upstream_pump(upstream);
}

static sj_upstream_watcher *watcher_of(const sj_upstream *upstream, int fd) {
    return fd >= 0 && (size_t)fd < upstream->watcher_cap ? upstream->watchers[fd] : NULL;
}

static void on_watcher_closed(uv_handle_t *handle) {
    sj_upstream_watcher *watcher = handle->data;
    sj_upstream *upstream = watcher->upstream;
    free(watcher);
    sj_upstream_handle_closed(upstream);
}

// The number is free for a new watcher at once; the handle's memory goes when the loop has let go of it.
static void drop(sj_upstream *upstream, sj_upstream_watcher *watcher) {
    upstream->watchers[watcher->fd] = NULL;
    uv_close((uv_handle_t *)&watcher->poll, on_watcher_closed);
}

static int local_port(int fd) {
    struct sockaddr_storage address = {0};
    socklen_t length = sizeof address;
    if (getsockname(fd, (struct sockaddr *)&address, &length) != 0)
        return -1;
    if (address.ss_family == AF_INET6)
        return ntohs(((const struct sockaddr_in6 *)(const void *)&address)->sin6_port);
    return ntohs(((const struct sockaddr_in *)(const void *)&address)->sin_port);
}

// A transfer that was paused in the very turn it began, on a connection of the pool: curl never asked us to watch its socket, so the watcher still
// takes it for idle.
static bool is_paused_transfer(const sj_upstream *upstream, int fd) {
    int port = local_port(fd);
    for (const sj_attempt *attempt = upstream->running; attempt; attempt = attempt->next)
        if (attempt->pause >= SJ_PAUSE_DONE && attempt->local_port == port)
            return true;
    return false;
}

static void on_poll(uv_poll_t *poll, int status, int events);

static void watch(sj_upstream_watcher *watcher) {
    watcher->registered = uv_poll_start(&watcher->poll, watcher->wanted, on_poll) == 0 ? watcher->wanted : 0;
}

static void unwatch(sj_upstream_watcher *watcher) {
    (void)uv_poll_stop(&watcher->poll);
    watcher->registered = 0;
}

// An idle connection was closed or reset by the upstream, or speaks out of turn (a 408, the rest of an answer that was too long). curl would
// take one that was reset, or that has bytes waiting, for alive, and those bytes for the next answer. So the connection is closed here, and
// under its number curl finds a socket that is at its end.
static void retire(sj_upstream_watcher *watcher) {
    unwatch(watcher);
    (void)dup3(watcher->upstream->ended_socket, watcher->fd, O_CLOEXEC);
}

// The news may be of bytes that curl has read since, in the same turn.
static bool is_quiet(int fd) {
    char byte;
    return recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
}

static void on_poll(uv_poll_t *poll, int status, int events) {
    sj_upstream_watcher *watcher = poll->data;
    sj_upstream *upstream = watcher->upstream;
    int fd = watcher->fd;
    assert(upstream->magic == SJ_UPSTREAM_MAGIC);
    if (watcher->wanted == 0) {
        if (watcher->idle && is_paused_transfer(upstream, fd))
            watcher->idle = false;
        if (!watcher->idle)
            unwatch(watcher);
        else if (status < 0 || !is_quiet(fd))
            retire(watcher);
        return;
    }
    // libuv has stopped the watch at an error. Readable as well, for what the upstream said before it went.
    if (status < 0) {
        watcher->registered = 0;
        events = watcher->wanted | CURL_CSELECT_ERR;
    }
    act(upstream, fd, events);
    watcher = watcher_of(upstream, fd);
    if (!watcher || watcher->registered)
        return;
    if (watcher->wanted)
        watch(watcher);
    else if (watcher->idle)
        retire(watcher);
}

static bool reserve_place(sj_upstream *upstream, int fd) {
    if ((size_t)fd < upstream->watcher_cap)
        return true;
    size_t cap = upstream->watcher_cap ? upstream->watcher_cap : 64;
    while (cap <= (size_t)fd)
        cap *= 2;
    sj_upstream_watcher **watchers = realloc(upstream->watchers, cap * sizeof *watchers);
    if (!watchers)
        return false;
    for (size_t i = upstream->watcher_cap; i < cap; i++)
        watchers[i] = NULL;
    upstream->watchers = watchers;
    upstream->watcher_cap = cap;
    return true;
}

static sj_upstream_watcher *watcher_new(sj_upstream *upstream, int fd) {
    if (!reserve_place(upstream, fd))
        return NULL;
    sj_upstream_watcher *watcher = calloc(1, sizeof *watcher);
    if (!watcher)
        return NULL;
    if (uv_poll_init_socket(upstream->loop, &watcher->poll, fd) != 0) {
        free(watcher);
        return NULL;
    }
    watcher->poll.data = watcher;
    watcher->upstream = upstream;
    watcher->fd = fd;
    upstream->open_handles++;
    upstream->watchers[fd] = watcher;
    return watcher;
}

static sj_attempt *attempt_of(CURL *easy) {
    char *private = NULL;
    (void)curl_easy_getinfo(easy, CURLINFO_PRIVATE, &private);
    sj_carrier *carrier = (void *)private;
    assert(carrier == NULL || carrier->magic == SJ_CARRIER_MAGIC);
    return carrier ? carrier->attempt : NULL;
}

// Paused, or back in the pool; or curl is about to close it, which on_close_socket will hear of.
static void let_go(sj_upstream *upstream, sj_upstream_watcher *watcher, const sj_attempt *attempt) {
    bool answered = attempt && attempt->stage != SJ_ANSWER_STATUS && (watcher->wanted & CURL_POLL_IN);
    if (!answered) {
        drop(upstream, watcher);
        return;
    }
    watcher->wanted = 0;
    watcher->idle = attempt->pause != SJ_PAUSE_DONE;
}

static int on_curl_socket(CURL *easy, curl_socket_t fd, int what, void *user, void *unused) {
    (void)unused;
    sj_upstream *upstream = user;
    sj_upstream_watcher *watcher = watcher_of(upstream, fd);
    sj_attempt *attempt = attempt_of(easy);
    if (what == CURL_POLL_REMOVE) {
        if (watcher)
            let_go(upstream, watcher, attempt);
        // A socket is gone and nothing was sent: the next address may wait for its turn.
        if (attempt && attempt->state == SJ_ATTEMPT_RUNNING && attempt->requests == 0)
            sj_upstream_defer(attempt);
        return 0;
    }
    if (!watcher)
        watcher = watcher_new(upstream, fd);
    if (!watcher) {
        // An error returned here would end every transfer of the worker: end only this one.
        if (attempt && attempt->state == SJ_ATTEMPT_RUNNING) {
            attempt->state = SJ_ATTEMPT_FAILED;
            sj_upstream_defer(attempt);
        }
        return 0;
    }
    watcher->wanted = what & CURL_POLL_INOUT;
    if (watcher->registered != watcher->wanted)
        watch(watcher);
    return 0;
}

static curl_socket_t on_open_socket(void *user, curlsocktype purpose, struct curl_sockaddr *address) {
    (void)purpose;
    sj_carrier *carrier = user;
    assert(carrier->magic == SJ_CARRIER_MAGIC);
    sj_upstream *upstream = carrier->upstream;
    sj_attempt *attempt = carrier->attempt;
    // Once a request was sent, a new connection could only serve to send it again.
    if (!attempt || attempt->requests > 0)
        return CURL_SOCKET_BAD;
    int fd = socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
    if (fd < 0)
        return CURL_SOCKET_BAD;
    attempt->opened = true;
    // curl closed an earlier socket of this number without a word, and will not tell us of this one if it waits for the same on it.
    sj_upstream_watcher *stale = watcher_of(upstream, fd);
    if (stale) {
        int wanted = stale->wanted;
        drop(upstream, stale);
        sj_upstream_watcher *watcher = wanted ? watcher_new(upstream, fd) : NULL;
        if (watcher) {
            watcher->wanted = wanted;
            watch(watcher);
        }
    }
    return fd;
}

static int on_close_socket(void *user, curl_socket_t fd) {
    sj_upstream *upstream = user;
    assert(upstream->magic == SJ_UPSTREAM_MAGIC);
    sj_upstream_watcher *watcher = watcher_of(upstream, fd);
    if (watcher)
        drop(upstream, watcher);
    return close(fd);
}

void sj_carrier_set_socket_options(sj_carrier *carrier) {
    (void)curl_easy_setopt(carrier->easy, CURLOPT_OPENSOCKETFUNCTION, on_open_socket);
    (void)curl_easy_setopt(carrier->easy, CURLOPT_OPENSOCKETDATA, carrier);
    // Closing outlives the carrier: the connection belongs to the pool.
    (void)curl_easy_setopt(carrier->easy, CURLOPT_CLOSESOCKETFUNCTION, on_close_socket);
    (void)curl_easy_setopt(carrier->easy, CURLOPT_CLOSESOCKETDATA, carrier->upstream);
}

static void on_timer(uv_timer_t *timer) {
    sj_upstream *upstream = timer->data;
    assert(upstream->magic == SJ_UPSTREAM_MAGIC);
    upstream->deadline_ms = UINT64_MAX;
    act(upstream, CURL_SOCKET_TIMEOUT, 0);
}

void sj_upstream_timer_arm(sj_upstream *upstream) {
    if (upstream->closing)
        return;
    uint64_t now = uv_now(upstream->loop);
    uint64_t due = upstream->deferred ? now : upstream->deadline_ms;
    if (due == UINT64_MAX)
        (void)uv_timer_stop(&upstream->timer);
    else
        (void)uv_timer_start(&upstream->timer, on_timer, due > now ? due - now : 0, 0);
}

static int on_curl_timer(CURLM *multi, long timeout_ms, void *user) {
    (void)multi;
    sj_upstream *upstream = user;
    upstream->deadline_ms = timeout_ms < 0 ? UINT64_MAX : uv_now(upstream->loop) + (uint64_t)timeout_ms;
    sj_upstream_timer_arm(upstream);
    return 0;
}

bool sj_upstream_sockets_init(sj_upstream *upstream) {
    upstream->deadline_ms = UINT64_MAX;
    bool ok = curl_multi_setopt(upstream->multi, CURLMOPT_SOCKETFUNCTION, on_curl_socket) == CURLM_OK &&
              curl_multi_setopt(upstream->multi, CURLMOPT_SOCKETDATA, upstream) == CURLM_OK &&
              curl_multi_setopt(upstream->multi, CURLMOPT_TIMERFUNCTION, on_curl_timer) == CURLM_OK &&
              curl_multi_setopt(upstream->multi, CURLMOPT_TIMERDATA, upstream) == CURLM_OK;
    int pair[2];
    if (!ok || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0)
        return false;
    (void)close(pair[1]);
    upstream->ended_socket = pair[0];
    // The timer comes last: once it is on the loop, only the loop may free the upstream.
    if (uv_timer_init(upstream->loop, &upstream->timer) != 0) {
        (void)close(upstream->ended_socket);
        return false;
    }
    upstream->timer.data = upstream;
    upstream->open_handles = 1;
    return true;
}

static void on_timer_closed(uv_handle_t *handle) {
    sj_upstream_handle_closed(handle->data);
}

void sj_upstream_sockets_close(sj_upstream *upstream) {
    for (size_t fd = 0; fd < upstream->watcher_cap; fd++) {
        if (upstream->watchers[fd])
            drop(upstream, upstream->watchers[fd]);
    }
    (void)close(upstream->ended_socket);
    uv_close((uv_handle_t *)&upstream->timer, on_timer_closed);
}
