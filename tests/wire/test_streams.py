"""Streams: event by event, retried unseen before the first content, never silently short after it (BEHAVIOUR 12, invariants 2 and 9)."""

import gzip
import json
import socket
import time

import pytest

from kit import answers, conf, trail
from kit.answers import DONE, FINISH, ROLE, answer, chat_events, delta, event, fail, sse
from kit.client import Cut, request
from kit.together import together

STREAM = b'{"model":"gpt-4.1","stream":true,"messages":[]}'
CHAT = "/v1/chat/completions"
WHOLE = b"".join(chat_events("Hel", "lo"))


def texts(body):
    """The contents of a chat stream's events, in order."""
    found = []
    for line in body.split(b"\n"):
        if line.startswith(b"data: {"):
            value = json.loads(line[6:])
            found += [c["delta"].get("content") for c in value.get("choices", []) if c["delta"].get("content")]
    return found


def broken(got):
    """The in-band error that ends a stream cut after commit; and its framing must not look whole."""
    assert not got.whole, "a broken stream must not end cleanly"
    assert DONE not in got.body
    last = got.body.rstrip(b"\n").split(b"\n")[-1]
    assert last.startswith(b"data: "), got.body[-300:]
    return json.loads(last[6:])["error"]["code"]


# ---- as it comes ----------------------------------------------------------------------------------------------------------------


def test_a_stream_is_carried_byte_for_byte(plain):
    plain.up.use(sse(*chat_events("Hel", "lo")))
    got = plain.proxy.post(STREAM)
    assert (got.status, got.whole, got.body) == (200, True, WHOLE)
    assert got.get("content-type") == "text/event-stream"


def test_each_event_leaves_when_it_comes(upstream, serve):
    """The upstream sends an event only after the client has seen the one before."""
    up = upstream()
    letters = "abcdefgh"
    gates = [up.gate() for _ in range(len(letters) + 1)]

    async def behave(call):
        await call.write(answers.stream_head())
        await call.chunk(ROLE)
        for letter, gate in zip(letters, gates):
            await call.chunk(delta(letter))
            await gate.passed()
        await call.chunk(FINISH + DONE)
        await call.end()

    up.use(behave)
    with serve(conf.one(up)).connect() as wire:
        wire.send(request("POST", CHAT, [], STREAM))
        assert wire.head().status == 200
        seen = b""
        for n, gate in enumerate(gates[:-1]):
            while texts(seen) != list(letters[: n + 1]):
                seen += wire.chunk()
            gate.open()
        while part := wire.chunk():
            seen += part
        assert seen.endswith(FINISH + DONE)


SHAPES = {
    "comments": b": ping\n\n" + WHOLE,
    "crlf": WHOLE.replace(b"\n", b"\r\n"),
    "cr": WHOLE.replace(b"\n", b"\r"),
    "BOM": b"\xef\xbb\xbf" + WHOLE,
    "no space": WHOLE.replace(b"data: ", b"data:"),
    "ids and retry": b"id: 1\nretry: 500\n" + WHOLE,
    "two data lines": b'data: {"choices":[{"index":0,\ndata: "delta":{"content":"x"},"finish_reason":null}]}\n\n' + FINISH + DONE,
    "unknown fields": b"foo: bar\n" + WHOLE,
}


@pytest.mark.parametrize("body", SHAPES.values(), ids=SHAPES.keys())
@pytest.mark.parametrize("piece", [10_000, 1, 7])
def test_every_spelling_of_sse_is_carried_unchanged(plain, body, piece):
    plain.up.use(sse(*(body[at : at + piece] for at in range(0, len(body), piece))))
    got = plain.proxy.post(STREAM)
    assert (got.whole, got.body, len(plain.up.log)) == (True, body, 1)


def test_a_big_event_is_carried(plain):
    big = delta("x" * 700_000)
    plain.up.use(sse(ROLE, big, FINISH, DONE))
    assert plain.proxy.post(STREAM).body == ROLE + big + FINISH + DONE


def test_a_stream_until_close_is_carried(plain):
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
    plain.up.use(answers.raw(head + WHOLE, "close"))
    got = plain.proxy.post(STREAM)
    assert (got.whole, got.body) == (True, WHOLE)


