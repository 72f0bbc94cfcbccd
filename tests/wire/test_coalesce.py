"""Retries of clients that join an exchange still in flight, instead of paying twice (BEHAVIOUR 6)."""

import asyncio
import concurrent.futures
import os
import random
import signal
import time

import pytest
from kit import conf
from kit.answers import DONE, FINISH, ROLE, chat, delta, fail, sse
from kit.client import eventually, request

openai = pytest.importorskip("openai")

CHAT = "/v1/chat/completions"
STREAM = b'{"model":"gpt-4.1","stream":true,"messages":[]}'
BODY = b'{"model":"gpt-4.1","messages":[]}'
RETRY = [("x-stainless-retry-count", "1")]
KEY = [("Idempotency-Key", "order-1")]
FIRST, REST = ROLE + delta("Hel"), delta("lo") + FINISH + DONE


def after(gate, behaviour):
    """The behaviour, once the gate is open."""

    async def behave(call):
        await gate.passed()
        await behaviour(call)

    return behave


@pytest.fixture(params=[1, 2], ids=["one worker", "two workers"])
def pair(request, upstream, serve):
    """pair(behaviour, route={}): a proxy, its upstream, and the gate that the first answer awaits; then it answers otherwise."""

    def start(answer, late="late", route=(), **over):
        up = upstream()
        gate = up.gate()
        up.use(answer(gate), chat(late))
        routes = [{"model": "*", "chain": ["up"], **dict(route)}]
        return serve(conf.one(up, **{"workers": request.param, "routes": routes, **over})), up, gate

    return start


def whole(gate):
    return after(gate, chat("first"))


def ask(proxy, headers=(), body=BODY, target=CHAT, **options):
    return proxy.connect(**options).send(request("POST", target, [("Content-Type", "application/json"), *headers], body))


def joined(proxy, count=1):
    return proxy.wait_line(r"event=coalesced", count=count)


# ---- who joins ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first,second", [([], RETRY), (KEY, KEY), (KEY, KEY + RETRY)], ids=["retry", "key", "both"])
def test_a_retry_joins_the_request_it_repeats(pair, first, second):
    proxy, up, gate = pair(whole)
    with ask(proxy, first) as one:
        up.wait(1)
        with ask(proxy, second) as two:
            joined(proxy)
            gate.open()
            a, b = one.read(), two.read()
    assert (a.status, b.status, len(up.log)) == (200, 200, 1)
    assert a.body == b.body and a.whole and b.whole
    assert b.label("coalesced") == a.label("request-id") != b.label("request-id")
    assert a.label("coalesced") is None
    assert (b.label("target"), b.label("trail"), b.attempts) == (a.label("target"), a.label("trail"), 1)
    others = {"x-stormjib-request-id", "x-stormjib-coalesced"}
    assert [h for h in a.headers if h[0].lower() not in others] == [h for h in b.headers if h[0].lower() not in others]
    line = proxy.wait_line(rf"event=completed request_id={b.label('request-id')} .*")[0]
    assert f"coalesced={a.label('request-id')}" in line and "result=ok" in line and "attempts=0" in line and "target=up/gpt-4.1" in line
    assert proxy.metric("stormjib_coalesced_total") == 1
    assert proxy.metric("stormjib_attempts_total") == 1


OTHERS = {
    "another credential": ([("Authorization", "Bearer b"), *RETRY], BODY, CHAT),
    "another body": (RETRY, BODY + b" ", CHAT),
    "another body of that length": (RETRY, BODY.replace(b"4.1", b"4.2"), CHAT),
    "another path": (RETRY, BODY, "/v1/completions"),
    "another query": (RETRY, BODY, CHAT + "?a=1"),
    "a key where there was none": (KEY + RETRY, BODY, CHAT),
    "no retry": ([], BODY, CHAT),
    "another coding": ([("Accept-Encoding", "gzip"), *RETRY], BODY, CHAT),
}


@pytest.mark.parametrize("headers,body,target", OTHERS.values(), ids=OTHERS.keys())
def test_others_go_their_own_way(pair, headers, body, target):
    proxy, up, gate = pair(whole)
    credential = [] if "Authorization" in dict(headers) else [("Authorization", "Bearer a")]
    with ask(proxy, [("Authorization", "Bearer a")]) as one:
        up.wait(1)
        with ask(proxy, [*credential, *headers], body, target) as two:
            assert two.read().json["choices"][0]["message"]["content"] == "late"
        gate.open()
        assert one.read().json["choices"][0]["message"]["content"] == "first"
    assert len(up.log) == 2
    assert proxy.metric("stormjib_coalesced_total") == 0


