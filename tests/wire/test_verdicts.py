"""What each outcome of an attempt leads to: the rows of BEHAVIOUR 3, each judged by what the upstream saw and what the client got."""

import gzip

import pytest

from kit import answers, conf, trail
from kit.answers import answer, chat, drop, fail, raw

BODY = b'{ "model":"gpt-4.1", "messages":[{"role":"user","content":"hi"}] }'
STREAM = b'{"model":"gpt-4.1","stream":true,"messages":[]}'


@pytest.fixture
def pair(upstream, serve):
    """Two upstreams in a chain: pair(script of a, script of b) -> (proxy, a, b)."""

    def start(first, second=None, **over):
        a, b = upstream(*first), upstream(*(second or [chat("from b", model="deepseek-v3.2")]))
        return serve(conf.chain(a, b, **over)), a, b

    return start


# ---- one target -----------------------------------------------------------------------------------------------------------------

RETRIED = [408, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 525, 526, 527, 528, 529]
DELIVERED = [400, 401, 402, 403, 404, 405, 409, 410, 413, 415, 418, 422, 451, 501, 505]


@pytest.mark.parametrize("status", RETRIED)
def test_a_passing_trouble_is_retried_unseen(plain, status):
    plain.up.use(fail(status), fail(status), chat("third time"))
    got = plain.proxy.post(BODY)
    assert (got.status, got.json["choices"][0]["message"]["content"]) == (200, "third time")
    assert plain.up.bodies() == [BODY] * 3
    assert got.attempts == 3
    assert [why for _, why in trail.tries(got.label("trail"))] == [str(status), str(status), "200"]


@pytest.mark.parametrize("status", DELIVERED)
def test_the_callers_errors_are_delivered_as_they_are(plain, status):
    plain.up.use(fail(status, "some_code", headers=[("x-request-id", "req_9")]))
    got = plain.proxy.post(BODY)
    assert (got.status, got.json, got.get("x-request-id")) == (status, answers.error_json("some_code"), "req_9")
    assert (len(plain.up.log), got.attempts) == (1, 1)


ONCE = {
    "context length": fail(400, "context_length_exceeded", "invalid_request_error"),
    "content policy": fail(400, "content_policy_violation", "invalid_request_error"),
    "quota": fail(429, "insufficient_quota", "insufficient_quota"),
    "no model": fail(404, "model_not_found", "invalid_request_error"),
}


@pytest.mark.parametrize("behaviour", ONCE.values(), ids=ONCE.keys())
def test_what_a_repeat_cannot_mend_is_not_repeated(plain, behaviour):
    plain.up.use(behaviour)
    got = plain.proxy.post(BODY)
    assert got.status in (400, 404, 429) and "it broke" in got.json["error"]["message"]
    assert len(plain.up.log) == 1


