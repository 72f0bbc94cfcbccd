"""The circuit breaker and the retry budget, seen from outside (BEHAVIOUR 7, 8)."""

import re

import pytest

from kit import answers, conf
from kit.answers import chat, fail
from kit.client import eventually, request

BODY = b'{"model":"gpt-4.1","messages":[]}'
# Opens after three failures whenever they come, tries again after about a second.
TOUCHY = {"enabled": True, "minimum_calls": 100000, "failure_threshold": 3, "failure_span": "0s", "recovery_timeout": "1s", "max_open_wait": "0s"}
SINGLE = {"max_attempts": 1, "max_attempts_before_fallback": 1}


@pytest.fixture
def touchy(upstream, serve):
    def start(*script, breaker=None, **over):
        up = upstream(*script)
        settings = conf.merged(conf.one(up, retry=SINGLE, breaker={**TOUCHY, **(breaker or {})}), over)
        return serve(settings), up

    return start


def trip(proxy, times=3):
    return [proxy.post(BODY).status for _ in range(times)]


def test_it_opens_after_consecutive_failures_and_spares_the_upstream(touchy):
    proxy, up = touchy(fail(503, "down"), breaker={"recovery_timeout": "60s"})
    assert trip(proxy) == [503] * 3
    for _ in range(5):
        got = proxy.post(BODY)
        assert (got.status, got.code, got.attempts) == (503, "circuit_open", 0)
        assert 1 <= int(got.get("retry-after")) <= 60
        assert got.get("x-should-retry") == "false"
    assert len(up.log) == 3


def test_it_half_opens_and_closes_when_the_upstream_is_well_again(touchy):
    proxy, up = touchy(fail(503), fail(503), fail(503), chat())
    trip(proxy)
    assert proxy.post(BODY).code == "circuit_open"
    eventually(lambda: proxy.post(BODY).status == 200)
    assert [proxy.post(BODY).status for _ in range(10)] == [200] * 10
    assert up.log[3].at - up.log[2].answered_at >= 0.8, "not before its recovery_timeout less the spread"


def test_a_failed_probe_opens_it_again(touchy):
    proxy, up = touchy(fail(503))
    trip(proxy)
    eventually(lambda: proxy.post(BODY).code != "circuit_open")
    assert len(up.log) == 4
    assert proxy.post(BODY).code == "circuit_open"


def test_a_probe_that_the_caller_spoilt_says_nothing_bad(touchy):
    proxy, up = touchy(fail(503), fail(503), fail(503), fail(400, "yours"))
    trip(proxy)
    eventually(lambda: proxy.post(BODY).status == 400)
    assert [proxy.post(BODY).status for _ in range(5)] == [400] * 5


NEUTRAL = {"401": fail(401), "429": fail(429), "400": fail(400), "404": fail(404), "quota": fail(429, "insufficient_quota")}


@pytest.mark.parametrize("behaviour", NEUTRAL.values(), ids=NEUTRAL.keys())
def test_what_is_not_the_upstreams_failure_never_opens_it(touchy, behaviour):
    proxy, up = touchy(behaviour)
    trip(proxy, 12)
    assert len(up.log) == 12


FAILURES = {
    "500": fail(500),
    "reset": answers.drop("reset"),
    "empty": answers.answer(200, b""),
    "error in 200": answers.answer(200, answers.error_json("server_error")),
}


@pytest.mark.parametrize("behaviour", FAILURES.values(), ids=FAILURES.keys())
def test_every_kind_of_failure_opens_it(touchy, behaviour):
    proxy, up = touchy(behaviour, breaker={"recovery_timeout": "60s"})
    trip(proxy, 6)
    assert len(up.log) == 3


def test_a_success_in_between_keeps_it_closed(touchy):
    proxy, up = touchy(fail(503), fail(503), chat(), fail(503), fail(503), chat())
    trip(proxy, 6)
    assert len(up.log) == 6


def test_random_failures_within_the_span_do_not_open_it(touchy):
    proxy, up = touchy(fail(503), breaker={"failure_span": "60s"})
    trip(proxy, 8)
    assert len(up.log) == 8


def test_the_failure_rate_opens_it(touchy):
    behave = answers.either(lambda call: fail(503) if call.index % 2 else chat())
    proxy, up = touchy(behave, breaker={"failure_threshold": 1000, "minimum_calls": 10, "failure_rate": 0.5, "recovery_timeout": "60s"})
    trip(proxy, 20)
    assert len(up.log) == 10


