"""A stream that breaks after its first content is mended, or ends with an honest error (BEHAVIOUR 12)."""

import json
import re
import signal

import openai
import pytest

from kit import answers, conf
from kit.answers import DONE, answer, event, fail, sse
from kit.client import request
from kit.proxy import run
from test_streams import CHAT, STREAM, broken, texts

USER = [{"role": "user", "content": "hi"}]


def part(delta, finish=None, index=0, id="first", model="gpt-4.1", created=1, **more):
    choice = {"index": index, "delta": delta, "finish_reason": finish}
    return event({"id": id, "object": "chat.completion.chunk", "created": created, "model": model, "choices": [choice], **more})


def stream(*pieces, id="first", model="gpt-4.1", created=1, finish="stop", usage=None):
    """A whole chat stream of these pieces, as events."""
    name = {"id": id, "model": model, "created": created}
    said = [part({"role": "assistant", "content": ""}, **name), *(part({"content": piece}, **name) for piece in pieces)]
    last = [part({}, finish, **name)]
    if usage:
        last.append(event({**name, "object": "chat.completion.chunk", "choices": [], "usage": usage}))
    return [*said, *last, DONE]


def cut(events, n, then="close"):
    """The first n of these events, and the break."""
    return sse(*events[:n], then=then)


def fields(proxy, event):
    """The members of that event's log line, once it is there."""
    line = proxy.wait_line(f".*event={event} .*")[0]
    return {m[1]: m[2].strip('"') for m in re.finditer(r'(\S+?)=("[^"]*"|\S+)', line)}


def values(body):
    return [json.loads(line[6:]) for line in body.split(b"\n") if line.startswith(b"data: {")]


FIRST = stream("Hel", "lo, ", "wor", "ld")
AGAIN = stream("He", "llo", ", world", "!", id="second", created=2)
HELLO = "Hello, world"


def mended(got, text=HELLO, id="first"):
    """One well-formed stream under one id, with this text, one finish and one [DONE]."""
    assert got.whole, got.body[-300:]
    assert got.body.count(DONE) == 1 and got.body.endswith(DONE)
    parts = values(got.body)
    assert not [p for p in parts if "error" in p], parts
    assert "".join(texts(got.body)) == text
    assert {p["id"] for p in parts} == {id}
    finishes = [c["finish_reason"] for p in parts for c in p["choices"] if c["finish_reason"]]
    assert finishes == ["stop"]
    return parts


# ---- the same text again --------------------------------------------------------------------------------------------------------

BREAKS = {
    "closed": cut(FIRST, 3),
    "reset": cut(FIRST, 3, "reset"),
    "end without a finish": cut(FIRST, 3, "end"),
    "cut within an event": sse(*FIRST[:3], FIRST[3][:25], then="close"),
    "cut before its blank line": sse(*FIRST[:2], FIRST[2][:-2], then="close"),
    "cut within a field's name": sse(*FIRST[:3], b"dat", then="close"),
    "bad chunk size": answers.raw(answers.stream_head() + b"".join(b"%x\r\n%b\r\n" % (len(e), e) for e in FIRST[:3]) + b"zz\r\n", "close"),
    "error event": sse(*FIRST[:3], event(answers.error_json("server_error")), then="close"),
    "error of no known kind": sse(*FIRST[:3], event(answers.error_json("gremlins")), DONE, then="end"),
}


@pytest.mark.parametrize("break_", BREAKS.values(), ids=BREAKS.keys())
def test_what_breaks_is_asked_again_and_goes_on_unseen(plain, break_):
    plain.up.use(break_, sse(*AGAIN))
    got = plain.proxy.post(STREAM)
    parts = mended(got, HELLO + "!")
    assert {p["created"] for p in parts} == {1}
    assert len(plain.up.log) == 2
    assert plain.up.log[0].body == plain.up.log[1].body


@pytest.mark.parametrize("n", range(2, len(FIRST) - 2))
def test_it_may_break_anywhere(plain, n):
    plain.up.use(cut(FIRST, n), sse(*stream("H", "ello, w", "orld", id="second")))
    mended(plain.proxy.post(STREAM))


def test_a_stall_is_mended_too(upstream, serve):
    up = upstream(cut(FIRST, 3, "hang"), sse(*AGAIN))
    proxy = serve(conf.one(up, upstreams={"up": {"idle_timeout": "400ms"}}))
    mended(proxy.post(STREAM), HELLO + "!")
    up.until_gone(0)


