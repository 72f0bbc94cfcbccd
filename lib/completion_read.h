// What the readers of streams (completion.c) and of whole answers (completion_answer.c) share, and completion_usage.c. For these only.
#ifndef SJ_COMPLETION_READ_H
#define SJ_COMPLETION_READ_H

#include "completion.h"
#include "error_object.h"

bool sj_protocol_has_choices(sj_protocol protocol);
// Each keeps what it had when the JSON says nothing; the first id holds, of all else the last.
void sj_completion_read_usage(sj_completion *completion, const cJSON *usage);
void sj_completion_read_usage_text(sj_completion *completion, sj_slice usage); // well-formed JSON of any kind
void sj_completion_read_id(sj_completion *completion, const cJSON *object);
void sj_completion_read_error(sj_completion *completion, const cJSON *root);

#endif
