"""What must not get through: requests whose framing two readers could read differently, and clients that never finish (RFC 9112)."""

import re
import time

import pytest

from kit import answers, conf
from kit.answers import chat
from kit.client import eventually, request

POST = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n"
GET = b"GET /v1/models HTTP/1.1\r\n"
SMUGGLED = b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"

REFUSED = {
    "length and chunked": POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n" + SMUGGLED,
    "chunked and length": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n" + SMUGGLED,
    "two lengths": POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    "two equal lengths": POST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "length list": POST + b"Content-Length: 5, 5\r\n\r\nhello",
    "length with sign": POST + b"Content-Length: +5\r\n\r\nhello",
    "length negative": POST + b"Content-Length: -1\r\n\r\n",
    "length hex": POST + b"Content-Length: 0x5\r\n\r\nhello",
    "length with a tail": POST + b"Content-Length: 5 x\r\n\r\nhello",
    "length empty": POST + b"Content-Length:\r\n\r\n",
    "length too big": POST + b"Content-Length: 99999999999999999999999\r\n\r\n",
    "space before the colon": POST + b"Content-Length : 5\r\n\r\nhello",
    "chunked twice": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n" + SMUGGLED,
    "chunked, chunked": POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n" + SMUGGLED,
    "unknown coding": POST + b"Transfer-Encoding: gzip\r\n\r\n" + SMUGGLED,
    "coding then chunked": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + SMUGGLED,
    "identity": POST + b"Transfer-Encoding: identity\r\nContent-Length: 5\r\n\r\nhello",
    "xchunked": POST + b"Transfer-Encoding: xchunked\r\n\r\n" + SMUGGLED,
    "chunked quoted": POST + b'Transfer-Encoding: "chunked"\r\n\r\n' + SMUGGLED,
    "coding with space before the colon": POST + b"Transfer-Encoding : chunked\r\n\r\n" + SMUGGLED,
    "chunked on HTTP/1.0": b"POST /v1/x HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + SMUGGLED,
    "obs-fold hides a coding": POST + b"X: y\r\n Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\nhello",
    "obs-fold after length": POST + b"Content-Length: 5\r\n 0\r\n\r\nhello",
    "obs-fold after coding": POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n" + SMUGGLED,
    "obs-fold with tab": GET + b"Host: x\r\nX-A: b\r\n\tc\r\n\r\n",
    "name with space": GET + b"Host: x\r\nBad Name: 1\r\n\r\n",
    "name with paren": GET + b"Host: x\r\nBad(Name): 1\r\n\r\n",
    "name with control": GET + b"Host: x\r\nBad\x01Name: 1\r\n\r\n",
    "name not ascii": GET + b"Host: x\r\nB\xe4d: 1\r\n\r\n",
    "no colon": GET + b"Host: x\r\nNoColon\r\n\r\n",
    "NUL in a value": GET + b"Host: x\r\nX-A: a\x00b\r\n\r\n",
    "control in a value": GET + b"Host: x\r\nX-A: a\x07b\r\n\r\n",
    "CR in a value": GET + b"Host: x\r\nX-A: a\rContent-Length: 5\r\n\r\n",
    "no Host": GET + b"\r\n",
    "two Hosts": GET + b"Host: x\r\nHost: y\r\n\r\n",
    "Host list": GET + b"Host: x, y\r\n\r\n",
    "Host with space": GET + b"Host: x y\r\n\r\n",
    "Host with slash": GET + b"Host: x/y\r\n\r\n",
    "CONNECT": b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n\r\n",
    "space in the target": b"GET /v1/a b HTTP/1.1\r\nHost: x\r\n\r\n",
    "control in the target": b"GET /v1/a\x01b HTTP/1.1\r\nHost: x\r\n\r\n",
    "NUL in the target": b"GET /v1/a\x00b HTTP/1.1\r\nHost: x\r\n\r\n",
    "method not a token": b"G(ET /v1/a HTTP/1.1\r\nHost: x\r\n\r\n",
    "websocket": GET
    + b"Host: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "no version": b"GET /v1/models\r\n\r\n",
    "HTTP/3.0": b"GET /v1/models HTTP/3.0\r\nHost: x\r\n\r\n",
    "garbage": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED.keys())
