"""Hints that are honoured and never early, deadlines that hold, queues that are bounded (BEHAVIOUR 4, 5, 6, 13).
A wait is judged by the upstream's own log: never shorter than told; that it is not much longer is left to the bound of the test."""

import email.utils
import threading
import time

import pytest

from kit import answers, conf, trail
from kit.answers import answer, chat, fail
from kit.client import eventually, request

BODY = b'{"model":"gpt-4.1","messages":[]}'
STREAM = b'{"model":"gpt-4.1","stream":true,"messages":[]}'
CHAT = "/v1/chat/completions"


def gap(up, n=0):
    """Seconds from the end of the nth answer to the next request's arrival."""
    return up.log[n + 1].at - up.log[n].answered_at


HINTS = {
    "retry-after-ms": ([("retry-after-ms", "400")], 0.4),
    "retry-after-ms before retry-after": ([("Retry-After", "50"), ("retry-after-ms", "400")], 0.4),
    "x-ms-retry-after-ms": ([("x-ms-retry-after-ms", "400")], 0.4),
    "seconds": ([("Retry-After", "1")], 1.0),
    "decimal seconds": ([("Retry-After", "0.5")], 0.5),
    "reset of what is used up": (
        [
            ("x-ratelimit-remaining-requests", "0"),
            ("x-ratelimit-reset-requests", "600ms"),
            ("x-ratelimit-reset-tokens", "50s"),
            ("x-ratelimit-remaining-tokens", "9"),
        ],
        0.6,
    ),
    "largest of what is used up": (
        [
            ("x-ratelimit-remaining-requests", "0"),
            ("x-ratelimit-reset-requests", "20ms"),
            ("x-ratelimit-reset-tokens", "0.6s"),
            ("x-ratelimit-remaining-tokens", "0"),
        ],
        0.6,
    ),
    "x-ratelimit-reset": ([("x-ratelimit-reset", "1")], 1.0),
}


@pytest.mark.parametrize("headers,seconds", HINTS.values(), ids=HINTS.keys())
def test_a_hint_of_a_429_is_honoured_and_never_early(upstream, serve, headers, seconds):
    up = upstream(fail(429, "rate_limit_exceeded", headers=headers), chat())
    got = serve(conf.one(up)).post(BODY)
    assert (got.status, len(up.log)) == (200, 2)
    assert gap(up) >= seconds
    assert trail.waits(got.label("trail"))[0] >= seconds * 1000


@pytest.mark.parametrize("status", [500, 503, 529])
def test_a_hint_of_a_failure_is_honoured(upstream, serve, status):
    up = upstream(fail(status, headers=[("Retry-After", "0.4")]), chat())
    assert serve(conf.one(up)).post(BODY).status == 200
    assert gap(up) >= 0.4


def test_an_http_date_is_measured_against_the_answers_own_date(upstream, serve):
    date, later = "Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:38 GMT"
    head = f"HTTP/1.1 429 Slow\r\nDate: {date}\r\nRetry-After: {later}\r\nContent-Length: 0\r\n\r\n"
    up = upstream(answers.raw(head.encode()), chat())
    assert serve(conf.one(up)).post(BODY).status == 200
    assert gap(up) >= 1.0


def test_an_http_date_without_date_is_measured_by_our_clock(upstream, serve):
    later = email.utils.formatdate(time.time() + 2, usegmt=True)
    up = upstream(answers.raw(f"HTTP/1.1 429 Slow\r\nRetry-After: {later}\r\nContent-Length: 0\r\n\r\n".encode()), chat())
    assert serve(conf.one(up)).post(BODY).status == 200
    assert gap(up) >= 0.5


@pytest.mark.parametrize("value", ["0", "-1", "soon", "", "1e999", "NaN", "Sun, 06 Nov 1994 08:49:37 GMT"])
def test_a_useless_hint_is_none(upstream, serve, value):
    up = upstream(fail(429, headers=[("Retry-After", value)]), chat())
    got = serve(conf.one(up)).post(BODY)
    assert (got.status, len(up.log)) == (200, 2)
    assert max(trail.waits(got.label("trail"))) < 3000


def test_a_hint_beyond_max_hint_is_passed_on_at_once(upstream, serve):
    up = upstream(fail(429, "slow_down", headers=[("Retry-After", "30")]))
    got = serve(conf.one(up, retry={"max_hint": "2s"})).post(BODY)
    assert (got.status, got.code, got.get("retry-after"), len(up.log)) == (429, "slow_down", "30", 1)
    assert got.get("x-should-retry") == "false"


def test_a_hint_beyond_the_deadline_is_passed_on_at_once(upstream, serve):
    up = upstream(fail(429, "slow_down", headers=[("Retry-After", "30")]))
    got = serve(conf.one(up, deadline="10s")).post(BODY)
    assert (got.status, got.get("retry-after"), len(up.log)) == (429, "30", 1)


