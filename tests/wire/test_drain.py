"""`on_client_gone = "drain"`: what a client left behind is read on, and its usage counted."""

import signal

import pytest
from kit import answers, conf
from kit.answers import DONE, FINISH, ROLE, chat, delta, event, fail, sse
from kit.client import eventually, request

CHAT = "/v1/chat/completions"
STREAM = b'{"model":"gpt-4.1","stream":true,"messages":[]}'
BODY = b'{"model":"gpt-4.1","messages":[]}'
USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
TAIL = delta("lo") + FINISH + event({"id": "c", "object": "chat.completion.chunk", "choices": [], "usage": USAGE}) + DONE


def draining(up, drain_for="30s", **over):
    routes = [{"model": "*", "chain": ["up"], "on_client_gone": "drain", "drain_for": drain_for}]
    return conf.one(up, **{"routes": routes, **over})


def after(gate, behaviour):
    """The behaviour, once the gate is open."""

    async def behave(call):
        await gate.passed()
        await behaviour(call)

    return behave


def leave(proxy, up, body, first=False):
    """Asks, and leaves when the upstream has been asked, or when the first piece has come; until the proxy has noticed."""
    before = proxy.metric("stormjib_drains_total")
    with proxy.connect() as wire:
        asked = len(up.log)
        wire.send(request("POST", CHAT, [], body))
        up.wait(asked + 1)
        if first:
            wire.head()
            wire.chunk()
    eventually(lambda: proxy.metric("stormjib_drains_total") == before + 1)



@pytest.mark.parametrize("when", ["before the head", "amid the stream", "whole"])
def test_the_usage_is_counted(upstream, serve, when):
    up = upstream()
    gate = up.gate()
    stream = sse(ROLE + delta("Hel"), TAIL, gates=[gate])
    up.use({"amid the stream": stream, "before the head": after(gate, sse(ROLE + delta("Hel"), TAIL)), "whole": after(gate, chat(usage=USAGE))}[when])
    proxy = serve(draining(up))
    leave(proxy, up, BODY if when == "whole" else STREAM, first=when == "amid the stream")
    assert proxy.metric("stormjib_exchanges_in_flight") == 1
    gate.open()
    line = proxy.wait_line(r"event=completed.*result=client_gone.*")[0]
    assert "gen_ai.usage.input_tokens=11 gen_ai.usage.output_tokens=7" in line
    assert "drained_ms=" in line and "attempts=1" in line and "peer=127.0.0.1" in line and f"path={CHAT}" in line
    assert up.log[0].gone_at is None, "it was read to its end"
    eventually(lambda: proxy.metric("stormjib_exchanges_in_flight") == 0)
    assert proxy.metric("stormjib_tokens_total") == 18
    assert proxy.metric("stormjib_exchanges_total", result="client_gone") == 1
    assert proxy.metric("stormjib_target_in_flight") == 0


def test_the_slot_is_held_meanwhile(upstream, serve):
    up = upstream()
    gate = up.gate()
    up.use(sse(ROLE + delta("Hel"), TAIL, gates=[gate]), chat())
    proxy = serve(draining(up, upstreams={"up": {"base_url": up.url, "max_concurrent": 1}}))
    leave(proxy, up, STREAM, first=True)
    with proxy.connect() as wire:
        wire.send(request("POST", CHAT, [], BODY))
        eventually(lambda: proxy.metric("stormjib_upstream_waiting") == 1)
        assert len(up.log) == 1
        gate.open()
        assert wire.read().status == 200


def test_it_does_not_wait_longer_than_told(upstream, serve):
    up = upstream(sse(ROLE + delta("Hel"), then="hang"))
    proxy = serve(draining(up, "300ms"))
    leave(proxy, up, STREAM, first=True)
    up.until_gone(0)
    line = proxy.wait_line(r"event=completed.*result=client_gone.*drained_ms=(\d+)")
    assert int(line[1]) >= 299  # two clocks, rounded each