def test_it_may_break_again(plain):
    plain.up.use(cut(FIRST, 3), cut(FIRST, 4), cut(FIRST, 5), sse(*FIRST))
    mended(plain.proxy.post(STREAM))
    assert len(plain.up.log) == 4


def test_but_not_for_ever(plain):
    long = stream(*"abcdefgh")
    plain.up.use(*(cut(long, n) for n in range(2, 10)))
    got = plain.proxy.post(STREAM)
    assert (texts(got.body), broken(got), len(plain.up.log)) == (list("abcd"), "stream_broken", 4)


def test_an_attempt_at_it_may_fail_before(plain):
    plain.up.use(cut(FIRST, 3), fail(503), answers.drop("reset"), sse(*FIRST))
    mended(plain.proxy.post(STREAM))
    assert len(plain.up.log) == 4


@pytest.mark.parametrize("n", [0, 1, 2])
def test_an_error_of_what_should_mend_it_is_not_seen(plain, n):
    plain.up.use(cut(FIRST, 3), sse(*AGAIN[:n], event(answers.error_json("server_error")), then="close"), sse(*FIRST))
    mended(plain.proxy.post(STREAM))
    assert len(plain.up.log) == 3


def test_characters_may_be_cut_anywhere(plain):
    text = "a\u00e9\u20ac\U0001f600\u4e2d\u6587\U0001f468\u200d\U0001f469"
    bytes_ = b"".join(stream(text[:4], text[4:]))
    first = [bytes_[: bytes_.index(text[4:5].encode()) + 2]]  # in the middle of a character
    escaped = json.dumps(text[:5])[1:-1]  # the same in escapes, a surrogate pair torn apart
    pieces = [escaped[:19], escaped[19:25], escaped[25:]]
    raw = [part({"content": "@"}, id="second").replace(b'"@"', b'"%b"' % piece.encode()) for piece in pieces]
    plain.up.use(sse(*first, then="close"), sse(*raw, *stream(text[5:], id="second")[1:]))
    mended(plain.proxy.post(STREAM), text)


def test_usage_comes_with_the_end(plain):
    usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    plain.up.use(cut(FIRST, 3), sse(*stream(HELLO, id="second", usage=usage)))
    parts = mended(plain.proxy.post(STREAM))
    assert parts[-1]["usage"] == usage


def test_a_missing_done_is_supplied_to_the_end_that_mends(plain):
    plain.up.use(cut(FIRST, 3), sse(*stream(HELLO, id="second")[:-1], then="close"))
    mended(plain.proxy.post(STREAM))


def test_several_choices(plain):
    def both(id, a, b):
        return [part({"content": a}, id=id), part({"content": b}, index=1, id=id)]

    ends = [part({}, "stop", id="second"), part({}, "length", index=1, id="second"), DONE]
    plain.up.use(
        cut([*both("first", "a1", "b1"), *both("first", "a2", "b2")], 3),
        sse(part({"content": "b1b2"}, index=1, id="second"), part({"content": "a1a2a3"}, id="second"), *ends),
    )
    got = plain.proxy.post(b'{"model":"gpt-4.1","stream":true,"n":2,"messages":[]}')
    said = {0: "", 1: ""}
    for p in values(got.body):
        for choice in p["choices"]:
            said[choice["index"]] += choice["delta"].get("content") or ""
    assert got.whole and got.body.endswith(DONE)
    assert said == {0: "a1a2a3", 1: "b1b2"}


def tool(arguments, id="call_1", first=False):
    call = {"index": 0, "function": {"arguments": arguments}}
    if first:
        call.update(id=id, type="function", function={"name": "weather", "arguments": arguments})
    return {"tool_calls": [call]}


def test_a_tool_call_goes_on_under_its_id(plain):
    end = [part({}, "tool_calls", id="second"), DONE]
    plain.up.use(
        cut([part(tool("", first=True)), part(tool('{"city":'))], 2),
        sse(part(tool('{"ci', "call_2", True), id="second"), part(tool('ty": "Oslo"}'.replace(" ", "")), id="second"), *end),
    )
    got = plain.proxy.post(STREAM)
    calls = [c for p in values(got.body) for c in p["choices"][0]["delta"].get("tool_calls", [])]
    assert got.whole
    assert [c["id"] for c in calls if c.get("id")] == ["call_1"]
    assert json.loads("".join(c["function"]["arguments"] for c in calls)) == {"city": "Oslo"}


