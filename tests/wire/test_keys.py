"""Several keys of one upstream (BEHAVIOUR 3): a refused key gives way to the next and rests; keys are only ever known by their number."""

import json
import re
import threading

from kit import answers, conf, trail
from kit.answers import chat, fail
from kit.client import eventually
from kit.proxy import run

KEYS = {"KEY_A": "sk-alpha-0123456789", "KEY_B": "sk-beta-0123456789", "KEY_C": "sk-gamma-0123456789"}
A, B, C = KEYS.values()
BODY = b'{"model":"m"}'


def key_of(request):
    return (request.get("authorization") or "").removeprefix("Bearer ")


def by_key(behaviours):
    """behaviours: key -> behaviour; read anew for each request, so that a test may change it."""
    return answers.either(lambda call: behaviours[key_of(call.request)])


def keys_sent(up):
    return [key_of(request) for request in up.log]


def settings(up, names=("KEY_A", "KEY_B"), **over):
    return conf.one(up, upstreams={"up": {"api_keys": ["${%s}" % name for name in names]}}, **over)


def dead():
    return fail(401, "invalid_api_key", message="Incorrect API key provided")


def throttled(seconds=None):
    return fail(429, "rate_limit_exceeded", headers=[("Retry-After", str(seconds))] if seconds else [])


def counts(proxy, name):
    """The metric's values by (key, reason)."""
    found = re.findall(rf'^stormjib_{name}{{upstream="up",key="(\d+)"(?:,reason="(\w+)")?}} (\S+)$', proxy.metrics(), re.M)
    return {(int(key), reason): int(value) for key, reason, value in found}


def state_of(proxy, key):
    status, text = proxy.admin("/state")
    assert status == 200
    return json.loads(text)["upstreams"][0]["keys"][key - 1]


def no_secret_in(proxy, *answers_seen):
    shown = proxy.output() + proxy.metrics() + proxy.admin("/state")[1] + proxy.admin("/")[1]
    shown += "".join(repr(a.headers) + a.body.decode("latin1") for a in answers_seen)
    for secret in KEYS.values():
        assert secret not in shown and secret[3:] not in shown


def test_one_dead_key(upstream, serve):
    up = upstream(by_key({A: dead(), B: chat("fine")}))
    proxy = serve(settings(up), env=KEYS)
    first, second = proxy.post(BODY), proxy.post(BODY)
    assert (first.status, second.status) == (200, 200)
    assert keys_sent(up) == [A, B, B]  # the dead one was asked once
    assert (first.attempts, second.attempts) == (2, 1)
    assert trail.parse(first.label("trail")) == [("up/m", "401"), ("up/m", "200")]
    line = proxy.wait_line(r".*event=key .*")[0]
    assert "key=1" in line and "reason=dead" in line and "delay_ms=300000" in line
    assert "key=1" in proxy.wait_line(r".*event=alert .*")[0]
    assert counts(proxy, "key_resting") == {(1, ""): 1, (2, ""): 0}
    assert counts(proxy, "key_refusals_total") == {(1, "dead"): 1, (1, "exhausted"): 0, (2, "dead"): 0, (2, "exhausted"): 0}
    one, two = state_of(proxy, 1), state_of(proxy, 2)
    assert (one["state"], one["present"], one["dead"]) == ("dead", False, 1)
    assert 0 < one["back_in_ms"] <= 300_000
    assert (two["state"], two["present"]) == ("fit", True)
    no_secret_in(proxy, first, second)


def test_one_throttled_key_is_not_waited_for(upstream, serve):
    up = upstream(by_key({A: throttled(30), B: chat("fine")}))
    proxy = serve(settings(up), env=KEYS)
    got = proxy.post(BODY)
    assert (got.status, keys_sent(up)) == (200, [A, B])
    assert trail.parse(got.label("trail")) == [("up/m", "429"), ("up/m", "200")]  # and no wait between them
    assert counts(proxy, "key_refusals_total")[1, "exhausted"] == 1
    assert 'stormjib_retries_total{target="up/m",reason="429"} 1' in proxy.metrics()
    assert proxy.post(BODY).attempts == 1


