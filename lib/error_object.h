// The error objects of OpenAI-format APIs in the shapes they are found in:
//   {"error": {"message", "type", "code"}}     OpenAI, Azure, Groq, ...      {"type": "error", "error": {"type", "message"}}   Anthropic
//   {"error": {"code": 429, "status": "..."}}  Google, also as [{...}]       {"error": {"code": 502, "message"}}               OpenRouter
//   {"error": "text", "error_type"}            Ollama, TGI                   {"object": "error", "message", "code"}            vLLM, Mistral
//   {"message", "code"}                        Azure gateways, Bedrock       {"detail": "text" or [{"msg"}]}                   FastAPI
#ifndef SJ_ERROR_OBJECT_H
#define SJ_ERROR_OBJECT_H

#include "json_tree.h"

enum { SJ_ERROR_CODE_SIZE = 64, SJ_ERROR_MESSAGE_SIZE = 160 };

// Does an answer or event that promised success carry an error?
bool sj_error_object_in(const cJSON *root);
// code: the code, else the type or status, else a numeric code in digits. message: its start, without control characters and keys.
// Both become empty when they are not found. root: the whole answer or event, or the error object itself.
void sj_error_object_read(const cJSON *root, char code[SJ_ERROR_CODE_SIZE], char message[SJ_ERROR_MESSAGE_SIZE]);
// A text that an upstream wrote, fit for our log: cut at a character, without control characters and keys.
void sj_error_text_copy(sj_slice text, char *out, size_t size);

#endif