BROKEN = {
    "closed before an answer": drop("close"),
    "reset before an answer": drop("reset"),
    "closed in the head": raw(b"HTTP/1.1 200 OK\r\nContent-", "close"),
    "closed in the body": raw(b'HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"choices"', "close"),
    "reset in the body": raw(b'HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"choices"', "reset"),
    "chunks without an end": raw(b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"cho\r\n', "close"),
    "empty 200": answer(200, b""),
    "white 200": answer(200, b" \r\n "),
    "truncated JSON": answer(200, b'{"id":"x","choices":[{"index":0,'),
    "HTML for JSON": answer(200, b"<html>maintenance</html>", kind="text/html"),
    "no choices": answer(200, {"id": "x", "choices": []}),
    "error rate_limit": answer(200, answers.error_json("rate_limit_exceeded")),
    "error server_error": answer(200, answers.error_json("server_error")),
    "error by type": answer(200, answers.error_json(None, "server_error")),
    "error timeout": answer(200, answers.error_json("upstream_timeout")),
    "error capacity": answer(200, answers.error_json("no_capacity")),
    "error overloaded": answer(200, answers.error_json(None, "overloaded_error")),
    "error in gzip": answer(200, gzip.compress(answers.compact(answers.error_json("server_error"))), [("Content-Encoding", "gzip")]),
    "not HTTP": raw(b"SSH-2.0-OpenSSH_9.2\r\n", "close"),
}


@pytest.mark.parametrize("behaviour", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_answer_is_retried_unseen(plain, behaviour):
    plain.up.use(behaviour, chat("whole"))
    got = plain.proxy.post(BODY)
    assert (got.status, got.json["choices"][0]["message"]["content"]) == (200, "whole")
    assert plain.up.bodies() == [BODY] * 2


GOOD = {
    "error null": answer(200, answers.chat_json(error=None)),
    "error of another kind": answer(200, answers.error_json("invalid_prompt", "invalid_request_error")),
    "big": answer(200, answers.chat_json("x" * 1_500_000)),
    "unusual members": answer(200, {"choices": [{}], "x": 1}),
    "tool call": answer(200, {"choices": [{"message": {"role": "assistant", "content": None, "tool_calls": []}, "finish_reason": "tool_calls"}]}),
}


@pytest.mark.parametrize("behaviour", GOOD.values(), ids=GOOD.keys())
def test_a_200_that_is_no_passing_trouble_is_delivered(plain, behaviour):
    plain.up.use(behaviour)
    got = plain.proxy.post(BODY)
    assert (got.status, len(plain.up.log)) == (200, 1)
    assert got.whole


def test_conflict_is_retried_by_option(upstream, serve):
    up = upstream(fail(409), chat())
    got = serve(conf.one(up, routes=[{"model": "*", "chain": ["up"], "retry_conflict": True}])).post(BODY)
    assert (got.status, len(up.log)) == (200, 2)


def test_x_should_retry_false_is_obeyed(plain):
    plain.up.use(fail(503, headers=[("x-should-retry", "false")]))
    assert (plain.proxy.post(BODY).status, len(plain.up.log)) == (503, 1)


def test_x_should_retry_true_makes_eligible(plain):
    plain.up.use(fail(409, headers=[("x-should-retry", "true")]), chat())
    assert (plain.proxy.post(BODY).status, len(plain.up.log)) == (200, 2)


def test_statuses_to_retry_are_configuration(upstream, serve):
    up = upstream(fail(418), fail(503))
    got = serve(conf.one(up, retry={"statuses": ["418", "590-599"]})).post(BODY)
    assert (got.status, len(up.log)) == (503, 2)


def test_error_codes_to_retry_are_configuration(upstream, serve):
    up = upstream(answer(200, answers.error_json("on_fire")), answer(200, answers.error_json("server_error")))
    got = serve(conf.one(up, retry={"error_codes": ["on_fire"]})).post(BODY)
    assert (got.code, len(up.log)) == ("server_error", 2)


# ---- attempt limits -------------------------------------------------------------------------------------------------------------


def test_five_attempts_then_the_upstreams_last_word(plain):
    plain.up.use(*(fail(503, f"try_{n}") for n in range(1, 9)))
    got = plain.proxy.post(BODY)
    assert (got.status, got.code, got.attempts, len(plain.up.log)) == (503, "try_5", 5, 5)
    assert got.get("x-should-retry") == "false"


def test_two_attempts_before_a_fallback_five_on_the_last(pair):
    proxy, a, b = pair([fail(503, "from_a")], [fail(502, "from_b")])
    got = proxy.post(BODY)
    assert (len(a.log), len(b.log), got.attempts) == (2, 5, 7)
    assert (got.status, got.code) == (503, "from_a"), "the first target's answer, never a fallback's"


def test_attempt_limits_are_configuration(pair):
    proxy, a, b = pair([fail(503)], [fail(503)], retry={"max_attempts": 3, "max_attempts_before_fallback": 1})
    proxy.post(BODY)
    assert (len(a.log), len(b.log)) == (1, 3)


def test_a_route_may_have_its_own_limits(upstream, serve):
    up = upstream(fail(503))
    got = serve(conf.one(up, routes=[{"model": "*", "chain": ["up"], "retry": {"max_attempts": 2}}])).post(BODY)
    assert (got.attempts, len(up.log)) == (2, 2)


def test_max_wait_total_stops_before_the_sleep(upstream, serve):
    up = upstream(fail(503))
    got = serve(conf.one(up, retry={"base": "100ms", "max_wait_total": "250ms"})).post(BODY)
    assert (got.status, len(up.log), len(trail.waits(got.label("trail")))) == (503, 3, 2)


def test_a_client_that_retries_by_itself_gets_single_attempts(pair):
    proxy, a, b = pair([fail(503)], [fail(503)])
    got = proxy.post(BODY, headers=[("x-stainless-retry-count", "1")])
    assert (len(a.log), len(b.log), got.status) == (1, 1, 503)


def test_retry_count_zero_is_a_first_try(pair):
    proxy, a, _ = pair([fail(503)])
    proxy.post(BODY, headers=[("x-stainless-retry-count", "0")])
    assert len(a.log) == 2


# ---- what may be repeated -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "chat/completions",
        "completions",
        "embeddings",
        "moderations",
        "images/generations",
        "images/edits",
        "audio/speech",
        "audio/transcriptions",
        "messages",
        "responses",
    ],
)
def test_generation_paths_are_retried_after_a_reset(plain, path):
    plain.up.use(drop("reset"), answer(200, {"ok": 1, "choices": [{}], "output": [{}], "data": [{}], "content": [{}]}))
    got = plain.proxy.post(BODY, "/v1/" + path)
    assert (got.status, len(plain.up.log)) == (200, 2)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("trouble", [fail(503), drop("close"), drop("reset")], ids=["503", "close", "reset"])