def test_another_body_under_the_same_key_is_another_request(pair):
    proxy, up, gate = pair(whole)
    with ask(proxy, KEY) as one:
        up.wait(1)
        with ask(proxy, KEY, BODY.replace(b"4.1", b"4.2")) as two:
            assert two.read().status == 200
        gate.open()
        assert one.read().status == 200
    assert len(up.log) == 2


def test_it_can_be_switched_off(pair):
    proxy, up, gate = pair(whole, route={"coalesce": False})
    with ask(proxy, KEY) as one:
        up.wait(1)
        with ask(proxy, KEY + RETRY) as two:
            assert two.read().status == 200
        gate.open()
        assert one.read().status == 200
    assert len(up.log) == 2


def test_what_is_over_is_asked_again(pair):
    proxy, up, gate = pair(whole)
    gate.open()
    with ask(proxy, KEY) as one:
        assert one.read().status == 200
    with ask(proxy, KEY + RETRY) as two:
        assert two.read().status == 200
    assert len(up.log) == 2


def test_as_many_as_there_are_seats(pair):
    proxy, up, gate = pair(whole)
    wires = [ask(proxy)]
    up.wait(1)
    for n in range(8):
        wires.append(ask(proxy, RETRY))
        joined(proxy, n + 1)
    with ask(proxy, RETRY) as other:
        assert other.read().json["choices"][0]["message"]["content"] == "late"
    gate.open()
    bodies = {wire.read().body for wire in wires}
    assert len(bodies) == 1
    assert len(up.log) == 2


# ---- what they get --------------------------------------------------------------------------------------------------------------


def test_an_error_is_told_to_both(pair):
    proxy, up, gate = pair(lambda gate: after(gate, fail(400, message="bad")))
    with ask(proxy) as one:
        up.wait(1)
        with ask(proxy, RETRY) as two:
            joined(proxy)
            gate.open()
            a, b = one.read(), two.read()
    assert (a.status, a.body, len(up.log)) == (b.status, b.body, 1) == (400, a.body, 1)


def test_a_refusal_of_ours_is_told_to_both(pair):
    async def vanish(call):
        call.reset()

    proxy, up, gate = pair(lambda gate: after(gate, vanish), retry={"max_attempts": 1})
    with ask(proxy) as one:
        up.wait(1)
        with ask(proxy, RETRY) as two:
            joined(proxy)
            gate.open()
            a, b = one.read(), two.read()
    assert a.status == b.status == 502 and a.code == b.code == "max_retries_exceeded"
    assert proxy.wait_line(rf"event=completed request_id={b.label('request-id')} .*result=refused.*code=max_retries_exceeded")
    assert len(up.log) == 1


def test_its_retries_and_fallbacks_serve_both(upstream, serve):
    a, b = upstream(), upstream(chat("b"))
    gate = a.gate()
    a.use(after(gate, fail(402)))
    proxy = serve(conf.chain(a, b, workers=2))
    with ask(proxy) as one:
        a.wait(1)
        with ask(proxy, RETRY) as two:
            joined(proxy)
            gate.open()
            got = [one.read(), two.read()]
    assert [g.label("target") for g in got] == ["b/deepseek-v3.2"] * 2
    assert (len(a.log), len(b.log)) == (1, 1)


def test_a_stream_joined_before_it_speaks(pair):
    proxy, up, gate = pair(lambda gate: after(gate, sse(FIRST, REST)))
    with ask(proxy, body=STREAM) as one:
        up.wait(1)
        with ask(proxy, RETRY, STREAM) as two:
            joined(proxy)
            gate.open()
            a, b = one.read(), two.read()
    assert a.whole and b.whole and a.body == b.body == FIRST + REST
    assert b.label("coalesced") == a.label("request-id")
    assert len(up.log) == 1


def test_a_stream_flows_event_by_event_to_both(pair):
    proxy, up, gate = pair(lambda gate: sse(ROLE, FIRST, REST, gates=[gate]))
    with ask(proxy, body=STREAM) as one:
        up.wait(1)
        with ask(proxy, RETRY, STREAM) as two:
            joined(proxy)
            gate.open()
            for wire in (one, two):
                assert wire.head().status == 200
                assert wire.chunk().startswith(ROLE)


def test_amid_a_stream_only_with_a_key(pair):
    proxy, up, gate = pair(lambda gate: sse(FIRST, REST, gates=[gate]))
    with ask(proxy, body=STREAM) as one:
        one.head()
        one.chunk()
        with ask(proxy, RETRY, STREAM) as two:
            assert two.read().status == 200
        gate.open()
    assert len(up.log) == 2


