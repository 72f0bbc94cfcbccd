"""What a proxy owes both sides: the request arrives as it was sent, the answer as it was given (BEHAVIOUR 2)."""

import gzip
import json
import os
import random

import pytest

from kit import answers, conf
from kit.answers import answer, chat
from kit.client import request

CHAT = "/v1/chat/completions"
HELLO = json.dumps({"model": "gpt-4.1", "messages": [{"role": "user", "content": "hi"}]}).encode()


# ---- the request ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "M-SEARCH"])
def test_any_method_is_carried(plain, method):
    body = b"some bytes" if method in ("POST", "PUT", "PATCH", "PROPFIND") else None
    got = plain.proxy.ask(method, "/v1/things", body=body)
    assert got.status == 200
    assert plain.up.log[0].method == method
    assert plain.up.log[0].body == (body or b"")


TARGETS = [
    "/v1/models",
    "/v1/files/file-abc/content",
    "/v1/a%2Fb/c%20d/%E2%9C%93/%zz",
    "/v1/files?purpose=fine-tune&limit=2&after=",
    "/v1/files?a=1&a=2&b=%26%3D",
    "/v1/files?",
    "/v1/files?a=b?c=d",
    "/v1//double///slashes/",
    "/v1/dots/./and/../more",
    "/v1/frag#ment?x=1",
    "/v1/odd;params=1,2:3@4!$&'()*+",
    '/v1/pipe|caret^{}`"<>',
    "/v1/" + "long" * 1500,
    "/",
    "/other/root?x",
]


@pytest.mark.parametrize("target", TARGETS)
def test_the_target_is_carried_exactly(plain, target):
    assert plain.proxy.ask("GET", target).status == 200
    assert plain.up.log[0].target == target


def test_options_asterisk_is_carried(plain):
    plain.proxy.ask("OPTIONS", "*")
    assert plain.up.log[0].target == "*"


def test_absolute_form_is_accepted_and_its_authority_ignored(plain):
    got = plain.proxy.ask("GET", "http://elsewhere.test:99/v1/models?limit=1")
    assert got.status == 200
    assert plain.up.log[0].target == "/v1/models?limit=1"
    assert plain.up.log[0].get("host") == f"127.0.0.1:{plain.up.port}"


def test_host_is_the_upstreams(plain):
    plain.proxy.ask("GET", "/v1/models", [("Host", "client.says.this")])
    assert plain.up.log[0].all("host") == [f"127.0.0.1:{plain.up.port}"]


def test_request_headers_keep_case_order_and_duplicates(plain):
    sent = [
        ("User-Agent", "me/1"),
        ("X-One", "1"),
        ("x-TWO", "a"),
        ("x-two", "b"),
        ("Accept", "*/*"),
        ("X-One", "2"),
        ("Cookie", "a=b; c=d"),
        ("accept-encoding", "br;q=1.0, gzip"),
    ]
    plain.proxy.ask("GET", "/v1/models", sent)
    assert [h for h in plain.up.log[0].headers if h[0].lower() != "host"] == sent


def test_nothing_is_added_to_a_bare_request(plain):
    plain.proxy.ask("GET", "/v1/models")
    assert [n.lower() for n, _ in plain.up.log[0].headers] == ["host"]


def test_a_post_gains_only_its_length(plain):
    plain.proxy.post(HELLO)
    assert sorted(n.lower() for n, _ in plain.up.log[0].headers) == ["content-length", "content-type", "host"]


@pytest.mark.parametrize("name", ["Connection", "Keep-Alive", "Proxy-Connection", "TE", "Trailer", "Proxy-Authorization"])
def test_hop_by_hop_request_headers_stay_here(plain, name):
    plain.proxy.ask("GET", "/v1/models", [(name, "close" if name == "Connection" else "x")])
    assert plain.up.log[0].get(name) is None


def test_headers_named_by_connection_stay_here(plain):
    plain.proxy.ask("GET", "/v1/models", [("Connection", "x-private, keep-alive"), ("X-Private", "1"), ("X-Public", "2")])
    assert plain.up.log[0].get("x-private") is None
    assert plain.up.log[0].get("x-public") == "2"


def test_connection_cannot_strip_what_the_upstream_needs(plain):
    plain.proxy.ask(
        "POST", CHAT, [("Connection", "authorization, content-type"), ("Authorization", "Bearer k"), ("Content-Type", "application/json")], HELLO
    )
    assert plain.up.log[0].get("authorization") == "Bearer k"
    assert plain.up.log[0].get("content-type") == "application/json"