def test_nothing_new_is_started(upstream, serve):
    up = upstream()
    gate = up.gate()
    up.use(after(gate, fail(503)), chat())
    proxy = serve(draining(up))
    leave(proxy, up, BODY)
    gate.open()
    line = proxy.wait_line(r"event=completed.*result=client_gone.*")[0]
    assert "attempts=1" in line and "up/gpt-4.1 503" in line
    assert proxy.metric("stormjib_retries_total") == 0
    assert len(up.log) == 1


def test_who_waits_between_attempts_just_leaves(upstream, serve):
    up = upstream(fail(503), chat())
    proxy = serve(draining(up, retry={"strategy": "fixed", "base": "60s"}))
    with proxy.connect() as wire:
        wire.send(request("POST", CHAT, [], BODY))
        proxy.wait_line(r"event=retry")
    proxy.wait_line(r"event=completed.*result=client_gone")
    assert proxy.metric("stormjib_drains_total") == 0
    assert len(up.log) == 1


def test_other_paths_are_cancelled_as_ever(upstream, serve):
    up = upstream(answers.hang())
    proxy = serve(draining(up))
    with proxy.connect() as wire:
        wire.send(request("GET", "/v1/files/1/content"))
        up.wait(1)
    up.until_gone(0)


def test_a_slow_reader_that_leaves_holds_nothing_back(upstream, serve):
    up = upstream(sse(ROLE, *[delta("x" * 30_000)] * 150, TAIL), send_buffer=65536)
    proxy = serve(draining(up))
    with proxy.connect(receive_buffer=4096) as wire:
        wire.send(request("POST", CHAT, [], STREAM))
        wire.head()
    line = proxy.wait_line(r"event=completed.*result=client_gone.*")[0]
    assert "gen_ai.usage.output_tokens=7" in line


def test_a_large_answer_nobody_reads_is_not_kept(upstream, serve):
    up = upstream()
    gate = up.gate()
    up.use(after(gate, sse(ROLE, *[delta("x" * 100_000)] * 300, TAIL)))
    proxy = serve(draining(up))
    before = proxy.rss_kib()
    leave(proxy, up, STREAM)
    gate.open()
    assert "gen_ai.usage.output_tokens=7" in proxy.wait_line(r"event=completed.*result=client_gone.*")[0]
    assert proxy.rss_kib() - before < 20_000


@pytest.mark.parametrize("workers", [1, 2])
def test_a_shutdown_waits_for_what_is_read_on(upstream, serve, workers):
    up = upstream()
    gate = up.gate()
    up.use(sse(ROLE + delta("Hel"), TAIL, gates=[gate]))
    proxy = serve(draining(up, workers=workers, drain_timeout="60s"))
    leave(proxy, up, STREAM, first=True)
    proxy.signal(signal.SIGTERM)
    eventually(lambda: proxy.metric("stormjib_draining") == 1)
    gate.open()
    assert proxy.wait() == 0
    assert "gen_ai.usage.output_tokens=7" in proxy.wait_line(r"event=completed.*result=client_gone.*")[0]


def test_a_hurried_shutdown_does_not(upstream, serve):
    up = upstream(sse(ROLE + delta("Hel"), then="hang"))
    proxy = serve(draining(up, drain_timeout="60s"))
    leave(proxy, up, STREAM, first=True)
    proxy.signal(signal.SIGTERM)
    eventually(lambda: proxy.metric("stormjib_draining") == 1)
    proxy.signal(signal.SIGTERM)
    assert proxy.wait() == 0
    assert "shutting_down" in proxy.wait_line(r"event=completed.*result=client_gone.*")[0]


def test_a_reload_changes_nothing_for_it(upstream, serve):
    up = upstream()
    gate = up.gate()
    up.use(sse(ROLE + delta("Hel"), TAIL, gates=[gate]))
    proxy = serve(draining(up))
    leave(proxy, up, STREAM, first=True)
    proxy.reload(upstreams={"other": {"base_url": up.url}}, routes=[{"model": "*", "chain": ["other"]}])
    proxy.wait_line("configuration reloaded")
    gate.open()
    assert "target=up/gpt-4.1" in proxy.wait_line(r"event=completed.*result=client_gone.*")[0]
