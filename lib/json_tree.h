// A JSON text as a cJSON tree, for texts that are small and looked into deeply. Checked first: cJSON alone takes what is no JSON (trailing
// garbage, raw control bytes) and refuses what is (half a surrogate pair, which upstreams do send). The caller frees with cJSON_Delete.
#ifndef SJ_JSON_TREE_H
#define SJ_JSON_TREE_H

#include "json_scan.h"

#include <cjson/cJSON.h>
#include <stdint.h>

// *tree is set when the text is whole, and NULL even then when there is no memory or cJSON cannot hold it (a number of more than 63 characters).
__attribute__((warn_unused_result)) sj_json_state sj_json_tree_parse(sj_slice text, cJSON **tree);

// Each takes NULL for an object and anything for a value. Names are case-sensitive.
const cJSON *sj_json_tree_get(const cJSON *object, const char *name);
const char *sj_json_tree_text(const cJSON *object, const char *name); // NULL: no such member, or no string
// Says something: not null, false, zero, nor an empty string, array or object.
bool sj_json_tree_says(const cJSON *value);
// A whole number from 0 to 2^53, cut to one; -1: none.
int64_t sj_json_tree_count(const cJSON *object, const char *name);

#endif