def test_a_long_hint_falls_back_at_once(upstream, serve):
    a, b = upstream(fail(429, headers=[("Retry-After", "100")])), upstream(chat("b"))
    got = serve(conf.chain(a, b)).post(BODY)
    assert (got.status, len(a.log), len(b.log), trail.waits(got.label("trail"))) == (200, 1, 1, [])


def test_a_hint_gates_other_requests_with_the_same_credential(upstream, serve):
    up = upstream(fail(429, headers=[("Retry-After", "1.5")]), chat())
    proxy = serve(conf.one(up, retry={"max_hint": "1s"}))
    mine = [("Authorization", "Bearer mine")]
    assert proxy.post(BODY, headers=mine).status == 429
    told = up.log[0].answered_at
    assert proxy.post(BODY, headers=[("Authorization", "Bearer other")]).status == 200
    proxy.post(BODY, headers=mine)
    later = [r for r in up.log[1:] if r.get("authorization") == "Bearer mine"]
    assert all(r.at - told >= 1.5 for r in later)


# ---- deadlines ------------------------------------------------------------------------------------------------------------------


def test_the_deadline_bounds_waiting_for_an_answer(upstream, serve):
    up = upstream(answers.hang())
    got = serve(conf.one(up, deadline="600ms")).post(BODY)
    assert (got.status, got.code, got.get("x-should-retry")) == (504, "deadline_exceeded", "false")
    up.until_gone(0)


def test_the_deadline_bounds_retries(upstream, serve):
    up = upstream(fail(503, "real"))
    got = serve(conf.one(up, deadline="1s", retry={"base": "400ms", "max_attempts": 50})).post(BODY)
    assert (got.status, got.code) == (503, "real"), "the real answer is delivered, before the deadline"
    assert len(up.log) <= 3


@pytest.mark.parametrize("name,value", [("x-stormjib-deadline", "600ms"), ("X-Stainless-Timeout", "2"), ("x-stainless-read-timeout", "2.0")])
def test_the_clients_own_deadline_holds(upstream, serve, name, value):
    up = upstream(answers.hang())
    started = time.monotonic()
    got = serve(conf.one(up)).post(BODY, headers=[(name, value)])
    assert got.status == 504
    assert time.monotonic() - started < 60, "not the configured 600 s"
    up.until_gone(0)


def test_the_answer_leaves_before_the_sdk_gives_up(upstream, serve):
    up = upstream(answers.hang())
    proxy = serve(conf.one(up))
    started = time.monotonic()
    assert proxy.post(BODY, headers=[("X-Stainless-Timeout", "8")]).status == 504
    assert time.monotonic() - started < 8


@pytest.mark.parametrize("value", ["0", "-5", "never", "nan", ""])
def test_a_useless_deadline_is_ignored(plain, value):
    assert plain.proxy.post(BODY, headers=[("X-Stainless-Timeout", value), ("x-stormjib-deadline", value)]).status == 200


def test_a_committed_stream_is_never_cut_by_the_deadline(upstream, serve):
    up = upstream(answers.sse(*answers.chat_events(*"abcdef"), pause=0.4))
    got = serve(conf.one(up, deadline="1s")).post(STREAM)
    assert got.whole and got.body.endswith(answers.DONE)


def test_stream_max_cuts_a_committed_stream(upstream, serve):
    up = upstream(answers.sse(*answers.chat_events(*"abcdefghijklmnopqrstuvwxyz"), pause=0.3))
    got = serve(conf.one(up, stream_max="1s")).post(STREAM)
    assert not got.whole and answers.DONE not in got.body
    up.until_gone(0)


# ---- the queue ------------------------------------------------------------------------------------------------------------------


def ask_in_background(proxy, count, body=BODY):
    """count requests on connections of their own, sent in order."""
    wires = [proxy.connect() for _ in range(count)]
    for wire in wires:
        wire.send(request("POST", CHAT, [], body))
    return wires


def test_requests_beyond_max_concurrent_wait_their_turn(upstream, serve):
    up = upstream()
    gate = up.gate()

    async def gated(call):
        await gate.passed()
        await chat()(call)

    up.use(gated)
    proxy = serve(conf.one(up, upstreams={"up": {"max_concurrent": 2}}))
    wires = ask_in_background(proxy, 5)
    up.wait(2)
    running = len(up.log)
    gate.open()
    assert [w.read().status for w in wires] == [200] * 5
    assert (running, len(up.log)) == (2, 5)
    for wire in wires:
        wire.close()