def test_our_own_request_headers_stay_here(plain):
    plain.proxy.ask("GET", "/v1/models", [("x-stormjib-deadline", "30s"), ("X-Stormjib-Anything", "1")])
    assert not [n for n, _ in plain.up.log[0].headers if n.lower().startswith("x-stormjib")]


@pytest.mark.parametrize("size", [0, 1, 1000, 100_000, 1_048_576, 1_048_577, 20_000_000])
def test_a_body_of_any_size_arrives_whole(plain, size):
    body = random.Random(size).randbytes(size)
    assert plain.proxy.ask("POST", "/v1/files", [("Content-Type", "application/octet-stream")], body).status == 200
    assert plain.up.log[0].body == body
    assert plain.up.log[0].all("content-length") == [str(size)]


@pytest.mark.parametrize("size", [0, 1, 2500, 3_000_000])
def test_a_chunked_client_body_arrives_whole(plain, size):
    body = random.Random(size).randbytes(size)
    assert plain.proxy.ask("POST", "/v1/files", [], body, chunked=True).status == 200
    assert plain.up.log[0].body == body


def test_chunk_extensions_and_trailers_of_a_client_do_not_confuse(plain):
    head = b"POST /v1/files HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    with plain.proxy.connect() as wire:
        wire.send(head + b"3;name=value\r\nabc\r\n2\r\nde\r\n0\r\nX-Trailer: 1\r\n\r\n")
        assert wire.read().status == 200
    assert plain.up.log[0].body == b"abcde"


def test_a_body_sent_byte_by_byte_arrives_whole(plain):
    with plain.proxy.connect() as wire:
        for n in range(len(data := request("POST", CHAT, [], HELLO))):
            wire.send(data[n : n + 1])
        assert wire.read().status == 200
    assert plain.up.log[0].body == HELLO


def test_multipart_is_carried_byte_for_byte(plain):
    boundary = "----b0undary"
    audio = random.Random(1).randbytes(200_000)
    body = (
        (
            f'--{boundary}\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n--{boundary}\r\n'
            f'Content-Disposition: form-data; name="file"; filename="a.mp3"\r\nContent-Type: audio/mpeg\r\n\r\n'
        ).encode()
        + audio
        + f"\r\n--{boundary}--\r\n".encode()
    )
    plain.proxy.ask("POST", "/v1/audio/transcriptions", [("Content-Type", f"multipart/form-data; boundary={boundary}")], body)
    assert plain.up.log[0].body == body
    assert plain.up.log[0].get("content-type") == f"multipart/form-data; boundary={boundary}"


BODIES = [
    b'{"model":"gpt-4.1","n":9007199254740993}',
    b'{ "model" : "gpt-4.1" ,\n\t"x": 1e400, "x": "\\u0000b" }\n',
    b'{"model":"gpt-4.1","model":"gpt-4.1"}',
    '{"model":"gpt-4.1","t":"\u2713 \U0001f600"}'.encode(),
    b'{"model":"gpt-4.1","deep":' + b"[" * 900 + b"]" * 900 + b"}",
    b"not json at all",
    b'{"model":"gpt-4.1"',
    b"\xff\xfe\x00binary\r\n\r\n",
    b"[]",
    b"null",
    b" ",
]


@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
def test_a_json_body_is_never_rewritten(plain, body):
    plain.proxy.post(body)
    assert plain.up.log[0].body == body


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_a_body_on_a_get_is_carried(plain, method):
    plain.proxy.ask(method, "/v1/things", [], b"odd but allowed")
    assert plain.up.log[0].body == b"odd but allowed"


def test_expect_100_continue_is_answered_here_and_not_forwarded(plain):
    with plain.proxy.connect() as wire:
        wire.send(f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(HELLO)}\r\nExpect: 100-continue\r\n\r\n".encode())
        assert wire.until(b"\r\n\r\n").startswith(b"HTTP/1.1 100")
        wire.send(HELLO)
        assert wire.read().status == 200
    assert plain.up.log[0].get("expect") is None
    assert plain.up.log[0].body == HELLO


# ---- the answer -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 201, 202, 206, 299, 300, 301, 302, 307, 308, 400, 404, 405, 409, 410, 413, 415, 418, 422, 451, 501, 505])
def test_any_final_status_is_carried(plain, status):
    plain.up.use(answer(status, {"some": "body"}, [("Location", "/elsewhere")]))
    got = plain.proxy.ask("GET", "/v1/things")
    assert (got.status, got.json, got.get("location")) == (status, {"some": "body"}, "/elsewhere")
    assert len(plain.up.log) == 1


