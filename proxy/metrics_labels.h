// A bounded set of label values that grows as they are met: text -> small index, the same for all workers. Lookups take no lock.
// What does not fit, is too long or is not UTF-8 shares one index, "other".
#ifndef SJ_METRICS_LABELS_H
#define SJ_METRICS_LABELS_H

#include "slice.h"

#include <stdint.h>

typedef struct sj_labels sj_labels;

enum { SJ_LABEL_OTHER = 0, SJ_LABEL_NONE = 1, SJ_LABEL_FIRST = 2, SJ_LABEL_MAX_BYTES = 200 };

sj_labels *sj_labels_new(size_t max); // NULL: out of memory
void sj_labels_free(sj_labels **labels); // NULL-safe
// NULL or "": SJ_LABEL_NONE. Thread-safe.
size_t sj_labels_index(sj_labels *labels, const char *text);
// Of a text met before; SIZE_MAX: not met. Thread-safe.
size_t sj_labels_find(const sj_labels *labels, const char *text);
// Indices in use: 0 .. count - 1. Those at and beyond SJ_LABEL_FIRST have a text of their own.
size_t sj_labels_count(const sj_labels *labels);
const char *sj_labels_text(const sj_labels *labels, size_t index);

#endif
