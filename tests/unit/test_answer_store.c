// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include "answer_store.h"
#include "rng.h"

#include <stdio.h>
#include <stdlib.h>

static sj_answer_key key(uint64_t credential, const char *path, const char *body) {
    return (sj_answer_key){credential, sj_slice_of(path), sj_slice_of(body)};
}

static void put(sj_answer_store *store, sj_answer_key k, const char *body, int64_t now_ms) {
    sj_headers headers;
    sj_headers_init(&headers);
    assert_true(sj_headers_add(&headers, SJ_SLICE("Content-Type"), SJ_SLICE("application/json")));
    sj_answer_store_put(store, &k, 200, &headers, sj_slice_of(body), false, now_ms);
    sj_headers_free(&headers);
}

static void answers(sj_answer_store *store, sj_answer_key k, int64_t max_age_ms, int64_t now_ms,
                    const char *expected) {
    const sj_stored_answer *answer = sj_answer_store_get(store, &k, max_age_ms, now_ms);
    if (!expected) {
        assert_null(answer);
        return;
    }
    assert_non_null(answer);
    assert_true(sj_slice_equal(answer->body, sj_slice_of(expected)));
    assert_string_equal(sj_headers_get(&answer->headers, "content-type").p, "application/json");
    sj_stored_answer_unref(&answer);
}

static void only_the_very_same_question(void **unused) {
    (void)unused;
    sj_answer_store *store = sj_answer_store_new(1 << 20);
    put(store, key(1, "/v1/embeddings", "a"), "one", 1000);
    answers(store, key(1, "/v1/embeddings", "a"), 5000, 6000, "one");
    answers(store, key(1, "/v1/embeddings", "a"), 5000, 6001, NULL); // too old
    answers(store, key(2, "/v1/embeddings", "a"), 5000, 2000, NULL); // another credential
    answers(store, key(1, "/v1/embeddings", "b"), 5000, 2000, NULL);
    answers(store, key(1, "/v1/embedding", "sa"), 5000, 2000,
            NULL); // where path ends and body begins matters
    put(store, key(1, "/v1/embeddings", "a"), "two", 7000);
    answers(store, key(1, "/v1/embeddings", "a"), 5000, 8000, "two");
    assert_int_equal(sj_answer_store_read(store).answers, 1);
    sj_answer_store_free(&store);
}

static void an_answer_in_use_outlives_the_store(void **unused) {
    (void)unused;
    sj_answer_store *store = sj_answer_store_new(1 << 20);
    sj_answer_key k = key(1, "/p", "q");
    put(store, k, "kept", 0);
    const sj_stored_answer *answer = sj_answer_store_get(store, &k, 10, 5);
    put(store, k, "newer", 6);
    sj_answer_store_free(&store);
    assert_true(sj_slice_equal(answer->body, SJ_SLICE("kept")));
    sj_stored_answer_unref(&answer);
}

static void bounded_oldest_use_first(void **unused) {
    (void)unused;
    sj_answer_store *store = sj_answer_store_new(64 * 1024);
    char name[16], *large = calloc(1, 9000);
    memset(large, 'x', 8999);
    put(store, key(1, "/p", "large"), large, 0);
    answers(store, key(1, "/p", "large"), 10, 0, NULL); // more than an eighth
    put(store, key(1, "/p", "0"), "first", 0);
    for (int i = 1; i < 400; i++) {
        (void)snprintf(name, sizeof name, "%d", i);
        put(store, key(1, "/p", name), "x", i);
        answers(store, key(1, "/p", "0"), 1000, i, "first"); // used all the time: stays
        assert_true(sj_answer_store_read(store).bytes <= 64 * 1024);
    }
    sj_answer_store_stats stats = sj_answer_store_read(store);
    assert_true(stats.evicted > 0 && stats.answers > 2);
    answers(store, key(1, "/p", "1"), 1000, 400, NULL);
    answers(store, key(1, "/p", "399"), 1000, 400, "x");
    sj_answer_store_set_max(store, 0);
    assert_int_equal(sj_answer_store_read(store).bytes, 0);
    put(store, key(1, "/p", "1"), "x", 0);
    assert_int_equal(sj_answer_store_read(store).answers, 0);
    free(large);
    sj_answer_store_free(&store);
}

static void recordings_have_as_much_room_again(void **unused) {
    (void)unused;
    sj_answer_store *store = sj_answer_store_new(64 * 1024), *same = sj_answer_store_ref(store);
    assert_int_equal(sj_answer_store_share(store), 8 * 1024);
    assert_true(sj_answer_store_take_room(store, 60 * 1024));
    assert_false(sj_answer_store_take_room(store, 5 * 1024));
    assert_true(sj_answer_store_take_room(store, 4 * 1024));
    assert_false(sj_answer_store_take_room(store, 1));
    assert_int_equal(sj_answer_store_read(store).recording_bytes, 64 * 1024);
    put(store, key(1, "/p", "q"), "x", 0); // what is kept does not count towards it
    assert_int_equal(sj_answer_store_read(store).answers, 1);
    sj_answer_store_set_max(store, 1024);
    sj_answer_store_give_room(store, 63 * 1024);
    assert_false(sj_answer_store_take_room(store, 1));
    sj_answer_store_give_room(store, 1024);
    assert_true(sj_answer_store_take_room(store, 1024));
    sj_answer_store_give_room(store, 1024);
    assert_false(sj_answer_store_take_room(store, (size_t)-1));
    sj_answer_store_free(&store);
    assert_null(store);
    assert_int_equal(sj_answer_store_read(same).max_bytes, 1024);
    sj_answer_store_free(&same);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_the_very_same_question),
        cmocka_unit_test(an_answer_in_use_outlives_the_store),
        cmocka_unit_test(bounded_oldest_use_first),
        cmocka_unit_test(recordings_have_as_much_room_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
