#include "tape.h"

#include "body.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { HIGH = 64 * 1024, LOW = 16 * 1024 };

static const sj_tape_place reader_a = {1, 11}, reader_b = {2, 22};

static sj_tape *fresh(void) {
    sj_tape *tape = sj_tape_new((sj_tape_place){0, 7}, "leader");
    assert_non_null(tape);
    return tape;
}

static void begin(sj_tape *tape, sj_tape_news *news) {
    sj_headers headers;
    sj_headers_init(&headers);
    assert_true(sj_headers_add(&headers, SJ_SLICE("A"), SJ_SLICE("b")));
    sj_tape_head(tape, 200, &headers, -1, "up/m", news);
    sj_headers_free(&headers);
}

static size_t put(sj_tape *tape, size_t n, sj_tape_news *news) {
    char *bytes = malloc(n);
    memset(bytes, 'x', n);
    size_t behind = sj_tape_write(tape, (sj_slice){bytes, n}, HIGH, LOW, news);
    free(bytes);
    return behind;
}

// All that is there for him; the state that stopped it.
static sj_tape_state drink(sj_tape *tape, int seat, size_t *n, bool *told) {
    sj_tape_chunk chunk;
    sj_tape_state state;
    while ((state = sj_tape_read(tape, seat, &chunk)) == SJ_TAPE_BYTES) {
        *n += chunk.n;
        *told |= chunk.tell_writer;
    }
    return state;
}

static void a_reader_gets_all_from_the_start(void **unused) {
    (void)unused;
    sj_tape *tape = fresh();
    sj_tape_news news;
    size_t n = 0;
    bool told = false;
    assert_null(sj_tape_begun(tape));
    begin(tape, &news);
    assert_int_equal(news.count, 0);
    assert_true(put(tape, 100, &news) == SIZE_MAX); // nobody is behind
    int seat = sj_tape_join(tape, reader_a);
    assert_int_equal(sj_tape_readers(tape), 1);
    assert_int_equal(sj_tape_begun(tape)->status, 200);
    assert_string_equal(sj_tape_begun(tape)->target, "up/m");
    assert_int_equal(drink(tape, seat, &n, &told), SJ_TAPE_WAIT);
    assert_int_equal(n, 100);
    assert_int_equal(put(tape, 50, &news), 50);
    assert_int_equal(news.count, 1);
    assert_int_equal(news.readers[0].worker, 1);
    assert_int_equal(news.readers[0].exchange, 11);
    (void)put(tape, 50, &news);
    assert_int_equal(news.count, 0); // he knows
    sj_tape_end(tape, true, SJ_REFUSAL_NONE, &news);
    assert_int_equal(news.count, 0);
    sj_tape_end(tape, false, SJ_REFUSAL_STREAM_BROKEN, &news); // the first word counts
    assert_int_equal(drink(tape, seat, &n, &told), SJ_TAPE_WHOLE);
    assert_int_equal(n, 200);
    assert_int_equal(sj_tape_refusal(tape), SJ_REFUSAL_NONE);
    sj_tape_leave(tape, seat);
    assert_int_equal(sj_tape_readers(tape), 0);
    sj_tape_unref(&tape);
    assert_int_equal(sj_body_total_bytes(), 0);
}

static void its_end_is_told_as_it_was(void **unused) {
    (void)unused;
    sj_tape *tape = fresh();
    sj_tape_news news;
    sj_tape_chunk chunk;
    int seat = sj_tape_join(tape, reader_a);
    assert_int_equal(sj_tape_read(tape, seat, &chunk), SJ_TAPE_WAIT);
    sj_tape_end(tape, false, SJ_REFUSAL_SHUTTING_DOWN, &news);
    assert_int_equal(news.count, 1);
    assert_int_equal(sj_tape_read(tape, seat, &chunk), SJ_TAPE_CUT);
    assert_int_equal(sj_tape_refusal(tape), SJ_REFUSAL_SHUTTING_DOWN);
    sj_tape_unref(&tape);
}

