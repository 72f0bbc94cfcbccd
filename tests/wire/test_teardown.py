"""Ends of every kind: clients that leave at any moment, full listeners, slow readers, drains and reloads amid traffic. Afterwards nothing is
held and nothing is lost."""
import os
import resource
import signal
import socket
import threading
import time

import pytest
from kit import answers, conf
from kit.answers import DONE, FINISH, ROLE, chat, chat_events, delta, event, sse
from kit.client import Client, Cut, eventually, request

CHAT = "/v1/chat/completions"
STREAM = b'{"model":"gpt-4.1","stream":true,"messages":[]}'
BODY = b'{"model":"gpt-4.1","messages":[]}'


def cpu_seconds(proxy):
    with open(f"/proc/{proxy.pid}/stat") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def cpu_share(proxy, seconds):
    """Of one core, over so many seconds."""
    before, start = cpu_seconds(proxy), time.monotonic()
    eventually(lambda: time.monotonic() > start + seconds)
    return (cpu_seconds(proxy) - before) / (time.monotonic() - start)


def open_descriptors(proxy):
    return len(os.listdir(f"/proc/{proxy.pid}/fd"))


# ---- clients that leave ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["close", "half", "reset"])
def test_a_client_gone_with_its_last_byte_is_noticed(upstream, serve, how):
    up = upstream(answers.hang())
    proxy = serve(conf.one(up))
    for _ in range(5):
        with proxy.connect() as wire:
            assert wire.ask("GET", "/healthz").status == 200
            proxy.signal(signal.SIGSTOP)  # so that request and leave-taking come in one
            wire.send(request("POST", CHAT, [], BODY))
            if how == "reset":
                wire.reset()
            else:
                wire.sock.shutdown(socket.SHUT_RDWR if how == "close" else socket.SHUT_WR)
            proxy.signal(signal.SIGCONT)
            if how == "half":
                assert wire.is_closed()
        eventually(lambda: proxy.metric("stormjib_exchanges_in_flight") == 0, timeout=10)
    assert all(request.gone_at for request in up.log)


@pytest.mark.parametrize("how", ["broken stream", "broken length", "old client", "client leaves"])
def test_no_descriptor_outlives_its_connection(upstream, serve, how):
    async def half(call):
        await call.write(answers.head(200, [("Content-Type", "text/plain"), ("Content-Length", 1000)]))
        await call.write(b"x" * 500)
        call.close()

    broken = sse(ROLE, delta("a"), then="close" if how == "broken stream" else "hang")
    proxy = serve(conf.one(upstream({"broken length": half, "old client": sse(*chat_events("a"))}.get(how, broken))))
    idle = proxy.connect()
    assert idle.ask("GET", "/healthz").status == 200
    before = open_descriptors(proxy)
    version = "HTTP/1.0" if how == "old client" else "HTTP/1.1"
    sent = request("GET", "/v1/x") if how == "broken length" else request("POST", CHAT, [], STREAM, version=version)
    for _ in range(20):
        with proxy.connect() as wire:
            wire.send(sent).head()
            if how != "client leaves":
                wire.rest()
    eventually(lambda: open_descriptors(proxy) <= before + 2, timeout=10)  # the upstream's pooled ones apart
    assert idle.ask("GET", "/healthz").status == 200


# ---- limits ---------------------------------------------------------------------------------------------------------------------


def test_a_listener_that_was_full_takes_connections_again(upstream, serve):
    proxy = serve(conf.one(upstream(chat()), limits={"connections": 2}))
    wires = [proxy.connect() for _ in range(150)]
    eventually(lambda: proxy.metric("stormjib_client_connections") >= 130)
    for wire in wires:
        wire.close()
    start = time.monotonic()
    assert eventually(lambda: proxy.post(BODY).status == 200, timeout=20)
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("workers", [1, 4])
def test_the_connection_limit_holds_over_all_workers(upstream, serve, workers):
    proxy = serve(conf.one(upstream(chat()), workers=workers, limits={"connections": 8}))
    eventually(lambda: proxy.metric("stormjib_client_connections") == 0)
    wires = [proxy.connect() for _ in range(40)]
    got = [wire.ask("GET", "/v1/models").status for wire in wires]
    # On a busy machine a connection of the readiness check may be there still, unseen by the metric.
    assert got.count(200) in (7, 8)
    assert got.count(503) == 40 - got.count(200)
    for wire in wires:
        wire.close()