def test_a_tool_call_that_says_something_else_is_told_in_band(plain):
    plain.up.use(cut([part(tool("", first=True)), part(tool('{"city":"Os'))], 2), sse(part(tool('{"city":"Ber', "call_2", True), id="second"), hold()))
    got = plain.proxy.post(STREAM)
    assert broken(got) == "stream_broken"
    assert len(plain.up.log) == 2


def hold():
    return part({"content": "never seen"}, id="second")


# ---- down the chain -------------------------------------------------------------------------------------------------------------


def test_another_text_goes_to_nobody_and_the_next_target_is_asked(upstream, serve):
    other = sse(*stream("Help! I", id="second"), then="hang")
    a, b = upstream(cut(FIRST, 3), other), upstream(sse(*stream("Hello", ", world", id="third", model="deepseek-v3.2")))
    proxy = serve(conf.chain(a, b))
    got = proxy.post(STREAM)
    mended(got)
    a.until_gone(1)
    assert (len(a.log), len(b.log)) == (2, 1)
    assert json.loads(b.log[0].body)["model"] == "deepseek-v3.2"
    line = fields(proxy, "completed")
    assert (line["rescues"], line["target"], line["fallback"], line["attempts"]) == ("1", "b/deepseek-v3.2", "diverged", "3")
    assert [step.split()[1] for step in line["trail"].split(", ")] == ["cut", "diverged", "200"]
    assert fields(proxy, "rescued")["source"] == "replay"
    assert proxy.metric("stormjib_rescues_total", target="b/deepseek-v3.2", source="replay") == 1


def test_only_the_same_model_when_told_so(upstream, serve):
    a, b = upstream(cut(FIRST, 3), sse(*stream("Other"))), upstream(sse(*AGAIN))
    proxy = serve(conf.chain(a, b, routes=[{"model": "*", "chain": ["a/gpt-4.1", "b/deepseek-v3.2"], "rescue": "same_model"}]))
    got = proxy.post(STREAM)
    assert (broken(got), len(a.log), len(b.log)) == ("stream_broken", 2, 0)


def test_a_same_model_elsewhere_is_asked(upstream, serve):
    a, b = upstream(cut(FIRST, 3), sse(*stream("Other"))), upstream(sse(*AGAIN))
    proxy = serve(conf.chain(a, b, routes=[{"model": "*", "chain": ["a/gpt-4.1", "b/gpt-4.1"], "rescue": "same_model"}]))
    mended(proxy.post(STREAM), HELLO + "!")


def test_off_is_off(upstream, serve):
    up = upstream(cut(FIRST, 3), sse(*FIRST))
    proxy = serve(conf.one(up, routes=[{"model": "*", "chain": ["up"], "rescue": "off"}]))
    assert (broken(proxy.post(STREAM)), len(up.log)) == ("stream_broken", 1)


# ---- nothing mends it -----------------------------------------------------------------------------------------------------------

REFUSALS = {
    "another text": sse(*stream("Goodbye", id="second")),
    "the caller's error": fail(400, "invalid_request"),
    "no stream": answers.chat(HELLO),
    "an opaque stream": answer(200, b"Hello, world", kind="text/event-stream", headers=[("Content-Encoding", "br")]),
    "shorter": sse(*stream("Hel", id="second")),
    "a redirect": answer(302, b"", [("Location", "/elsewhere")]),
}


@pytest.mark.parametrize("second", REFUSALS.values(), ids=REFUSALS.keys())
def test_what_cannot_mend_it_is_not_seen(plain, second):
    plain.up.use(cut(FIRST, 3), second)
    got = plain.proxy.post(STREAM)
    assert (texts(got.body), broken(got), len(plain.up.log)) == (["Hel", "lo, "], "stream_broken", 2)
    assert b"cut" in got.body


def test_the_cause_is_told_not_what_came_of_the_rescue(plain):
    plain.up.use(sse(*FIRST[:3], event(answers.error_json("server_error", message="the first")), then="close"), fail(400, "other", message="the second"))
    got = plain.proxy.post(STREAM)
    assert broken(got) == "server_error"
    assert b"the first" in got.body and b"the second" not in got.body