static void a_long_recording_is_forgotten(void **unused) {
    (void)unused;
    sj_tape *tape = fresh();
    sj_tape_news news;
    begin(tape, &news);
    for (size_t n = 0; n < 2 * SJ_TAPE_MAX; n += 1000)
        (void)put(tape, 1000, &news);
    assert_int_equal(sj_tape_join(tape, reader_a), -1);
    assert_int_equal(sj_body_total_bytes(), 0);
    sj_tape_unref(&tape);
}

static void who_is_too_far_behind_has_lost(void **unused) {
    (void)unused;
    sj_tape *tape = fresh();
    sj_tape_news news;
    size_t fast = 0, slow = 0;
    bool told = false;
    begin(tape, &news);
    int a = sj_tape_join(tape, reader_a), b = sj_tape_join(tape, reader_b);
    for (size_t n = 0; n < 3 * SJ_TAPE_MAX; n += 5000) {
        assert_true(put(tape, 5000, &news) <= 5000); // the fast one is never far behind
        assert_int_equal(drink(tape, a, &fast, &told), SJ_TAPE_WAIT);
        assert_true(sj_body_total_bytes() <= SJ_TAPE_MAX + 32 * 1024);
    }
    assert_int_equal(drink(tape, b, &slow, &told), SJ_TAPE_LOST);
    sj_tape_end(tape, true, SJ_REFUSAL_NONE, &news);
    assert_int_equal(drink(tape, a, &fast, &told), SJ_TAPE_WHOLE);
    assert_true(fast >= 3 * SJ_TAPE_MAX);
    sj_tape_unref(&tape);
}

static void the_writer_hears_when_readers_have_caught_up(void **unused) {
    (void)unused;
    sj_tape *tape = fresh();
    sj_tape_news news;
    sj_tape_chunk chunk;
    size_t n = 0;
    bool told = false;
    begin(tape, &news);
    int seat = sj_tape_join(tape, reader_a);
    assert_int_equal(put(tape, HIGH, &news), HIGH);
    assert_int_equal(drink(tape, seat, &n, &told), SJ_TAPE_WAIT);
    assert_false(told); // it did not wait
    assert_int_equal(put(tape, HIGH + 1, &news), HIGH + 1);
    int calls = 0;
    while (sj_tape_read(tape, seat, &chunk) == SJ_TAPE_BYTES)
        calls += chunk.tell_writer;
    assert_int_equal(calls, 1);
    // One who joins may be the first to read what another one has blocked.
    int late = sj_tape_join(tape, reader_b);
    told = false;
    assert_int_equal(drink(tape, late, &n, &told), SJ_TAPE_WAIT);
    assert_true(told);
    sj_tape_unref(&tape);
}

static void seats_are_few(void **unused) {
    (void)unused;
    sj_tape *tape = fresh();
    for (int i = 0; i < SJ_TAPE_SEATS; i++)
        assert_int_equal(sj_tape_join(tape, reader_a), i);
    assert_int_equal(sj_tape_join(tape, reader_b), -1);
    sj_tape_leave(tape, 3);
    assert_int_equal(sj_tape_join(tape, reader_b), 3);
    sj_tape_unref(&tape);
}

static void without_memory_nobody_gets_half_an_answer(void **unused) {
    (void)unused;
    sj_tape *tape = fresh();
    sj_tape_news news;
    sj_tape_chunk chunk;
    begin(tape, &news);
    int seat = sj_tape_join(tape, reader_a);
    (void)put(tape, 20000, &news);
    sj_body_set_total_max(1024);
    assert_true(put(tape, 100000, &news) == SIZE_MAX);
    assert_int_equal(sj_tape_read(tape, seat, &chunk), SJ_TAPE_LOST);
    assert_int_equal(sj_tape_join(tape, reader_b), -1);
    sj_body_set_total_max(SIZE_MAX);
    assert_int_equal(sj_body_total_bytes(), 0);
    sj_tape_unref(&tape);
}

// ---- threads --------------------------------------------------------------------------------------------

enum { READERS = 3, PIECES = 500 };