def test_an_error_answer_to_a_stream_request_is_delivered_whole(plain):
    plain.up.use(fail(400, "bad_thing"))
    got = plain.proxy.post(STREAM)
    assert (got.status, got.code) == (400, "bad_thing")


def test_a_json_answer_to_a_stream_request_is_delivered(plain):
    plain.up.use(answers.chat("not streamed"))
    got = plain.proxy.post(STREAM)
    assert (got.status, got.json["choices"][0]["message"]["content"]) == (200, "not streamed")


# ---- before the first content ---------------------------------------------------------------------------------------------------

BEFORE = {
    "503": fail(503),
    "429": fail(429),
    "error event": sse(event(answers.error_json("server_error"))),
    "error event, named": sse(event(answers.error_json("rate_limit_exceeded"), "error")),
    "role, then error": sse(ROLE, event(answers.error_json("overloaded")), then="close"),
    "cut before anything": sse(then="close"),
    "cut after the role": sse(ROLE, then="close"),
    "reset after the role": sse(ROLE, then="reset"),
    "comments, then cut": sse(b": wait\n\n", b": wait\n\n", then="close"),
    "clean end without anything": sse(),
    "clean end after the role": sse(ROLE),
    "bad chunking after the role": answers.raw(answers.stream_head() + b"zz\r\n", "close"),
}


@pytest.mark.parametrize("behaviour", BEFORE.values(), ids=BEFORE.keys())
def test_trouble_before_the_first_content_is_retried_unseen(plain, behaviour):
    plain.up.use(behaviour, sse(*chat_events("Hel", "lo")))
    got = plain.proxy.post(STREAM)
    assert (got.status, got.whole, got.body, got.attempts) == (200, True, WHOLE, 2)
    assert plain.up.bodies() == [STREAM] * 2


def test_silence_before_the_first_content_goes_to_the_next_target(upstream, serve):
    a, b = upstream(sse(ROLE, then="hang")), upstream(sse(*chat_events("Hel", "lo")))
    settings = conf.chain(a, b)
    settings["upstreams"]["a"] |= {"idle_timeout": "300ms", "first_byte_timeout": "300ms"}
    got = serve(settings).post(STREAM)
    assert (got.body, len(a.log), len(b.log)) == (WHOLE, 1, 1)
    a.until_gone(0)


def test_only_troubled_streams_end_in_a_clear_error(plain):
    plain.up.use(sse(ROLE, then="close"))
    got = plain.proxy.post(STREAM)
    assert (got.status, got.get("x-should-retry"), len(plain.up.log)) == (502, "false", 5)
    assert got.json["error"]["type"] == "stormjib_error"


def test_a_role_only_event_is_held_until_content(upstream, serve):
    """Nothing of an attempt may be seen by the client before its first content."""
    up = upstream()
    gate = up.gate()
    up.use(sse(ROLE, delta("now"), FINISH, DONE, gates=[gate]))
    with serve(conf.one(up)).connect(timeout=1) as wire:
        wire.send(request("POST", CHAT, [], STREAM))
        up.wait(1)
        with pytest.raises(TimeoutError):
            wire.head()
        gate.open()
        wire.sock.settimeout(60)
        assert wire.read().body == ROLE + delta("now") + FINISH + DONE


COMMITS = {
    "text": delta("x"),
    "reasoning_content": delta(reasoning_content="hm"),
    "reasoning": delta(reasoning="hm"),
    "refusal": delta(refusal="no"),
    "tool call": delta(tool_calls=[{"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": ""}}]),
    "audio": delta(audio={"id": "a", "data": "AAAA"}),
    "finish": FINISH,
}


@pytest.mark.parametrize("content", COMMITS.values(), ids=COMMITS.keys())
def test_each_kind_of_content_commits(upstream, serve, content):
    up = upstream()
    gate = up.gate()
    up.use(sse(ROLE + content, FINISH + DONE, gates=[gate]))
    with serve(conf.one(up)).connect() as wire:
        wire.send(request("POST", CHAT, [], STREAM))
        assert wire.head().status == 200
        seen = b""
        while content not in seen:
            seen += wire.chunk()
        gate.open()


