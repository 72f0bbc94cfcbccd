// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include "cost.h"

static const sj_price list[] = {
    {(char *)(uintptr_t) "gpt-4.1", 8, 8, -1},
    {(char *)(uintptr_t) "near/*", 0.1, 0.2, -1},
    {(char *)(uintptr_t) "deepseek-v3.2", 0.42, 0.42, 0.042},
    {(char *)(uintptr_t) "openai/gpt-4*", 5, 6, -1},
};

static const sj_price *find(const char *upstream, const char *model) {
    return sj_price_find(list, sizeof list / sizeof *list, sj_slice_of(upstream), sj_slice_of(model));
}

static sj_usage used(int64_t input, int64_t output, int64_t cached) {
    return (sj_usage){
        .prompt_tokens = input, .completion_tokens = output, .total_tokens = -1, .cached_tokens = cached};
}

static void the_first_row_that_matches_holds(void **unused) {
    (void)unused;
    assert_ptr_equal(find("any", "gpt-4.1"), &list[0]);
    assert_ptr_equal(find("near", "gpt-4.1"), &list[0]);
    assert_ptr_equal(find("near", "deepseek-v3.2"), &list[1]); // by "upstream/model"
    assert_ptr_equal(find("far", "deepseek-v3.2"), &list[2]);
    assert_ptr_equal(find("router", "openai/gpt-4o"), &list[3]); // models may have a slash of their own
    assert_null(find("far", "gpt-4.1-mini"));
    assert_null(find("far", ""));
    assert_null(sj_price_find(NULL, 0, SJ_SLICE("a"), SJ_SLICE("b")));
}

// Published prices per 1M tokens: GPT-4.1 8.00, DeepSeek V3.2 0.42 (BEHAVIOUR 16).
static void costs_tokens_by_the_million(void **unused) {
    (void)unused;
    sj_usage million = used(1000000, 0, -1), mixed = used(1500, 500, -1), one = used(1, 0, -1);
    assert_int_equal(sj_cost_of(&list[0], &million), 8 * (int64_t)SJ_COST_PER_DOLLAR);
    assert_int_equal(sj_cost_of(&list[2], &million), 420000000);
    assert_int_equal(sj_cost_of(&list[0], &mixed), 16000000);
    assert_int_equal(sj_cost_of(&list[1], &mixed), 250000);
    assert_int_equal(sj_cost_of(&list[2], &one), 420);
}

static void cached_tokens_have_a_price_of_their_own(void **unused) {
    (void)unused;
    sj_usage half = used(1000, 0, 500), more = used(1000, 0, 5000);
    assert_int_equal(sj_cost_of(&list[2], &half), 500 * 420 + 500 * 42);
    assert_int_equal(sj_cost_of(&list[2], &more), 1000 * 42); // never more than there were
    assert_int_equal(sj_cost_of(&list[0], &half), 1000 * 8000); // unset: as input
}

static void what_is_not_known_is_not_counted(void **unused) {
    (void)unused;
    sj_usage nothing = used(-1, -1, -1), half = used(-1, 10, -1), zero = used(0, 0, 0);
    assert_int_equal(sj_cost_of(&list[0], &nothing), SJ_COST_UNKNOWN);
    assert_int_equal(sj_cost_of(NULL, &half), SJ_COST_UNKNOWN);
    assert_int_equal(sj_cost_of(&list[0], &half), 80000);
    assert_int_equal(sj_cost_of(&list[0], &zero), 0);
    assert_int_equal(sj_cost_saved(SJ_COST_UNKNOWN, 5), 0);
    assert_int_equal(sj_cost_saved(5, SJ_COST_UNKNOWN), 0);
    assert_int_equal(sj_cost_saved(5, 7), -2);
}

static void nonsense_stays_within_bounds(void **unused) {
    (void)unused;
    sj_usage much = used(INT64_MAX, INT64_MAX, INT64_MAX);
    assert_true(sj_cost_of(&list[0], &much) == 1000000000000000000);
    sj_usage negative = used(5, -7, -9);
    assert_int_equal(sj_cost_of(&list[0], &negative), 40000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_row_that_matches_holds),
        cmocka_unit_test(costs_tokens_by_the_million),
        cmocka_unit_test(cached_tokens_have_a_price_of_their_own),
        cmocka_unit_test(what_is_not_known_is_not_counted),
        cmocka_unit_test(nonsense_stays_within_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