def test_a_used_up_quota(upstream, serve):
    up = upstream(by_key({A: fail(429, "insufficient_quota", "insufficient_quota"), B: chat()}))
    proxy = serve(settings(up), env=KEYS)
    assert (proxy.post(BODY).status, keys_sent(up)) == (200, [A, B])
    assert state_of(proxy, 1)["state"] == "exhausted"


def test_all_dead(upstream, serve):
    up = upstream(by_key({A: dead(), B: dead(), C: fail(403, "all_dead")}))
    proxy = serve(settings(up, KEYS), env=KEYS)
    got = proxy.post(BODY)
    assert (got.status, got.code, keys_sent(up)) == (403, "all_dead", [A, B, C])
    # From now on an exchange costs one attempt, and still tells what the upstream says.
    again = proxy.post(BODY)
    assert (again.status, again.attempts) == (401, 1)
    assert counts(proxy, "key_resting") == {(1, ""): 1, (2, ""): 1, (3, ""): 1}
    no_secret_in(proxy, got, again)


def test_a_dead_key_moves_on_where_nothing_is_repeated(upstream, serve):
    up = upstream(by_key({A: dead(), B: answers.answer(200, {"id": "file-1"})}))
    proxy = serve(settings(up), env=KEYS)
    got = proxy.post(b'{"purpose":"batch"}', "/v1/files")
    assert (got.status, keys_sent(up)) == (200, [A, B])
    assert [r.body for r in up.log] == [b'{"purpose":"batch"}'] * 2


def test_a_stream_that_begins_with_a_refusal(upstream, serve):
    refused = answers.sse(answers.event(answers.error_json("insufficient_quota")))
    up = upstream(by_key({A: refused, B: answers.sse(*answers.chat_events("a", "b"))}))
    proxy = serve(settings(up), env=KEYS)
    got = proxy.post(b'{"model":"m","stream":true}')
    assert (got.status, got.whole, keys_sent(up)) == (200, True, [A, B])
    assert b"insufficient_quota" not in got.body and got.body.endswith(b"data: [DONE]\n\n")


def test_a_key_is_back_after_its_rest(upstream, serve):
    behaviours = {A: throttled(1), B: throttled(1)}
    up = upstream(by_key(behaviours))
    proxy = serve(settings(up, retry={"max_attempts": 2}), env=KEYS)
    assert (proxy.post(BODY).status, keys_sent(up)) == (429, [A, B])
    behaviours[A] = behaviours[B] = chat()
    # Both rest and both gates stand: the next one waits for the first that opens, and is answered.
    got = proxy.post(BODY)
    assert (got.status, got.attempts) == (200, 1)
    back = int(proxy.wait_line(r"event=key .*key=(\d).*reason=accepted")[1])
    assert state_of(proxy, back)["state"] == "fit"
    assert state_of(proxy, back)["present"]


def test_a_reload_keeps_what_is_known_of_keys_that_stay(upstream, serve):
    up = upstream(by_key({A: dead(), B: chat(), C: chat()}))
    proxy = serve(settings(up), env=KEYS)
    proxy.post(BODY)
    assert keys_sent(up) == [A, B]
    proxy.reload(retry={"max_attempts": 3})
    proxy.wait_line("configuration reloaded")
    proxy.post(BODY)
    assert keys_sent(up)[2:] == [B]
    assert state_of(proxy, 1)["state"] == "dead"
    # Others in another order: the dead one is known by what it is, not by where it stands.
    proxy.reload(upstreams={"up": {"api_keys": ["${KEY_C}", "${KEY_A}"]}})
    proxy.wait_line("configuration reloaded", count=2)
    eventually(lambda: (proxy.post(BODY).status, keys_sent(up)[-1])[1] == C)
    assert A not in keys_sent(up)[2:]
    assert (state_of(proxy, 1)["state"], state_of(proxy, 2)["state"]) == ("fit", "dead")
    # One key is one key again.
    proxy.reload(upstreams={"up": {"api_keys": ["${KEY_B}"]}})
    proxy.wait_line("configuration reloaded", count=3)
    eventually(lambda: (proxy.post(BODY).status, keys_sent(up)[-1])[1] == B)
    assert json.loads(proxy.admin("/state")[1])["upstreams"][0]["keys"] == []