# ---- after the first content ----------------------------------------------------------------------------------------------------

AFTER = {
    "cut": sse(ROLE, delta("Hel"), then="close"),
    "reset": sse(ROLE, delta("Hel"), then="reset"),
    "clean end without a finish": sse(ROLE, delta("Hel")),
    "bad chunk size": answers.raw(answers.stream_head() + b"%x\r\n%b\r\nzz\r\n" % (len(delta("Hel")), delta("Hel")), "close"),
    "cut within an event": sse(ROLE, delta("Hel"), delta("lo")[:25], then="close"),
    "error event": sse(ROLE, delta("Hel"), event(answers.error_json("server_error")), then="close"),
}


@pytest.fixture(scope="module")
def no_rescue(tmp_path_factory):
    """A stream that breaks after its first content stays broken."""
    with together(tmp_path_factory.mktemp("streams"), lambda up: conf.one(up, routes=[{"model": "*", "chain": ["up"], "rescue": "off"}])) as pair:
        yield pair


@pytest.mark.parametrize("behaviour", AFTER.values(), ids=AFTER.keys())
def test_a_break_after_commit_is_told_in_band_and_never_looks_whole(no_rescue, behaviour):
    proxy, up = no_rescue
    up.use(behaviour)
    got = proxy.post(STREAM)
    assert got.status == 200
    assert texts(got.body) == ["Hel"]
    assert broken(got) in ("stream_broken", "server_error")
    assert len(up.log) == 1


def test_a_stall_after_commit_is_told_in_band(upstream, serve):
    up = upstream(sse(ROLE, delta("Hel"), then="hang"))
    proxy = serve(conf.one(up, upstreams={"up": {"idle_timeout": "400ms"}}, routes=[{"model": "*", "chain": ["up"], "rescue": "off"}]))
    got = proxy.post(STREAM)
    assert (texts(got.body), broken(got)) == (["Hel"], "stream_broken")
    up.until_gone(0)


@pytest.mark.parametrize("end", ["end", "close"])
def test_a_missing_done_is_supplied_at_eof(plain, end):
    plain.up.use(sse(ROLE, delta("Hello"), FINISH, then=end))
    got = plain.proxy.post(STREAM)
    assert (got.whole, got.body, len(plain.up.log)) == (True, ROLE + delta("Hello") + FINISH + DONE, 1)


def test_a_missing_done_is_supplied_after_silence(plain):
    plain.up.use(sse(ROLE, delta("Hello"), FINISH, then="hang"))
    got = plain.proxy.post(STREAM)
    assert (got.whole, got.body) == (True, ROLE + delta("Hello") + FINISH + DONE)
    plain.up.until_gone(0)


def test_a_usage_event_after_the_finish_is_carried(plain):
    usage = event({"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": [], "usage": {"total_tokens": 5}})
    plain.up.use(sse(ROLE, delta("Hello"), FINISH, usage, DONE))
    assert plain.proxy.post(STREAM).body == ROLE + delta("Hello") + FINISH + usage + DONE


def test_every_choice_must_finish(no_rescue):
    proxy, up = no_rescue
    up.use(sse(delta("a"), delta("b", index=1), FINISH))
    got = proxy.post(b'{"model":"gpt-4.1","stream":true,"n":2,"messages":[]}')
    assert broken(got) == "stream_broken"


def test_events_that_are_not_json_are_dropped_and_counted(upstream, serve):
    up = upstream(sse(ROLE, delta("Hel"), b"data: {oops\n\n", b"data: <html>\n\n", delta("lo"), FINISH, DONE))
    proxy = serve(conf.one(up))
    got = proxy.post(STREAM)
    assert (got.whole, got.body) == (True, ROLE + delta("Hel") + delta("lo") + FINISH + DONE)

    def dropped():
        lines = [line for line in proxy.metrics().splitlines() if "dropped_events" in line and not line.startswith("#")]
        return sum(float(line.split()[-1]) for line in lines)

    # An exchange is counted once its last byte has left, which the client may know first.
    assert any(dropped() == 2 for _ in range(200))


# ---- other protocols ------------------------------------------------------------------------------------------------------------

