"""The running program: how it starts, shows itself, reloads and drains (ARCHITECTURE, CONFIG)."""

import json
import re
import signal
import socket

import pytest

from kit import answers, conf
from kit.answers import DONE, FINISH, ROLE, chat, delta, fail, sse
from kit.client import Client, eventually, request
from kit.proxy import free_port, is_ready

BODY = b'{"model":"gpt-4.1","messages":[]}'
STREAM = b'{"model":"gpt-4.1","stream":true,"messages":[]}'
CHAT = "/v1/chat/completions"


# ---- starting -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["STORMJIB_UPSTREAM", "OPENAI_BASE_URL"])
def test_it_starts_from_the_environment_alone(upstream, program, name):
    up, port = upstream(chat("from env")), free_port()
    env = {name: up.url + "/v1", "OPENAI_API_KEY": "sk-env", "STORMJIB_LISTEN": f"127.0.0.1:{port}", "STORMJIB_ADMIN": ""}
    running = program(env=env)
    eventually(lambda: running.alive() and is_ready(port))
    with Client(("127.0.0.1", port)) as wire:
        assert b"from env" in wire.ask("POST", CHAT, [], BODY).body
    assert up.log[0].get("authorization") == "Bearer sk-env"


def test_the_environments_address_stands_in_for_one_the_file_does_not_name(upstream, program, tmp_path):
    up, port, other = upstream(chat()), free_port(), free_port()
    file = tmp_path / "silent.conf"
    file.write_text(conf.settings({"admin": "", **conf.one(up)}))
    program("-c", file, env={"STORMJIB_LISTEN": f"127.0.0.1:{port}"})
    eventually(lambda: is_ready(port))
    told = tmp_path / "telling.conf"
    told.write_text(conf.settings({"listen": f"127.0.0.1:{other}", "admin": "", **conf.one(up)}))
    program("-c", told, env={"STORMJIB_LISTEN": f"127.0.0.1:{free_port()}"})
    eventually(lambda: is_ready(other))


def test_a_free_port_is_chosen_and_printed(upstream, program, tmp_path):
    up = upstream(chat())
    file = tmp_path / "free.conf"
    file.write_text(conf.settings({"listen": "127.0.0.1:0", "admin": "", **conf.one(up)}))
    running = program("-c", file)
    port = int(running.wait_line(r"127\.0\.0\.1:(\d{2,})")[1])
    with Client(("127.0.0.1", port)) as wire:
        assert wire.ask("POST", CHAT, [], BODY).status == 200


def test_a_unix_socket_beside_a_port(upstream, serve, tmp_path):
    up, path = upstream(chat("by unix")), str(tmp_path / "s.sock")
    proxy = serve(conf.one(up), wait=False, extra_listen=[f"unix:{path}"]).wait_ready()
    with Client(path) as wire:
        for _ in range(3):
            assert b"by unix" in wire.ask("POST", CHAT, [], BODY).body
    assert proxy.post(BODY).status == 200


def test_a_stale_unix_socket_is_replaced(upstream, serve, tmp_path):
    path = str(tmp_path / "s.sock")
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(path)
    serve(conf.one(upstream(chat())), wait=False, extra_listen=[f"unix:{path}"]).wait_ready()
    with Client(path) as wire:
        assert wire.ask("POST", CHAT, [], BODY).status == 200


@pytest.mark.parametrize("workers", [2, 4])
def test_several_workers_serve(upstream, serve, workers):
    up = upstream(chat())
    proxy = serve(conf.one(up, workers=workers))
    wires = [proxy.connect() for _ in range(40)]
    for wire in wires:
        wire.send(request("POST", CHAT, [], BODY))
    assert [wire.read().status for wire in wires] == [200] * 40
    for wire in wires:
        wire.close()
    eventually(lambda: proxy.metric("stormjib_exchanges_total", target="up/gpt-4.1") == 40)


# ---- health pages ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_health_pages_are_answered_here(plain, path):
    assert plain.proxy.ask("GET", path).status == 200
    assert plain.up.log == []
    eventually(lambda: plain.proxy.metric("stormjib_exchanges_in_flight") == 0)
    assert "stormjib_exchanges_total{" not in plain.proxy.metrics()


