"""Workers, clients that come and go, upstreams of every temper, reloads and page reads at once, for a while. Under TSan this is where races
show; under ASan it is where a permit or buffer given back twice does. Marked `load`: tests/run gives it builds of its own."""

import asyncio
import os
import random
import signal
import time

import pytest

from kit import answers, conf
from kit.answers import DONE, ROLE, chat, chat_events, delta, drop, event, fail, raw, sse
from kit.client import eventually, request

pytestmark = pytest.mark.load
SECONDS = float(os.environ.get("SJ_LOAD_SECONDS", "8"))
CLIENTS = 24
MOODS = [
    chat(),
    chat(),
    chat(),
    sse(*chat_events("a", "b")),
    sse(*chat_events("a", "b"), pause=0.02),
    fail(503),
    fail(429, headers=[("retry-after-ms", "30")]),
    drop("reset"),
    drop("close"),
    raw(b"junk\r\n\r\n", "close"),
    sse(event(answers.error_json("server_error"))),
    sse(ROLE, delta("x"), then="close"),
    sse(ROLE, then="close"),
    answers.answer(200, b""),
    fail(400),
    fail(429, "insufficient_quota"),
]


class Crowd:
    def __init__(self, proxy, seed):
        self.proxy, self.random, self.end = proxy, random.Random(seed), time.monotonic() + SECONDS
        self.finished = self.left = 0

    def body(self):
        stream = b"true" if self.random.random() < 0.6 else b"false"
        model, question = self.random.choice([b"gpt-4.1", b"other"]), self.random.randrange(40)
        return b'{"model":"%s","stream":%s,"temperature":0,"messages":[],"seed":%d}' % (model, stream, question)

    async def client(self):
        while time.monotonic() < self.end:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.proxy.port)
            try:
                for _ in range(self.random.randint(1, 5)):
                    if not await self.exchange(reader, writer):
                        break
            except (ConnectionError, asyncio.IncompleteReadError):
                self.left += 1
            finally:
                writer.close()

    async def exchange(self, reader, writer):
        writer.write(request("POST", "/v1/chat/completions", [], self.body()))
        if self.random.random() < 0.25:  # leave at any moment
            await asyncio.sleep(self.random.random() * 0.05)
            if self.random.random() < 0.5:
                writer.transport.abort()
            self.left += 1
            return False
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
        assert head.startswith(b"HTTP/1.1 "), head
        if b"chunked" in head.lower():
            while size := int(await reader.readuntil(b"\r\n"), 16):
                await reader.readexactly(size + 2)
            await reader.readuntil(b"\r\n")
        else:
            length = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            await reader.readexactly(int(length[0].split(b":")[1]))
        self.finished += 1
        return b"connection: close" not in head.lower()

    async def nuisance(self):
        """Reloads and page reads beside the traffic."""
        n = 0
        while time.monotonic() < self.end:
            n += 1
            self.proxy.reload(deadline=f"{100 + n}s", store={"max": f"{20 + n % 20}KiB"})
            for path in ("/metrics", "/state"):
                await asyncio.to_thread(self.proxy.admin, path)
            await asyncio.sleep(0.2)

    async def run(self):
        await asyncio.gather(self.nuisance(), *(self.client() for _ in range(CLIENTS)))


def quiet(proxy):
    return all(
        proxy.metric(f"stormjib_{name}") == 0 for name in ("exchanges_in_flight", "attempts_running", "upstream_in_flight", "upstream_waiting")
    )


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed,stand_ins", [(1, {}), (2, {"stale_if_error": "1h", "degraded": "busy"})], ids=["errors", "stand-ins"])
def test_a_crowd_leaves_nothing_behind(upstream, serve, seed, stand_ins):
    moods = random.Random(seed)
    behave = answers.either(lambda call: moods.choice(MOODS))
    a, b = upstream(behave), upstream(behave)
    over = {
        "workers": 2,
        "retry": {"base": "5ms"},
        "breaker": {"enabled": True, "failure_threshold": 5, "failure_span": "0s", "recovery_timeout": "100ms", "max_open_wait": "1s"},
        "budget": {"enabled": True},
        "queue": {"max_waiting": 50, "timeout": "2s"},
        "global_breaker": {"enabled": True},
    }
    settings = conf.merged(conf.chain(a, b), over)
    for name in "ab":
        settings["upstreams"][name] |= {"max_concurrent": 8}
    settings["routes"] = [{**route, **stand_ins} for route in settings["routes"]]
    proxy = serve(settings)
    crowd = Crowd(proxy, seed)
    asyncio.run(crowd.run())
    assert crowd.finished > 20 and crowd.left > 0
    eventually(lambda: quiet(proxy))
    if stand_ins:
        assert proxy.metric("stormjib_stale_served_total") > 0 and proxy.metric("stormjib_degraded_served_total") > 0
        assert proxy.metric("stormjib_store_bytes") <= 40 * 1024


@pytest.mark.timeout(300)
def test_a_drain_amid_a_crowd(upstream, serve):
    behave = answers.either(lambda call: random.choice(MOODS))
    proxy = serve(conf.one(upstream(behave), workers=2, retry={"base": "5ms"}, drain_timeout="5s"))

    async def crowd():
        async def client():
            while True:
                try:
                    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
                except ConnectionError:
                    return
                try:
                    writer.write(request("POST", "/v1/chat/completions", [("Connection", "close")], b'{"model":"m","stream":true}'))
                    await reader.read()
                except ConnectionError:
                    pass
                finally:
                    writer.close()

        clients = [asyncio.ensure_future(client()) for _ in range(CLIENTS)]
        await asyncio.sleep(min(2.0, SECONDS / 2))
        proxy.signal(signal.SIGTERM)
        await asyncio.wait_for(asyncio.gather(*clients), 60)

    asyncio.run(crowd())
    assert proxy.wait() == 0


@pytest.mark.timeout(300)
def test_streams_over_several_workers_are_never_mixed(upstream, serve):
    def echo(call):
        name = call.request.get("x-me")
        return sse(*chat_events(*[name] * 20))

    proxy = serve(conf.one(upstream(answers.either(echo)), workers=4))

    async def one(n):
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(request("POST", "/v1/chat/completions", [("X-Me", f"<{n}>"), ("Connection", "close")], b'{"model":"m","stream":true}'))
        data = await reader.read()
        writer.close()
        assert data.count(b'"<%d>"' % n) == 20 and DONE in data
        assert data.count(b'"content":"<') == 20

    async def all_of_them():
        for start in range(0, 300, 50):
            await asyncio.gather(*(one(n) for n in range(start, start + 50)))

    asyncio.run(all_of_them())
