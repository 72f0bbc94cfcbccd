"""When nothing answers: stored answers and configured texts, labelled, and never in place of the caller's own errors (BEHAVIOUR 11)."""

import gzip
import http.client
import json
import re

import pytest

from kit import answers, api, conf
from kit.answers import ROLE, answer, chat, chat_events, delta, drop, event, fail, hang, sse
from kit.client import eventually
from kit.trail import tries

CHAT = "/v1/chat/completions"
OUT = fail(503, "upstream_is_down")
NEVER = {"max_attempts": 1}
TEXT = 'We are "busy".\nTry again \u2713'


def ask(temperature=0, **more):
    return answers.compact({"model": "gpt-4.1", "temperature": temperature, "messages": [{"role": "user", "content": "hi"}], **more})


def kept(up, route=None, **over):
    """One upstream, one attempt, answers kept for an hour."""
    routes = [{"model": "*", "chain": ["up"], "stale_if_error": "1h", **(route or {})}]
    return conf.one(up, **conf.merged({"routes": routes, "retry": {"max_attempts": 1}}, over))


def texted(up, route=None, **over):
    return kept(up, {"stale_if_error": "0s", "degraded": TEXT, **(route or {})}, **over)


def cache_status(got):
    """(ttl, detail) of the one field, which must be written as RFC 9211 has it."""
    (value,) = got.all("cache-status")
    match = re.fullmatch(r"stormjib; hit; ttl=(-?\d+); detail=([a-z0-9-]+)", value)
    assert match, value
    return int(match[1]), match[2]


def is_stale(got, body, detail):
    ttl, why = cache_status(got)
    assert (got.status, got.body, why, got.whole) == (200, body, detail, True)
    assert int(got.get("age")) == -ttl
    return -ttl


def is_error(got, status, code):
    assert (got.status, got.code) == (status, code)
    assert got.get("cache-status") is got.get("age") is got.label("degraded") is None
    return True


# ---- stored answers ---------------------------------------------------------------------------------------------------------------


def test_an_outage_after_a_success_serves_what_was_said_then(upstream, serve):
    up = upstream(chat("kept", headers=[("x-request-id", "req_1")]), OUT)
    proxy = serve(kept(up))
    first = proxy.post(ask())
    assert first.get("cache-status") is None
    got = proxy.post(ask())
    is_stale(got, first.body, "upstream-503")
    assert (got.get("content-type"), got.get("x-request-id")) == ("application/json", "req_1")
    assert got.get("date") == first.get("date") and got.all("date") == [answers.DATE]
    assert (got.label("target"), got.attempts, tries(got.label("trail"))) == ("up/gpt-4.1", 1, [("up/gpt-4.1", "503")])
    assert got.get("x-should-retry") is None
    assert got.label("request-id") != first.label("request-id")
    assert proxy.metric("stormjib_stale_served_total", target="up/gpt-4.1", reason="upstream-503") == 1
    eventually(lambda: proxy.metric("stormjib_exchanges_total", result="stale") == 1)  # counted at the end of the exchange
    assert proxy.metric("stormjib_store_answers") == 1 and proxy.metric("stormjib_store_bytes") > len(first.body)
    line = proxy.wait_line(r"^.*event=stale_served .*$")[0]
    assert "reason=upstream-503" in line and re.search(r"age_ms=\d+", line)
    assert "result=stale" in proxy.wait_line(r"^.*event=completed .*result=stale.*$")[0]
    state = json.loads(proxy.admin("/state")[1])
    assert state["totals"]["stale_served"] == 1
    assert state["store"]["answers"] == 1 and state["store"]["hits"] == 1


def test_its_age_grows_and_a_newer_answer_takes_its_place(upstream, serve):
    up = upstream(chat("old"), OUT)
    proxy = serve(kept(up))
    old = proxy.post(ask()).body
    ages = []

    def older():
        ages.append(is_stale(proxy.post(ask()), old, "upstream-503"))
        return ages[-1] >= 2

    eventually(older)
    assert ages == sorted(ages)
    up.use(chat("new"), OUT)
    new = proxy.post(ask())
    assert new.get("age") is None and new.body != old
    is_stale(proxy.post(ask()), new.body, "upstream-503")