def test_dubious_framing_is_refused_and_the_connection_closed(plain, data):
    with plain.proxy.connect() as wire:
        said = wire.send(data).rest()
    # Closed without a word is as safe. The server library answers some of this by itself, and then writes its head twice.
    assert re.match(rb"HTTP/1.1 (400|413|501|505) |$", said), said
    assert b" 200 " not in said, "nothing more may be answered on this connection"
    assert plain.up.log == [], "it must not reach the upstream"


# What our own check refuses (the server library answers the rest by itself, in its own words).
OURS = [
    "length and chunked",
    "two lengths",
    "two equal lengths",
    "unknown coding",
    "coding then chunked",
    "two Hosts",
    "CONNECT",
    "websocket",
    "name with paren",
]


@pytest.mark.parametrize("name", OURS)
def test_our_refusals_have_openais_shape(plain, name):
    with plain.proxy.connect() as wire:
        got = wire.send(REFUSED[name]).read()
    assert got.code in ("bad_request", "not_implemented")
    assert got.status == {"bad_request": 400, "not_implemented": 501}[got.code]
    assert got.json["error"]["type"] == "stormjib_error"
    assert got.json["error"]["param"] is None
    assert len(got.json["error"]["message"]) > 10
    assert got.get("x-should-retry") == "false"
    assert got.get("content-type").startswith("application/json")
    assert got.get("connection") == "close"


