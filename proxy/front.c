#include "front_internal.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    ACCEPTS_PER_TURN = 32,
    RUNS_PER_TURN = 16,
    TURNS_BEFORE_SLEEP = 8,
    OVER_LIMIT_EXTRA = 128,
    SWEEP_GRAIN_MS = 250,
    ACCEPT_PAUSE_MS = 50
};
// A body must bring this much in each body_timeout, or end.
enum { BODY_PROGRESS_BYTES = 64 * 1024 };

static int64_t now_ms(const sj_front *front) {
    return (int64_t)uv_now(front->loop);
}

// ---- waiting: header, body, keep-alive and write time-outs ----------------------------------------------------------------------

int64_t front_wait_limit(const sj_front *front, wait_kind kind) {
    switch (kind) {
    case WAIT_HEADER:
        return front->limits.header_timeout_ms;
    case WAIT_KEEPALIVE:
        return front->limits.keepalive_timeout_ms;
    default:
        return front->limits.body_timeout_ms;
    }
}

static void wait_unlink(conn *c) {
    if (c->waits == WAIT_NONE)
        return;
    wait_list *list = &c->front->waits[c->waits];
    *(c->wait_prev ? &c->wait_prev->wait_next : &list->first) = c->wait_next;
    *(c->wait_next ? &c->wait_next->wait_prev : &list->last) = c->wait_prev;
    c->wait_prev = c->wait_next = NULL;
    c->waits = WAIT_NONE;
}

static void on_sweep(uv_timer_t *timer);
static void set_accepting(sj_front *front, bool accepting);
static bool may_accept(const sj_front *front);

static void arm_sweep(sj_front *front, int64_t at_ms) {
    if (front->closing || (front->sweep_at_ms && front->sweep_at_ms <= at_ms))
        return;
    front->sweep_at_ms = at_ms;
    int64_t delay = at_ms - now_ms(front);
    uv_timer_start(&front->sweep, on_sweep, delay > 0 ? (uint64_t)delay : 0, 0);
}

void conn_wait(conn *c, wait_kind kind) {
    wait_unlink(c);
    if (kind == WAIT_NONE)
        return;
    wait_list *list = &c->front->waits[kind];
    c->waits = kind;
    c->wait_since_ms = now_ms(c->front);
    c->wait_progress = 0;
    c->wait_prev = list->last;
    *(list->last ? &list->last->wait_next : &list->first) = c;
    list->last = c;
    // The grain keeps a busy server from re-arming one timer for each request.
    arm_sweep(c->front, c->wait_since_ms + front_wait_limit(c->front, kind) + SWEEP_GRAIN_MS);
}

// Each kind's list is sorted by wait_since_ms, so only heads are looked at.
static void on_sweep(uv_timer_t *timer) {
    sj_front *front = timer->data;
    int64_t now = now_ms(front), next = INT64_MAX;
    front->sweep_at_ms = 0;
    if (!front->accepting)
        set_accepting(front, may_accept(front));
    if (!front->accepting)
        next = now + ACCEPT_PAUSE_MS;
    for (wait_kind kind = 0; kind < WAIT_KINDS; kind++) {
        int64_t limit = front_wait_limit(front, kind);
        conn *c;
        while ((c = front->waits[kind].first) && c->wait_since_ms + limit <= now) {
            if (kind == WAIT_BODY && c->wait_progress >= BODY_PROGRESS_BYTES)
                conn_wait(c, kind);
            else
                conn_doom(c);
        }
        if (c && c->wait_since_ms + limit + SWEEP_GRAIN_MS < next)
            next = c->wait_since_ms + limit + SWEEP_GRAIN_MS;
    }
    if (next != INT64_MAX)
        arm_sweep(front, next);
}

// ---- MHD in our loop ------------------------------------------------------------------------------------------------------------

void front_touch(daemon_room *room) {
    room->dirty = true;
}

static void on_room_readable(uv_poll_t *poll, int status, int events) {
    (void)status;
    (void)events;
    front_touch(poll->data);
}

static void on_stay_awake(uv_idle_t *idle) {
    (void)idle;
}

// In external mode nothing wakes MHD after a resume: it is run before every sleep in which it has something to do.
static void run_room(daemon_room *room) {
    for (int i = 0; i < RUNS_PER_TURN && room->dirty; i++) {
        room->dirty = false;
        MHD_run(room->mhd);
        MHD_UNSIGNED_LONG_LONG timeout;
        if (MHD_get_timeout(room->mhd, &timeout) == MHD_YES && timeout == 0)
            room->dirty = true;
    }
}