def test_a_stream_with_a_key_is_joined_from_its_start(pair):
    proxy, up, gate = pair(lambda gate: sse(FIRST, REST, gates=[gate]))
    with ask(proxy, KEY, STREAM) as one:
        one.head()
        assert one.chunk() == FIRST
        with ask(proxy, KEY, STREAM) as two:
            joined(proxy)
            two.head()
            assert two.chunk() == FIRST
            gate.open()
            assert b"".join(iter(two.chunk, b"")) == REST
        assert b"".join(iter(one.chunk, b"")) == REST
    assert len(up.log) == 1


def test_a_broken_stream_breaks_for_both(pair):
    proxy, up, gate = pair(lambda gate: after(gate, sse(FIRST, then="close")), route={"rescue": "off"})
    with ask(proxy, body=STREAM) as one:
        up.wait(1)
        with ask(proxy, RETRY, STREAM) as two:
            joined(proxy)
            gate.open()
            a, b = one.read(), two.read()
    assert not a.whole and not b.whole
    assert a.body == b.body and b"stream_broken" in b.body
    assert proxy.wait_line(r"event=completed .*result=broken code=stream_broken.*coalesced=")


def test_a_rescued_stream_is_rescued_for_both(upstream, serve):
    up = upstream()
    gate = up.gate()
    up.use(after(gate, sse(FIRST, then="close")), sse(FIRST, REST))
    proxy = serve(conf.one(up, workers=2))
    with ask(proxy, body=STREAM) as one:
        up.wait(1)
        with ask(proxy, RETRY, STREAM) as two:
            joined(proxy)
            gate.open()
            a, b = one.read(), two.read()
    assert a.whole and b.whole and a.body == b.body and b.body.endswith(DONE) and b"stream_broken" not in b.body
    assert len(up.log) == 2


def test_a_verified_stream_with_signs_of_life(pair):
    route = {"stream": "verified", "keepalive": "1s"}
    proxy, up, gate = pair(lambda gate: sse(FIRST, REST, gates=[gate]), route=route)
    with ask(proxy, body=STREAM) as one:
        one.head()
        one.chunk()
        with ask(proxy, RETRY, STREAM) as two:
            joined(proxy)
            two.head()
            two.chunk()
            gate.open()
            a, b = (b"".join(iter(wire.chunk, b"")) for wire in (one, two))
    assert a.endswith(FIRST + REST) and b.endswith(FIRST + REST)
    assert len(up.log) == 1


# ---- leaving --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [BODY, STREAM], ids=["whole", "stream"])
def test_the_first_client_may_leave(pair, body):
    proxy, up, gate = pair(lambda gate: after(gate, chat("first") if body == BODY else sse(FIRST, REST)))
    with ask(proxy, body=body) as one:
        up.wait(1)
        two = ask(proxy, RETRY, body)
        joined(proxy)
    eventually(lambda: proxy.metric("stormjib_client_connections") == 1)
    gate.open()
    got = two.read()
    assert got.whole and (b"first" in got.body if body == BODY else got.body == FIRST + REST)
    assert up.log[0].gone_at is None and len(up.log) == 1
    proxy.wait_line(r"event=completed .*result=client_gone.*drained_ms=")
    eventually(lambda: proxy.metric("stormjib_exchanges_in_flight") == 0)


def test_and_its_retries_are_still_made(pair):
    proxy, up, gate = pair(lambda gate: after(gate, fail(503)))
    one = ask(proxy)
    up.wait(1)
    with ask(proxy, RETRY) as two:
        joined(proxy)
        one.close()
        eventually(lambda: proxy.metric("stormjib_client_connections") == 1)
        gate.open()
        got = two.read()
    assert got.status == 200 and got.attempts == 2
    assert len(up.log) == 2


def test_the_last_who_leaves_cancels_it(pair):
    proxy, up, gate = pair(whole)
    one = ask(proxy)
    up.wait(1)
    two = ask(proxy, RETRY)
    joined(proxy)
    one.close()
    eventually(lambda: proxy.metric("stormjib_client_connections") == 1)
    assert up.log[0].gone_at is None
    two.close()
    up.until_gone(0)
    eventually(lambda: proxy.metric("stormjib_exchanges_in_flight") == 0)
    assert proxy.metric("stormjib_exchanges_total", result="client_gone") == 2
    gate.open()