def test_safe_methods_are_retried(plain, method, trouble):
    plain.up.use(trouble, answer(200, b"ok"))
    assert (plain.proxy.ask(method, "/v1/models").status, len(plain.up.log)) == (200, 2)


@pytest.mark.parametrize(
    "method,path",
    [("POST", "/v1/files"), ("DELETE", "/v1/files/1"), ("POST", "/v1/fine_tuning/jobs"), ("PUT", "/v1/x"), ("POST", "/v1/responses/r1/cancel")],
)
@pytest.mark.parametrize("trouble,status", [(fail(503), 503), (drop("reset"), 502)], ids=["503", "reset"])
def test_other_methods_are_never_repeated_once_sent(plain, method, path, trouble, status):
    plain.proxy.ask("GET", "/v1/models")
    plain.up.use(trouble)
    got = plain.proxy.ask(method, path, [], b"{}")
    assert (got.status, len(plain.up.log)) == (status, 1)


def test_other_methods_are_repeated_on_429(plain):
    plain.up.use(fail(429), answer(200, b"{}"))
    assert (plain.proxy.ask("POST", "/v1/files", [], b"{}").status, len(plain.up.log)) == (200, 2)


@pytest.mark.parametrize("reused", [False, True])
def test_background_responses_are_not_repeated(plain, reused):
    plain.up.use(chat(headers=[] if reused else [("Connection", "close")]))
    plain.proxy.ask("GET", "/v1/models")
    plain.up.use(drop("reset"))
    got = plain.proxy.post(b'{"model":"gpt-4.1","background":true,"input":"x"}', "/v1/responses")
    assert (got.status, len(plain.up.log)) == (502, 1)


def test_the_get_of_another_path_does_not_fall_back(pair):
    proxy, a, b = pair([fail(503)], routes=[{"model": "*", "chain": ["a", "b"]}])
    assert proxy.ask("GET", "/v1/models").status == 503
    assert len(a.log) > 1 and b.log == []


# ---- the next target ------------------------------------------------------------------------------------------------------------

NEXT_AT_ONCE = {
    "quota 429": fail(429, "insufficient_quota", "insufficient_quota"),
    "quota 402": fail(402, "billing"),
    "no model": fail(404, "model_not_found", "invalid_request_error", "The model `gpt-4.1` does not exist"),
    "too long": fail(400, "context_length_exceeded", "invalid_request_error"),
    "too long, other words": fail(
        400, None, "invalid_request_error", "This model's maximum context length is 8192 tokens, however you requested 9000 tokens"
    ),
}


