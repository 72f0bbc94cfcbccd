"""Bounded memory and fair shares: slow readers, many streams at once, big answers (BEHAVIOUR 12, invariant 7)."""

import asyncio
import os
import threading
import time

from kit import answers, conf
from kit.answers import DONE, FINISH, ROLE, chat_events, delta, sse
from kit.client import eventually, request

STREAM = b'{"model":"gpt-4.1","stream":true,"messages":[]}'
CHAT = "/v1/chat/completions"
SENT = request("POST", CHAT, [], STREAM)
EVENT = delta("x" * 4000)
EVENTS = 6000  # 24 MB: more than any buffer on the way could hide


def flood(counter):
    """An endless talker that counts what it could get rid of."""

    async def behave(call):
        await call.write(answers.stream_head())
        await call.chunk(ROLE)
        for _ in range(EVENTS):
            await call.chunk(EVENT)
            counter.append(1)
        await call.chunk(FINISH + DONE)
        await call.end()

    return behave


def settled(counter):
    """What the counter reads once it has stood still for a while."""
    last = [-1]

    def still():
        before, last[0] = last[0], len(counter)
        return before == last[0] and last[0] > 0

    eventually(still, every=1.0)
    return len(counter)


def test_a_client_that_stops_reading_stops_the_upstream_and_then_gets_it_all(upstream, serve):
    counter = []
    up = upstream(flood(counter), send_buffer=65536)
    proxy = serve(conf.one(up))
    with proxy.connect(receive_buffer=16384) as wire:
        wire.send(SENT)
        wire.head()
        before = proxy.rss_kib()
        assert settled(counter) < EVENTS / 2, "the upstream was not held back"
        assert proxy.rss_kib() - before < 30_000
        body = b""
        seen = 0
        while part := wire.chunk():
            seen += len(part)
            body = (body + part)[-2000:]
    assert body.endswith(FINISH + DONE)
    assert seen == len(ROLE) + EVENTS * len(EVENT) + len(FINISH + DONE)
    assert len(up.log) == 1


def test_idle_timeout_stands_still_while_we_hold_the_upstream_back(upstream, serve):
    counter = []
    up = upstream(flood(counter), send_buffer=65536)
    proxy = serve(conf.one(up, upstreams={"up": {"idle_timeout": "2s"}}))
    with proxy.connect(receive_buffer=16384) as wire:
        wire.send(SENT)
        settled(counter)
        stopped = time.monotonic()
        eventually(lambda: time.monotonic() - stopped > 3)
        got = wire.read()
    assert got.whole and got.body.endswith(DONE)


def test_a_client_that_leaves_while_held_back_frees_everything(upstream, serve):
    counter = []
    up = upstream(flood(counter), send_buffer=65536)
    proxy = serve(conf.one(up))
    with proxy.connect(receive_buffer=16384) as wire:
        wire.send(SENT)
        settled(counter)
    up.until_gone(0)
    assert len(counter) < EVENTS


def test_an_upstream_that_dies_while_held_back_is_told(upstream, serve):
    async def behave(call):
        await call.write(answers.stream_head())
        await call.chunk(ROLE)
        try:
            for _ in range(EVENTS):
                await asyncio.wait_for(call.chunk(EVENT), 2)
        except TimeoutError:
            call.reset()

    up = upstream(behave, send_buffer=65536)
    proxy = serve(conf.one(up, routes=[{"model": "*", "chain": ["up"], "rescue": "off"}]))
    with proxy.connect(receive_buffer=16384) as wire:
        wire.send(SENT)
        up.until(lambda: up.log and up.log[0].answered_at)
        got = wire.read()
    assert not got.whole and DONE not in got.body[-200:]


def test_a_slow_reader_does_not_stall_the_others(upstream, serve):
    counter = []
    big, quick = flood(counter), sse(*chat_events("quick"))
    up = upstream(answers.either(lambda call: big if b'"slow"' in call.request.body else quick), send_buffer=65536)
    proxy = serve(conf.one(up))
    with proxy.connect(receive_buffer=16384) as wire:
        wire.send(request("POST", CHAT, [], STREAM.replace(b"gpt-4.1", b"slow")))
        settled(counter)
        for _ in range(20):
            assert proxy.post(STREAM).body.endswith(DONE)


def test_a_big_whole_answer_to_a_slow_reader_is_bounded(upstream, serve):
    async def behave(call):
        await call.write(answers.head(200, [("Content-Length", 40_000_000), ("Content-Type", "application/octet-stream")]))
        for _ in range(4000):
            await call.write(b"z" * 10_000)

    up = upstream(behave, send_buffer=65536)
    proxy = serve(conf.one(up))
    with proxy.connect(receive_buffer=16384) as wire:
        wire.send(request("GET", "/v1/files/1/content"))
        wire.head()
        before, read = proxy.rss_kib(), 0
        for _ in range(40_000_000 // 100_000):
            read += len(wire.exactly(100_000))
        assert proxy.rss_kib() - before < 30_000
    assert read == 40_000_000


# ---- many at once ---------------------------------------------------------------------------------------------------------------

MANY = int(os.environ.get("SJ_MANY_STREAMS", "2000"))


async def _open(port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(SENT)
    head = await reader.readuntil(b"\r\n\r\n")
    assert b" 200 " in head.split(b"\r\n")[0], head
    await reader.readuntil(b'"first"')
    return reader, writer


async def _many(proxy, gate, opened):
    pairs = []
    for start in range(0, MANY, 100):
        pairs += await asyncio.gather(*(_open(proxy.port) for _ in range(start, min(start + 100, MANY))))
    opened.set()
    gate.open()
    ends = await asyncio.gather(*(reader.readuntil(b"0\r\n\r\n") for reader, _ in pairs))
    for _, writer in pairs:
        writer.close()
    return ends


def test_two_thousand_streams_at_once(upstream, serve):
    up = upstream()
    gate, opened = up.gate(), threading.Event()
    up.use(sse(ROLE + delta("first"), delta("last") + FINISH + DONE, gates=[gate]))
    proxy = serve(conf.one(up, workers=2, upstreams={"up": {"max_concurrent": MANY + 100}}, limits={"connections": MANY + 100}))
    ends = asyncio.run(_many(proxy, gate, opened))
    assert opened.is_set()
    assert len(ends) == len(up.log) == MANY
    assert all(DONE in end for end in ends)