def test_a_joined_client_that_leaves_disturbs_nobody(pair):
    proxy, up, gate = pair(lambda gate: after(gate, sse(FIRST, REST)))
    with ask(proxy, body=STREAM) as one:
        up.wait(1)
        with ask(proxy, RETRY, STREAM):
            joined(proxy)
        proxy.wait_line(r"event=completed .*result=client_gone.*")
        gate.open()
        got = one.read()
    assert got.whole and got.body == FIRST + REST


def test_without_drain_a_client_that_left_left_nothing_behind(pair):
    proxy, up, gate = pair(whole)
    with ask(proxy):
        up.wait(1)
    up.until_gone(0)
    with ask(proxy, RETRY) as two:
        assert two.read().json["choices"][0]["message"]["content"] == "late"
    assert proxy.metric("stormjib_coalesced_total") == 0
    gate.open()


DRAIN = {"on_client_gone": "drain", "drain_for": "60s"}


@pytest.mark.parametrize("body", [BODY, STREAM], ids=["whole", "stream"])
def test_what_is_read_on_can_be_joined(pair, body):
    proxy, up, gate = pair(lambda gate: after(gate, chat("first") if body == BODY else sse(FIRST, REST)), route=DRAIN)
    with ask(proxy, body=body):
        up.wait(1)
    eventually(lambda: proxy.metric("stormjib_drains_total") == 1)
    with ask(proxy, RETRY, body) as two:
        joined(proxy)
        gate.open()
        got = two.read()
    assert got.whole and (b"first" in got.body if body == BODY else got.body == FIRST + REST)
    assert len(up.log) == 1


def test_and_goes_on_as_before_then(pair):
    proxy, up, gate = pair(lambda gate: after(gate, fail(503)), route=DRAIN)
    with ask(proxy):
        up.wait(1)
    eventually(lambda: proxy.metric("stormjib_drains_total") == 1)
    with ask(proxy, RETRY) as two:
        joined(proxy)
        gate.open()
        assert (two.read().status, len(up.log)) == (200, 2)


def test_a_stream_that_went_on_for_nobody_is_joined_from_its_start(upstream, serve):
    up = upstream()
    start, end = up.gate(), up.gate()
    spoken = up.gate()

    async def stream(call):
        await start.passed()
        await sse(FIRST, then="stay")(call)
        spoken.open()
        await end.passed()
        await call.chunk(REST)
        await call.end()

    up.use(stream)
    proxy = serve(conf.one(up, workers=2, routes=[{"model": "*", "chain": ["up"], **DRAIN}]))
    with ask(proxy, body=STREAM):
        up.wait(1)
    eventually(lambda: proxy.metric("stormjib_drains_total") == 1)
    start.open()
    spoken.wait()
    with ask(proxy, RETRY, STREAM) as two:
        joined(proxy)
        end.open()
        got = two.read()
    assert got.whole and got.body == FIRST + REST
    assert len(up.log) == 1


def test_a_slow_reader_beside_a_fast_one(pair):
    events = [delta("x" * 30_000)] * 60
    proxy, up, gate = pair(lambda gate: after(gate, sse(ROLE, *events, REST)))
    slow = ask(proxy, body=STREAM, receive_buffer=4096)
    up.wait(1)
    with ask(proxy, RETRY, STREAM) as two:
        joined(proxy)
        gate.open()
        got = two.read()
    assert got.whole and got.body == ROLE + b"".join(events) + REST
    slow.close()


def test_a_slow_reader_alone_slows_the_upstream(pair):
    events = [delta("x" * 30_000)] * 400
    proxy, up, gate = pair(lambda gate: after(gate, sse(ROLE, *events, REST)))
    one = ask(proxy, body=STREAM)
    up.wait(1)
    two = ask(proxy, RETRY, STREAM, receive_buffer=4096)
    joined(proxy)
    one.close()
    eventually(lambda: proxy.metric("stormjib_client_connections") == 1)
    before = proxy.rss_kib()
    gate.open()
    two.head()
    two.chunk()
    assert proxy.rss_kib() - before < 6_000
    got = b"".join(iter(two.chunk, b""))
    assert len(got) > 400 * 30_000 and got.endswith(REST)
    two.close()


# ---- the program ----------------------------------------------------------------------------------------------------------------


def test_a_shutdown_waits_for_both(pair):
    proxy, up, gate = pair(whole, drain_timeout="60s")
    one = ask(proxy)
    up.wait(1)
    two = ask(proxy, RETRY)
    joined(proxy)
    one.close()
    eventually(lambda: proxy.metric("stormjib_client_connections") == 1)
    proxy.signal(signal.SIGTERM)
    eventually(lambda: proxy.metric("stormjib_draining") == 1)
    gate.open()
    assert two.read().status == 200
    assert proxy.wait() == 0