static void run_rooms(sj_front *front) {
    for (int i = 0; i < front->room_count; i++)
        if (front->rooms[i]->dirty)
            run_room(front->rooms[i]);
}

static bool any_dirty(const sj_front *front) {
    for (int i = 0; i < front->room_count; i++)
        if (front->rooms[i]->dirty)
            return true;
    return front->flush_first != NULL;
}

static void on_before_sleep(uv_prepare_t *prepare) {
    sj_front *front = prepare->data;
    bool more = true;
    for (int i = 0; i < TURNS_BEFORE_SLEEP && more; i++) {
        call_flush_all(front);
        run_rooms(front);
        call_tell_writable(front);
        more = front->handlers.on_turn && front->handlers.on_turn(front->context);
        more |= any_dirty(front);
    }
    if (more && !uv_is_active((uv_handle_t *)&front->stay_awake))
        uv_idle_start(&front->stay_awake, on_stay_awake);
    else if (!more && uv_is_active((uv_handle_t *)&front->stay_awake))
        uv_idle_stop(&front->stay_awake);
}

// ---- connections ----------------------------------------------------------------------------------------------------------------

static void on_watch_closed(uv_handle_t *handle) {
    conn *c = handle->data;
    c->front->open_handles--;
    c->magic = 0;
    sj_front *front = c->front;
    free(c);
    if (front->closing && front->open_handles == 0)
        free(front);
}

static void on_watch(uv_poll_t *watch, int status, int events) {
    conn *c = watch->data;
    assert(c->magic == CONN_MAGIC);
    // libuv tells a reset as an error and stops the watch.
    if (status < 0 || (events & UV_DISCONNECT)) {
        conn_watch(c, 0);
        if (c->call)
            call_client_gone(c->call);
        return;
    }
    if ((events & UV_WRITABLE) && c->call)
        call_socket_writable(c->call);
}

void conn_watch(conn *c, int events) {
    if (c->watched == events || uv_is_closing((uv_handle_t *)&c->watch))
        return;
    c->watched = events;
    if (events)
        uv_poll_start(&c->watch, events, on_watch);
    else
        uv_poll_stop(&c->watch);
}

void conn_doom(conn *c) {
    wait_unlink(c);
    if (c->doomed)
        return;
    c->doomed = true;
    shutdown(c->fd, SHUT_RDWR);
    front_touch(c->room);
    if (c->call)
        call_client_gone(c->call);
}

static int connections_in_all(const sj_front *front) {
    return front->limits.in_all ? atomic_load(front->limits.in_all) : front->connections;
}

static void remember_connection(conn *c) {
    sj_front *front = c->front;
    front->open_handles++;
    int before = front->limits.in_all ? atomic_fetch_add(front->limits.in_all, 1) : front->connections;
    c->over_limit = before >= front->limits.connections;
    front->connections++;
    c->room->connections++;
    c->all_next = front->all;
    if (front->all)
        front->all->all_prev = c;
    front->all = c;
}

static void forget_connection(conn *c) {
    sj_front *front = c->front;
    conn_watch(c, 0);
    wait_unlink(c);
    front->connections--;
    c->room->connections--;
    if (front->limits.in_all)
        atomic_fetch_sub(front->limits.in_all, 1);
    *(c->all_prev ? &c->all_prev->all_next : &front->all) = c->all_next;
    if (c->all_next)
        c->all_next->all_prev = c->all_prev;
    uv_close((uv_handle_t *)&c->watch, on_watch_closed);
}

static void on_connection(void *cls, struct MHD_Connection *mhd, void **socket_context,
                          enum MHD_ConnectionNotificationCode code) {
    daemon_room *room = cls;
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        conn *c = room->front->adding;
        c->mhd = mhd;
        *socket_context = c;
        return;
    }
    // Comes before the descriptor is closed.
    conn *c = *socket_context;
    assert(c->magic == CONN_MAGIC);
    c->mhd = NULL;
    if (c->front->adding == c) // announced and refused in one go
        return;
    forget_connection(c);
}

static size_t keep_escapes(void *cls, struct MHD_Connection *mhd, char *text) {
    (void)cls;
    (void)mhd;
    return strlen(text);
}

static void swallow_mhd_log(void *cls, const char *format, va_list args) {
    (void)cls;
    (void)format;
    (void)args;
}

