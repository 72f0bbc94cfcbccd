#include "metrics_labels.h"

#include "utf8.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

// Open addressing. A slot goes once from 0 to an index, with release order after the text was stored; so a reader that sees the index sees
// the text.
struct sj_labels {
    pthread_mutex_t adding;
    size_t max; // texts of their own
    size_t slots; // power of two, at least twice the texts
    _Atomic uint32_t *table;
    char **texts; // by index
    _Atomic size_t count; // indices in use
};

sj_labels *sj_labels_new(size_t max) {
    sj_labels *labels = calloc(1, sizeof *labels);
    if (!labels)
        return NULL;
    labels->max = max;
    labels->slots = 16;
    while (labels->slots < 2 * (max + 1))
        labels->slots *= 2;
    labels->table = calloc(labels->slots, sizeof *labels->table);
    labels->texts = calloc(max + SJ_LABEL_FIRST, sizeof *labels->texts);
    pthread_mutex_init(&labels->adding, NULL);
    atomic_init(&labels->count, SJ_LABEL_FIRST);
    if (!labels->table || !labels->texts)
        sj_labels_free(&labels);
    return labels;
}

void sj_labels_free(sj_labels **labels) {
    sj_labels *gone = *labels;
    if (!gone)
        return;
    *labels = NULL;
    for (size_t i = SJ_LABEL_FIRST; gone->texts && i < atomic_load(&gone->count); i++)
        free(gone->texts[i]);
    free(gone->texts);
    free(gone->table);
    pthread_mutex_destroy(&gone->adding);
    free(gone);
}

static uint32_t hash(sj_slice text) { // FNV-1a
    uint32_t h = 2166136261u;
    for (size_t i = 0; i < text.n; i++)
        h = (h ^ (unsigned char)text.p[i]) * 16777619u;
    return h;
}

// The slot of text, or the empty one where it belongs. There always is an empty one: the table is never more than half full.
static size_t find(const sj_labels *labels, sj_slice text, uint32_t *index) {
    size_t at = hash(text) & (labels->slots - 1);
    for (;; at = (at + 1) & (labels->slots - 1)) {
        *index = atomic_load_explicit(&labels->table[at], memory_order_acquire);
        if (*index == 0 || sj_slice_equal(sj_slice_of(labels->texts[*index]), text))
            return at;
    }
}

static size_t add(sj_labels *labels, sj_slice text) {
    pthread_mutex_lock(&labels->adding);
    uint32_t index;
    size_t at = find(labels, text, &index); // again: another worker may have been first
    size_t count = atomic_load_explicit(&labels->count, memory_order_relaxed);
    if (index == 0 && count < labels->max + SJ_LABEL_FIRST) {
        char *copy = strndup(text.p, text.n);
        if (copy) {
            index = (uint32_t)count;
            labels->texts[index] = copy;
            atomic_store_explicit(&labels->table[at], index, memory_order_release);
            atomic_store_explicit(&labels->count, count + 1, memory_order_release);
        }
    }
    pthread_mutex_unlock(&labels->adding);
    return index ? index : SJ_LABEL_OTHER;
}

size_t sj_labels_index(sj_labels *labels, const char *text) {
    if (!text || !*text)
        return SJ_LABEL_NONE;
    sj_slice key = {text, strnlen(text, SJ_LABEL_MAX_BYTES + 1)};
    if (key.n > SJ_LABEL_MAX_BYTES)
        return SJ_LABEL_OTHER;
    uint32_t index;
    find(labels, key, &index);
    if (index)
        return index;
    if (sj_slice_equal(key, SJ_SLICE("none"))) // one series per text, whoever names it
        return SJ_LABEL_NONE;
    bool full = sj_labels_count(labels) == labels->max + SJ_LABEL_FIRST;
    if (full || sj_slice_equal(key, SJ_SLICE("other")) || !sj_utf8_valid(key))
        return SJ_LABEL_OTHER;
    return add(labels, key);
}

size_t sj_labels_find(const sj_labels *labels, const char *text) {
    if (!*text)
        return SJ_LABEL_NONE;
    uint32_t index;
    find(labels, sj_slice_of(text), &index);
    return index ? index : SIZE_MAX;
}

size_t sj_labels_count(const sj_labels *labels) {
    return atomic_load_explicit(&labels->count, memory_order_acquire);
}

const char *sj_labels_text(const sj_labels *labels, size_t index) {
    assert(index < sj_labels_count(labels));
    return index == SJ_LABEL_OTHER ? "other" : index == SJ_LABEL_NONE ? "none" : labels->texts[index];
}
