"""Another target: the one edit a body may get, whose credential goes where, and nothing else changed (BEHAVIOUR 2, invariants 5 and 8)."""

import pytest

from kit import answers, conf
from kit.answers import chat, fail
from kit.together import together

CHAT = "/v1/chat/completions"
QUOTA = fail(429, "insufficient_quota", "insufficient_quota")

SPLICES = [
    (b'{"model":"gpt-4.1"}', b'{"model":"deepseek-v3.2"}'),
    (b' {\n\t"model" :\r\n "gpt-4.1" , "x" : 1e400 }\n', b' {\n\t"model" :\r\n "deepseek-v3.2" , "x" : 1e400 }\n'),
    (b'{"model":"gpt-4.1","n":9007199254740993,"t":"\\u0000b"}', b'{"model":"deepseek-v3.2","n":9007199254740993,"t":"\\u0000b"}'),
    (b'{"model":"old","a":1,"model":"gpt-4.1"}', b'{"model":"deepseek-v3.2","a":1,"model":"deepseek-v3.2"}'),
    (b'{"mod\\u0065l":"gpt-4.1"}', b'{"mod\\u0065l":"deepseek-v3.2"}'),
    (b'{"model":"gpt\\u002d4.1"}', b'{"model":"deepseek-v3.2"}'),
    (
        b'{"a":{"model":"gpt-4.1"},"model":"gpt-4.1","b":["model","gpt-4.1"]}',
        b'{"a":{"model":"gpt-4.1"},"model":"deepseek-v3.2","b":["model","gpt-4.1"]}',
    ),
    (b'{"Model":"x","model":"gpt-4.1"}', b'{"Model":"x","model":"deepseek-v3.2"}'),
    ('{"model":"gpt-4.1","t":"\u2713 \\ud83d\\ude00"}'.encode(), '{"model":"deepseek-v3.2","t":"\u2713 \\ud83d\\ude00"}'.encode()),
]


@pytest.fixture(scope="module")
def quota_pair(tmp_path_factory):
    with together(tmp_path_factory.mktemp("splice"), conf.chain, count=2) as trio:
        yield trio


@pytest.mark.parametrize("sent,want", SPLICES, ids=range(len(SPLICES)))
def test_only_the_value_of_model_changes(quota_pair, sent, want):
    proxy, a, b = quota_pair
    a.use(QUOTA)
    b.use(chat())
    got = proxy.post(sent)
    assert got.status == 200
    assert (a.bodies(), b.bodies()) == ([sent], [want])
    assert b.log[0].all("content-length") == [str(len(want))]


def test_a_spilled_body_is_spliced_too(quota_pair):
    proxy, a, b = quota_pair
    a.use(QUOTA)
    b.use(chat())
    pad = b"p" * 3_000_000
    assert proxy.post(b'{"x":"' + pad + b'","model":"gpt-4.1","y":"' + pad + b'"}').status == 200
    assert b.bodies() == [b'{"x":"' + pad + b'","model":"deepseek-v3.2","y":"' + pad + b'"}']


def test_a_target_without_a_model_gets_the_bytes_unchanged(upstream, serve):
    a, b = upstream(QUOTA), upstream(chat())
    proxy = serve(conf.chain(a, b, routes=[{"model": "*", "chain": ["a", "b"]}]))
    body = b'{"model" : "gpt-4.1"}'
    assert proxy.post(body).status == 200
    assert a.bodies() == b.bodies() == [body]