def test_it_waits_for_the_reopening_when_that_is_near(touchy):
    proxy, up = touchy(fail(503), fail(503), fail(503), chat("waited"), breaker={"max_open_wait": "30s"})
    trip(proxy)
    got = proxy.post(BODY)
    assert (got.status, got.json["choices"][0]["message"]["content"]) == (200, "waited")
    assert up.log[3].at - up.log[2].answered_at >= 0.8


def test_an_open_target_is_passed_over_for_the_next(upstream, serve):
    a, b = upstream(fail(503)), upstream(chat("b"))
    proxy = serve(conf.chain(a, b, retry=SINGLE, breaker={**TOUCHY, "recovery_timeout": "60s", "max_open_wait": "15s"}))
    assert trip(proxy, 6) == [200] * 6
    assert (len(a.log), len(b.log)) == (3, 6)
    got = proxy.post(BODY)
    assert (got.label("target"), got.attempts) == ("b/deepseek-v3.2", 1)
    assert re.search("open|sticky", got.label("fallback"))


def test_targets_have_breakers_of_their_own(upstream, serve):
    behave = answers.either(lambda call: fail(503) if b'"bad"' in call.request.body else chat())
    up = upstream(behave)
    proxy = serve(conf.one(up, retry=SINGLE, breaker={**TOUCHY, "recovery_timeout": "60s"}))
    for _ in range(5):
        proxy.post(b'{"model":"bad"}')
    assert proxy.post(b'{"model":"bad"}').code == "circuit_open"
    assert proxy.post(b'{"model":"good"}').status == 200


def test_workers_share_it(upstream, serve):
    up = upstream(fail(503))
    proxy = serve(conf.one(up, workers=4, retry=SINGLE, breaker={**TOUCHY, "recovery_timeout": "60s"}))
    codes = [proxy.post(BODY).code for _ in range(24)]  # each on a connection of its own, so on any worker
    assert codes[3:] == ["circuit_open"] * 21
    assert len(up.log) == 3


def test_a_client_that_leaves_teaches_it_nothing(touchy):
    proxy, up = touchy(answers.hang())
    for n in range(1, 6):
        with proxy.connect() as wire:
            wire.send(request("POST", "/v1/chat/completions", [], BODY))
            up.wait(n)
        up.until_gone(n - 1)
    up.use(chat())
    assert proxy.post(BODY).status == 200


def test_the_global_breaker_opens_when_our_own_side_fails(upstream, serve):
    dead = [{"base_url": f"http://no-such-host-{n}.invalid"} for n in "ab"]
    settings = conf.one(
        upstream(chat()),
        retry=SINGLE,
        global_breaker={"enabled": True, **{k: v for k, v in TOUCHY.items() if k != "max_open_wait"}, "recovery_timeout": "60s"},
    )
    settings["upstreams"] = {"a": dead[0], "b": dead[1]}
    settings["routes"] = [{"model": "x", "chain": ["a"]}, {"model": "*", "chain": ["b"]}]
    proxy = serve(settings)
    codes = [proxy.post(b'{"model":"%s"}' % (b"x" if n % 2 else b"y")).code for n in range(10)]
    assert codes[0] == "upstream_unreachable"
    assert codes[-1] == "circuit_open"


def test_one_dead_origin_does_not_open_the_global_breaker(upstream, serve, dead_url):
    up = upstream(chat())
    settings = conf.one(up, retry=SINGLE, global_breaker={"enabled": True, "failure_threshold": 2, "failure_span": "0s"})
    settings["upstreams"]["dead"] = {"base_url": dead_url}
    settings["routes"] = [{"model": "x", "chain": ["dead"]}, {"model": "*", "chain": ["up"]}]
    proxy = serve(settings)
    for _ in range(6):
        assert proxy.post(b'{"model":"x"}').status == 502
    assert proxy.post(b'{"model":"y"}').status == 200


def test_an_empty_budget_leaves_first_attempts_alone(upstream, serve):
    up = upstream(fail(503))
    proxy = serve(conf.one(up, budget={"enabled": True, "capacity": 28, "retry_cost": 14, "floor_per_minute": 1}))
    statuses = [proxy.post(BODY).status for _ in range(12)]
    assert statuses == [503] * 12
    retries = len(up.log) - 12
    assert 2 <= retries <= 4, "two from the capacity, one (at most two) on the floor"


def test_an_exhausted_budget_is_a_reason_to_go_on(upstream, serve):
    a, b = upstream(fail(503)), upstream(chat())
    proxy = serve(conf.chain(a, b, budget={"enabled": True, "capacity": 14, "retry_cost": 14, "floor_per_minute": 0}))
    assert [proxy.post(BODY).status for _ in range(4)] == [200] * 4
    assert (len(a.log), len(b.log)) == (5, 4)