def test_health_pages_need_no_key(upstream, serve):
    proxy = serve(conf.one(upstream(chat()), client_keys=["${K}"]), env={"K": "sk-door"})
    assert proxy.ask("GET", "/healthz").status == 200


SAMPLE = re.compile(r'([a-zA-Z_:][a-zA-Z0-9_:]*)(\{(?:[a-zA-Z_]\w*="(?:[^"\\\n]|\\[\\"n])*",?)*\})? (\S+)')


def test_metrics_are_valid_prometheus_text(plain):
    plain.up.use(fail(503), chat())
    plain.proxy.post(BODY)
    kinds, seen = {}, set()
    for line in plain.proxy.metrics().splitlines():
        if kind := re.fullmatch(r"# TYPE (\w+) (counter|gauge|histogram)", line):
            assert kind[1] not in kinds
            kinds[kind[1]] = kind[2]
        elif not line.startswith("#"):
            sample = SAMPLE.fullmatch(line)
            assert sample, line
            float(sample[3])
            assert (sample[1], sample[2]) not in seen, f"twice: {line}"
            seen.add((sample[1], sample[2]))
            family = sample[1] if sample[1] in kinds else re.sub(r"_(bucket|sum|count)$", "", sample[1])
            assert family in kinds and family.startswith("stormjib_")
    assert "counter" in kinds.values() and "histogram" in kinds.values()


def test_metrics_count_what_happened(upstream, serve):
    up = upstream(fail(503), chat())
    proxy = serve(conf.one(up))
    proxy.post(BODY)
    assert eventually(lambda: proxy.metric("stormjib_exchanges_total", target="up/gpt-4.1") == 1)
    assert proxy.metric("stormjib_attempts_total") == 2
    assert proxy.metric("stormjib_retries_total") == 1
    assert proxy.metric("stormjib_exchanges_in_flight") == 0
    assert proxy.metric("stormjib_attempts_running") == 0


def test_state_is_json_and_names_the_targets(plain):
    plain.proxy.post(BODY)
    status, text = plain.proxy.admin("/state")
    assert status == 200
    assert "up" in json.dumps(json.loads(text))


def test_the_admin_listener_is_not_the_proxy(plain):
    assert plain.proxy.admin("/v1/models")[0] == 404
    assert plain.up.log == []


def test_an_admin_token_is_required_when_set(upstream, serve):
    proxy = serve(conf.one(upstream(chat()), admin_token="${T}"), env={"T": "sk-admin"})
    assert proxy.admin("/metrics")[0] == 401
    assert proxy.admin("/state", {"Authorization": "Bearer wrong"})[0] == 401
    assert proxy.admin("/metrics", {"Authorization": "Bearer sk-admin"})[0] == 200


# ---- reload ---------------------------------------------------------------------------------------------------------------------


def reloads(proxy):
    return proxy.metric("stormjib_config_reloads_total")


def test_a_good_reload_takes_effect(upstream, serve):
    first, second = upstream(chat("first")), upstream(chat("second"))
    proxy = serve(conf.one(first))
    assert b"first" in proxy.post(BODY).body
    proxy.reload(upstreams={"up": {"base_url": second.url}})
    eventually(lambda: reloads(proxy) == 1)
    assert b"second" in proxy.post(BODY).body


def test_a_bad_reload_leaves_the_old_in_force_and_says_so(upstream, serve):
    proxy = serve(conf.one(upstream(chat("old"))))
    proxy.write(conf.settings(proxy.settings) + 'deadlin = "1s";\n')
    proxy.signal(signal.SIGHUP)
    eventually(lambda: reloads(proxy) == 1)
    assert b"old" in proxy.post(BODY).body
    proxy.wait_line(r"deadlin\b.*")


def test_a_running_stream_outlives_a_reload(upstream, serve):
    up = upstream()
    gate = up.gate()
    up.use(sse(ROLE + delta("a"), delta("b") + FINISH + DONE, gates=[gate]))
    other = upstream(chat("other"))
    proxy = serve(conf.one(up))
    with proxy.connect() as wire:
        wire.send(request("POST", CHAT, [], STREAM))
        up.wait(1)
        proxy.reload(upstreams={"up": {"base_url": other.url}})
        eventually(lambda: reloads(proxy) == 1)
        assert b"other" in proxy.post(BODY).body
        gate.open()
        assert wire.read().body.endswith(DONE)


