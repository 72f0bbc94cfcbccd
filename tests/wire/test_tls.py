"""TLS on the way to the upstream."""

import re


from kit import answers, conf
from kit.answers import chat, sse

BODY = b'{"model":"gpt-4.1","messages":[]}'
STREAM = b'{"model":"gpt-4.1","stream":true,"messages":[]}'


def test_a_private_ca_is_trusted_when_named(upstream, serve, tls):
    up = upstream(chat("safe"), tls=tls.context)
    settings = conf.one(up, upstreams={"up": {"base_url": f"https://localhost:{up.port}/v1", "ca_file": str(tls.ca)}})
    proxy = serve(settings)
    for _ in range(3):
        assert b"safe" in proxy.post(BODY).body
    assert len({r.connection for r in up.log}) == 1


def test_a_stream_over_tls(upstream, serve, tls):
    up = upstream(sse(*answers.chat_events(*"abcdefgh")), tls=tls.context)
    proxy = serve(conf.one(up, upstreams={"up": {"base_url": f"https://localhost:{up.port}", "ca_file": str(tls.ca)}}))
    assert proxy.post(STREAM).body == b"".join(answers.chat_events(*"abcdefgh"))


def test_an_unknown_ca_is_refused_without_retry(upstream, serve, tls):
    up = upstream(chat(), tls=tls.context)
    proxy = serve(conf.one(up, upstreams={"up": {"base_url": f"https://localhost:{up.port}"}}))
    got = proxy.post(BODY)
    assert (got.status, up.log) == (502, [])
    assert len(got.label("trail").split(",")) == 1
    assert re.search("certificate|verif|TLS|trust", got.json["error"]["message"], re.I)


def test_a_certificate_for_another_name_is_refused(upstream, serve, tls):
    up = upstream(chat(), tls=tls.context)
    proxy = serve(conf.one(up, upstreams={"up": {"base_url": f"https://127.0.0.1:{up.port}", "ca_file": str(tls.ca)}}))
    assert (proxy.post(BODY).status, up.log) == (502, [])


def test_plain_http_where_tls_is_due_is_502(upstream, serve):
    up = upstream(chat())
    proxy = serve(conf.one(up, upstreams={"up": {"base_url": f"https://localhost:{up.port}", "connect_timeout": "200ms"}}))
    assert proxy.post(BODY).status == 502