@pytest.mark.parametrize("behaviour", NEXT_AT_ONCE.values(), ids=NEXT_AT_ONCE.keys())
def test_the_next_target_is_asked_at_once(pair, behaviour):
    proxy, a, b = pair([behaviour])
    got = proxy.post(BODY)
    assert (got.status, len(a.log), len(b.log)) == (200, 1, 1)
    assert got.label("target") == "b/deepseek-v3.2"
    assert got.label("fallback")


STAYS = {
    "caller": fail(400),
    "credential": fail(401),
    "forbidden": fail(403),
    "policy": fail(400, "content_policy_violation"),
    "404 of a path": fail(404, "unknown_url"),
    "422": fail(422),
}


@pytest.mark.parametrize("behaviour", STAYS.values(), ids=STAYS.keys())
def test_the_next_target_is_not_asked(pair, behaviour):
    proxy, a, b = pair([behaviour])
    got = proxy.post(BODY)
    assert got.status in (400, 401, 403, 404, 422)
    assert (len(a.log), len(b.log), got.label("fallback")) == (1, 0, None)


def test_a_refusal_goes_on_by_option(pair):
    routes = [{"model": "*", "chain": ["a/gpt-4.1", "b/deepseek-v3.2"], "fallback_on_refusal": True}]
    proxy, a, b = pair([fail(400, "content_policy_violation")], routes=routes)
    assert (proxy.post(BODY).status, len(a.log), len(b.log)) == (200, 1, 1)


def test_too_long_goes_to_the_larger_context(upstream, serve):
    a, b, c = upstream(fail(400, "context_length_exceeded")), upstream(chat("b")), upstream(chat("c"))
    sizes = {"a": 8000, "b": 4000, "c": 128000}
    settings = conf.chain(a, b, c)
    for name, tokens in sizes.items():
        settings["upstreams"][name]["context"] = [{"model": "*", "tokens": tokens}]
    got = serve(settings).post(BODY)
    assert (got.status, len(a.log), len(b.log), len(c.log)) == (200, 1, 0, 1)


def test_a_refused_connection_falls_back(upstream, serve, dead_url):
    b = upstream(chat("b"))
    settings = conf.chain(b, b)
    settings["upstreams"]["a"]["base_url"] = dead_url
    got = serve(settings).post(BODY)
    assert (got.status, got.label("target"), len(b.log)) == (200, "b/deepseek-v3.2", 1)


def test_a_refused_connection_alone_is_502(upstream, serve, dead_url):
    settings = conf.one(upstream(chat()), upstreams={"up": {"base_url": dead_url}})
    got = serve(settings).post(BODY)
    assert (got.status, got.code, got.attempts) == (502, "upstream_unreachable", 0)
    assert got.get("x-should-retry") == "false"


def test_an_unknown_host_is_502(upstream, serve):
    settings = conf.one(upstream(chat()), upstreams={"up": {"base_url": "http://no-such-host.invalid"}})
    got = serve(settings).post(BODY)
    assert (got.status, got.code) == (502, "upstream_unreachable")


def test_a_silent_target_is_not_asked_twice_while_another_is_there(pair):
    proxy, a, b = pair([answers.hang()], upstreams={"a": {"first_byte_timeout": "300ms", "answer_timeout": "300ms"}})
    got = proxy.post(STREAM)
    assert (got.status, len(a.log), len(b.log)) == (200, 1, 1)
    assert trail.tries(got.label("trail"))[0] == ("a/gpt-4.1", "timeout")


def test_a_silent_target_alone_is_asked_again(upstream, serve):
    up = upstream(answers.hang(), chat("awake"))
    proxy = serve(conf.one(up, upstreams={"up": {"answer_timeout": "300ms"}}))
    assert (proxy.post(BODY).status, len(up.log)) == (200, 2)


def test_silence_to_the_end_is_504(upstream, serve):
    up = upstream(answers.hang())
    proxy = serve(conf.one(up, upstreams={"up": {"answer_timeout": "100ms"}}, retry={"max_attempts": 2}))
    got = proxy.post(BODY)
    assert (got.status, got.code, len(up.log)) == (504, "timeout_max_retries", 2)
    assert got.get("x-should-retry") == "false"


