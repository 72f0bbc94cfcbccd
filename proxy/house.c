#include "house.h"

#include "admin.h"
#include "mock.h"

#include <errno.h>
#include <stdlib.h>

struct sj_house {
    uv_loop_t loop;
    uv_thread_t thread;
    uv_async_t stop, open_admin;
    uv_sem_t opened;
    sj_house_options options;
    sj_admin *admin; // NULL: off, or not open yet
    sj_mock *mock;
    int mock_port;
    sj_log *log;
};

static void close_all(sj_house *house) {
    sj_admin_close(&house->admin);
    if (house->mock)
        sj_mock_close(&house->mock);
    uv_close((uv_handle_t *)&house->stop, NULL);
    uv_close((uv_handle_t *)&house->open_admin, NULL);
}

static bool reload(void *context, sj_buffer *message) {
    sj_house *house = context;
    bool ok = sj_server_reload_file(house->options.server, message);
    sj_slice text = sj_buffer_slice(message);
    text.n -= text.n && text.p[text.n - 1] == '\n';
    sj_log_event(house->log, ok ? SJ_LOG_INFO : SJ_LOG_ERROR, "reload", sj_log_bool("ok", ok),
                 sj_log_slice("message", text));
    return ok;
}

static void on_open_admin(uv_async_t *async) {
    sj_house *house = async->data;
    const sj_admin_options options = {
        .server = house->options.server,
        .registry = house->options.registry,
        .log = house->log,
        .reload = reload,
        .context = house,
    };
    house->admin = sj_admin_new(&house->loop, &options);
    if (house->admin && !sj_admin_listen(house->admin, house->options.admin_fd))
        sj_admin_close(&house->admin);
    uv_sem_post(&house->opened);
}

static void on_stop(uv_async_t *stop) {
    close_all(stop->data);
}

static void run(void *argument) {
    sj_house *house = argument;
    uv_run(&house->loop, UV_RUN_DEFAULT);
}

static bool start_mock(sj_house *house, sj_buffer *error) {
    house->mock = sj_mock_new(&house->loop, NULL);
    if (!house->mock) {
        sj_buffer_note(error, "cannot start the embedded upstream: %s\n", strerror(errno));
        return false;
    }
    house->mock_port = sj_mock_port(house->mock);
    return true;
}

static void destroy(sj_house *house) {
    uv_run(&house->loop, UV_RUN_DEFAULT);
    (void)uv_loop_close(&house->loop);
    sj_log_free(&house->log);
    uv_sem_destroy(&house->opened);
    free(house);
}

sj_house *sj_house_start(const sj_house_options *options, sj_buffer *error) {
    sj_house *house = calloc(1, sizeof *house);
    if (!house)
        return NULL;
    uv_loop_init(&house->loop);
    uv_async_init(&house->loop, &house->stop, on_stop);
    uv_async_init(&house->loop, &house->open_admin, on_open_admin);
    house->stop.data = house->open_admin.data = house;
    uv_sem_init(&house->opened, 0);
    house->options = *options;
    house->log = sj_log_new(options->log_format, options->log_level);
    bool ok = house->log && (!options->mock || start_mock(house, error)) &&
              uv_thread_create(&house->thread, run, house) == 0;
    if (ok)
        return house;
    close_all(house);
    destroy(house);
    return NULL;
}

bool sj_house_open_admin(sj_house *house) {
    if (house->options.admin_fd < 0)
        return true;
    uv_async_send(&house->open_admin);
    uv_sem_wait(&house->opened);
    return house->admin != NULL;
}

int sj_house_mock_port(const sj_house *house) {
    return house->mock_port;
}

void sj_house_stop(sj_house **slot) {
    sj_house *house = *slot;
    if (!house)
        return;
    *slot = NULL;
    uv_async_send(&house->stop);
    uv_thread_join(&house->thread);
    destroy(house);
}