def test_a_reload_keeps_the_state_of_targets(upstream, serve):
    up = upstream(fail(503))
    breaker = {"enabled": True, "failure_threshold": 2, "failure_span": "0s", "recovery_timeout": "60s", "max_open_wait": "0s"}
    proxy = serve(conf.one(up, retry={"max_attempts": 1}, breaker=breaker))
    for _ in range(2):
        proxy.post(BODY)
    assert proxy.post(BODY).code == "circuit_open"
    proxy.reload(deadline="100s")
    eventually(lambda: reloads(proxy) == 1)
    assert proxy.post(BODY).code == "circuit_open"


def test_a_changed_listener_says_that_it_needs_a_restart(upstream, serve):
    proxy = serve(conf.one(upstream(chat())))
    proxy.reload(listen=f"127.0.0.1:{free_port()}")
    proxy.wait_line(r"(?i)listen.*restart|restart.*listen")
    assert proxy.post(BODY).status == 200


def test_many_reloads(upstream, serve):
    proxy = serve(conf.one(upstream(chat()), workers=2))
    for n in range(10):
        proxy.reload(deadline=f"{100 + n}s")
        eventually(lambda n=n: reloads(proxy) == n + 1)
        assert proxy.post(BODY).status == 200


# ---- the end --------------------------------------------------------------------------------------------------------------------


def test_a_drain_lets_a_stream_finish(upstream, serve):
    up = upstream()
    gate = up.gate()
    up.use(sse(ROLE + delta("a"), delta("b") + FINISH + DONE, gates=[gate]))
    proxy = serve(conf.one(up, drain_timeout="60s"))
    idle = proxy.connect()
    assert idle.ask("GET", "/readyz").status == 200
    with proxy.connect() as wire:
        wire.send(request("POST", CHAT, [], STREAM))
        wire.head()
        proxy.signal(signal.SIGTERM)
        assert idle.rest() == b"", "idle connections are closed"
        assert proxy.process.poll() is None
        gate.open()
        body = b""
        while part := wire.chunk():
            body += part
    assert body.endswith(FINISH + DONE)
    assert proxy.wait() == 0


def test_a_drain_ends_at_its_timeout(upstream, serve):
    up = upstream(sse(ROLE, delta("a"), then="hang"))
    proxy = serve(conf.one(up, drain_timeout="1s"))
    with proxy.connect() as wire:
        wire.send(request("POST", CHAT, [], STREAM))
        wire.head()
        proxy.signal(signal.SIGTERM)
        assert proxy.wait() == 0
        assert DONE not in wire.rest()


def test_a_second_signal_hurries(upstream, serve):
    up = upstream(answers.hang())
    proxy = serve(conf.one(up, drain_timeout="600s"))
    with proxy.connect() as wire:
        wire.send(request("POST", CHAT, [], BODY))
        up.wait(1)
        proxy.signal(signal.SIGTERM)
        eventually(lambda: not is_ready(proxy.port))
        proxy.signal(signal.SIGTERM)
        assert proxy.wait() == 0


def test_draining_takes_no_new_work(upstream, serve):
    up = upstream()
    gate = up.gate()
    up.use(sse(ROLE + delta("a"), FINISH + DONE, gates=[gate]))
    proxy = serve(conf.one(up, drain_timeout="60s"))
    with proxy.connect() as wire:
        wire.send(request("POST", CHAT, [], STREAM))
        wire.head()
        proxy.signal(signal.SIGTERM)
        eventually(lambda: not is_ready(proxy.port))
        gate.open()
        wire.rest()
    assert len(up.log) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_proxy_ends_at_once(upstream, serve, number):
    proxy = serve(conf.one(upstream(chat())))
    proxy.post(BODY)
    proxy.signal(number)
    assert proxy.wait() == 0


def test_sigpipe_and_a_vanished_stderr_do_not_kill_it(upstream, serve):
    proxy = serve(conf.one(upstream(chat())))
    proxy.signal(signal.SIGPIPE)
    assert proxy.post(BODY).status == 200
