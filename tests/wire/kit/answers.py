"""Ready-made behaviours for a scripted upstream, and the OpenAI-format bytes they are made of."""

import asyncio
import json

DATE = "Tue, 15 Nov 1994 08:12:31 GMT"
PLAIN = (("Date", DATE), ("Server", "scripted"))


def compact(value):
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


# ---- bodies ---------------------------------------------------------------------------------------------------------------------


def chat_json(text="hello", model="gpt-4.1", **more):
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    return {"id": "chatcmpl-1", "object": "chat.completion", "created": 1700000000, "model": model, "choices": [choice], "usage": usage, **more}


def error_json(code=None, type="server_error", message="it broke"):
    return {"error": {"message": message, "type": type, "param": None, "code": code}}


def event(data, name=None):
    data = data if isinstance(data, bytes) else compact(data)
    return (b"event: %b\n" % name.encode() if name else b"") + b"data: " + data + b"\n\n"


def delta(text=None, finish=None, model="gpt-4.1", index=0, **more):
    fields = {**({} if text is None else {"content": text}), **more}
    choice = {"index": index, "delta": fields, "finish_reason": finish}
    return event({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1700000000, "model": model, "choices": [choice]})


ROLE = delta("", role="assistant")
FINISH = delta(finish="stop")
DONE = event(b"[DONE]")


def chat_events(*texts, model="gpt-4.1"):
    return [delta("", role="assistant", model=model), *(delta(t, model=model) for t in texts), delta(finish="stop", model=model), DONE]


# ---- heads ----------------------------------------------------------------------------------------------------------------------


def head(status=200, headers=(), reason="Whatever"):
    lines = [f"HTTP/1.1 {status} {reason}", *(f"{n}: {v}" for n, v in headers), "", ""]
    return "\r\n".join(lines).encode("latin1")


def stream_head(headers=(), status=200):
    return head(status, [*PLAIN, ("Content-Type", "text/event-stream"), *headers, ("Transfer-Encoding", "chunked")])


# ---- behaviours -----------------------------------------------------------------------------------------------------------------


def answer(status=200, body=b"", headers=(), chunked=False, kind="application/json"):
    """A whole answer. body: bytes, or something to be sent as JSON."""
    data = body if isinstance(body, bytes) else compact(body)
    bare = status in (204, 304) or status < 200
    kind_line = [("Content-Type", kind)] if kind and not bare else []
    framing = [] if bare else [("Transfer-Encoding", "chunked")] if chunked else [("Content-Length", len(data))]

    async def behave(call):
        await call.write(head(status, [*PLAIN, *kind_line, *headers, *framing]))
        if call.request.method == "HEAD" or bare:
            return
        if chunked:
            for at in range(0, len(data), 1000):
                await call.chunk(data[at : at + 1000])
            await call.end()
        elif data:
            await call.write(data)

    return behave


def chat(text="hello", headers=(), **more):
    return answer(200, chat_json(text, **more), headers)


def fail(status, code=None, type="server_error", message="it broke", headers=()):
    return answer(status, error_json(code, type, message), headers)


def raw(data, then="keep"):
    """These bytes and nothing else; then keep the connection, close it, reset it, or fall silent."""

    async def behave(call):
        if data:
            await call.write(data)
        await leave(call, then)

    return behave


async def leave(call, how):
    if how == "close":
        call.close()
    elif how == "reset":
        call.reset()
    elif how == "hang":
        await call.until_gone()


def drop(how="close"):
    return raw(b"", how)


def hang():
    return raw(b"", "hang")


def sse(*events, then="end", headers=(), gates=(), pause=0.0):
    """A chunked event stream, one chunk an event. gates: one to pass before each event but the first.
    then: 'end' the framing cleanly, or 'close', 'reset', 'hang' without the last chunk."""

    async def behave(call):
        await call.write(stream_head(headers))
        for n, data in enumerate(events):
            if n and n <= len(gates):
                await gates[n - 1].passed()
            elif n and pause:
                await asyncio.sleep(pause)
            await call.chunk(data)
        if then == "end":
            await call.end()
        else:
            await leave(call, then)

    return behave


def either(choose):
    """A behaviour that asks choose(call) which behaviour to show."""

    async def behave(call):
        await choose(call)(call)

    return behave
