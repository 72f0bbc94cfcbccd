"""How much an upstream is asked at once and per minute: the limit that follows its refusals, the pace, a route's own bound (BEHAVIOUR 13)."""
import asyncio
import itertools
import time

from kit import conf
from kit.answers import answer, chat, chat_json, fail
from kit.client import eventually, request

BODY = b'{"model":"gpt-4.1","messages":[]}'
CHAT = "/v1/chat/completions"


class Narrow:
    """A behaviour: so many at once are answered after a while, the others are refused at once."""

    def __init__(self, slots, answer_s=0.1):
        self.slots, self.answer_s, self.running = slots, answer_s, 0
        self.good = self.refused = 0

    async def __call__(self, call):
        if self.slots and self.running >= self.slots:
            self.refused += 1
            await fail(429, "rate_limit_exceeded")(call)
            return
        self.running += 1
        try:
            await asyncio.sleep(self.answer_s)
            await chat()(call)
            self.good += 1
        finally:
            self.running -= 1


class Crowd:
    """Clients that ask again as soon as they are answered, until told to stop."""

    def __init__(self, proxy, clients):
        self.proxy, self.stopped = proxy, False
        self.answers = [[] for _ in range(clients)]  # of each: (status, seconds)

    async def client(self, n):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.proxy.port)
        ask = request("POST", CHAT, [("Authorization", f"Bearer {n}")], BODY)
        while not self.stopped:
            began = time.monotonic()
            writer.write(ask)
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(int(length.split(b":")[1]))
            self.answers[n].append((int(head.split()[1]), time.monotonic() - began))
        writer.close()

    async def until(self, true, timeout=60):
        await asyncio.to_thread(eventually, true, timeout, 0.1)

    def run(self, play):
        async def all_of_it():
            clients = [asyncio.ensure_future(self.client(n)) for n in range(len(self.answers))]
            try:
                await play()
            finally:
                self.stopped = True
                await asyncio.gather(*clients)

        asyncio.run(all_of_it())


def limit(proxy):
    return proxy.metric("stormjib_upstream_limit")


def test_the_limit_settles_at_the_upstreams_and_recovers(upstream, serve):
    up = Narrow(8)
    # Each client has a credential of its own, so that no hint gate, but the limit alone holds them back.
    proxy = serve(conf.one(upstream(up), workers=2, upstreams={"up": {"auth": "client"}}))
    crowd = Crowd(proxy, 40)

    async def play():
        await crowd.until(lambda: limit(proxy) <= 9)
        # What was refused in the rush comes back first: it has settled when 200 good answers cost few refusals.
        for _ in range(15):
            up.good = up.refused = 0
            for asked in crowd.answers:
                asked.clear()
            await crowd.until(lambda: up.good >= 200)
            if up.refused <= 0.15 * up.good:
                break
        assert up.refused <= 0.15 * up.good, (up.refused, up.good)
        assert 4 <= limit(proxy) <= 12
        await crowd.until(lambda: all(crowd.answers))  # nobody starves
        up.slots = 0
        await crowd.until(lambda: limit(proxy) >= 12)

    crowd.run(play)
    statuses = [status for asked in crowd.answers for status, _ in asked]
    assert statuses.count(200) >= 0.98 * len(statuses)
    assert proxy.metric("stormjib_upstream_limit_max") == 256
    assert proxy.metric("stormjib_upstream_limit_cuts_total") >= 4


def test_a_fixed_limit_stays(upstream, serve):
    proxy = serve(conf.one(upstream(fail(429)), upstreams={"up": {"adaptive": False, "max_concurrent": 20}}, retry={"max_attempts": 1}))
    for _ in range(20):
        assert proxy.post(BODY).status == 429
    assert limit(proxy) == 20


def test_what_fails_at_any_load_keeps_its_limit(upstream, serve):
    proxy = serve(conf.one(upstream(*[chat(), chat(), chat(), fail(503)] * 50, chat()), upstreams={"up": {"max_concurrent": 20}}))
    for _ in range(140):
        assert proxy.post(BODY).status == 200
    assert limit(proxy) == 20


def most_in(times, seconds):
    """The most that came within any such span."""
    return max(sum(at <= later < at + seconds for later in times) for at in times)


def ask_at_once(proxy, count, body=BODY, target=CHAT):
    wires = [proxy.connect() for _ in range(count)]
    for wire in wires:
        wire.send(request("POST", target, [], body))
    return wires


