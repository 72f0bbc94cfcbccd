#include "completion_read.h"
#include "json_span.h"

#include <stdlib.h>

#define COUNT(rows) (sizeof(rows) / sizeof *(rows))
#define NAME(literal)                                                                                        \
    { (literal), sizeof(literal) - 1 }

enum { MAX_NUMBER = 63, APART = -1 };

// Where the counts stand; of what is said more than once the last row holds.
static const struct {
    sj_slice outer, inner; // no outer: a member of usage itself
    int offset; // in sj_usage; APART: only Anthropic's sum needs it
} members[] = {
    {NAME(""), NAME("prompt_tokens"), offsetof(sj_usage, prompt_tokens)},
    {NAME(""), NAME("input_tokens"), offsetof(sj_usage, prompt_tokens)},
    {NAME(""), NAME("completion_tokens"), offsetof(sj_usage, completion_tokens)},
    {NAME(""), NAME("output_tokens"), offsetof(sj_usage, completion_tokens)},
    {NAME(""), NAME("total_tokens"), offsetof(sj_usage, total_tokens)},
    {NAME(""), NAME("cached_tokens"), offsetof(sj_usage, cached_tokens)}, // Moonshot
    {NAME(""), NAME("prompt_cache_hit_tokens"), offsetof(sj_usage, cached_tokens)}, // DeepSeek
    {NAME(""), NAME("cache_read_input_tokens"), offsetof(sj_usage, cached_tokens)}, // Anthropic
    {NAME(""), NAME("cache_creation_input_tokens"), APART},
    {NAME("prompt_tokens_details"), NAME("cached_tokens"), offsetof(sj_usage, cached_tokens)},
    {NAME("input_tokens_details"), NAME("cached_tokens"), offsetof(sj_usage, cached_tokens)},
};
enum { INPUT = 1, CACHE_READ = 7, CACHE_CREATION = 8 }; // rows

typedef struct counts {
    int64_t of[COUNT(members)]; // by row, -1: not said
    bool has_total;
} counts;

static counts none(void) {
    counts c = {.has_total = false};
    for (size_t i = 0; i < COUNT(members); i++)
        c.of[i] = -1;
    return c;
}

static int64_t positive(int64_t n) {
    return n > 0 ? n : 0;
}

static void take_over(sj_completion *completion, const counts *found) {
    sj_usage *sum = &completion->usage;
    for (size_t i = 0; i < COUNT(members); i++)
        if (found->of[i] >= 0 && members[i].offset != APART)
            memcpy((char *)sum + members[i].offset, &found->of[i], sizeof found->of[i]);
    // Anthropic counts what came from or went to the cache apart; everyone else counts it in.
    bool apart = completion->protocol == SJ_PROTOCOL_MESSAGES && found->of[INPUT] >= 0;
    if (apart && sum->prompt_tokens >= 0)
        sum->prompt_tokens += positive(found->of[CACHE_READ]) + positive(found->of[CACHE_CREATION]);
    if (sum->prompt_tokens >= 0 && sum->completion_tokens >= 0 && !found->has_total)
        sum->total_tokens = sum->prompt_tokens + sum->completion_tokens;
}

void sj_completion_read_usage(sj_completion *completion, const cJSON *usage) {
    if (!cJSON_IsObject(usage))
        return;
    counts found = none();
    found.has_total = sj_json_tree_get(usage, "total_tokens") != NULL;
    for (size_t i = 0; i < COUNT(members); i++) {
        const cJSON *holder = members[i].outer.n ? sj_json_tree_get(usage, members[i].outer.p) : usage;
        found.of[i] = sj_json_tree_count(holder, members[i].inner.p);
    }
    take_over(completion, &found);
}

// ---- the same from the text itself: a whole answer need not become a tree for five numbers ---------------------------------

typedef struct reader {
    counts *found;
    sj_slice outer;
} reader;

// As sj_json_tree_count.
static int64_t count_of(sj_slice value) {
    char text[MAX_NUMBER + 1];
    if (value.n > MAX_NUMBER || value.p[0] < '0' || value.p[0] > '9')
        return -1;
    memcpy(text, value.p, value.n);
    text[value.n] = '\0';
    double number = strtod(text, NULL);
    return number <= 9007199254740992.0 ? (int64_t)number : -1;
}

static bool note_inner(void *context, sj_slice key, sj_slice value) {
    const reader *r = context;
    for (size_t i = 0; i < COUNT(members); i++)
        if (sj_slice_equal(key, members[i].inner) && sj_slice_equal(r->outer, members[i].outer) &&
            r->found->of[i] < 0)
            r->found->of[i] = count_of(value);
    return true;
}

static bool note_member(void *context, sj_slice key, sj_slice value) {
    reader inside = {.found = context, .outer = key};
    reader here = {.found = context, .outer = SJ_SLICE("")};
    here.found->has_total |= sj_slice_equal(key, SJ_SLICE("total_tokens"));
    if (value.p[0] == '{')
        return sj_json_walk_object(value, note_inner, &inside);
    return note_inner(&here, key, value);
}

void sj_completion_read_usage_text(sj_completion *completion, sj_slice usage) {
    counts found = none();
    if (sj_json_walk_object(usage, note_member, &found))
        take_over(completion, &found);
}
