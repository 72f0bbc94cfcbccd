#include "house.h"

#include "mock.h"

#include <errno.h>
#include <stdlib.h>

struct sj_house {
    uv_loop_t loop;
    uv_thread_t thread;
    uv_async_t stop;
    sj_mock *mock;
    int mock_port;
    sj_log *log;
};

static void close_all(sj_house *house) {
    if (house->mock)
        sj_mock_close(&house->mock);
    uv_close((uv_handle_t *)&house->stop, NULL);
}

static void on_stop(uv_async_t *stop) { close_all(stop->data); }

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
    free(house);
}

sj_house *sj_house_start(const sj_house_options *options, sj_buffer *error) {
    sj_house *house = calloc(1, sizeof *house);
    if (!house)
        return NULL;
    uv_loop_init(&house->loop);
    uv_async_init(&house->loop, &house->stop, on_stop);
    house->stop.data = house;
    house->log = sj_log_new(options->log_format, options->log_level);
    bool ok = house->log && (!options->mock || start_mock(house, error)) && uv_thread_create(&house->thread, run, house) == 0;
    if (ok)
        return house;
    close_all(house);
    destroy(house);
    return NULL;
}

int sj_house_mock_port(const sj_house *house) { return house->mock_port; }

void sj_house_stop(sj_house **slot) {
    sj_house *house = *slot;
    if (!house)
        return;
    *slot = NULL;
    uv_async_send(&house->stop);
    uv_thread_join(&house->thread);
    destroy(house);
}