def test_without_descriptors_it_waits_and_goes_on(upstream, serve):
    proxy = serve(conf.one(upstream(chat())))
    limit = open_descriptors(proxy) + 10
    resource.prlimit(proxy.pid, resource.RLIMIT_NOFILE, (limit, limit))
    wires = [proxy.connect() for _ in range(60)]
    eventually(lambda: open_descriptors(proxy) >= limit)
    assert cpu_share(proxy, 1) < 0.5
    for wire in wires:
        wire.close()
    assert eventually(lambda: proxy.post(BODY).status == 200, timeout=20)


def test_slots_are_granted_across_workers(upstream, serve):
    up = upstream(sse(*chat_events("a"), pause=0.005))
    proxy = serve(conf.one(up, workers=4, upstreams={"up": {"max_concurrent": 1}}))
    wires = [proxy.connect().send(request("POST", CHAT, [("Connection", "close")], STREAM)) for _ in range(100)]
    assert all(wire.read().body.endswith(DONE) for wire in wires)
    assert proxy.metric("stormjib_upstream_in_flight") == 0


# ---- answers --------------------------------------------------------------------------------------------------------------------


def test_an_error_event_at_the_very_end_falls_back_once(upstream, serve):
    async def error_and_end(call):
        data = event(answers.error_json("server_error"))
        await call.write(answers.stream_head() + b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data))

    a, b = upstream(error_and_end), upstream(sse(*chat_events("from b")))
    proxy = serve(conf.chain(a, b, retry={"max_attempts_before_fallback": 1}))
    for _ in range(5):
        got = proxy.post(STREAM)
        assert got.whole and b"from b" in got.body and got.body.endswith(DONE)
    assert (len(a.log), len(b.log)) == (5, 5)


@pytest.mark.parametrize("kind", ["chunked", "length"])
@pytest.mark.parametrize("what", ["POST", "GET"])
def test_a_big_answer_all_at_once_arrives_whole(upstream, serve, kind, what):
    data = os.urandom(6_000_000)
    framing = ("Content-Length", len(data)) if kind == "length" else ("Transfer-Encoding", "chunked")
    sent = answers.head(200, [("Content-Type", "application/json"), framing])
    sent += data if kind == "length" else b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data)
    proxy = serve(conf.one(upstream(answers.raw(sent)), inspect_max="64KiB"))
    for _ in range(5):
        got = proxy.ask(what, "/v1/embeddings", [], BODY if what == "POST" else None)
        assert got.whole and got.body == data


