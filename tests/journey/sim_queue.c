#include "sim_queue.h"

#include <stdlib.h>

void sim_queue_init(sim_queue *queue, uint64_t seed) {
    *queue = (sim_queue){0};
    sj_rng_seed(&queue->rng, seed);
}

void sim_queue_free(sim_queue *queue) {
    free(queue->heap);
    *queue = (sim_queue){0};
}

static bool before(const sim_event *a, const sim_event *b) {
    return a->at_ms != b->at_ms ? a->at_ms < b->at_ms : a->order < b->order;
}

static void swap(sim_event *a, sim_event *b) {
    sim_event kept = *a;
    *a = *b;
    *b = kept;
}

void sim_queue_add(sim_queue *queue, sim_event event) {
    if (queue->n == queue->size) {
        queue->size = queue->size ? 2 * queue->size : 1024;
        queue->heap = realloc(queue->heap, queue->size * sizeof *queue->heap);
        if (!queue->heap)
            abort();
    }
    event.order = (sj_rng_next(&queue->rng) << 40) | (++queue->added & ((UINT64_C(1) << 40) - 1));
    size_t at = queue->n++;
    queue->heap[at] = event;
    for (; at > 0 && before(&queue->heap[at], &queue->heap[(at - 1) / 2]); at = (at - 1) / 2)
        swap(&queue->heap[at], &queue->heap[(at - 1) / 2]);
}

bool sim_queue_next(sim_queue *queue, sim_event *event) {
    if (queue->n == 0)
        return false;
    *event = queue->heap[0];
    queue->heap[0] = queue->heap[--queue->n];
    for (size_t at = 0;;) {
        size_t least = at;
        for (size_t child = 2 * at + 1; child <= 2 * at + 2 && child < queue->n; child++)
            if (before(&queue->heap[child], &queue->heap[least]))
                least = child;
        if (least == at)
            return true;
        swap(&queue->heap[at], &queue->heap[least]);
        at = least;
    }
}