def test_a_cause_that_was_mended_is_not_told(plain):
    plain.up.use(sse(*FIRST[:3], event(answers.error_json("server_error", message="the first")), then="close"), cut(FIRST, 4), fail(400))
    got = plain.proxy.post(STREAM)
    assert (texts(got.body), broken(got)) == (["Hel", "lo, ", "wor"], "stream_broken")
    assert b"the first" not in got.body


def test_a_refusal_amid_the_stream_is_passed_on(plain):
    plain.up.use(sse(*FIRST[:3], event(answers.error_json("content_filter")), then="close"), sse(*FIRST))
    got = plain.proxy.post(STREAM)
    assert (broken(got), len(plain.up.log)) == ("content_filter", 1)


def test_a_body_that_must_not_be_repeated_is_not(plain):
    plain.up.use(cut(FIRST, 3), sse(*FIRST))
    got = plain.proxy.post(b'{"model":"gpt-4.1","stream":true,"store":true,"messages":[]}')
    assert (broken(got), len(plain.up.log)) == ("stream_broken", 1)


def test_a_coded_stream_is_not_read_and_not_mended(plain):
    import gzip

    plain.up.use(sse(gzip.compress(b"".join(FIRST))[:60], then="close", headers=[("Content-Encoding", "gzip")]))
    got = plain.proxy.post(STREAM)
    assert not got.whole and len(plain.up.log) == 1


def test_the_deadline_bounds_it(upstream, serve):
    up = upstream(cut(FIRST, 3), answers.hang())
    proxy = serve(conf.one(up, deadline="1s"))
    got = proxy.post(STREAM)
    assert (broken(got), len(up.log)) == ("stream_broken", 2)


# ---- going on from the partial answer -------------------------------------------------------------------------------------------


def prefill(upstream, *script, **over):
    up = upstream(*script)
    return up, conf.one(up, upstreams={"up": {"prefill": True}}, **over)


def test_a_target_goes_on_from_the_partial_text(upstream, serve):
    up, settings = prefill(upstream, cut(FIRST, 3), sse(*stream("Other", id="second")), sse(*stream("wor", "ld", id="third")))
    proxy = serve(settings)
    body = {"model": "gpt-4.1", "stream": True, "messages": USER}
    got = proxy.post(json.dumps(body).encode())
    mended(got)
    asked = json.loads(up.log[2].body)
    assert asked == {**body, "messages": [*USER, {"role": "assistant", "content": "Hello,"}]}
    assert fields(proxy, "rescued")["source"] == "continuation"
    assert proxy.metric("stormjib_rescues_total", target="up/gpt-4.1", source="continuation") == 1


def test_a_continuation_names_its_own_model(upstream, serve):
    a, b = upstream(cut(FIRST, 3), fail(400)), upstream(sse(*stream("Other")), sse(*stream("world", id="third", model="deepseek-v3.2")))
    proxy = serve(conf.chain(a, b, upstreams={"b": {"prefill": True}}))
    got = proxy.post(json.dumps({"messages": USER, "model": "gpt-4.1", "stream": True}).encode())
    mended(got)
    asked = json.loads(b.log[1].body)
    assert (asked["model"], asked["messages"][-1]["content"]) == ("deepseek-v3.2", "Hello,")


# ---- meanwhile ------------------------------------------------------------------------------------------------------------------


def test_signs_of_life_while_it_is_mended(upstream, serve):
    up = upstream()
    gate = up.gate()

    async def slow(call):
        await gate.passed()
        await sse(*AGAIN)(call)

    up.use(cut(FIRST, 3), slow)
    proxy = serve(conf.one(up, routes=[{"model": "*", "chain": ["up"], "keepalive": "1s"}]))
    with proxy.connect() as wire:
        wire.send(request("POST", CHAT, [], STREAM))
        assert wire.head().status == 200
        seen = b""
        while seen.count(b": keepalive\n\n") < 2 or len(up.log) < 2:
            seen += wire.chunk()
        gate.open()
        while more := wire.chunk():
            seen += more
    assert "".join(texts(seen)) == HELLO + "!" and seen.endswith(DONE)


def test_a_client_that_leaves_ends_the_rescue(plain):
    plain.up.use(cut(FIRST, 3), answers.hang())
    with plain.proxy.connect() as wire:
        wire.send(request("POST", CHAT, [], STREAM))
        assert wire.head().status == 200
        plain.up.wait(2)
    plain.up.until_gone(1)


def held_up(up, then):
    """An answer that begins when told, and what tells it."""
    gate = up.gate()

    async def behave(call):
        await gate.passed()
        await then(call)

    return gate, behave