RESPONSES = [
    event({"type": "response.created", "response": {"id": "resp_1", "status": "in_progress"}}, "response.created"),
    event({"type": "response.output_text.delta", "delta": "Hi"}, "response.output_text.delta"),
    event({"type": "response.completed", "response": {"id": "resp_1", "status": "completed"}}, "response.completed"),
]
MESSAGES = [
    event({"type": "message_start", "message": {"id": "msg_1"}}, "message_start"),
    event({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}, "content_block_start"),
    event({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}}, "content_block_delta"),
    event({"type": "content_block_stop", "index": 0}, "content_block_stop"),
    event({"type": "message_delta", "delta": {"stop_reason": "end_turn"}}, "message_delta"),
    event({"type": "message_stop"}, "message_stop"),
]
COMPLETIONS = [
    event({"id": "cmpl-1", "object": "text_completion", "choices": [{"index": 0, "text": "Hi", "finish_reason": None}]}),
    event({"id": "cmpl-1", "object": "text_completion", "choices": [{"index": 0, "text": "", "finish_reason": "stop"}]}),
    DONE,
]
PROTOCOLS = {"responses": ("/v1/responses", RESPONSES), "messages": ("/v1/messages", MESSAGES), "completions": ("/v1/completions", COMPLETIONS)}


@pytest.mark.parametrize("path,events", PROTOCOLS.values(), ids=PROTOCOLS.keys())
def test_a_protocols_stream_is_carried(plain, path, events):
    plain.up.use(sse(*events))
    got = plain.proxy.post(STREAM, path)
    assert (got.whole, got.body) == (True, b"".join(events))


@pytest.mark.parametrize("path,events", PROTOCOLS.values(), ids=PROTOCOLS.keys())
def test_a_protocols_stream_without_its_end_is_broken(no_rescue, path, events):
    proxy, up = no_rescue
    kept = [e for e in events[:-1] if b'"stop"' not in e]
    up.use(sse(*kept))
    got = proxy.post(STREAM, path)
    assert not got.whole
    assert b"stream_broken" in got.body


FIRST_ERRORS = {
    "response.failed": (
        "/v1/responses",
        [
            RESPONSES[0],
            event(
                {"type": "response.failed", "response": {"id": "r", "status": "failed", "error": {"code": "server_error", "message": "x"}}},
                "response.failed",
            ),
        ],
        RESPONSES,
    ),
    "overloaded": ("/v1/messages", [MESSAGES[0], event({"type": "error", "error": {"type": "overloaded_error", "message": "x"}}, "error")], MESSAGES),
}


@pytest.mark.parametrize("path,bad,good", FIRST_ERRORS.values(), ids=FIRST_ERRORS.keys())
def test_a_protocols_early_error_is_retried_unseen(plain, path, bad, good):
    plain.up.use(sse(*bad), sse(*good))
    got = plain.proxy.post(STREAM, path)
    assert (got.whole, got.body, len(plain.up.log)) == (True, b"".join(good), 2)


OPAQUE = {
    "gzip": (CHAT, gzip.compress(WHOLE), [("Content-Encoding", "gzip")], "text/event-stream"),
    "speech": ("/v1/audio/speech", b"\x00\x01" * 4000, [], "audio/mpeg"),
    "image events": ("/v1/images/generations", b'event: image_generation.partial_image\ndata: {"b64_json":"AA"}\n\n', [], "text/event-stream"),
    "transcript events": ("/v1/audio/transcriptions", b'data: {"type":"transcript.text.done"}\n\n', [], "text/event-stream"),
    "NDJSON": ("/v1/other", b'{"a":1}\n{"a":2}\n', [], "application/x-ndjson"),
}


@pytest.mark.parametrize("path,body,headers,kind", OPAQUE.values(), ids=OPAQUE.keys())
def test_what_we_do_not_know_is_carried_opaquely(plain, path, body, headers, kind):
    plain.up.use(answer(200, body, headers, chunked=True, kind=kind))
    got = plain.proxy.post(STREAM, path)
    assert (got.whole, got.body, len(plain.up.log)) == (True, body, 1)