def test_only_resets_to_the_end_is_502(plain):
    plain.up.use(drop("reset"))
    got = plain.proxy.post(BODY)
    assert (got.status, got.code, got.attempts) == (502, "max_retries_exceeded", 5)
    assert len([r for r in plain.up.log if not r.nth]) == 5


def test_a_real_answer_is_preferred_to_our_own_error(plain):
    plain.up.use(fail(503, "real"), drop("reset"))
    got = plain.proxy.post(BODY)
    assert (got.status, got.code) == (503, "real")


def test_a_fallbacks_400_does_not_hide_the_cause(pair):
    proxy, _, b = pair([fail(503, "cause")], [fail(400, "unknown_model")])
    got = proxy.post(BODY)
    assert (got.status, got.code, len(b.log)) == (503, "cause", 1)


# ---- labels ---------------------------------------------------------------------------------------------------------------------


def test_the_trail_tells_what_the_upstreams_saw(pair):
    last = [("Connection", "close")]  # so that a reset is one of a fresh connection, not a stale one
    proxy, a, b = pair([fail(503, headers=last), drop("reset")], [fail(500), chat("at last")])
    got = proxy.post(BODY)
    assert trail.tries(got.label("trail")) == [("a/gpt-4.1", "503"), ("a/gpt-4.1", "reset"), ("b/deepseek-v3.2", "500"), ("b/deepseek-v3.2", "200")]
    assert (len(a.log), len(b.log), got.attempts) == (2, 2, 4)
    assert got.label("target") == "b/deepseek-v3.2"
    assert "wait;dur=" in got.get("server-timing") and "upstream;dur=" in got.get("server-timing")


def test_a_first_try_has_plain_labels(plain):
    got = plain.proxy.post(BODY)
    assert (got.attempts, got.label("fallback"), got.get("x-should-retry")) == (1, None, None)
    assert trail.parse(got.label("trail")) == [(got.label("target"), "200")]


def test_request_ids_differ(plain):
    assert plain.proxy.post(BODY).label("request-id") != plain.proxy.post(BODY).label("request-id")


# ---- connections ----------------------------------------------------------------------------------------------------------------


def _dies_when_reused(then):
    return answers.either(lambda call: then if call.request.nth else chat("fresh"))


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_stale_connection_costs_one_immediate_fresh_try_and_no_attempt(plain, how):
    plain.up.use(_dies_when_reused(drop(how)))
    plain.proxy.ask("GET", "/v1/models", [("x-warm", "1")])
    plain.up.use(_dies_when_reused(drop(how)))
    got = plain.proxy.post(BODY)
    assert (got.status, got.attempts) == (200, 1)
    assert [r.nth > 0 for r in plain.up.log] == [True, False], "once on the reused connection, once on a fresh one"
    assert plain.up.bodies() == [BODY] * 2


def test_a_stale_connection_never_repeats_what_may_not_be_repeated(plain):
    plain.up.use(_dies_when_reused(drop("close")))
    plain.proxy.ask("GET", "/v1/models")
    plain.up.use(_dies_when_reused(drop("close")))
    got = plain.proxy.ask("POST", "/v1/files", [], b"once")
    assert (got.status, len(plain.up.log)) == (502, 1)


def test_a_connection_closed_while_idle_is_not_used(plain):
    async def answer_and_close(call):
        await chat()(call)
        call.close()

    plain.up.use(answer_and_close)
    for n in range(1, 6):
        assert plain.proxy.post(BODY).status == 200
        assert len(plain.up.log) == n


def test_a_dead_connection_with_a_big_body_is_not_sent_twice_unasked(plain):
    body = b'{"model":"gpt-4.1","x":"' + b"y" * 3_000_000 + b'"}'
    plain.up.use(fail(503, headers=[("Connection", "close")]), drop("reset"), chat())
    got = plain.proxy.post(body)
    assert (got.status, got.attempts, len(plain.up.log)) == (200, 3, 3)
    assert plain.up.bodies() == [body] * 3
