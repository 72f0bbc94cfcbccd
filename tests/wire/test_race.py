"""A silent target is not waited for to the end (BEHAVIOUR 10), and a fallback that answers is stayed with (BEHAVIOUR 9)."""

import time

import pytest

from kit import answers, conf
from kit.answers import DONE, FINISH, ROLE, chat, chat_events, delta, fail, sse
from kit.client import Cut, eventually, request

BODY = b'{"model":"gpt-4.1","messages":[]}'
STREAM = b'{"model":"gpt-4.1","stream":true,"messages":[]}'
CHAT = "/v1/chat/completions"
SAME = ("gpt-4.1", "gpt-4.1")
SOON = {"after": "200ms", "after_whole": "200ms"}


@pytest.fixture
def race(upstream, serve):
    """race(script of a, script of b): two upstreams with the same model, and a race that starts soon."""

    def start(first, second, models=SAME, **over):
        a, b = upstream(*first), upstream(*second)
        return serve(conf.chain(a, b, models=models, **{"race": SOON, **over})), a, b

    return start


@pytest.mark.parametrize("body,good", [(STREAM, sse(*chat_events("from b"))), (BODY, chat("from b"))], ids=["stream", "whole"])
def test_the_next_target_answers_for_a_silent_one(race, body, good):
    proxy, a, b = race([answers.hang()], [good])
    got = proxy.post(body)
    assert (got.status, got.whole) == (200, True)
    assert b"from b" in got.body
    assert (got.label("target"), got.label("fallback")) == ("b/gpt-4.1", "race")
    assert (len(a.log), len(b.log)) == (1, 1)
    a.until_gone(0)
    assert b.log[0].at - a.log[0].at >= 0.15, "not before race.after"


def test_a_head_or_a_role_is_no_content_yet(race):
    proxy, a, b = race([sse(ROLE, then="hang")], [sse(*chat_events("from b"))])
    got = proxy.post(STREAM)
    assert got.body == b"".join(chat_events("from b"))
    a.until_gone(0)


def test_the_first_may_still_win(race):
    proxy, a, b = race([], [sse(ROLE, then="hang")])
    gate = a.gate()

    async def late(call):
        await gate.passed()
        await sse(*chat_events("from a"))(call)

    a.use(late)
    with proxy.connect() as wire:
        wire.send(request("POST", CHAT, [], STREAM))
        b.wait(1)
        gate.open()
        got = wire.read()
    assert got.body == b"".join(chat_events("from a"))
    assert got.label("target") == "a/gpt-4.1"
    b.until_gone(0)


@pytest.mark.parametrize("trouble", [fail(503), fail(400), answers.drop("reset"), fail(429)], ids=["503", "400", "reset", "429"])
def test_an_error_never_beats_one_that_may_still_answer(race, trouble):
    proxy, a, b = race([], [trouble])
    gate = a.gate()

    async def late(call):
        await gate.passed()
        await chat("from a")(call)

    a.use(late)
    with proxy.connect() as wire:
        wire.send(request("POST", CHAT, [], BODY))
        b.until(lambda: b.log and b.log[0].answered_at)
        gate.open()
        got = wire.read()
    assert (got.status, b"from a" in got.body) == (200, True)


def test_both_failing_is_the_usual_end(race):
    proxy, a, b = race(
        [answers.hang()],
        [fail(503, "from_b")],
        retry={"max_attempts": 1, "max_attempts_before_fallback": 1},
        upstreams={"a": {"answer_timeout": "800ms"}},
    )
    got = proxy.post(BODY)
    assert (got.status, got.code) == (503, "from_b")


@pytest.mark.parametrize("over,raced", [({}, False), ({"race": {**SOON, "other_model": True}}, True)], ids=["default", "other_model"])
def test_another_model_only_by_option(race, over, raced):
    proxy, a, b = race([], [chat("from b")], models=("gpt-4.1", "deepseek-v3.2"), **over)
    gate = a.gate()

    async def late(call):
        await gate.passed()
        await chat("from a")(call)

    a.use(late)
    with proxy.connect() as wire:
        wire.send(request("POST", CHAT, [], BODY))
        a.wait(1)
        started = time.monotonic()
        if raced:
            b.wait(1)
        else:
            eventually(lambda: time.monotonic() - started > 1)  # five times race.after: nothing may happen
        gate.open()
        assert wire.read().status == 200
    assert len(b.log) == raced


def test_it_can_be_turned_off(race):
    proxy, a, b = race([answers.hang()], [chat("from b")], race={**SOON, "enabled": False}, upstreams={"a": {"answer_timeout": "1s"}})
    assert b"from b" in proxy.post(BODY).body
    assert b.log[0].at - a.log[0].at >= 0.9


def test_a_client_that_leaves_cancels_both(race):
    proxy, a, b = race([answers.hang()], [answers.hang()])
    with proxy.connect() as wire:
        wire.send(request("POST", CHAT, [], BODY))
        b.wait(1)
    a.until_gone(0)
    b.until_gone(0)


def test_what_may_not_be_repeated_is_not_raced(race):
    proxy, a, b = race([answers.hang()], [chat()], upstreams={"a": {"answer_timeout": "1s"}}, routes=[{"model": "*", "chain": ["a", "b"]}])
    got = proxy.ask("POST", "/v1/files", [], b"{}")
    assert (got.status, len(a.log), b.log) == (504, 1, [])