typedef struct listener {
    sj_tape *tape;
    int seat, number;
    pthread_mutex_t mutex;
    pthread_cond_t news;
    bool told;
    uint64_t got;
    bool right;
    sj_tape_state end;
} listener;

static char byte_at(uint64_t at) {
    return (char)(at * 31 + at / 251);
}

static void await_news(listener *l) {
    pthread_mutex_lock(&l->mutex);
    while (!l->told)
        pthread_cond_wait(&l->news, &l->mutex);
    l->told = false;
    pthread_mutex_unlock(&l->mutex);
}

static void *listen_to(void *argument) {
    listener *l = argument;
    sj_tape_chunk chunk;
    l->right = true;
    for (;;) {
        l->end = sj_tape_read(l->tape, l->seat, &chunk);
        if (l->end == SJ_TAPE_WAIT) {
            await_news(l);
            continue;
        }
        if (l->end != SJ_TAPE_BYTES)
            break;
        for (size_t i = 0; i < chunk.n; i++)
            l->right &= chunk.bytes[i] == byte_at(l->got + i);
        l->got += chunk.n;
        if (l->number == 2 && l->got > 100000) // leaves amid it
            break;
    }
    sj_tape_leave(l->tape, l->seat);
    sj_tape_unref(&l->tape);
    return NULL;
}

static void ring(listener *listeners, const sj_tape_news *news) {
    for (int i = 0; i < news->count; i++) {
        listener *l = &listeners[news->readers[i].worker];
        pthread_mutex_lock(&l->mutex);
        l->told = true;
        pthread_cond_signal(&l->news);
        pthread_mutex_unlock(&l->mutex);
    }
}

static void readers_of_other_threads_miss_nothing(void **unused) {
    (void)unused;
    sj_tape *tape = fresh();
    listener listeners[READERS];
    pthread_t threads[READERS];
    for (int i = 0; i < READERS; i++) {
        listeners[i] = (listener){.tape = sj_tape_ref(tape), .number = i};
        listeners[i].seat = sj_tape_join(tape, (sj_tape_place){(uint32_t)i, 1});
        pthread_mutex_init(&listeners[i].mutex, NULL);
        pthread_cond_init(&listeners[i].news, NULL);
        assert_int_equal(pthread_create(&threads[i], NULL, listen_to, &listeners[i]), 0);
    }
    sj_tape_news news;
    begin(tape, &news);
    ring(listeners, &news);
    uint64_t at = 0;
    char piece[700];
    for (int i = 0; i < PIECES; i++) { // within the bound: nobody can lose
        size_t n = 1 + (size_t)(i * 7919 % (int)sizeof piece);
        for (size_t k = 0; k < n; k++)
            piece[k] = byte_at(at + k);
        (void)sj_tape_write(tape, (sj_slice){piece, n}, HIGH, LOW, &news);
        ring(listeners, &news);
        at += n;
    }
    sj_tape_end(tape, true, SJ_REFUSAL_NONE, &news);
    ring(listeners, &news);
    for (int i = 0; i < READERS; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < READERS; i++) {
        assert_true(listeners[i].right);
        assert_int_equal(listeners[i].end, i == 2 ? SJ_TAPE_BYTES : SJ_TAPE_WHOLE);
        if (i < 2)
            assert_true(listeners[i].got == at);
        pthread_mutex_destroy(&listeners[i].mutex);
        pthread_cond_destroy(&listeners[i].news);
    }
    assert_int_equal(sj_tape_readers(tape), 0);
    sj_tape_unref(&tape);
    assert_int_equal(sj_body_total_bytes(), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_reader_gets_all_from_the_start),
        cmocka_unit_test(its_end_is_told_as_it_was),
        cmocka_unit_test(a_long_recording_is_forgotten),
        cmocka_unit_test(who_is_too_far_behind_has_lost),
        cmocka_unit_test(the_writer_hears_when_readers_have_caught_up),
        cmocka_unit_test(seats_are_few),
        cmocka_unit_test(without_memory_nobody_gets_half_an_answer),
        cmocka_unit_test(readers_of_other_threads_miss_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