BAD_CHUNKS = {
    "no hex": b"zz\r\nhello\r\n0\r\n\r\n",
    "negative": b"-5\r\nhello\r\n0\r\n\r\n",
    "too long": b"fffffffffffffffff1\r\nhello\r\n0\r\n\r\n",
    "wrong length": b"3\r\nhello\r\n0\r\n\r\n",
    "empty size": b"\r\nhello\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("chunks", BAD_CHUNKS.values(), ids=BAD_CHUNKS.keys())
def test_bad_chunking_of_a_client_goes_nowhere(plain, chunks):
    with plain.proxy.connect() as wire:
        data = wire.send(POST + b"Transfer-Encoding: chunked\r\n\r\n" + chunks).rest()
    assert b" 200 " not in data.split(b"\r\n")[0]
    assert plain.up.log == []


def test_an_offer_of_http2_is_ignored(plain):
    """RFC 9110 7.8 lets a server ignore an Upgrade; curl --http2 sends this one with each plain request."""
    got = plain.proxy.ask("GET", "/v1/models", [("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", "h2c"), ("HTTP2-Settings", "AAMAAABk")])
    assert got.status == 200
    assert [n for n, _ in plain.up.log[0].headers] == ["Host"]


def test_bytes_after_a_body_are_the_next_request_not_this_ones(plain):
    with plain.proxy.connect() as wire:
        wire.send(POST + b"Content-Length: 2\r\n\r\n{}" + request("GET", "/second"))
        assert wire.read().status == wire.read().status == 200
    assert [(r.method, r.target, r.body) for r in plain.up.log] == [("POST", "/v1/chat/completions", b"{}"), ("GET", "/second", b"")]


def test_bare_lf_lines_do_not_smuggle(plain):
    """RFC 9112 2.2 allows a lone LF as the end of a line: taken or refused, but never read in two ways."""
    with plain.proxy.connect() as wire:
        wire.send(b"POST /v1/x HTTP/1.1\nHost: x\nContent-Length: 5\nTransfer-Encoding: chunked\n\n" + SMUGGLED)
        wire.rest()
    assert plain.up.log == []


def test_a_client_that_leaves_amid_its_body_reaches_nobody(plain):
    with plain.proxy.connect() as wire:
        wire.send(POST + b"Content-Length: 100\r\n\r\nonly this")
    with plain.proxy.connect() as wire:
        assert wire.ask("GET", "/v1/models").status == 200
    assert [r.target for r in plain.up.log] == ["/v1/models"]


# ---- clients that take their time -----------------------------------------------------------------------------------------------


@pytest.fixture
def hasty(upstream, serve):
    up = upstream(chat())
    limits = {"header_timeout": "1s", "body_timeout": "1s", "connections": 8}
    proxy = serve(conf.one(up, limits=limits, max_body="64KiB"))
    eventually(lambda: proxy.metric("stormjib_client_connections") == 0)  # those that asked whether it is ready
    return proxy, up


def trickle(wire, data, every=0.2, until=30):
    """One byte at a time until the other side has enough; whether it did."""
    end = time.monotonic() + until
    for n in range(len(data)):
        try:
            wire.send(data[n : n + 1])
        except OSError:
            return True
        wire.sock.settimeout(every)
        try:
            if not wire.sock.recv(4096):
                return True
        except TimeoutError:
            pass
        except OSError:
            return True
        if time.monotonic() > end:
            return False
    return False


def test_headers_that_never_end_are_cut_though_bytes_trickle(hasty):
    proxy, up = hasty
    with proxy.connect() as wire:
        assert trickle(wire, b"GET /v1/models HTTP/1.1\r\nX: " + b"y" * 200)
    assert up.log == []


def test_a_body_that_never_ends_is_cut_though_bytes_trickle(hasty):
    proxy, up = hasty
    with proxy.connect() as wire:
        wire.send(POST + b"Content-Length: 5000\r\n\r\n")
        assert trickle(wire, b"z" * 200)
    assert up.log == []


def test_a_silent_connection_is_cut(hasty):
    proxy, _ = hasty
    with proxy.connect() as wire:
        wire.rest()  # returns when the proxy closes; the socket's own timeout would raise


def test_body_timeout_does_not_touch_a_slow_answer(upstream, serve):
    up = upstream(answers.sse(*answers.chat_events(*"abcdefgh"), pause=0.3))
    proxy = serve(conf.one(up, limits={"header_timeout": "1s", "body_timeout": "1s"}))
    got = proxy.post(b'{"model":"gpt-4.1","stream":true}')
    assert got.whole and got.body.endswith(answers.DONE)


def test_the_connection_limit_is_a_clear_503(hasty):
    proxy, up = hasty
    wires = [proxy.connect() for _ in range(8)]
    try:
        for wire in wires:
            assert wire.ask("GET", "/v1/models").status == 200
        with proxy.connect() as wire:
            got = wire.ask("GET", "/v1/models")
        assert (got.status, got.code) == (503, "overloaded")
        assert got.get("x-should-retry") == "false"
        assert len(up.log) == 8
    finally:
        for wire in wires:
            wire.close()


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_beyond_max_body_is_413(hasty, chunked):
    proxy, up = hasty
    got = proxy.ask("POST", "/v1/files", [], b"x" * 200_000, chunked=chunked)
    assert (got.status, got.code, up.log) == (413, "body_too_large", [])
    assert got.get("x-should-retry") == "false"


def test_a_body_of_exactly_max_body_passes(hasty):
    proxy, up = hasty
    assert proxy.ask("POST", "/v1/files", [], b"x" * 65536).status == 200
    assert len(up.log[0].body) == 65536


def test_body_memory_in_all_is_bounded(upstream, serve):
    up = upstream(answers.hang())
    proxy = serve(conf.one(up, limits={"body_memory": "1MiB"}))
    wires = [proxy.connect() for _ in range(4)]
    try:
        for wire in wires[:3]:
            wire.send(request("POST", "/v1/files", [], b"x" * 300_000))
        up.wait(3)
        got = wires[3].ask("POST", "/v1/files", [], b"x" * 300_000)
        assert (got.status, got.code) == (503, "overloaded")
    finally:
        for wire in wires:
            wire.close()