@pytest.mark.parametrize(
    "body", [b"not json", b"[]", b'{"model":"gpt-4.1"', b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nx\r\n--b--']
)
def test_a_body_that_is_no_object_is_not_moved(upstream, serve, body):
    a, b = upstream(fail(503, "from_a")), upstream(chat())
    proxy = serve(conf.chain(a, b, routes=[{"model": "*", "chain": ["a", "b/deepseek-v3.2"]}]))
    got = proxy.post(body)
    assert (got.status, got.code, b.log) == (503, "from_a", [])
    assert set(a.bodies()) == {body}


@pytest.mark.parametrize(
    "member", [b'"previous_response_id":"resp_1"', b'"conversation":"conv_1"', b'"input":[{"content":[{"type":"input_file","file_id":"file-1"}]}]']
)
def test_a_body_bound_to_one_upstream_stays_there(upstream, serve, member):
    a, b = upstream(fail(503, "from_a")), upstream(chat())
    got = serve(conf.chain(a, b)).post(b'{"model":"gpt-4.1",' + member + b"}", "/v1/responses")
    assert (got.code, b.log) == ("from_a", [])


def test_a_long_chain_is_walked_once_in_order(upstream, serve):
    ups = [upstream(QUOTA) for _ in range(3)] + [upstream(chat("end"))]
    got = serve(conf.chain(*ups)).post(b'{"model":"gpt-4.1"}')
    assert got.status == 200
    assert [len(u.log) for u in ups] == [1, 1, 1, 1]
    assert [u.bodies()[0] for u in ups] == [b'{"model":"%s"}' % m for m in (b"gpt-4.1", b"deepseek-v3.2", b"small", b"tiny")]


def test_the_first_matching_route_wins(upstream, serve):
    a, b, c = upstream(chat()), upstream(chat()), upstream(chat())
    routes = [{"model": "gpt-4.1-mini", "chain": ["a"]}, {"model": "gpt-*", "chain": ["b"]}, {"model": "*", "chain": ["c"]}]
    proxy = serve(conf.chain(a, b, c, routes=routes))
    for model in (b"gpt-4.1-mini", b"gpt-4.1", b"claude", b"GPT-4.1"):
        proxy.post(b'{"model":"%s"}' % model)
    proxy.ask("GET", "/v1/models")
    assert [len(u.log) for u in (a, b, c)] == [1, 1, 3]


def test_a_route_may_name_a_path(upstream, serve):
    a, b = upstream(chat()), upstream(answers.answer(200, {"data": [{}]}))
    routes = [{"path": "/v1/embeddings", "model": "*", "chain": ["b"]}, {"model": "*", "chain": ["a"]}]
    proxy = serve(conf.chain(a, b, routes=routes))
    proxy.post(b'{"model":"m"}', "/v1/embeddings")
    proxy.post(b'{"model":"m"}')
    assert [r.target for r in b.log] == ["/v1/embeddings"]
    assert [r.target for r in a.log] == [CHAT]


# ---- credentials ----------------------------------------------------------------------------------------------------------------

MINE = [("Authorization", "Bearer sk-client"), ("api-key", "azure-client")]


def secrets(record):
    return [v for _, v in record.headers if "sk-" in v or "azure-client" in v]


def two(upstream, serve, first, second, env=None, **over):
    a, b = upstream(QUOTA), upstream(chat())
    settings = conf.chain(a, b, **over)
    settings["upstreams"] = {"a": {"base_url": a.url, **first}, "b": {"base_url": b.url, **second}}
    got = serve(settings, env=env).post(b'{"model":"gpt-4.1"}', headers=MINE)
    return got, a.log[0] if a.log else None, b.log[0] if b.log else None


def test_the_clients_credential_goes_to_the_first_origin_only(upstream, serve):
    got, a, b = two(upstream, serve, {}, {})
    assert got.status == 200
    assert secrets(a) == ["Bearer sk-client", "azure-client"]
    assert secrets(b) == []


def test_the_clients_credential_goes_elsewhere_when_told(upstream, serve):
    _, _, b = two(upstream, serve, {}, {"auth": "client"})
    assert "Bearer sk-client" in secrets(b)


def test_an_upstreams_own_key_replaces_the_clients(upstream, serve):
    _, a, b = two(upstream, serve, {"api_key": "${KEY_A}"}, {"api_key": "${KEY_B}"}, {"KEY_A": "sk-a", "KEY_B": "sk-b"})
    assert (secrets(a), secrets(b)) == (["Bearer sk-a"], ["Bearer sk-b"])


def test_auth_none_sends_nothing(upstream, serve):
    _, a, b = two(upstream, serve, {"auth": "none"}, {"auth": "none"})
    assert (secrets(a), secrets(b)) == ([], [])


def test_the_key_may_go_in_another_header(upstream, serve):
    _, a, _ = two(upstream, serve, {"api_key": "${KEY_A}", "api_key_header": "api-key"}, {}, {"KEY_A": "sk-a"})
    assert (a.all("api-key"), a.all("authorization")) == (["sk-a"], [])


def test_the_key_may_have_another_prefix(upstream, serve):
    _, a, _ = two(upstream, serve, {"api_key": "${KEY_A}", "api_key_prefix": "Token "}, {}, {"KEY_A": "sk-a"})
    assert a.all("authorization") == ["Token sk-a"]


def test_client_keys_are_consumed(upstream, serve):
    up = upstream(chat())
    proxy = serve(conf.one(up, client_keys=["${PROXY_KEY}"]), env={"PROXY_KEY": "sk-door"})
    assert proxy.post(b'{"model":"m"}', headers=[("Authorization", "Bearer sk-door")]).status == 200
    assert secrets(up.log[0]) == []


@pytest.mark.parametrize("headers", [[], [("Authorization", "Bearer wrong")], [("Authorization", "Bearer sk-doo")], [("Authorization", "sk-door2")]])
def test_without_a_client_key_nobody_comes_in(upstream, serve, headers):
    up = upstream(chat())
    proxy = serve(conf.one(up, client_keys=["${PROXY_KEY}"]), env={"PROXY_KEY": "sk-door"})
    got = proxy.post(b'{"model":"m"}', headers=headers)
    assert (got.status, got.code, up.log) == (401, "unauthorized", [])


def test_a_refused_key_gives_way_to_the_next(upstream, serve):
    def by_key(call):
        return chat() if call.request.get("authorization") == "Bearer sk-good" else fail(401, "invalid_api_key")

    up = upstream(answers.either(by_key))
    settings = conf.one(up, upstreams={"up": {"api_keys": ["${BAD}", "${GOOD}"]}})
    got = serve(settings, env={"BAD": "sk-bad", "GOOD": "sk-good"}).post(b'{"model":"m"}')
    assert got.status == 200
    assert len(up.log) <= 2


def test_a_401_of_the_only_key_is_delivered(upstream, serve):
    up = upstream(fail(401, "invalid_api_key"))
    proxy = serve(conf.one(up, upstreams={"up": {"api_key": "${K}"}}), env={"K": "sk-only"})
    got = proxy.post(b'{"model":"m"}')
    assert (got.status, got.code, len(up.log)) == (401, "invalid_api_key", 1)