def test_what_is_too_old_is_not_served(upstream, serve):
    up = upstream(chat(), OUT)
    proxy = serve(kept(up))
    body = proxy.post(ask()).body
    is_stale(proxy.post(ask()), body, "upstream-503")
    proxy.reload(routes=[{"model": "*", "chain": ["up"], "stale_if_error": "1s"}])
    proxy.wait_line("configuration reloaded")
    got = eventually(lambda: (got := proxy.post(ask())).status == 503 and got)
    is_error(got, 503, "upstream_is_down")


def test_an_age_from_before_counts(upstream, serve):
    up = upstream(chat(headers=[("Age", "1000"), ("Cache-Status", "far; hit")]), OUT)
    proxy = serve(kept(up))
    assert proxy.post(ask()).all("age") == ["1000"]
    got = proxy.post(ask())
    assert len(got.all("age")) == 1 and int(got.get("age")) >= 1000
    far, ours = got.all("cache-status")
    assert far == "far; hit" and re.fullmatch(r"stormjib; hit; ttl=-1\d\d\d; detail=upstream-503", ours)


# What the client's error would be without it, as settings and what upstream does; None: nobody listens.
CAUSES = {
    "upstream-503": (OUT, {}),
    "upstream-500": (fail(500), {}),
    "upstream-429": (fail(429, "rate_limit_exceeded", headers=[("Retry-After", "600")]), {}),
    "upstream-402": (fail(402, "payment"), {}),
    "upstream-error": (answer(200, answers.error_json("insufficient_quota")), {}),
    "retries-exhausted": (drop("reset"), {}),
    "timeout": (hang(), {"upstreams": {"up": {"answer_timeout": "300ms"}}}),
    "deadline": (hang(), {"deadline": "400ms"}),
}


@pytest.mark.parametrize("detail", CAUSES)
def test_why(upstream, serve, detail):
    behaviour, over = CAUSES[detail]
    up = upstream(chat(), behaviour)
    over = conf.merged({"upstreams": {"up": {"base_url": up.url}}}, over)
    proxy = serve(kept(up, **over))
    body = proxy.post(ask()).body
    is_stale(proxy.post(ask()), body, detail)


def test_why_unreachable(upstream, serve):
    up = upstream(answer(200, answers.chat_json(), headers=[("Connection", "close")]))
    proxy = serve(kept(up))
    body = proxy.post(ask()).body
    up.stop_listening()
    # Until its socket is closed, a connection may still be taken, and then dropped.
    got = eventually(lambda: "unreachable" in (got := proxy.post(ask())).get("cache-status", "") and got)
    is_stale(got, body, "unreachable")


def test_why_breaker_open(upstream, serve):
    up = upstream(chat())
    proxy = serve(kept(up, breaker={"enabled": True, "max_open_wait": "0s"}))
    body = proxy.post(ask()).body
    admin = http.client.HTTPConnection("127.0.0.1", proxy.admin_port, timeout=60)
    admin.request("POST", "/breaker/up/gpt-4.1/open")
    assert admin.getresponse().status == 200
    admin.close()
    is_stale(proxy.post(ask()), body, "breaker-open")
    assert len(up.log) == 1