def test_a_drain_waits_for_the_rescue(upstream, serve):
    up = upstream()
    gate, late = held_up(up, sse(*AGAIN))
    up.use(cut(FIRST, 3), late)
    proxy = serve(conf.one(up, drain_timeout="60s"))
    with proxy.connect() as wire:
        wire.send(request("POST", CHAT, [], STREAM))
        up.wait(2)
        proxy.signal(signal.SIGTERM)
        proxy.wait_line("drain")
        gate.open()
        mended(wire.read(), HELLO + "!")
    assert proxy.wait() == 0


def test_a_drain_that_is_over_ends_a_rescue_honestly(upstream, serve):
    up = upstream(cut(FIRST, 3), answers.hang())
    proxy = serve(conf.one(up, drain_timeout="300ms"))
    with proxy.connect() as wire:
        wire.send(request("POST", CHAT, [], STREAM))
        up.wait(2)
        proxy.signal(signal.SIGTERM)
        got = wire.read()
    assert texts(got.body) == ["Hel", "lo, "]
    assert broken(got) in ("shutting_down", "stream_broken")


def test_a_reload_changes_nothing_of_it(upstream, serve):
    up, other = upstream(), upstream(fail(500))
    gate, late = held_up(up, sse(*AGAIN))
    up.use(cut(FIRST, 3), fail(503), late)
    proxy = serve(conf.one(up))
    with proxy.connect() as wire:
        wire.send(request("POST", CHAT, [], STREAM))
        up.wait(3)
        proxy.reload(upstreams={"up": {"base_url": other.url}})
        gate.open()
        mended(wire.read(), HELLO + "!")
    assert len(other.log) == 0


def test_who_reads_along_gets_the_mended_stream_too(upstream, serve):
    up = upstream()
    gate, late = held_up(up, sse(*AGAIN))
    up.use(cut(FIRST, 3), late)
    proxy = serve(conf.one(up))
    key = [("Idempotency-Key", "order-1")]
    with proxy.connect() as one, proxy.connect() as two:
        one.send(request("POST", CHAT, key, STREAM))
        up.wait(2)
        two.send(request("POST", CHAT, [*key, ("x-stainless-retry-count", "1")], STREAM))
        proxy.wait_line("event=coalesced")
        gate.open()
        a, b = one.read(), two.read()
    mended(a, HELLO + "!")
    assert (b.whole, b.body, len(up.log)) == (True, a.body, 2)


def test_a_slow_reader_slows_what_mends_it(upstream, serve):
    """Far more than fits between the two: it comes whole, and only as it is read."""
    piece, count = "x" * 8000, 1000
    many = stream(*[piece] * count, id="second")
    written = []

    async def flood(call):
        await call.write(answers.stream_head())
        for part_ in many:
            await call.chunk(part_)
            written.append(1)
        await call.end()

    first = stream(*[piece] * 3)
    up = upstream(cut(first, 3), flood, send_buffer=65536)
    proxy = serve(conf.one(up))
    with proxy.connect(receive_buffer=16384) as wire:
        wire.send(request("POST", CHAT, [], STREAM))
        assert wire.head().status == 200
        up.wait(2)
        seen = wire.chunk()
        assert len(written) < count
        while more := wire.chunk():
            seen += more
    assert seen.endswith(DONE)
    assert sum(map(len, texts(seen))) == len(piece) * count


def test_what_has_outgrown_its_bound_is_not_mended(plain):
    long = stream(*["x" * 30000] * 20)
    plain.up.use(cut(long, 20), sse(*long))
    got = plain.proxy.post(STREAM)
    assert (broken(got), len(plain.up.log)) == ("stream_broken", 1)


def test_a_choice_that_goes_astray_after_another_went_on(plain):
    """What the client has been given stays, and the next attempt goes on from there."""

    def said(id, *pairs):
        return [part({"content": text}, index=index, id=id) for index, text in pairs]

    ends = [part({}, "stop", id="third"), part({}, "stop", index=1, id="third"), DONE]
    plain.up.use(
        sse(*said("first", (0, "a1"), (1, "b1")), then="close"),
        sse(*said("second", (0, "a1a2"), (1, "other")), then="hang"),
        sse(*said("third", (0, "a1a2a3"), (1, "b1b2")), *ends),
    )
    got = plain.proxy.post(b'{"model":"gpt-4.1","stream":true,"n":2,"messages":[]}')
    texts_ = {0: "", 1: ""}
    for p in values(got.body):
        for choice in p["choices"]:
            texts_[choice["index"]] += choice["delta"].get("content") or ""
    assert got.whole and texts_ == {0: "a1a2a3", 1: "b1b2"}
    assert {p["id"] for p in values(got.body)} == {"first"}


