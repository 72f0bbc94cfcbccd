"""Upstreams that break HTTP itself. Whatever they send: the right answer or a clear error, in bounded memory, and the proxy serves on."""

import asyncio
import gzip
import socket

import pytest

from kit import answers, conf
from kit.answers import DONE, chat, chat_events, drop, raw, sse
from kit.client import Cut, request
from kit.together import together

BODY = b'{"model":"gpt-4.1","messages":[]}'
STREAM = b'{"model":"gpt-4.1","stream":true,"messages":[]}'
JSON = answers.compact(answers.chat_json("right though odd"))
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
FRAMED = OK + b"Content-Length: %d\r\n\r\n" % len(JSON) + JSON
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(JSON), JSON)


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    """One attempt only: what a bad answer becomes when nothing can be tried again."""
    over = {"retry": {"max_attempts": 1}, "routes": [{"model": "*", "chain": ["up"], "rescue": "off"}]}
    with together(tmp_path_factory.mktemp("bad"), lambda up: conf.one(up, **over)) as pair:
        yield pair


GARBAGE = {
    "not HTTP": b"SSH-2.0-OpenSSH_9.2p1\r\n\r\n",
    "HTTP/0.9": b"<html>hello</html>",
    "no status": b"HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
    "status not a number": b"HTTP/1.1 abc OK\r\nContent-Length: 0\r\n\r\n",
    "status of two digits": b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
    "status of four digits": b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n",
    "HTTP/2 in plain": b"HTTP/2 200\r\ncontent-length: 0\r\n\r\n",
    "HTTP/9.9": b"HTTP/9.9 200 OK\r\nContent-Length: 0\r\n\r\n",
    "binary": bytes(range(256)) * 8,
    "TLS alert": b"\x15\x03\x01\x00\x02\x02\x28",
    "NUL in a header": OK + b"X: a\x00b\r\nContent-Length: 2\r\n\r\n{}",
    "no colon": OK + b"NoColonHere\r\nContent-Length: 2\r\n\r\n{}",
    "two lengths": OK + b"Content-Length: 5\r\nContent-Length: 500\r\n\r\n" + JSON,
    "negative length": OK + b"Content-Length: -5\r\n\r\n" + JSON,
    "length not a number": OK + b"Content-Length: lots\r\n\r\n" + JSON,
    "huge length": OK + b"Content-Length: 99999999999999999999999999\r\n\r\n" + JSON,
    "length too long": OK + b"Content-Length: 5000\r\n\r\n" + JSON,
    "chunk size not hex": OK + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n" + JSON,
    "chunk size huge": OK + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n" + JSON,
    "chunk size negative": OK + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n" + JSON,
    "chunk without its end": OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhelloXX5\r\n",
    "unknown coding": OK + b"Transfer-Encoding: magic\r\n\r\n" + JSON,
    "gzip that is none": OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(JSON) + JSON,
    "header line without end": OK + b"X: " + b"y" * 3_000_000,
    "only 1xx": b"HTTP/1.1 100 Continue\r\n\r\n" * 50,
    "101": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
}


@pytest.mark.parametrize("data", GARBAGE.values(), ids=GARBAGE.keys())
def test_garbage_is_a_clear_error_or_cut_never_a_wrong_success(single, data):
    proxy, up = single
    up.use(raw(data, "close"))
    try:
        got = proxy.post(BODY)
    except Cut:
        got = None
    proxy.alive()
    assert len(up.log) == 1
    if got is not None and got.status == 200 and got.whole:
        assert got.body == JSON and got.get("content-encoding") is None, "a success from garbage"
    up.use(chat("well again"))
    assert b"well again" in proxy.post(BODY).body


@pytest.mark.parametrize("data", GARBAGE.values(), ids=GARBAGE.keys())
def test_garbage_is_retried_unseen(plain, data):
    plain.up.use(raw(data, "close"), chat("right"))
    got = plain.proxy.post(BODY)
    assert got.status == 200 and b"right" in got.body
    assert len(plain.up.log) == (2 if got.body != JSON else 1)


def test_tolerable_oddities_are_taken(plain):
    for odd in (
        b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
        b"HTTP/1.1 200 OK\r\nX:\r\nContent-Length:2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\ncontent-LENGTH:   2  \r\n\r\nok",
    ):
        plain.up.use(raw(odd, "close"))
        got = plain.proxy.ask("GET", "/v1/things")
        assert (got.status, got.body) == (200, b"ok"), odd


def test_an_endless_header_is_bounded(single):
    proxy, up = single

    async def endless(call):
        await call.write(OK)
        for n in range(1_000_000):
            await call.write(b"X-%d: " % n + b"y" * 1000 + b"\r\n")

    up.use(endless)
    before = proxy.rss_kib()
    got = proxy.post(BODY)
    assert got.status == 502
    assert proxy.rss_kib() - before < 60_000


def test_ten_megabytes_of_header_are_bounded(single):
    proxy, up = single
    up.use(raw(OK + b"X: y\r\n" * 1_700_000 + b"\r\n", "close"))
    assert proxy.post(BODY).status == 502