def test_why_queue_full(upstream, serve):
    up = upstream(chat(), hang())
    proxy = serve(kept(up, upstreams={"up": {"base_url": up.url, "max_concurrent": 1, "adaptive": False, "queue": {"max_waiting": 0}}}))
    body = proxy.post(ask()).body
    with proxy.connect() as busy:
        busy.send(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
        up.wait(2)
        is_stale(proxy.post(ask()), body, "queue-full")


def test_why_queue_timeout(upstream, serve):
    up = upstream(chat(), hang())
    slots = {"base_url": up.url, "max_concurrent": 1, "adaptive": False, "queue": {"timeout": "200ms"}}
    proxy = serve(kept(up, upstreams={"up": slots}))
    body = proxy.post(ask()).body
    with proxy.connect() as busy:
        busy.send(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
        up.wait(2)
        is_stale(proxy.post(ask()), body, "queue-timeout")


CALLERS = [
    (400, "bad"),
    (400, "context_length_exceeded"),
    (400, "content_policy_violation"),
    (401, "invalid_api_key"),
    (403, "forbidden"),
    (404, "model_not_found"),
    (404, "x"),
    (409, "x"),
    (413, "x"),
    (415, "x"),
    (422, "x"),
]


@pytest.mark.parametrize("status,code", CALLERS)
def test_the_callers_own_errors_are_never_hidden(upstream, serve, status, code):
    up = upstream(chat(), fail(status, code))
    proxy = serve(kept(up, {"degraded": TEXT}))
    assert proxy.post(ask()).status == 200
    is_error(proxy.post(ask()), status, code)


def test_nor_are_our_own_refusals_of_a_bad_request(upstream, serve):
    up = upstream(chat())
    proxy = serve(kept(up, {"path": "/v1/*", "degraded": TEXT}, client_keys=["sesame"], max_body="1KiB"))
    key = [("Authorization", "Bearer sesame")]
    assert proxy.post(ask(), headers=key).status == 200
    is_error(proxy.post(ask()), 401, "unauthorized")
    is_error(proxy.post(ask(), target="/other/chat/completions", headers=key), 404, "not_found")
    is_error(proxy.post(ask(pad="x" * 2000), headers=key), 413, "body_too_large")


def test_a_fallbacks_refusal_does_not_pass_for_the_callers_error(upstream, serve):
    a, b = upstream(chat("kept"), OUT), upstream(fail(400, "of b"))
    routes = [{"model": "gpt-4.1", "chain": ["a/gpt-4.1", "b/deepseek-v3.2"], "stale_if_error": "1h"}]
    proxy = serve(conf.chain(a, b, routes=routes))
    body = proxy.post(ask()).body
    is_stale(proxy.post(ask()), body, "upstream-503")
    assert len(b.log) == 1


# ---- what is kept, and for whom -----------------------------------------------------------------------------------------------------


def gone_after(proxy, up, body=None, headers=(), target=CHAT):
    """Asked once with success, then in an outage: the second answer."""
    body = ask() if body is None else body
    assert proxy.post(body, target, headers).status == 200
    up.use(OUT)
    return proxy.post(body, target, headers)


def whole_json(value, headers=(), **more):
    return answer(200, value, headers, **more)


NOT_KEPT = {
    "temperature": (ask(0.1), chat()),
    "no temperature": (b'{"model":"gpt-4.1"}', chat()),
    "no object": (b"[]", chat()),
    "background": (ask(background=True), chat()),
    "vary": (ask(), chat(headers=[("Vary", "*")])),
    "vary by what is not in the question": (ask(), chat(headers=[("Vary", "Origin, X-Tenant")])),
    "degraded elsewhere": (ask(), chat(headers=[("x-stormjib-degraded", "true")])),
    "created": (ask(), answer(201, answers.chat_json())),
    "a coding we cannot read": (ask(), answer(200, b"\x1b\x05\x00\x80", headers=[("Content-Encoding", "br")])),
    "an event that is not JSON": (ask(stream=True), sse(ROLE, delta("a"), event(b"{oops"), delta(finish="stop"), answers.DONE)),
}


@pytest.mark.parametrize("body,behaviour", NOT_KEPT.values(), ids=NOT_KEPT.keys())
def test_not_kept(upstream, serve, body, behaviour):
    up = upstream(behaviour)
    proxy = serve(kept(up))
    assert proxy.post(body).status in (200, 201)
    up.use(OUT)
    is_error(proxy.post(body), 503, "upstream_is_down")
    assert proxy.metric("stormjib_store_answers") == 0


@pytest.mark.parametrize("path", ["/v1/embeddings", "/openai/deployments/e/embeddings?api-version=1"])
def test_embeddings_are_kept_whatever_the_temperature(upstream, serve, path):
    up = upstream(answer(200, api.EMBEDDING))
    got = gone_after(serve(kept(up)), up, b'{"model":"e","input":"x"}', target=path)
    is_stale(got, answers.compact(api.EMBEDDING), "upstream-503")


def test_only_generation_paths(upstream, serve):
    up = upstream(answer(200, api.MODELS))
    proxy = serve(kept(up, {"degraded": TEXT}))
    for method in ("GET", "PUT"):
        up.use(answer(200, api.MODELS), OUT)
        assert proxy.ask(method, "/v1/models", body=ask()).status == 200
        is_error(proxy.ask(method, "/v1/models", body=ask()), 503, "upstream_is_down")
    up.use(OUT)
    assert proxy.ask("HEAD", CHAT).status == 503


def test_a_broken_stream_is_not_kept(upstream, serve):
    up = upstream(sse(ROLE, delta("Hel"), then="close"))
    proxy = serve(kept(up, {"rescue": "off"}))
    assert not proxy.post(ask(stream=True)).whole
    up.use(OUT)
    is_error(proxy.post(ask(stream=True)), 503, "upstream_is_down")


def test_a_rescued_stream_is_not_kept(upstream, serve):
    whole = chat_events("Hel", "lo")
    up = upstream(sse(*whole[:2], then="close"), sse(*whole))
    proxy = serve(kept(up, retry={"max_attempts": 2}))
    got = proxy.post(ask(stream=True))
    assert got.whole and got.body.endswith(answers.DONE) and len(up.log) == 2
    up.use(OUT)
    is_error(proxy.post(ask(stream=True)), 503, "upstream_is_down")


def test_a_client_that_leaves_leaves_no_answer(upstream, serve):
    up = upstream(sse(ROLE, delta("Hel"), then="hang"))
    proxy = serve(kept(up))
    with proxy.connect() as wire:
        body = ask(stream=True)
        wire.send(b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (CHAT.encode(), len(body), body))
        wire.head()
        assert wire.chunk()
    up.until_gone(0)
    up.use(OUT)
    is_error(proxy.post(ask(stream=True)), 503, "upstream_is_down")


KEY_A, KEY_B = [("Authorization", "Bearer sk-a")], [("Authorization", "Bearer sk-b")]


@pytest.mark.parametrize(
    "second",
    [
        dict(headers=KEY_B),
        dict(headers=()),
        dict(headers=[("api-key", "sk-a")]),
        dict(headers=[("Cookie", "session=a")]),
        dict(headers=[*KEY_A, ("OpenAI-Organization", "org-2")]),
        dict(headers=[*KEY_A, ("Accept-Encoding", "gzip")]),
        dict(headers=KEY_A, body=ask(user="x")),
        dict(headers=KEY_A, target=CHAT + "?x=1"),
        dict(headers=KEY_A, target="/chat/completions"),
    ],
    ids=str,
)
def test_another_question_or_another_asker_gets_nothing(upstream, serve, second):
    up = upstream(chat("only for a"), OUT)
    proxy = serve(kept(up))
    first = dict(headers=KEY_A, body=ask())
    body = proxy.post(**first).body
    got = proxy.post(**{"body": ask(), **second})
    is_error(got, 503, "upstream_is_down")
    is_stale(proxy.post(**first), body, "upstream-503")


def test_a_cookie_that_changes_with_every_answer_does_not_matter(upstream, serve):
    up = upstream(chat(), OUT)
    proxy = serve(kept(up))
    body = proxy.post(ask(), headers=KEY_A).body
    is_stale(proxy.post(ask(), headers=[*KEY_A, ("Cookie", "AWSALB=x1")]), body, "upstream-503")


def test_client_keys_tell_clients_apart(upstream, serve):
    up = upstream(chat("only for a"), OUT)
    proxy = serve(kept(up, client_keys=["sk-a", "sk-b"]))
    body = proxy.post(ask(), headers=KEY_A).body
    is_error(proxy.post(ask(), headers=KEY_B), 503, "upstream_is_down")
    is_stale(proxy.post(ask(), headers=KEY_A), body, "upstream-503")


def test_what_the_client_says_of_caching(upstream, serve):
    up = upstream(chat())
    proxy = serve(kept(up))
    no_store, no_cache = [("Cache-Control", "max-age=0, no-store")], [("Cache-Control", "No-Cache")]
    is_error(gone_after(proxy, up, headers=no_store), 503, "upstream_is_down")
    is_error(proxy.post(ask()), 503, "upstream_is_down")  # nothing was kept
    up.use(chat())
    body = proxy.post(ask(), headers=no_cache).body
    up.use(OUT)
    is_error(proxy.post(ask(), headers=no_cache), 503, "upstream_is_down")
    is_error(proxy.post(ask(), headers=no_store), 503, "upstream_is_down")
    is_stale(proxy.post(ask()), body, "upstream-503")


def test_cookies_and_limits_are_not_kept(upstream, serve):
    moment = [
        ("Set-Cookie", "__cf_bm=secret; path=/"),
        ("x-ratelimit-remaining-requests", "7"),
        ("x-should-retry", "true"),
        ("Retry-After", "7"),
        ("openai-organization", "acme"),
        ("X-Twice", "1"),
        ("X-Twice", "2"),
    ]
    up = upstream(chat(headers=moment))
    proxy = serve(kept(up))
    first = proxy.post(ask())
    assert first.get("set-cookie")
    up.use(OUT)
    got = proxy.post(ask())
    is_stale(got, first.body, "upstream-503")
    assert [got.all(name) for name, _ in moment[:4]] == [[]] * 4
    assert got.all("openai-organization") == ["acme"] and got.all("x-twice") == ["1", "2"]


def test_a_compressed_answer_stays_as_it_was_for_those_who_take_it(upstream, serve):
    packed = gzip.compress(answers.compact(answers.chat_json()))
    up = upstream(answer(200, packed, headers=[("Content-Encoding", "gzip")]))
    proxy = serve(kept(up))
    got = gone_after(proxy, up, headers=[("Accept-Encoding", "gzip")])
    is_stale(got, packed, "upstream-503")
    assert got.get("content-encoding") == "gzip"
    is_error(proxy.post(ask(), headers=[("Accept-Encoding", "identity")]), 503, "upstream_is_down")


def test_a_large_answer_goes_through_and_is_kept(upstream, serve):
    large = {"object": "list", "data": [{"embedding": "x" * 3_000_000}], "model": "e", "usage": {"prompt_tokens": 1, "total_tokens": 1}}
    up = upstream(answer(200, large))
    got = gone_after(serve(kept(up)), up, b'{"model":"e","input":"x"}', target="/v1/embeddings")
    is_stale(got, answers.compact(large), "upstream-503")


def test_the_oldest_make_room(upstream, serve):
    up = upstream(chat("x" * 10_000))
    proxy = serve(kept(up, store={"max": "100KiB"}))
    questions = [ask(seed=n) for n in range(20)]
    for question in questions:
        assert proxy.post(question).status == 200
    assert 5 <= proxy.metric("stormjib_store_answers") <= 10
    assert proxy.metric("stormjib_store_bytes") <= 100 * 1024
    assert proxy.metric("stormjib_store_evicted_total") >= 10
    up.use(OUT)
    assert proxy.post(questions[0]).status == 503
    assert proxy.post(questions[-1]).status == 200


def test_an_answer_too_large_for_the_store_goes_through(upstream, serve):
    up = upstream(chat("x" * 20_000))
    proxy = serve(kept(up, store={"max": "100KiB"}))
    is_error(gone_after(proxy, up), 503, "upstream_is_down")
    up.use(sse(*chat_events(*["y" * 500] * 100)))
    assert proxy.post(ask(stream=True)).body.endswith(answers.DONE)
    up.use(OUT)
    is_error(proxy.post(ask(stream=True)), 503, "upstream_is_down")


def test_a_cheaper_models_answer_is_not_kept(upstream, serve):
    a, b = upstream(OUT), upstream(chat("cheap"), OUT)
    routes = [{"model": "gpt-4.1", "chain": ["a/gpt-4.1", "b/deepseek-v3.2"], "stale_if_error": "1h"}]
    proxy = serve(conf.chain(a, b, routes=routes))
    assert proxy.post(ask()).json["choices"][0]["message"]["content"] == "cheap"
    is_error(proxy.post(ask()), 503, "upstream_is_down")


def test_the_same_model_elsewhere_is_kept_under_its_name(upstream, serve):
    a, b = upstream(OUT), upstream(chat("as good"), OUT)
    routes = [{"model": "gpt-4.1", "chain": ["a/gpt-4.1", "b/gpt-4.1"], "stale_if_error": "1h"}]
    proxy = serve(conf.chain(a, b, routes=routes))
    body = proxy.post(ask()).body
    got = proxy.post(ask())
    is_stale(got, body, "upstream-503")
    assert got.label("target") == "b/gpt-4.1"


def test_two_workers_share_it(upstream, serve):
    up = upstream(chat(), OUT)
    proxy = serve(kept(up, workers=2))
    body = proxy.post(ask()).body
    for _ in range(20):  # new connections go to either worker
        is_stale(proxy.post(ask()), body, "upstream-503")


def test_a_reload_keeps_it_until_no_route_wants_it(upstream, serve):
    up = upstream(chat(), OUT)
    proxy = serve(kept(up))
    body = proxy.post(ask()).body
    proxy.reload(deadline="100s")
    proxy.wait_line("configuration reloaded", count=1)
    is_stale(proxy.post(ask()), body, "upstream-503")
    proxy.reload(routes=[{"model": "*", "chain": ["up"]}])
    proxy.wait_line("configuration reloaded", count=2)
    eventually(lambda: proxy.post(ask()).status == 503)
    proxy.reload(routes=[{"model": "*", "chain": ["up"], "stale_if_error": "1h"}])
    proxy.wait_line("configuration reloaded", count=3)
    eventually(lambda: "stormjib_store_answers 0" in proxy.metrics())
    is_error(proxy.post(ask()), 503, "upstream_is_down")


# ---- streams ------------------------------------------------------------------------------------------------------------------------


def test_a_stream_is_replayed_byte_for_byte(upstream, serve):
    up = upstream(sse(b": hello\n\n", *chat_events("one ", "two")))
    proxy = serve(kept(up))
    first = proxy.post(ask(stream=True))
    up.use(OUT)
    got = proxy.post(ask(stream=True))
    is_stale(got, first.body, "upstream-503")
    assert got.get("content-type") == "text/event-stream"
    is_error(proxy.post(ask()), 503, "upstream_is_down")  # the same question, asked for in one piece, is another one


def test_a_done_that_we_supplied_is_replayed_too(upstream, serve):
    up = upstream(sse(*chat_events("one")[:-1]))
    proxy = serve(kept(up))
    first = proxy.post(ask(stream=True))
    assert first.body.endswith(answers.DONE)
    up.use(OUT)
    is_stale(proxy.post(ask(stream=True)), first.body, "upstream-503")


@pytest.mark.parametrize("route", [{"stream": "verified"}, {"stream": "verified", "keepalive": "1s"}, {"keepalive": "1s"}], ids=str)
def test_inside_a_stream_that_has_begun(upstream, serve, route):
    """The head went out with a sign of life: the labels come as a comment, then the recording."""
    up = upstream(sse(*chat_events("one ", "two")))
    proxy = serve(kept(up, route))
    first = proxy.post(ask(stream=True)).body
    gate = up.gate()

    async def late(call):
        await gate.passed()
        await fail(503)(call)

    up.use(late)
    with proxy.connect() as wire:
        body = ask(stream=True)
        wire.send(b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (CHAT.encode(), len(body), body))
        if "keepalive" not in route:
            gate.open()
            is_stale(wire.read("POST"), first, "upstream-503")
            return
        assert wire.head().status == 200
        assert wire.chunk() == b": keepalive\n\n"
        gate.open()
        rest = b""
        while data := wire.chunk():
            rest += data
    rest = rest.replace(b": keepalive\n\n", b"")
    comment = re.match(rb": Age: \d+\n: Cache-Status: stormjib; hit; ttl=-?\d+; detail=upstream-503\n\n", rest)
    assert comment and rest[comment.end() :] == first


# ---- configured texts ---------------------------------------------------------------------------------------------------------------


def is_degraded(got):
    assert (got.status, got.label("degraded"), got.whole) == (200, "true", True)
    assert got.get("cache-status") is None and got.get("cache-control") == "no-store"
    return got


def test_a_text_stands_in(upstream, serve):
    up = upstream(OUT)
    proxy = serve(texted(up))
    got = is_degraded(proxy.post(ask(0.7)))
    choice = got.json["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"], got.json["model"]) == (TEXT, "stop", "gpt-4.1")
    assert got.label("target") is None and tries(got.label("trail")) == [("up/gpt-4.1", "503")]
    assert proxy.metric("stormjib_degraded_served_total", target="up/gpt-4.1", reason="upstream-503") == 1
    eventually(lambda: proxy.metric("stormjib_exchanges_total", result="degraded") == 1)  # counted at the end of the exchange
    assert "reason=upstream-503" in proxy.wait_line(r"^.*event=degraded_served .*$")[0]
    assert json.loads(proxy.admin("/state")[1])["totals"]["degraded_served"] == 1
    assert proxy.post(ask(0.7)).json["id"] != got.json["id"]


def test_a_stored_answer_comes_before_it_and_it_is_never_stored(upstream, serve):
    up = upstream(OUT)
    proxy = serve(texted(up, {"stale_if_error": "1h"}))
    is_degraded(proxy.post(ask()))
    is_degraded(proxy.post(ask()))
    up.use(chat("real"))
    body = proxy.post(ask()).body
    up.use(OUT)
    is_stale(proxy.post(ask()), body, "upstream-503")
    is_degraded(proxy.post(ask(0.5)))


PATHS = ["/v1/embeddings", "/v1/moderations", "/v1/images/generations", "/v1/audio/speech", "/v1/threads/t/runs", "/v1/models", "/v1/files"]


@pytest.mark.parametrize("path", PATHS)
def test_only_where_a_text_makes_sense(upstream, serve, path):
    up = upstream(OUT)
    is_error(serve(texted(up)).post(b'{"model":"m","input":"x"}', path), 503, "upstream_is_down")


@pytest.mark.parametrize(
    "wish",
    [{"response_format": {"type": "json_object"}}, {"tool_choice": "required", "tools": []}, {"tool_choice": {"type": "function", "function": {"name": "f"}}}],
    ids=str,
)
def test_not_where_the_text_would_be_misread(upstream, serve, wish):
    up = upstream(OUT)
    is_error(serve(texted(up)).post(ask(**wish)), 503, "upstream_is_down")


def test_a_text_that_is_json_serves_those_who_want_json(upstream, serve):
    up = upstream(OUT)
    proxy = serve(texted(up, {"degraded": '{"busy": true}'}))
    got = is_degraded(proxy.post(ask(response_format={"type": "json_object"})))
    assert json.loads(got.json["choices"][0]["message"]["content"]) == {"busy": True}


@pytest.mark.parametrize("detail", [name for name in CAUSES if not name.startswith("upstream")])
def test_a_text_for_each_cause(upstream, serve, detail):
    behaviour, over = CAUSES[detail]
    up = upstream(behaviour)
    proxy = serve(texted(up, **conf.merged({"upstreams": {"up": {"base_url": up.url}}}, over)))
    is_degraded(proxy.post(ask()))
    assert proxy.metric("stormjib_degraded_served_total", reason=detail) == 1


def test_a_text_inside_a_stream_that_has_begun(upstream, serve):
    up = upstream(hang())
    proxy = serve(texted(up, {"keepalive": "1s"}, deadline="1500ms"))
    got = proxy.post(ask(stream=True))
    assert (got.status, got.whole) == (200, True)
    parts = [part for part in got.body.split(b"\n\n") if part and part != b": keepalive"]
    assert parts[0] == b": x-stormjib-degraded: true"
    chunks = [json.loads(part.removeprefix(b"data: ")) for part in parts[1:-1]]
    assert "".join(c["choices"][0]["delta"].get("content", "") for c in chunks) == TEXT
    assert parts[-1] == b"data: [DONE]"


def test_labels_can_be_off_but_not_these(upstream, serve):
    up = upstream(chat(), OUT)
    proxy = serve(kept(up, {"degraded": TEXT}, labels=False))
    body = proxy.post(ask()).body
    got = proxy.post(ask())
    is_stale(got, body, "upstream-503")
    assert got.label("target") is got.label("trail") is None
    is_degraded(proxy.post(ask(1)))


def test_nothing_secret_is_told(upstream, serve):
    up = upstream(chat("a hushed answer", headers=[("Set-Cookie", "c=cookie-hush")]), OUT)
    proxy = serve(kept(up, {"degraded": TEXT}, log={"level": "debug"}))
    secrets = [("Authorization", "Bearer sk-hush"), ("Cookie", "c=cookie-hush")]
    for temperature in (0, 0, 1):
        assert proxy.post(ask(temperature, user="user-hush"), headers=secrets).status == 200
    told = proxy.metrics() + proxy.admin("/state")[1] + proxy.admin("/")[1] + proxy.output()
    assert "hush" not in told


# ---- as the SDK sees it ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def sdk(upstream, serve):
    openai = pytest.importorskip("openai")
    up = upstream(api.serve_all())
    proxy = serve(kept(up, {"degraded": TEXT}))
    with openai.OpenAI(base_url=proxy.url + "/v1", api_key="sk-test") as client:
        yield client, up


USER = [{"role": "user", "content": "hi"}]
ZERO = {"model": "gpt-4.1", "messages": USER, "temperature": 0}


def test_sdk_reads_stored_answers(sdk):
    client, up = sdk
    calls = [
        lambda: client.chat.completions.create(**ZERO).choices[0].message.content,
        lambda: "".join(p.choices[0].delta.content or "" for p in client.chat.completions.create(**ZERO, stream=True)),
        lambda: client.embeddings.create(model="e", input="x", encoding_format="float").data[0].embedding,
        lambda: client.responses.create(model="gpt-4.1", input="hi", temperature=0).output_text,
        lambda: "".join(
            e.delta for e in client.responses.create(model="gpt-4.1", input="hi", temperature=0, stream=True) if e.type == "response.output_text.delta"
        ),
    ]
    good = [call() for call in calls]
    assert good == ["Hi there", "Hi there", [0.25, -0.5], "Hi there", "Hi there"]
    up.use(OUT)
    assert [call() for call in calls] == good
    raw = client.chat.completions.with_raw_response.create(**ZERO)
    assert "stormjib; hit; ttl=" in raw.headers["cache-status"]


def test_sdk_reads_texts(sdk):
    client, up = sdk
    up.use(OUT)
    chat_of = client.chat.completions
    got = chat_of.create(model="gpt-4.1", messages=USER, n=3)
    assert [c.message.content for c in got.choices] == [TEXT] * 3
    assert (got.usage.total_tokens, got.choices[0].finish_reason, got.model) == (0, "stop", "gpt-4.1")
    parts = list(chat_of.create(model="gpt-4.1", messages=USER, stream=True, stream_options={"include_usage": True}))
    assert parts[0].choices[0].delta.role == "assistant"
    assert "".join(p.choices[0].delta.content or "" for p in parts[:-1]) == TEXT
    assert parts[-2].choices[0].finish_reason == "stop" and parts[-2].usage is None
    assert parts[-1].choices == [] and parts[-1].usage.total_tokens == 0
    with chat_of.stream(model="gpt-4.1", messages=USER) as stream:
        assert stream.get_final_completion().choices[0].message.content == TEXT
    assert client.completions.create(model="m", prompt=["a", "b"]).choices[1].text == TEXT
    assert "".join(p.choices[0].text for p in client.completions.create(model="m", prompt="a", stream=True)) == TEXT


def test_sdk_reads_texts_as_responses(sdk):
    client, up = sdk
    up.use(OUT)
    got = client.responses.create(model="gpt-4.1", input="hi")
    assert (got.output_text, got.status, got.usage.total_tokens) == (TEXT, "completed", 0)
    events = list(client.responses.create(model="gpt-4.1", input="hi", stream=True))
    assert [e.sequence_number for e in events] == list(range(len(events)))
    assert events[-1].type == "response.completed" and events[-1].response.output_text == TEXT
    with client.responses.stream(model="gpt-4.1", input="hi") as stream:
        assert stream.get_final_response().output_text == TEXT