def test_workers_share_what_they_know(upstream, serve):
    up = upstream(by_key({A: dead(), B: chat()}))
    proxy = serve(settings(up, workers=2), env=KEYS)
    assert proxy.post(BODY).status == 200
    results = []

    def ask():
        for _ in range(10):  # a connection each: both workers take some
            results.append(proxy.post(BODY).status)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert results == [200] * 40
    assert keys_sent(up).count(A) == 1


def test_each_target_of_a_chain_has_its_own_upstreams_keys(upstream, serve):
    a, b = upstream(by_key({A: fail(402, "no_money")})), upstream(by_key({B: dead(), C: chat()}))
    routes = [{"model": "*", "chain": ["a", "b/small"]}]
    upstreams = {"a": {"base_url": a.url, "api_key": "${KEY_A}"}, "b": {"base_url": b.url, "api_keys": ["${KEY_B}", "${KEY_C}"]}}
    proxy = serve({**conf.ROOT, **conf.CALM, "retry": conf.QUICK, "upstreams": upstreams, "routes": routes}, env=KEYS)
    got = proxy.post(BODY)
    assert (got.status, keys_sent(a), keys_sent(b)) == (200, [A], [B, C])
    assert got.label("fallback") == "402"
    no_secret_in(proxy, got)


def test_another_header_carries_each_key(upstream, serve):
    up = upstream(answers.either(lambda call: chat() if call.request.get("api-key") == B else dead()))
    proxy = serve(
        conf.one(up, upstreams={"up": {"api_keys": ["${KEY_A}", "${KEY_B}"], "api_key_header": "api-key"}}),
        env=KEYS,
    )
    assert proxy.post(BODY, headers=[("Authorization", "Bearer sk-client")]).status == 200
    assert [r.get("api-key") for r in up.log] == [A, B]
    assert all(r.get("authorization") is None for r in up.log)


def test_json_log_lines_name_keys_by_number(upstream, serve):
    up = upstream(by_key({A: dead(), B: chat()}))
    proxy = serve(settings(up, log={"format": "json", "level": "debug"}), env=KEYS)
    proxy.post(BODY)
    proxy.wait_line('"event":"completed"')
    lines = [json.loads(line) for line in proxy.output().splitlines() if line.startswith("{")]
    attempts = [(line["key"], line["outcome"]) for line in lines if line["event"] == "attempt"]
    assert attempts == [(1, "credential"), (2, "success")]
    no_secret_in(proxy)


def test_check_tries_every_key(upstream, tmp_path):
    models = answers.answer(200, {"object": "list", "data": [{"id": "m"}]})
    up = upstream(by_key({A: models, B: dead(), C: models}))
    file = tmp_path / "three.conf"
    file.write_text(conf.settings({"upstreams": {"up": {"base_url": up.url, "api_keys": ["${KEY_A}", "${KEY_B}", "${KEY_C}"]}}}))
    done = run("check", "-c", file, env=KEYS)
    assert done.returncode == 77
    assert sorted(keys_sent(up)) == sorted(KEYS.values())
    assert re.search(r"ok, 1 model, .*key 1 of 3", done.stdout) and re.search(r"ok, 1 model, .*key 3 of 3", done.stdout)
    assert re.search(r"WRONG KEY.* key 2 of 3; look at the variable KEY_B ", done.stdout)
    assert not any(secret in done.stdout + done.stderr for secret in KEYS.values())


def test_a_single_key_has_no_state_to_show(upstream, serve):
    up = upstream(dead())
    proxy = serve(settings(up, ("KEY_A",)), env=KEYS)
    assert proxy.post(BODY).status == 401
    assert counts(proxy, "key_resting") == {}
    assert "event=key" not in proxy.output()
    no_secret_in(proxy)