@pytest.mark.parametrize("status", [204, 304])
def test_a_status_without_body_keeps_the_connection_usable(plain, status):
    plain.up.use(answer(status, headers=[("ETag", '"x"')]), chat("after"))
    with plain.proxy.connect() as wire:
        first = wire.ask("GET", "/v1/things")
        assert (first.status, first.get("etag"), first.get("transfer-encoding")) == (status, '"x"', None)
        nothing_follows(wire, first)


def nothing_follows(wire, answer):
    """After an answer without a body: the connection goes on with the next answer, or is closed as announced."""
    if answer.get("connection") == "close":
        assert wire.is_closed()
    else:
        assert b"after" in wire.ask("POST", CHAT, [], HELLO).body


@pytest.mark.parametrize("chunked", [False, True])
def test_head_has_headers_and_no_body(plain, chunked):
    plain.up.use(answer(200, b"x" * 77, chunked=chunked), chat("after"))
    with plain.proxy.connect() as wire:
        got = wire.ask("HEAD", "/v1/files/1/content")
        assert got.status == 200
        assert got.get("content-length") == (None if chunked else "77")
        nothing_follows(wire, got)


def test_answer_headers_keep_order_case_and_duplicates(plain):
    sent = [
        ("X-Request-ID", "req_1"),
        ("Set-Cookie", "a=1; Path=/"),
        ("openai-version", "2020-10-01"),
        ("set-cookie", "b=2"),
        ("Set-Cookie", "a=1; Path=/"),
        ("X-Long", "v" * 6000),
    ]
    plain.up.use(answer(200, chat_bytes := answers.compact(answers.chat_json()), sent))
    got = plain.proxy.post(HELLO)
    assert [h for h in got.headers if h in sent] == sent
    assert got.body == chat_bytes


def test_date_and_server_are_the_upstreams(plain):
    got = plain.proxy.post(HELLO)
    assert got.all("date") == [answers.DATE]
    assert got.all("server") == ["scripted"]


def test_an_upstream_without_date_stays_without(plain):
    plain.up.use(answers.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))
    got = plain.proxy.ask("GET", "/v1/models")
    assert (got.all("date"), got.all("server"), got.body) == ([], [], b"ok")


@pytest.mark.parametrize("name", ["Connection", "Keep-Alive", "Proxy-Connection", "Upgrade", "Trailer"])
def test_hop_by_hop_answer_headers_stay_there(plain, name):
    plain.up.use(answer(200, b"ok", [(name, "x-hop")]))
    got = plain.proxy.ask("GET", "/v1/models")
    assert got.body == b"ok"
    assert "x-hop" not in got.all(name)


@pytest.mark.parametrize("kind", ["length", "chunked", "until close"])
@pytest.mark.parametrize("size", [0, 1, 70_000, 3_000_000])
def test_an_answer_of_any_size_and_framing_is_carried(plain, kind, size):
    body = random.Random(size).randbytes(size)
    if kind == "until close":
        plain.up.use(answers.raw(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + body, "close"))
    else:
        plain.up.use(answer(200, body, chunked=kind == "chunked", kind="audio/mpeg"))
    got = plain.proxy.ask("GET", "/v1/files/1/content")
    assert got.whole and got.body == body


def test_gzip_is_delivered_as_it_came(plain):
    packed = gzip.compress(answers.compact(answers.chat_json("packed")))
    plain.up.use(answer(200, packed, [("Content-Encoding", "gzip")]))
    got = plain.proxy.post(HELLO, headers=[("Accept-Encoding", "gzip")])
    assert (got.body, got.get("content-encoding")) == (packed, "gzip")
    assert plain.up.log[0].get("accept-encoding") == "gzip"


@pytest.mark.parametrize("coding", ["br", "zstd"])
def test_codings_we_cannot_read_are_carried(plain, coding):
    plain.up.use(answer(200, body := os.urandom(900), [("Content-Encoding", coding)]))
    got = plain.proxy.post(HELLO)
    assert (got.status, got.body) == (200, body)


def test_audio_answers_are_carried(plain):
    audio = random.Random(2).randbytes(500_000)
    plain.up.use(answer(200, audio, chunked=True, kind="audio/mpeg"))
    got = plain.proxy.post(b'{"model":"tts-1","input":"hi","voice":"alloy"}', "/v1/audio/speech")
    assert (got.body, got.get("content-type")) == (audio, "audio/mpeg")


def test_the_answers_model_is_never_rewritten(plain):
    plain.up.use(chat(model="gpt-4.1-2025-04-14"))
    assert plain.proxy.post(HELLO).json["model"] == "gpt-4.1-2025-04-14"