def test_a_full_queue_is_a_clear_503_with_retry_after(upstream, serve):
    up = upstream(answers.hang())
    proxy = serve(conf.one(up, upstreams={"up": {"max_concurrent": 1}}, queue={"max_waiting": 2}))
    wires = ask_in_background(proxy, 1)
    up.wait(1)
    results = ask_in_background(proxy, 6)
    refused = []
    for wire in results:
        wire.sock.settimeout(3)
        try:
            refused.append(wire.read())
        except TimeoutError:
            pass
    assert len(refused) == 4, "two wait, four are refused"
    for got in refused:
        assert (got.status, got.code) == (503, "queue_full")
        assert 1 <= int(got.get("retry-after")) <= 60
        assert got.get("x-should-retry") == "false"
    for wire in wires + results:
        wire.close()


def test_waiting_too_long_is_a_clear_503(upstream, serve):
    up = upstream(answers.hang())
    proxy = serve(conf.one(up, upstreams={"up": {"max_concurrent": 1}}, queue={"timeout": "500ms"}))
    wires = ask_in_background(proxy, 1)
    up.wait(1)
    got = proxy.post(BODY)
    assert (got.status, got.code, len(up.log)) == (503, "queue_timeout", 1)
    assert 1 <= int(got.get("retry-after")) <= 60
    wires[0].close()


def test_a_client_that_leaves_the_queue_is_never_sent(upstream, serve):
    up = upstream()
    gate = up.gate()

    async def gated(call):
        await gate.passed()
        await chat()(call)

    up.use(gated)
    proxy = serve(conf.one(up, upstreams={"up": {"max_concurrent": 1}}))
    first, leaver, last = (ask_in_background(proxy, 1, b'{"model":"%d"}' % n)[0] for n in range(3))
    up.wait(1)
    leaver.close()
    proxy.ask("GET", "/healthz")
    gate.open()
    assert first.read().status == last.read().status == 200
    assert up.bodies() == [b'{"model":"0"}', b'{"model":"2"}']
    first.close()
    last.close()


def test_turns_are_taken_between_clients(upstream, serve):
    up = upstream()
    gate = up.gate()

    async def gated(call):
        await gate.passed()
        await chat()(call)

    up.use(gated)
    proxy = serve(conf.one(up, upstreams={"up": {"max_concurrent": 1}}))
    wires = []

    def send(who, n):
        wire = proxy.connect()
        wire.send(request("POST", CHAT, [("Authorization", f"Bearer {who}")], b'{"model":"%d"}' % n))
        wires.append(wire)
        return wire

    send("first", 0)
    up.wait(1)
    for n in range(1, 6):
        send("greedy", n)
    # the queue must hold the greedy ones before the modest one comes
    _until_waiting(proxy, 5)
    send("modest", 9)
    _until_waiting(proxy, 6)
    gate.open()
    up.wait(7)
    order = [r.get("authorization").split()[1] for r in up.log]
    assert order.index("modest") <= 3, order
    for wire in wires:
        wire.read()
        wire.close()


def _until_waiting(proxy, count):
    eventually(lambda: any(line.split()[-1] == str(count) for line in proxy.metrics().splitlines() if "waiting" in line and not line.startswith("#")))


def test_a_retry_waits_without_holding_its_slot(upstream, serve):
    up = upstream(fail(503, headers=[("Retry-After", "2")]), chat("second client"), chat("first client"))
    proxy = serve(conf.one(up, upstreams={"up": {"max_concurrent": 1}}))
    first = ask_in_background(proxy, 1)[0]
    up.until(lambda: len(up.log) >= 1 and up.log[0].answered_at)
    answered = proxy.post(BODY, headers=[("Authorization", "Bearer other")])
    assert answered.json["choices"][0]["message"]["content"] == "second client"
    assert first.read().json["choices"][0]["message"]["content"] == "first client"
    first.close()


# ---- clients that leave ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_client_that_leaves_cancels_the_waiting_attempt(upstream, serve, how):
    up = upstream(answers.hang())
    proxy = serve(conf.one(up))
    wire = ask_in_background(proxy, 1)[0]
    up.wait(1)
    left = time.monotonic()
    getattr(wire, how)()
    assert up.until_gone(0) - left < 5
    assert len(up.log) == 1


def test_a_client_that_leaves_during_backoff_ends_it(upstream, serve):
    up = upstream(fail(503))
    proxy = serve(conf.one(up, retry={"base": "1s", "min": "1s", "cap": "1s"}))
    wire = ask_in_background(proxy, 1)[0]
    up.until(lambda: len(up.log) >= 1 and up.log[0].answered_at)
    wire.close()
    time.sleep(2.5)  # nothing may happen for longer than the wait: there is no event to await
    assert len(up.log) == 1


def test_many_leave_at_once_and_the_proxy_serves_on(upstream, serve):
    up = upstream(answers.hang())
    proxy = serve(conf.one(up))
    wires = ask_in_background(proxy, 50)
    up.wait(50)
    threads = [threading.Thread(target=w.reset if n % 2 else w.close) for n, w in enumerate(wires)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    up.until(lambda: all(r.gone_at for r in up.log))
    up.use(answer(200, {"choices": [{}]}))
    assert proxy.post(BODY).status == 200