@pytest.mark.parametrize("kind", ["chunked", "length", "sse"])
def test_a_steady_slow_reader_is_never_cut(upstream, serve, kind):
    size, piece = 24_000_000, 10_000

    async def behave(call):
        if kind == "length":
            await call.write(answers.head(200, [("Content-Type", "text/plain"), ("Content-Length", size)]))
        elif kind == "chunked":
            await call.write(answers.head(200, [("Content-Type", "text/plain"), ("Transfer-Encoding", "chunked")]))
        else:
            await call.write(answers.stream_head())
            await call.chunk(ROLE)
        for _ in range(size // piece):
            data = delta("y" * (piece - 200)) if kind == "sse" else b"z" * piece
            await (call.write(data) if kind == "length" else call.chunk(data))
        if kind == "sse":
            await call.chunk(FINISH + DONE)
        if kind != "length":
            await call.end()

    proxy = serve(conf.one(upstream(behave)))
    with proxy.connect(receive_buffer=65536) as wire:
        wire.send(request("POST", CHAT, [], STREAM) if kind == "sse" else request("GET", "/v1/files/x/content"))
        before, read, tail = proxy.rss_kib(), 0, b""
        while True:
            try:
                data = wire.sock.recv(20000)
            except ConnectionError:
                break
            read += len(data)
            tail = (tail + data)[-7:]
            if not data or (read >= size if kind == "length" else tail.endswith(b"\r\n0\r\n\r\n")):
                break
            time.sleep(0.0004)  # not a wait: this is how slow the reader is
        assert proxy.rss_kib() - before < 20_000
    assert read >= size * 0.97
    eventually(lambda: proxy.metric("stormjib_exchanges_in_flight") == 0)
    assert proxy.metric("stormjib_attempts_total", outcome="success") == 1


@pytest.mark.parametrize("size", [3_000, 12_000, 14_500, 40_000, 200_000])
@pytest.mark.parametrize("kind", ["whole", "length", "stream", "head", "not modified", "old client"])
def test_an_answers_head_of_any_size_is_carried(plain, kind, size):
    fields = [(f"X-{n}", "v" * 970) for n in range(size // 1000)]
    data = os.urandom(300_000)
    plain.up.use(*{
        "length": [answers.answer(200, data, fields, kind="audio/mpeg")],
        "stream": [sse(*chat_events("a", "b"), headers=fields)],
        "not modified": [answers.answer(304, b"", fields)],
    }.get(kind, [chat(headers=fields)]))
    method = {"head": "HEAD", "length": "GET", "not modified": "GET"}.get(kind, "POST")
    sent = {"length": None, "head": None, "not modified": None}.get(kind, STREAM if kind == "stream" else BODY)
    version = "HTTP/1.0" if kind == "old client" else "HTTP/1.1"
    for request_size in (0, 6000):
        with plain.proxy.connect() as wire:
            headers = [("X-Mine", "r" * request_size)] if request_size else []
            got = wire.send(request(method, CHAT, headers, sent, version=version)).read(method)
            assert got.whole and [f for f in got.headers if f[0].startswith("X-")] == fields
            assert got.body == data if kind == "length" else got.body.endswith(DONE) if kind == "stream" else got.body == b"" or got.json
            if got.get("connection") != "close" and kind != "old client":
                assert wire.ask("GET", "/healthz").status == 200
            else:
                assert wire.is_closed()


def test_a_large_head_and_a_slow_reader_go_together(upstream, serve):
    async def behave(call):
        await call.write(answers.stream_head([(f"X-{n}", "v" * 1000) for n in range(40)]))
        await call.chunk(ROLE)
        for _ in range(2000):
            await call.chunk(delta("y" * 3000))
        await call.chunk(FINISH + DONE)
        await call.end()

    proxy = serve(conf.one(upstream(behave)))
    for leaves in (True, False):
        with proxy.connect(receive_buffer=16384) as wire:
            wire.send(request("POST", CHAT, [], STREAM)).head()
            if not leaves:
                body = b""
                while part := wire.chunk():
                    body = (body + part)[-100:]
                assert body.endswith(DONE)
    eventually(lambda: proxy.metric("stormjib_exchanges_in_flight") == 0)


def test_an_old_client_costs_no_more_than_a_new_one(upstream, serve):
    data = os.urandom(3_000_000)
    proxy = serve(conf.one(upstream(answers.answer(200, data, chunked=True))))
    before = cpu_seconds(proxy)
    with proxy.connect() as wire:
        got = wire.send(request("POST", "/v1/embeddings", [], BODY, version="HTTP/1.0")).read()
    assert got.body == data
    assert cpu_seconds(proxy) - before < 1


def test_trailers_are_carried(upstream, serve):
    async def behave(call):
        await call.write(answers.head(200, [("Content-Type", "text/plain"), ("Trailer", "X-Sum"), ("Transfer-Encoding", "chunked")]))
        await call.chunk(b"hello")
        await call.write(b"0\r\nX-Sum: 12\r\nContent-Length: 99\r\nTransfer-Encoding: gzip\r\nX-Two: a b\r\n\r\n")

    proxy = serve(conf.one(upstream(behave)))
    with proxy.connect() as wire:
        wire.send(request("GET", "/v1/files/x/content", [("TE", "trailers")]))
        wire.head()
        assert wire.exactly(10) == b"5\r\nhello\r\n"
        assert wire.until(b"0\r\n") == b""
        assert wire.until(b"\r\n\r\n") == b"X-Sum: 12\r\nX-Two: a b"
        assert wire.ask("GET", "/healthz").status == 200


# ---- time -----------------------------------------------------------------------------------------------------------------------


def test_an_idle_limit_shorter_than_the_first_bytes_holds(upstream, serve):
    async def behave(call):
        await call.write(answers.stream_head())
        await call.chunk(ROLE)
        await call.until_gone()

    proxy = serve(conf.one(upstream(behave), upstreams={"up": {"idle_timeout": "1s", "first_byte_timeout": "60s"}}, retry={"max_attempts": 1}))
    start = time.monotonic()
    assert proxy.post(STREAM).status == 504
    assert 0.9 < time.monotonic() - start < 10


def test_silence_after_the_finish_completes_soon(upstream, serve):
    proxy = serve(conf.one(upstream(sse(ROLE, delta("a"), FINISH, then="hang", pause=0.05))))
    start = time.monotonic()
    got = proxy.post(STREAM)
    assert got.whole and got.body.endswith(DONE)
    assert 4 < time.monotonic() - start < 15


# ---- early answers --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("expect", [False, True])
@pytest.mark.parametrize("size", [2_000_000, 100_000_000])
def test_a_refused_upload_hears_why(upstream, serve, size, expect):
    proxy = serve(conf.one(upstream(chat()), max_body="1MiB"))
    with proxy.connect() as wire:
        headers = [("Content-Length", size)] + ([("Expect", "100-continue")] if expect else [])
        wire.send(request("POST", "/v1/files", headers))
        if not expect:
            try:
                for _ in range(size // 100_000):
                    wire.send(b"x" * 100_000)
            except OSError:
                pass
        got = wire.read()
    assert (got.status, got.code) == (413, "body_too_large")


# ---- credentials ----------------------------------------------------------------------------------------------------------------


def test_what_an_upstream_says_cannot_spoil_our_labels(upstream, serve):
    nasty = "server_error\r\nx-evil: 1\x01,\u00e9\u2028" + "z" * 100
    a, b = upstream(sse(event({"error": {"message": nasty, "code": nasty, "type": nasty}}))), upstream(chat())
    proxy = serve(conf.chain(a, b, retry={"max_attempts_before_fallback": 1}))
    got = proxy.post(STREAM)
    assert got.status == 200 and got.get("x-evil") is None
    for name in ("trail", "fallback", "target"):
        assert got.label(name) and got.label(name).isascii() and got.label(name).isprintable()


@pytest.mark.parametrize("model", ['a\\u0000b', 'a\\r\\nb', "a b,c", "\u00fc" * 100, "x" * 400, ""])
def test_what_a_client_says_cannot_spoil_our_labels(plain, model):
    got = plain.proxy.post(b'{"model":"%b"}' % model.encode())
    assert got.status == 200
    for name in ("trail", "target"):
        assert got.label(name).isascii() and got.label(name).isprintable()


@pytest.mark.parametrize("name", ["Authorization", "api-key", "x-api-key", "x-goog-api-key", "Cookie"])
def test_a_credential_stays_with_the_first_origin(upstream, serve, name):
    a, b = upstream(answers.fail(503)), upstream(chat())
    proxy = serve(conf.chain(a, b, upstreams={"a": {"auth": None}, "b": {"auth": None}}))
    got = proxy.post(BODY, headers=[(name, "secret")])
    assert got.status == 200
    assert a.log[0].get(name) == "secret"
    assert b.log[0].get(name) is None


# ---- ends -----------------------------------------------------------------------------------------------------------------------


def test_reloads_by_page_and_signal_amid_a_drain(upstream, serve):
    up = upstream(sse(*chat_events(*"abcdefgh"), pause=0.05))
    proxy = serve(conf.one(up, workers=2, drain_timeout="3s", admin_token="t"))
    wires = [proxy.connect().send(request("POST", CHAT, [], STREAM)) for _ in range(20)]
    for wire in wires:
        wire.head()
    stop = threading.Event()

    def reload():
        while not stop.is_set():
            try:
                with Client(("127.0.0.1", proxy.admin_port)) as wire:
                    wire.ask("POST", "/reload", [("Authorization", "Bearer t")])
            except (OSError, Cut):
                return

    threads = [threading.Thread(target=reload) for _ in range(3)]
    for thread in threads:
        thread.start()
    proxy.signal(signal.SIGTERM)
    assert proxy.wait() == 0
    stop.set()
    for thread in threads:
        thread.join()


def test_signals_to_the_very_end(upstream, serve):
    for _ in range(5):
        proxy = serve(conf.one(upstream(chat())))
        proxy.post(BODY)
        while proxy.process.poll() is None:
            proxy.signal(signal.SIGTERM)
        assert proxy.wait() == 0


def test_a_drain_amid_requests_just_arriving(upstream, serve):
    """The race of a request's bytes with the end of their connection."""
    for round in range(8):
        proxy = serve(conf.one(upstream(chat()), workers=2, drain_timeout="1s"))
        wires = [proxy.connect() for _ in range(200)]
        for n, wire in enumerate(wires):
            wire.send(request("POST", CHAT, [], BODY))
            if n == 100 + round * 10:
                proxy.signal(signal.SIGTERM)
                proxy.signal(signal.SIGTERM)
        assert proxy.wait() == 0
        for wire in wires:
            wire.close()