# ---- staying with a fallback ----------------------------------------------------------------------------------------------------

SINGLE = {"max_attempts": 1, "max_attempts_before_fallback": 1}
TOUCHY = {"enabled": True, "minimum_calls": 100000, "failure_threshold": 3, "failure_span": "0s", "recovery_timeout": "60s"}


def test_it_stays_with_the_fallback_while_the_strong_one_is_shut(upstream, serve):
    a, b = upstream(fail(503)), upstream(chat("from b"))
    proxy = serve(conf.chain(a, b, retry=SINGLE, breaker=TOUCHY))
    assert [proxy.post(BODY).label("target") for _ in range(8)] == ["b/deepseek-v3.2"] * 8
    assert len(a.log) == 3
    assert proxy.post(BODY).label("fallback") == "sticky"


def test_it_returns_when_the_strong_one_is_well(upstream, serve):
    a, b = upstream(fail(503), fail(503), fail(503), chat("from a")), upstream(chat("from b"))
    proxy = serve(conf.chain(a, b, retry=SINGLE, breaker={**TOUCHY, "recovery_timeout": "500ms"}, sticky={"min": "0s"}))
    for _ in range(4):
        assert b"from b" in proxy.post(BODY).body
    eventually(lambda: proxy.post(BODY).label("target") == "a/gpt-4.1")
    eventually(lambda: all(proxy.post(BODY).label("target") == "a/gpt-4.1" for _ in range(5)))


def test_failures_there_turn_back(upstream, serve):
    """The strong one shut, the fallback failing: nobody is served worse than by asking both in turn."""
    a, b = upstream(fail(503, "from_a")), upstream(chat(), chat(), chat(), fail(500, "from_b"))
    proxy = serve(
        conf.chain(
            a,
            b,
            retry=SINGLE,
            breaker={**TOUCHY, "failure_threshold": 4, "recovery_timeout": "1s", "max_open_wait": "0s"},
            sticky={"min": "0s", "failures": 3},
        )
    )
    for _ in range(12):
        proxy.post(BODY)
    a.use(chat("a is well"))
    eventually(lambda: b"a is well" in proxy.post(BODY).body)


# ---- held back, and signs of life -----------------------------------------------------------------------------------------------


def verified(up, **over):
    return conf.one(up, routes=[{"model": "*", "chain": ["up"], "stream": "verified", **over}])


def visible(body):
    """Without the comments that say that we are alive."""
    return b"".join(part + b"\n\n" for part in body.split(b"\n\n") if part and not part.startswith(b":"))


TROUBLE = {
    "cut": sse(ROLE, delta("Hel"), then="close"),
    "reset": sse(ROLE, delta("Hel"), then="reset"),
    "no finish": sse(ROLE, delta("Hel")),
    "error event": sse(ROLE, delta("Hel"), answers.event(answers.error_json("server_error")), then="close"),
    "503": fail(503),
}


@pytest.mark.parametrize("trouble", TROUBLE.values(), ids=TROUBLE.keys())
def test_a_verified_stream_is_whole_or_not_at_all(upstream, serve, trouble):
    up = upstream(trouble, sse(*chat_events("Hel", "lo")))
    got = serve(verified(up)).post(STREAM)
    assert got.whole and visible(got.body) == b"".join(chat_events("Hel", "lo"))
    assert len(up.log) == 2


def test_a_verified_stream_by_header(upstream, serve):
    up = upstream(sse(ROLE, delta("Hel"), then="close"), sse(*chat_events("Hel", "lo")))
    got = serve(conf.one(up)).post(STREAM, headers=[("x-stormjib-stream", "verified")])
    assert got.whole and visible(got.body) == b"".join(chat_events("Hel", "lo"))
    assert all(r.get("x-stormjib-stream") is None for r in up.log)


def test_signs_of_life_while_waiting(upstream, serve):
    up = upstream()
    gate = up.gate()
    up.use(sse(ROLE, delta("now") + FINISH + DONE, gates=[gate]))
    proxy = serve(conf.one(up, routes=[{"model": "*", "chain": ["up"], "keepalive": "1s"}]))
    with proxy.connect() as wire:
        wire.send(request("POST", CHAT, [], STREAM))
        assert wire.head().status == 200
        for _ in range(3):
            assert wire.chunk().startswith(b":")
        gate.open()
        seen = b""
        while part := wire.chunk():
            seen += part
    assert visible(seen) == ROLE + delta("now") + FINISH + DONE


def test_an_error_after_a_sign_of_life_is_in_band(upstream, serve):
    up = upstream()
    gate = up.gate()

    async def late(call):
        await gate.passed()
        await fail(400, "too_bad")(call)

    up.use(late)
    proxy = serve(conf.one(up, routes=[{"model": "*", "chain": ["up"], "keepalive": "1s"}]))
    with proxy.connect() as wire:
        wire.send(request("POST", CHAT, [], STREAM))
        wire.head()
        wire.chunk()
        gate.open()
        rest = b""
        try:
            while part := wire.chunk():
                rest += part
        except Cut:  # how it ends is not the question here
            pass
    assert b"too_bad" in rest
    assert DONE not in rest
