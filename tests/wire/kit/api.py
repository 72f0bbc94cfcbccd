"""A small well-behaved OpenAI-format API as behaviours for the scripted upstream: what the real SDKs need to be happy."""

import random

from . import answers
from .answers import answer, chat_events, delta, event, sse

AUDIO = random.Random(7).randbytes(60_000)
CONTENT = random.Random(8).randbytes(200_000)

TOOL_CALL = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": ""}}
RESPONSE = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1700000000,
    "status": "completed",
    "model": "gpt-4.1",
    "error": None,
    "incomplete_details": None,
    "instructions": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "temperature": 1,
    "tool_choice": "auto",
    "tools": [],
    "top_p": 1,
    "output": [
        {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "Hi there", "annotations": []}],
        }
    ],
}


def _tool_stream():
    parts = [{"index": 0, "function": {"arguments": piece}} for piece in ('{"ci', 'ty":"', 'Oslo"}')]
    return sse(
        delta(None, role="assistant", tool_calls=[TOOL_CALL]), *(delta(tool_calls=[p]) for p in parts), delta(finish="tool_calls"), answers.DONE
    )


def _tool_answer():
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Oslo"}'}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    return answer(200, {**answers.chat_json(), "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]})


def responses_events():
    def typed(kind, n, **more):
        return event({"type": kind, "sequence_number": n, **more}, kind)

    where = {"item_id": "msg_1", "output_index": 0, "content_index": 0, "logprobs": []}
    pending = {**RESPONSE, "status": "in_progress", "output": []}
    return [
        typed("response.created", 0, response=pending),
        typed("response.output_text.delta", 1, delta="Hi ", **where),
        typed("response.output_text.delta", 2, delta="there", **where),
        typed("response.completed", 3, response=RESPONSE),
    ]


def _chat(call):
    body = call.request.body
    streams, tools = b'"stream":true' in body.replace(b" ", b""), b'"tools"' in body
    if streams:
        return _tool_stream() if tools else sse(*chat_events("Hi ", "there"))
    return _tool_answer() if tools else answers.chat("Hi there")


def _responses(call):
    return sse(*responses_events()) if b'"stream":true' in call.request.body.replace(b" ", b"") else answer(200, RESPONSE)


FILE = {
    "id": "file-1",
    "object": "file",
    "bytes": len(CONTENT),
    "created_at": 1700000000,
    "filename": "a.jsonl",
    "purpose": "batch",
    "status": "processed",
}
EMBEDDING = {
    "object": "list",
    "data": [{"object": "embedding", "index": 0, "embedding": [0.25, -0.5]}],
    "model": "e",
    "usage": {"prompt_tokens": 1, "total_tokens": 1},
}
MODELS = {"object": "list", "data": [{"id": "gpt-4.1", "object": "model", "created": 1, "owned_by": "openai"}]}

ROUTES = {
    ("POST", "/chat/completions"): _chat,
    ("POST", "/responses"): _responses,
    ("POST", "/embeddings"): lambda call: answer(200, EMBEDDING),
    ("GET", "/models"): lambda call: answer(200, MODELS),
    ("POST", "/files"): lambda call: answer(200, FILE),
    ("GET", "/files/file-1/content"): lambda call: answer(200, CONTENT, chunked=True, kind="application/octet-stream"),
    ("DELETE", "/files/file-1"): lambda call: answer(200, {"id": "file-1", "object": "file", "deleted": True}),
    ("POST", "/audio/speech"): lambda call: answer(200, AUDIO, chunked=True, kind="audio/mpeg"),
    ("POST", "/audio/transcriptions"): lambda call: answer(200, {"text": "hello"}),
}


def serve_all():
    """A behaviour that answers by method and path."""

    def choose(call):
        path = call.request.target.split("?")[0].removeprefix("/v1")
        return ROUTES.get((call.request.method, path), lambda call: answers.fail(404, "unknown_url", "invalid_request_error"))(call)

    return answers.either(choose)