def test_an_opaque_stream_leaves_at_its_first_byte(upstream, serve):
    up = upstream()
    gate = up.gate()
    up.use(sse(b"first", b"second", gates=[gate], headers=[("Content-Encoding", "br")]))
    with serve(conf.one(up)).connect() as wire:
        wire.send(request("POST", CHAT, [], STREAM))
        assert wire.head().status == 200
        assert wire.chunk() == b"first"
        gate.open()
        assert wire.chunk() == b"second"


def test_a_cut_opaque_stream_does_not_look_whole(plain):
    plain.up.use(sse(b"\x1f\x8b", b"half", then="close", headers=[("Content-Encoding", "gzip")]))
    got = plain.proxy.post(STREAM)
    assert not got.whole


def test_a_cut_answer_of_known_length_does_not_look_whole(plain):
    plain.up.use(answers.raw(b"HTTP/1.1 200 OK\r\nContent-Type: audio/mpeg\r\nContent-Length: 3000000\r\n\r\n" + b"z" * 1_500_000, "close"))
    try:
        got = plain.proxy.ask("GET", "/v1/files/1/content")
        assert got.status == 502 or not got.whole
    except Cut:
        pass


# ---- leaving --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_client_that_leaves_amid_a_stream_cancels_it(upstream, serve, how):
    up = upstream(sse(ROLE, delta("Hel"), then="hang"))
    proxy = serve(conf.one(up))
    wire = proxy.connect()
    wire.send(request("POST", CHAT, [], STREAM))
    wire.head()
    wire.chunk()
    left = time.monotonic()
    getattr(wire, how)()
    assert up.until_gone(0) - left < 5
    assert len(up.log) == 1


def test_a_half_closed_client_counts_as_gone(upstream, serve):
    up = upstream(sse(ROLE, delta("Hel"), then="hang"))
    proxy = serve(conf.one(up))
    with proxy.connect() as wire:
        wire.send(request("POST", CHAT, [], STREAM))
        wire.head()
        wire.sock.shutdown(socket.SHUT_WR)
        up.until_gone(0)


def test_drain_reads_on_after_the_client_left(upstream, serve):
    up = upstream()
    gate = up.gate()
    up.use(sse(ROLE + delta("Hel"), delta("lo") + FINISH + DONE, gates=[gate]))
    proxy = serve(conf.one(up, routes=[{"model": "*", "chain": ["up"], "on_client_gone": "drain", "drain_for": "30s"}]))
    with proxy.connect() as wire:
        wire.send(request("POST", CHAT, [], STREAM))
        wire.head()
    proxy.ask("GET", "/healthz")
    gate.open()
    up.until(lambda: up.log[0].answered_at)
    assert up.log[0].gone_at is None, "it was read to its end"


# ---- hidden until whole ---------------------------------------------------------------------------------------------------------


def test_a_verified_stream_hides_a_break(upstream, serve):
    up = upstream(sse(ROLE, delta("Hel"), then="close"), sse(*chat_events("Hel", "lo")))
    proxy = serve(conf.one(up, routes=[{"model": "*", "chain": ["up"], "stream": "verified"}]))
    got = proxy.post(STREAM)
    assert got.whole and texts(got.body) == ["Hel", "lo"] and got.body.endswith(DONE)
    assert len(up.log) == 2


def test_the_trail_of_a_stream(upstream, serve):
    a, b = upstream(sse(ROLE, then="close"), fail(503)), upstream(sse(*chat_events("x", model="deepseek-v3.2")))
    got = serve(conf.chain(a, b)).post(STREAM)
    assert [t for t, _ in trail.tries(got.label("trail"))] == ["a/gpt-4.1", "a/gpt-4.1", "b/deepseek-v3.2"]
    assert (got.attempts, got.label("target")) == (3, "b/deepseek-v3.2")


# ---- an end within the end ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", range(len(DONE)))
def test_a_done_that_is_cut_is_supplied_and_nothing_of_it_goes_before(plain, n):
    plain.up.use(sse(ROLE, delta("Hello"), FINISH, *([DONE[:n]] if n else []), then="close"))
    got = plain.proxy.post(STREAM)
    assert (got.whole, got.body) == (True, ROLE + delta("Hello") + FINISH + DONE)