def test_endless_interim_answers_are_bounded(upstream, serve):
    async def endless(call):
        while True:
            await call.write(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * 50)

    up = upstream(endless)
    proxy = serve(conf.one(up, deadline="5s", retry={"max_attempts": 1}))
    before = proxy.rss_kib()
    assert proxy.post(BODY).status in (502, 504)
    assert proxy.rss_kib() - before < 60_000


def test_an_answer_without_end_is_bounded_and_cancelled(upstream, serve):
    """A 'whole' JSON answer that never stops: beyond inspect_max it flows, it is not collected."""

    async def endless(call):
        await call.write(OK + b"Transfer-Encoding: chunked\r\n\r\n")
        while True:
            await call.chunk(b"x" * 60_000)

    up = upstream(endless)
    proxy = serve(conf.one(up))
    with proxy.connect() as wire:
        wire.send(request("POST", "/v1/chat/completions", [], BODY))
        wire.head()
        before = proxy.rss_kib()
        for _ in range(500):
            wire.chunk()
        assert proxy.rss_kib() - before < 60_000
    up.until_gone(0)


def test_a_gzip_bomb_is_not_unpacked(single):
    proxy, up = single
    bomb = gzip.compress(b"0" * 200_000_000, 9)
    up.use(answers.answer(200, bomb, [("Content-Encoding", "gzip")]))
    before = proxy.rss_kib()
    got = proxy.post(BODY)
    assert proxy.rss_kib() - before < 60_000
    assert got.status != 200 or got.body == bomb


def pieces(data, size=1):
    async def behave(call):
        for at in range(0, len(data), size):
            await call.write(data[at : at + size])
            await asyncio.sleep(0)

    return behave


@pytest.mark.parametrize("data", [FRAMED, CHUNKED], ids=["length", "chunked"])
def test_an_answer_in_single_bytes(plain, data):
    plain.up.use(pieces(data))
    got = plain.proxy.post(BODY)
    assert (got.status, got.body) == (200, JSON)


def test_a_stream_in_single_bytes(plain):
    body = b"".join(chat_events("Hel", "lo"))
    data = answers.stream_head() + b"".join(b"%x\r\n%b\r\n" % (len(e), e) for e in chat_events("Hel", "lo")) + b"0\r\n\r\n"
    plain.up.use(pieces(data))
    got = plain.proxy.post(STREAM)
    assert (got.whole, got.body) == (True, body)


def stream_bytes():
    events = chat_events("Hel", "lo")
    return answers.stream_head() + b"".join(b"%x\r\n%b\r\n" % (len(e), e) for e in events) + b"0\r\n\r\n", b"".join(events)


def single_tries(up):
    """One attempt; before it, at most one on a kept connection that died without a byte."""
    return 2 if up.log[0].nth and len(up.log) > 1 else 1


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("data", [FRAMED, CHUNKED], ids=["length", "chunked"])
def test_an_answer_cut_at_every_byte_is_right_or_a_clear_error(single, data, how):
    proxy, up = single
    for end in range(len(data)):
        up.use(raw(data[:end], how))
        got = proxy.post(BODY)
        assert len(up.log) == single_tries(up), end
        if got.status == 200:
            assert got.whole and got.body == JSON, (end, got)
        else:
            assert got.status == 502 and got.json["error"]["code"], (end, got)


def events(body):
    """What a reader of the stream sees: data; a cut line that is none and one line end too many are nothing to it."""
    return [line for line in body.split(b"\n") if line.startswith(b"data: ")]


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_stream_cut_at_every_byte_is_whole_or_visibly_broken(single, how):
    proxy, up = single
    data, body = stream_bytes()
    for end in range(0, len(data), 3):
        up.use(raw(data[:end], how))
        got = proxy.post(STREAM)
        assert len(up.log) == single_tries(up), end
        if got.status == 200 and got.whole:
            assert events(got.body) == events(body), (end, got)
        elif got.status == 200:
            assert DONE not in got.body and b"stream_broken" in got.body, (end, got)
        else:
            assert got.status == 502, (end, got)


def test_an_upstream_that_answers_before_it_read_the_body(plain):
    plain.up.use(chat("early"))
    assert plain.proxy.post(b'{"model":"m","x":"' + b"y" * 5_000_000 + b'"}').status == 200


def test_an_upstream_that_keeps_talking_after_the_answer(plain):
    plain.up.use(raw(FRAMED + b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nextra"), chat("second"))
    assert plain.proxy.post(BODY).body == JSON
    got = plain.proxy.post(BODY)
    assert b"second" in got.body, "an unasked answer must not be taken for the next one's"


def test_an_upstream_that_never_accepts(upstream, serve):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        closed.listen(0)
        crowd = [socket.create_connection(closed.getsockname()) for _ in range(1)]
        proxy = serve(
            conf.one(
                upstream(chat()),
                upstreams={"up": {"base_url": f"http://127.0.0.1:{closed.getsockname()[1]}", "connect_timeout": "300ms", "answer_timeout": "2s"}},
                retry={"max_attempts": 1},
            )
        )
        got = proxy.post(BODY)
        assert got.status in (502, 504)
        for wire in crowd:
            wire.close()


def test_drop_is_not_fatal_in_a_crowd(plain):
    plain.up.use(*([drop("reset"), drop("close"), raw(b"junk", "close"), sse(then="close")] * 5), chat("end"))
    for _ in range(5):
        plain.proxy.post(STREAM)
    plain.proxy.alive()
