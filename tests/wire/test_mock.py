"""The embedded misbehaving upstream (`stormjib mock`) behind the proxy: what its own log saw against what the labels claim, and whole
populations of requests under chance and outage."""

import concurrent.futures
import http.client
import json

import pytest

from kit import conf, trail
from kit.client import eventually, request

CHAT = "/v1/chat/completions"
KINDS = [
    "429; retry-after=0.2",
    "500",
    "503",
    "529",
    "close",
    "reset",
    "garbage",
    "endless-headers",
    "head-close",
    "head-reset",
    "short-length",
    "error-body",
    "empty",
    "truncated",
    "overloaded",
]
STREAM_KINDS = ["503", "close", "reset", "head-close", "head-reset", "first-error", "cut-0", "cut-close-0", "cut-reset-0", "empty"]
FINE = ["ok", "slow-200ms", "slow-first-200ms", "no-done", "non-json", "odd-sse", "drip", "informational", "gzip"]


class Mock:
    def __init__(self, running):
        self.running = running
        self.port = int(running.wait_line(r"mock upstream on http://127\.0\.0\.1:(\d+)")[1])
        self.url = f"http://127.0.0.1:{self.port}"

    def call(self, method, path, value=None):
        wire = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            wire.request(method, path, None if value is None else json.dumps(value))
            answer = wire.getresponse()
            text = answer.read()
            assert answer.status == 200, text
            return json.loads(text) if text[:1] in b"{[" else text
        finally:
            wire.close()

    def log(self):
        return self.call("GET", "/mock/log?limit=100000")["entries"]


@pytest.fixture
def mock(program):
    def start(*options):
        return Mock(program("mock", "--port", 0, *options))

    return start


def body(stream=False, model="gpt-4.1", text="hi"):
    return json.dumps({"model": model, "stream": stream, "messages": [{"role": "user", "content": text}]}).encode()


def agrees(got, mock):
    """The labels claim what the mock saw."""
    tries = trail.tries(got.label("trail"))
    assert len(mock.log()) == len(tries) == got.attempts


@pytest.mark.parametrize("fault", KINDS)
def test_one_fault_is_not_noticed(mock, serve, fault):
    upstream = mock()
    upstream.call("POST", "/mock/script", [fault])
    got = serve(conf.one(upstream)).post(body())
    assert got.status == 200 and "echo:" in got.json["choices"][0]["message"]["content"]
    assert got.attempts == 2
    agrees(got, upstream)


@pytest.mark.parametrize("fault", STREAM_KINDS)
def test_one_fault_of_a_stream_is_not_noticed(mock, serve, fault):
    upstream = mock()
    upstream.call("POST", "/mock/script", [fault])
    got = serve(conf.one(upstream)).post(body(stream=True))
    assert got.status == 200 and got.whole and got.body.endswith(b"data: [DONE]\n\n")
    assert got.attempts == 2
    agrees(got, upstream)


@pytest.mark.parametrize("fault", FINE)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_an_oddity_is_no_fault(mock, serve, fault, stream):
    upstream = mock()
    upstream.call("POST", "/mock/script", [fault])
    got = serve(conf.one(upstream)).post(body(stream=stream))
    assert got.status == 200 and got.whole
    assert len(upstream.log()) == 1


def test_an_abort_shows_in_the_mocks_log(mock, serve):
    upstream = mock("--fault", "timeout")
    proxy = serve(conf.one(upstream))
    with proxy.connect() as wire:
        wire.send(request("POST", CHAT, [], body()))
        eventually(lambda: upstream.log())
    entry = eventually(lambda: [e for e in upstream.log() if e["outcome"] != "running"])[0]
    assert entry["outcome"] in ("client_gone", "client_reset")


# ---- populations ----------------------------------------------------------------------------------------------------------------


def crowd(proxy, count, make=body):
    """count requests from eight clients at a time, each on a connection of its own; their answers."""
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        return list(pool.map(lambda n: proxy.post(make(text=f"number {n}")), range(count)))


def test_the_headline_a_twelfth_fails_and_nobody_notices(mock, serve):
    """8.3 % of upstream calls fail; at most 0.2 % may reach the client."""
    upstream = mock("--seed", 7, "--fail", "0.083", "--mix", "3*429; retry-after=0.05, 2*500, 2*503, reset, error-body, empty")
    got = crowd(serve(conf.one(upstream, upstreams={"up": {"answer_timeout": "1s"}}, budget={"enabled": True})), 400)
    failed = [g for g in got if g.status != 200]
    assert len(failed) <= 1, failed
    assert sum(len(trail.tries(g.label("trail"))) for g in got) == len(upstream.log())
    assert len(upstream.log()) > 410, "there were faults to hide"


def test_a_fifth_fails_and_99_percent_succeed(mock, serve):
    upstream = mock("--seed", 3, "--fail", "0.2", "--mix", "503")
    over = {"breaker": {"enabled": True, "failure_threshold": 5, "minimum_calls": 10}, "budget": {"enabled": True}}
    got = crowd(serve(conf.one(upstream, **over)), 400)
    assert sum(g.status == 200 for g in got) >= 396


def test_a_total_outage_is_not_made_worse(mock, serve):
    """The load on the upstream stays within 1.1 x the clients' own requests, by the budget alone; all workers share it."""
    upstream = mock("--fault", "503")
    proxy = serve(conf.one(upstream, workers=4, budget={"enabled": True}))
    got = crowd(proxy, 600)
    assert {g.status for g in got} == {503}
    assert len(upstream.log()) <= 660


def test_each_answer_goes_to_its_own_question(mock, serve):
    """The mock's answer follows from the question: none may be crossed, whatever was retried in between."""
    upstream = mock("--seed", 5, "--fail", "0.2", "--mix", "503,reset,close,empty")
    got = crowd(serve(conf.one(upstream, workers=4, retry={"max_attempts": 12})), 300)
    for n, answer in enumerate(got):
        assert answer.status == 200
        assert f"number {n}"[:8] in answer.json["choices"][0]["message"]["content"]
    assert len({answer.json["choices"][0]["message"]["content"].split()[0] for answer in got}) == 300


def test_goodput_returns_by_itself_after_an_outage(mock, serve):
    upstream = mock("--fault", "503")
    breaker = {"enabled": True, "failure_threshold": 5, "failure_span": "0s", "recovery_timeout": "500ms", "max_open_wait": "0s"}
    proxy = serve(conf.one(upstream, breaker=breaker, budget={"enabled": True}))
    assert {g.status for g in crowd(proxy, 60)} == {503}
    upstream.call("POST", "/mock/rules", {"fault": "ok"})
    eventually(lambda: proxy.post(body()).status == 200)
    eventually(lambda: all(g.status == 200 for g in crowd(proxy, 8)))
    assert {g.status for g in crowd(proxy, 40)} == {200}