static daemon_room *open_room(sj_front *front) {
    daemon_room *room = calloc(1, sizeof *room);
    if (!room)
        return NULL;
    room->front = front;
    room->mhd = MHD_start_daemon(
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_NO_LISTEN_SOCKET | MHD_USE_SUPPRESS_DATE_NO_CLOCK |
            MHD_USE_ERROR_LOG,
        0, NULL, NULL, call_handle, room, MHD_OPTION_EXTERNAL_LOGGER, swallow_mhd_log, NULL,
        MHD_OPTION_NOTIFY_CONNECTION, on_connection, room, MHD_OPTION_NOTIFY_COMPLETED, call_on_completed,
        room, MHD_OPTION_URI_LOG_CALLBACK, call_on_uri, room, MHD_OPTION_UNESCAPE_CALLBACK, keep_escapes,
        NULL, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_MEMORY, MHD_OPTION_CONNECTION_LIMIT,
        1000000u, MHD_OPTION_CONNECTION_TIMEOUT, 0u, MHD_OPTION_END);
    const union MHD_DaemonInfo *info =
        room->mhd ? MHD_get_daemon_info(room->mhd, MHD_DAEMON_INFO_EPOLL_FD) : NULL;
    if (!info || uv_poll_init(front->loop, &room->poll, info->epoll_fd) != 0) {
        if (room->mhd)
            MHD_stop_daemon(room->mhd);
        free(room);
        return NULL;
    }
    room->poll.data = room;
    uv_poll_start(&room->poll, UV_READABLE, on_room_readable);
    front->open_handles++;
    front->rooms[front->room_count++] = room;
    return room;
}

// MHD walks a daemon's suspended connections at each resume, so daemons are kept small and opened as needed.
static daemon_room *room_for_one(sj_front *front) {
    daemon_room *best = NULL;
    for (int i = 0; i < front->room_count; i++)
        if (!best || front->rooms[i]->connections < best->connections)
            best = front->rooms[i];
    if ((!best || best->connections >= DAEMON_CONNECTIONS) && front->room_count < MAX_DAEMONS) {
        daemon_room *room = open_room(front);
        return room ? room : best;
    }
    return best;
}

static void name_peer(conn *c, const struct sockaddr_storage *address) {
    char text[INET6_ADDRSTRLEN] = "";
    if (address->ss_family == AF_INET) {
        const struct sockaddr_in *v4 = (const void *)address;
        inet_ntop(AF_INET, &v4->sin_addr, text, sizeof text);
        (void)snprintf(c->peer, sizeof c->peer, "%s:%d", text, ntohs(v4->sin_port));
    } else if (address->ss_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const void *)address;
        inet_ntop(AF_INET6, &v6->sin6_addr, text, sizeof text);
        (void)snprintf(c->peer, sizeof c->peer, "[%s]:%d", text, ntohs(v6->sin6_port));
    } else
        (void)snprintf(c->peer, sizeof c->peer, "unix");
}

static void take_connection(sj_front *front, int fd, const struct sockaddr_storage *address,
                            socklen_t length) {
    daemon_room *room = room_for_one(front);
    conn *c = room ? calloc(1, sizeof *c) : NULL;
    if (!c || uv_poll_init(front->loop, &c->watch, fd) != 0) {
        free(c);
        close(fd);
        return;
    }
    int one = 1;
    if (address->ss_family != AF_UNIX)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    *c = (conn){
        .magic = CONN_MAGIC, .front = front, .room = room, .fd = fd, .watch = c->watch, .waits = WAIT_NONE};
    c->watch.data = c;
    name_peer(c, address);
    remember_connection(c);
    front->adding = c;
    MHD_add_connection(room->mhd, fd, (const struct sockaddr *)address, length);
    front->adding = NULL;
    if (!c->mhd) { // refused; MHD has closed the descriptor
        forget_connection(c);
        return;
    }
    conn_watch(c, UV_DISCONNECT);
    conn_wait(c, WAIT_HEADER);
    front_touch(room);
}

// ---- listening ------------------------------------------------------------------------------------------------------------------

static void on_acceptable(uv_poll_t *poll, int status, int events);

static void set_accepting(sj_front *front, bool accepting) {
    if (front->accepting == accepting)
        return;
    front->accepting = accepting;
    for (int i = 0; i < front->listener_count; i++) {
        if (accepting)
            uv_poll_start(&front->listeners[i].poll, UV_READABLE, on_acceptable);
        else
            uv_poll_stop(&front->listeners[i].poll);
    }
}

// What is far past the limit stays in the kernel's backlog; without descriptors nothing can be taken for a while.
static void pause_accepting(sj_front *front) {
    set_accepting(front, false);
    arm_sweep(front, now_ms(front) + ACCEPT_PAUSE_MS);
}

