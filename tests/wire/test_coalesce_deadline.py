"""Whoever has joined, and whoever is joined: each has an answer by its own deadline (BEHAVIOUR 6)."""

import pytest
from kit import conf
from kit.answers import chat
from test_coalesce import BODY, KEY, after, ask, joined


@pytest.fixture(params=[1, 2], ids=["one worker", "two workers"])
def held(request, upstream, serve):
    """held(**settings): a proxy, and the gate that its upstream's answer awaits."""

    def start(deadline, **route):
        up = upstream()
        gate = up.gate()
        up.use(after(gate, chat("first")))
        routes = [{"model": "*", "chain": ["up"], **route}]
        return serve(conf.one(up, workers=request.param, deadline=deadline, routes=routes)), up, gate

    return start


def patient(seconds):
    """What an SDK says of its time-out."""
    return [*KEY, ("x-stainless-timeout", str(seconds))]


def test_who_asked_first_waits_no_longer_for_those_who_join(held):
    proxy, up, gate = held("60s")
    with ask(proxy, patient(2)) as first:
        up.wait(1)
        with ask(proxy, patient(30)) as second:
            joined(proxy)
            assert first.read().code == "deadline_exceeded"
            assert second.read().code == "deadline_exceeded"
    line = proxy.wait_line(r"event=completed.* attempts=1 .*?total_ms=(\d+)")
    assert int(line[1]) < 15000, "not the other one's half minute"


def test_who_joins_waits_no_longer_for_those_who_join_after(held):
    proxy, up, gate = held("60s", on_client_gone="drain", drain_for="60s")
    with ask(proxy, patient(59)):
        up.wait(1)
    proxy.wait_line("event=drain")
    with ask(proxy, patient(2)) as hurried, ask(proxy, patient(50)) as patient_one:
        joined(proxy, 2)
        assert hurried.read().code == "deadline_exceeded"
        gate.open()
        assert b"first" in patient_one.read().body
    assert len(up.log) == 1


def test_when_the_first_has_left_those_who_joined_have_their_own_time(held):
    proxy, up, gate = held("60s")
    first = ask(proxy, patient(3))
    up.wait(1)
    with ask(proxy, patient(50)) as second:
        joined(proxy)
        first.close()
        with ask(proxy, patient(4)) as third:
            joined(proxy, 2)
            assert third.read().code == "deadline_exceeded"
        gate.open()
        assert b"first" in second.read().body