# ---- other protocols ------------------------------------------------------------------------------------------------------------


def response_events(*pieces, id="resp_1", item="msg_1"):
    out, sequence = [], 0

    def add(kind, **more):
        nonlocal sequence
        out.append(event({"type": kind, "sequence_number": sequence, **more}, kind))
        sequence += 1

    text, place = "".join(pieces), {"item_id": item, "output_index": 0, "content_index": 0}
    add("response.created", response={"id": id, "status": "in_progress", "output": []})
    add("response.output_item.added", output_index=0, item={"id": item, "type": "message", "role": "assistant", "content": []})
    add("response.content_part.added", part={"type": "output_text", "text": ""}, **place)
    for piece in pieces:
        add("response.output_text.delta", delta=piece, **place)
    add("response.output_text.done", text=text, **place)
    add("response.content_part.done", part={"type": "output_text", "text": text}, **place)
    whole = {"id": item, "type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}
    add("response.output_item.done", output_index=0, item=whole)
    add("response.completed", response={"id": id, "status": "completed", "output": [whole]})
    return out


@pytest.mark.parametrize("n", range(4, 10))
def test_a_response_is_mended(plain, n):
    first, second = response_events("Hel", "lo, ", "world"), response_events("Hello", ", world", id="resp_2", item="msg_2")
    plain.up.use(cut(first, n), sse(*second))
    got = plain.proxy.post(STREAM, "/v1/responses")
    parts = values(got.body)
    assert got.whole
    assert "".join(p["delta"] for p in parts if p["type"] == "response.output_text.delta") == HELLO
    assert [p["sequence_number"] for p in parts] == list(range(len(parts)))
    assert {p["item_id"] for p in parts if "item_id" in p} == {"msg_1"}
    assert parts[-1]["type"] == "response.completed" and parts[-1]["response"]["id"] == "resp_1"


def test_a_completion_is_mended(plain):
    def text(piece, finish=None, id="cmpl-1"):
        return event({"id": id, "object": "text_completion", "choices": [{"index": 0, "text": piece, "finish_reason": finish}]})

    plain.up.use(sse(text("On"), text("ce u"), then="close"), sse(text("Once", id="cmpl-2"), text(" upon", id="cmpl-2"), text("", "stop", id="cmpl-2"), DONE))
    got = plain.proxy.post(b'{"model":"m","stream":true,"prompt":"x"}', "/v1/completions")
    parts = values(got.body)
    assert got.whole and got.body.endswith(DONE)
    assert ("".join(p["choices"][0]["text"] for p in parts), {p["id"] for p in parts}) == ("Once upon", {"cmpl-1"})


# ---- the real client ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", range(2, len(FIRST) - 2))
def test_the_sdk_sees_one_stream(plain, n):
    plain.up.use(cut(FIRST, n, "reset"), sse(*stream(HELLO, id="second")))
    with openai.OpenAI(base_url=plain.proxy.url + "/v1", api_key="k") as client:
        parts = list(client.chat.completions.create(model="gpt-4.1", messages=USER, stream=True))
    assert "".join(p.choices[0].delta.content or "" for p in parts) == HELLO
    assert {p.id for p in parts} == {"first"}
    assert parts[-1].choices[0].finish_reason == "stop"


def test_the_sdk_sees_one_response(plain):
    plain.up.use(cut(response_events("Hel", "lo, world"), 5), sse(*response_events(HELLO, id="resp_2", item="msg_2")))
    with openai.OpenAI(base_url=plain.proxy.url + "/v1", api_key="k") as client:
        events = list(client.responses.create(model="gpt-4.1", input="hi", stream=True))
    assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == HELLO
    assert events[-1].type == "response.completed"


# ---- the demonstration ----------------------------------------------------------------------------------------------------------


def test_the_demo_shows_it():
    done = run("demo", "--json", "--fail", "0.15", "--seed", "3", timeout=120)
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert shown["direct"]["results"]["answer cut off"] > 10
    assert shown["events"]["rescues"] > 0
    assert shown["stormjib"]["results"]["answer cut off"] <= 1