def read_all(wires):
    got = [wire.read() for wire in wires]
    for wire in wires:
        wire.close()
    return got


def test_requests_per_minute_are_kept_by_waiting(upstream, serve):
    up = upstream(chat())
    proxy = serve(conf.one(up, workers=2, upstreams={"up": {"requests_per_minute": 600}}))
    assert [got.status for got in read_all(ask_at_once(proxy, 40))] == [200] * 40
    times = [r.at for r in up.log]
    assert times[-1] - times[0] >= 2.9  # ten at once, then one each 100 ms
    assert most_in(times, 1.0) <= 21  # the bucket and what flows in


def test_a_retry_is_paced_too(upstream, serve):
    up = upstream(fail(503), chat())
    proxy = serve(conf.one(up, upstreams={"up": {"requests_per_minute": 60}}))
    assert proxy.post(BODY).status == 200
    assert up.log[1].at - up.log[0].at >= 0.95


def test_tokens_per_minute_are_guessed_and_corrected(upstream, serve):
    used = chat_json() | {"usage": {"prompt_tokens": 5, "completion_tokens": 95, "total_tokens": 100}}
    up = upstream(answer(200, used))
    # A second's worth is 100, the bucket 1000; each is guessed at a little over 1000 and takes 100.
    proxy = serve(conf.one(up, upstreams={"up": {"tokens_per_minute": 6000}}))
    body = b'{"model":"gpt-4.1","max_tokens":1000,"messages":[]}'
    began = time.monotonic()
    for _ in range(3):
        assert proxy.post(body).status == 200
    taken = time.monotonic() - began
    assert 1.8 <= taken < 8, taken  # as guessed it would have been 20 s


def test_nothing_remaining_holds_the_next_one_back(upstream, serve):
    last = [("x-ratelimit-remaining-requests", "0"), ("x-ratelimit-reset-requests", "700ms")]
    up = upstream(chat(headers=last), chat())
    proxy = serve(conf.one(up))
    assert [proxy.post(BODY).status for _ in range(2)] == [200, 200]
    assert up.log[1].at - up.log[0].at >= 0.7


def gated(up):
    gate = up.gate()

    async def behave(call):
        await gate.passed()
        await chat()(call)

    up.use(behave)
    return gate


def of(model):
    return b'{"model":"%s","messages":[]}' % model


def two_routes(up, bound):
    return conf.one(up, workers=2, routes=[{"model": "bounded", "chain": ["up"], "max_concurrent": bound}, {"model": "*", "chain": ["up"]}], queue={"max_waiting": 6})


def test_a_route_has_a_bound_of_its_own(upstream, serve):
    up = upstream()
    gate = gated(up)
    proxy = serve(two_routes(up, 2))
    bounded = ask_at_once(proxy, 5, of(b"bounded"))
    up.wait(2)
    others = ask_at_once(proxy, 4, of(b"other"))
    up.wait(6)
    assert up.bodies().count(of(b"bounded")) == 2 and up.bodies().count(of(b"other")) == 4
    leaver = bounded.pop()
    leaver.close()
    eventually(lambda: proxy.metric("stormjib_exchanges_in_flight") == 8)  # it has left the queue
    gate.open()
    assert [got.status for got in read_all(bounded + others)] == [200] * 8
    eventually(lambda: proxy.metric("stormjib_exchanges_in_flight") == 0)
    assert len(up.log) == 8


def test_a_routes_queue_is_bounded_and_a_reload_widens_its_bound(upstream, serve):
    up = upstream()
    gate = gated(up)
    proxy = serve(two_routes(up, 1))
    wires = ask_at_once(proxy, 1, of(b"bounded"))
    up.wait(1)
    for n in itertools.count(1):  # six wait, and the next one is told so
        wire = ask_at_once(proxy, 1, of(b"bounded"))[0]
        wire.sock.settimeout(0.3)
        try:
            got = wire.read()
            break
        except TimeoutError:
            wire.sock.settimeout(60)
            wires.append(wire)
    assert (n, got.status, got.code) == (7, 503, "queue_full")
    assert 1 <= int(got.get("retry-after")) <= 60
    proxy.reload(routes=two_routes(up, 4)["routes"])
    up.wait(4)
    gate.open()
    assert [got.status for got in read_all(wires)] == [200] * 7