static bool may_accept(const sj_front *front) {
    return connections_in_all(front) < front->limits.connections + OVER_LIMIT_EXTRA;
}

static void on_acceptable(uv_poll_t *poll, int status, int events) {
    (void)events;
    struct listener *listener = poll->data;
    sj_front *front = listener->front;
    for (int i = 0; status == 0 && i < ACCEPTS_PER_TURN; i++) {
        if (!may_accept(front)) {
            pause_accepting(front);
            return;
        }
        struct sockaddr_storage address = {0};
        socklen_t length = sizeof address;
        int fd = accept4(listener->fd, (struct sockaddr *)&address, &length, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
                pause_accepting(front);
            return;
        }
        take_connection(front, fd, &address, length);
    }
}

bool sj_front_listen(sj_front *front, int fd) {
    if (front->listener_count == MAX_LISTENERS)
        return false;
    struct listener *listener = &front->listeners[front->listener_count];
    *listener = (struct listener){.front = front, .fd = fd};
    if (uv_poll_init(front->loop, &listener->poll, fd) != 0)
        return false;
    listener->poll.data = listener;
    front->listener_count++;
    front->open_handles++;
    front->accepting = true;
    return uv_poll_start(&listener->poll, UV_READABLE, on_acceptable) == 0;
}

// ---- life -----------------------------------------------------------------------------------------------------------------------

sj_front *sj_front_new(uv_loop_t *loop, const sj_front_limits *limits, const sj_front_handlers *handlers,
                       void *context) {
    sj_front *front = calloc(1, sizeof *front);
    if (!front)
        return NULL;
    *front = (sj_front){
        .loop = loop, .limits = *limits, .handlers = *handlers, .context = context, .open_handles = 3};
    uv_prepare_init(loop, &front->before_sleep);
    uv_idle_init(loop, &front->stay_awake);
    uv_timer_init(loop, &front->sweep);
    front->before_sleep.data = front->stay_awake.data = front->sweep.data = front;
    uv_prepare_start(&front->before_sleep, on_before_sleep);
    return front;
}

void sj_front_set_limits(sj_front *front, const sj_front_limits *limits) {
    front->limits = *limits;
}

void sj_front_quiesce(sj_front *front) {
    front->quiescing = true;
    conn *next;
    for (conn *c = front->all; c; c = next) {
        next = c->all_next;
        if (!c->call)
            conn_doom(c);
    }
}

static void on_handle_closed(uv_handle_t *handle) {
    sj_front *front = handle->data;
    if (--front->open_handles == 0)
        free(front);
}

static void on_listener_closed(uv_handle_t *handle) {
    struct listener *listener = handle->data;
    handle->data = listener->front;
    on_handle_closed(handle);
}

static void on_room_closed(uv_handle_t *handle) {
    daemon_room *room = handle->data;
    handle->data = room->front;
    sj_front *front = room->front;
    free(room);
    if (--front->open_handles == 0)
        free(front);
}

// MHD_stop_daemon aborts the process when a connection is suspended: everything is doomed (which resumes), run, and only then stopped.
static void stop_room(daemon_room *room) {
    uv_poll_stop(&room->poll); // before its descriptor goes
    for (int i = 0; i < RUNS_PER_TURN && room->connections > 0; i++)
        MHD_run(room->mhd);
    MHD_stop_daemon(room->mhd);
    room->mhd = NULL;
    uv_close((uv_handle_t *)&room->poll, on_room_closed);
}

void sj_front_close(sj_front **slot) {
    sj_front *front = *slot;
    if (!front)
        return;
    *slot = NULL;
    sj_front_quiesce(front);
    call_flush_all(front); // what has been said last still goes out, as far as sockets take it
    run_rooms(front);
    conn *next;
    for (conn *c = front->all; c; c = next) {
        next = c->all_next;
        conn_doom(c);
    }
    front->closing = true;
    for (int i = 0; i < front->room_count; i++)
        stop_room(front->rooms[i]);
    for (int i = 0; i < front->listener_count; i++)
        uv_close((uv_handle_t *)&front->listeners[i].poll, on_listener_closed);
    uv_close((uv_handle_t *)&front->before_sleep, on_handle_closed);
    uv_close((uv_handle_t *)&front->stay_awake, on_handle_closed);
    uv_close((uv_handle_t *)&front->sweep, on_handle_closed);
}

int sj_front_connections(const sj_front *front) {
    return front->connections;
}