@pytest.mark.parametrize("stays", [True, False])
def test_a_hurried_shutdown_tells_both(pair, stays):
    proxy, up, gate = pair(whole, drain_timeout="60s")
    one = ask(proxy)
    up.wait(1)
    two = ask(proxy, RETRY)
    joined(proxy)
    if not stays:
        one.close()
        eventually(lambda: proxy.metric("stormjib_client_connections") == 1)
    proxy.signal(signal.SIGTERM)
    eventually(lambda: proxy.metric("stormjib_draining") == 1)
    proxy.signal(signal.SIGTERM)
    assert two.read().code == "shutting_down"
    assert proxy.wait() == 0
    gate.open()


def test_a_reload_amid_it(pair):
    proxy, up, gate = pair(whole)
    with ask(proxy) as one:
        up.wait(1)
        proxy.reload(deadline="100s")
        proxy.wait_line("configuration reloaded")
        with ask(proxy, RETRY) as two:
            joined(proxy)
            gate.open()
            assert one.read().body == two.read().body
    assert len(up.log) == 1


# ---- the SDK --------------------------------------------------------------------------------------------------------------------


# An SDK that gives up before us, as it does not say when it will.
UNSAID = {"x-stainless-read-timeout": "600"}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_the_sdks_retry_after_a_timeout_joins(pair, stream):
    proxy, up, gate = pair(lambda gate: after(gate, sse(FIRST, REST) if stream else chat("first")), route=DRAIN)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:

        def go():
            client = openai.OpenAI(base_url=proxy.url + "/v1", api_key="k", timeout=2, max_retries=2)
            got = client.chat.completions.create(model="gpt-4.1", messages=[], stream=stream, extra_headers=UNSAID)
            return "".join(c.choices[0].delta.content or "" for c in got) if stream else got.choices[0].message.content

        answer = pool.submit(go)
        joined(proxy)
        gate.open()
        assert answer.result(60) == ("Hello" if stream else "first")
    assert len(up.log) == 1


# ---- all at once ----------------------------------------------------------------------------------------------------------------


async def some_way(call):
    """Slow enough to be joined, and of every kind."""
    dice = random.Random(call.index)
    await asyncio.sleep(dice.random() / 10)
    events = [delta("x" * dice.choice([10, 3000])) for _ in range(dice.randrange(1, 12))]
    stream = sse(ROLE, *events, FIRST, REST, pause=dice.random() / 50)
    await dice.choice([fail(503), chat("first"), stream, stream] if b"stream" in call.request.body else [fail(503), chat("first"), chat("first")])(call)


def one_of_many(proxy, dice):
    body = dice.choice([BODY, STREAM, STREAM + b" "])
    with ask(proxy, dice.choice([[], RETRY, KEY, KEY + RETRY]), body) as wire:
        if dice.random() < 0.3:
            return None
        answer = wire.head()
        if dice.random() < 0.2:
            return answer
        wire.buffer = answer.raw_head + b"\r\n\r\n" + wire.buffer
        return wire.read()


@pytest.mark.load
@pytest.mark.parametrize("gone", ["cancel", "drain"])
def test_many_join_and_leave_and_nothing_is_left(upstream, serve, gone):
    routes = [{"model": "*", "chain": ["up"], "on_client_gone": gone, "drain_for": "5s", "rescue": "off"}]
    proxy = serve(conf.one(upstream(some_way), workers=4, routes=routes, drain_timeout="20s"))
    until = time.monotonic() + float(os.environ.get("SJ_LOAD_SECONDS", 4)) / 2

    def go(seed):
        dice, got = random.Random(seed), []
        while time.monotonic() < until:
            got.append(one_of_many(proxy, dice))
        return got

    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        answers = [answer for some in pool.map(go, range(12)) for answer in some if answer]
    joined_by = [answer.label("coalesced") for answer in answers if answer.label("coalesced")]
    ids = [answer.label("request-id") for answer in answers]
    assert len(joined_by) > 10 and len(ids) == len(set(ids)) and not set(joined_by) & {a.label("request-id") for a in answers if a.label("coalesced")}
    assert {answer.status for answer in answers} <= {200, 503}
    eventually(lambda: proxy.metric("stormjib_exchanges_in_flight") == 0)
    assert proxy.metric("stormjib_body_memory_bytes") == 0
    assert proxy.metric("stormjib_target_in_flight") == 0
    assert proxy.metric("stormjib_coalesced_total") >= len(joined_by)