def test_interim_answers_are_swallowed(plain):
    head = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"
    plain.up.use(answers.raw(head + b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))
    with plain.proxy.connect() as wire:
        got = wire.ask("GET", "/v1/models")
        assert (got.status, got.body, got.get("link"), wire.interim) == (200, b"ok", None, [])


# ---- connections ----------------------------------------------------------------------------------------------------------------


def test_many_requests_on_one_connection(plain):
    with plain.proxy.connect() as wire:
        for n in range(20):
            assert wire.ask("POST", CHAT, [], HELLO + b" " * n).status == 200
    assert plain.up.bodies() == [HELLO + b" " * n for n in range(20)]


def test_pipelined_requests_are_answered_in_order(plain):
    plain.up.use(*(answer(200, {"n": n}) for n in range(4)))
    with plain.proxy.connect() as wire:
        wire.send(b"".join(request("GET", f"/v1/things/{n}") for n in range(4)))
        assert [wire.read().json["n"] for _ in range(4)] == [0, 1, 2, 3]
    assert [r.target for r in plain.up.log] == [f"/v1/things/{n}" for n in range(4)]


def test_http_1_0_clients_are_served_without_chunking(plain):
    plain.up.use(answer(200, b"y" * 5000, chunked=True))
    with plain.proxy.connect() as wire:
        wire.send(b"GET /v1/models HTTP/1.0\r\n\r\n")
        got = wire.read()
        assert (got.status, got.get("transfer-encoding"), got.body) == (200, None, b"y" * 5000)


def test_connection_close_is_obeyed(plain):
    with plain.proxy.connect() as wire:
        assert wire.ask("GET", "/v1/models", [("Connection", "close")]).status == 200
        assert wire.is_closed()


def test_upstream_connections_are_reused(plain):
    for _ in range(5):
        plain.proxy.post(HELLO)
    assert len({r.connection for r in plain.up.log}) == 1


# ---- where it goes --------------------------------------------------------------------------------------------------------------

WHERE = [
    ("", "/v1/chat/completions", "/v1/chat/completions"),
    ("", "/chat/completions?x=1", "/chat/completions?x=1"),
    ("/v1", "/v1/chat/completions", "/v1/chat/completions"),
    ("/v1", "/chat/completions", "/v1/chat/completions"),
    ("/v1", "/v1", "/v1"),
    ("/v1", "/v1?x=1", "/v1?x=1"),
    ("/v1", "/v1beta/x", "/v1/v1beta/x"),
    ("/v1/", "/v1/models", "/v1/models"),
    ("/v1beta/openai", "/v1/chat/completions", "/v1beta/openai/chat/completions"),
    ("/api/paas/v4", "/v1/models?a=%2F", "/api/paas/v4/models?a=%2F"),
    ("/v1beta/openai", "/models#x", "/v1beta/openai/models#x"),
]


@pytest.mark.parametrize("base,asked,want", WHERE)
def test_the_base_url_decides_the_path(upstream, serve, base, asked, want):
    up = upstream(answer(200, b"ok"))
    proxy = serve(conf.one(up, upstreams={"up": {"base_url": up.url + base}}))
    proxy.ask("GET", asked)
    assert up.log[0].target == want


def test_extra_query_and_headers_of_an_upstream(upstream, serve):
    up = upstream(answer(200, b"ok"))
    proxy = serve(conf.one(up, upstreams={"up": {"query": {"api-version": "2024-10-21"}, "headers": {"X-Team": "ours"}}}))
    proxy.ask("GET", "/v1/models?limit=1", [("X-Team", "theirs")])
    assert up.log[0].target == "/v1/models?limit=1&api-version=2024-10-21"
    assert up.log[0].all("x-team") == ["ours"]


def test_no_matching_route_is_404_in_openais_shape(upstream, serve):
    up = upstream(chat())
    proxy = serve(conf.one(up, routes=[{"model": "gpt-*", "chain": ["up"]}]))
    got = proxy.post(b'{"model":"claude"}')
    assert (got.status, got.code, up.log) == (404, "not_found", [])


def test_forwarded_headers_only_by_option(upstream, serve):
    up = upstream(chat())
    serve(conf.one(up, forwarded=True)).post(HELLO)
    assert any(n.lower().startswith(("x-forwarded", "forwarded", "via")) for n, _ in up.log[0].headers)


def test_labels_can_be_turned_off(upstream, serve):
    up = upstream(chat())
    got = serve(conf.one(up, labels=False)).post(HELLO)
    assert not [n for n, _ in got.headers if n.lower().startswith(("x-stormjib", "server-timing"))]
