"""The program: how it starts, refuses to start, reloads, drains and shows itself (ARCHITECTURE, CONFIG)."""
import json
import os
import re
import signal
import socket
import subprocess

import pytest

from kit import answers, conf
from kit.answers import DONE, FINISH, ROLE, answer, chat, delta, fail, sse
from kit.client import Client, eventually, request
from kit.proxy import binary, environment, free_port, get, run

BODY = b'{"model":"gpt-4.1","messages":[]}'
STREAM = b'{"model":"gpt-4.1","stream":true,"messages":[]}'
CHAT = "/v1/chat/completions"
CONFIG_ERROR = 78  # EX_CONFIG
GOOD = 'listen = "127.0.0.1:0"; admin = "";\nupstreams = { up = { base_url = "http://127.0.0.1:1"; }; };\nroutes = ( { model = "*"; chain = [ "up" ]; } );\n'


# ---- refusing to start ----------------------------------------------------------------------------------------------------------

FAULTS = {
    "unknown key": ("deadlin = \"1s\";", 4, "deadline"),
    "unknown key in a group": ("retry = {\n  max_atempts = 3;\n};", 5, "max_attempts"),
    "wrong type": ("workers = \"two\";", 4, "workers"),
    "out of range": ("workers = -1;", 4, "workers"),
    "huge number": ("workers = 3000000000;", 4, "32 bits"),
    "bad duration": ("deadline = \"soon\";", 4, "deadline"),
    "duration without unit": ("deadline = 600;", 4, "deadline"),
    "bad size": ("max_body = \"64 mugs\";", 4, "max_body"),
    "bad strategy": ("retry = { strategy = \"exponentially\"; };", 4, "exponential"),
    "unset variable": ("client_keys = [ \"${SJ_NOT_SET}\" ];", 4, "SJ_NOT_SET"),
    "syntax": ("retry = { base = ; };", 4, ""),
    "breaker in a route": ("routes2 = 1;", 4, "routes"),
}


@pytest.mark.parametrize("text,line,hint", FAULTS.values(), ids=FAULTS.keys())
def test_a_faulty_configuration_is_refused_with_its_place(tmp_path, text, line, hint):
    file = tmp_path / "bad.conf"
    file.write_text(GOOD + text + "\n")
    done = run("-c", file)
    assert done.returncode == CONFIG_ERROR
    assert f"bad.conf:{line}:" in done.stderr, done.stderr
    assert hint in done.stderr


def test_all_faults_are_told_at_once(tmp_path):
    file = tmp_path / "bad.conf"
    file.write_text(GOOD + 'deadlin = "1s";\nworkers = "x";\n')
    done = run("-c", file)
    assert "bad.conf:4:" in done.stderr and "bad.conf:5:" in done.stderr


def test_a_chain_naming_no_upstream_is_refused(tmp_path):
    file = tmp_path / "bad.conf"
    file.write_text(GOOD.replace('[ "up" ]', '[ "upp/gpt" ]'))
    done = run("-c", file)
    assert done.returncode == CONFIG_ERROR
    assert re.search(r"bad\.conf:3:.*upp", done.stderr), done.stderr


def test_a_breaker_in_a_route_is_refused(tmp_path):
    file = tmp_path / "bad.conf"
    file.write_text(GOOD.replace('chain = [ "up" ];', 'chain = [ "up" ]; breaker = { failure_threshold = 3; };'))
    done = run("-c", file)
    assert (done.returncode, "breaker" in done.stderr) == (CONFIG_ERROR, True)


def test_a_missing_file_is_told_by_name(tmp_path):
    done = run("-c", tmp_path / "nowhere.conf")
    assert done.returncode != 0
    assert "nowhere.conf" in done.stderr


def test_a_port_in_use_is_told_plainly(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        file = tmp_path / "taken.conf"
        file.write_text(GOOD.replace("127.0.0.1:0", f"127.0.0.1:{port}"))
        done = run("-c", file)
    assert done.returncode not in (0, CONFIG_ERROR)
    assert str(port) in done.stderr


def test_admin_beyond_loopback_needs_a_token(tmp_path):
    file = tmp_path / "open.conf"
    file.write_text(GOOD.replace('admin = ""', f'admin = "0.0.0.0:{free_port()}"'))
    done = run("-c", file)
    assert done.returncode == CONFIG_ERROR
    assert "admin_token" in done.stderr


# ---- subcommands ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["check", "--help"], ["health", "--help"], ["config", "--help"], ["mock", "--help"], ["demo", "--help"]])
def test_help_is_everywhere(arguments):
    done = run(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert "stormjib" in done.stdout


def test_version():
    done = run("--version")
    assert done.returncode == 0
    assert re.fullmatch(r"stormjib \d+\.\d+\.\d+\S*\n", done.stdout)


@pytest.mark.parametrize("arguments", [["--nonsense"], ["nonsense"], ["-c"], ["check", "--nonsense"]])
def test_a_wrong_command_line_is_a_usage_error(arguments):
    done = run(*arguments)
    assert done.returncode == 64  # EX_USAGE
    assert done.stderr


def test_config_documents_every_key():
    done = run("config")
    assert done.returncode == 0
    for key in ("listen", "max_attempts", "failure_threshold", "recovery_timeout", "max_concurrent", "client_retries", "drain_timeout"):
        assert re.search(rf"^\W*{key}\b", done.stdout, re.M), key


def test_config_prints_the_effective_configuration_with_secrets_masked(tmp_path):
    file = tmp_path / "good.conf"
    file.write_text(GOOD.replace('base_url =', 'api_key = "${SJ_K}"; base_url ='))
    done = run("config", "-c", file, env={"SJ_K": "sk-canary-1"})
    assert done.returncode == 0
    assert "sk-canary-1" not in done.stdout + done.stderr
    assert "***" in done.stdout
    again = tmp_path / "again.conf"
    again.write_text(done.stdout.replace('"***"', '"${SJ_K}"'))
    assert run("config", "-c", again, env={"SJ_K": "sk-canary-1"}).stdout == done.stdout


def test_health_says_whether_it_serves(plain, tmp_path):
    assert run("health", "-c", plain.proxy.file).returncode == 0
    file = tmp_path / "off.conf"
    file.write_text(GOOD.replace("127.0.0.1:0", f"127.0.0.1:{free_port()}"))
    assert run("health", "-c", file).returncode != 0


def _check(tmp_path, base_url, **env):
    file = tmp_path / "check.conf"
    settings = {"listen": "127.0.0.1:0", "admin": "", "upstreams": {"up": {"base_url": base_url, "api_key": "${SJ_K}"}}, "routes": [{"model": "*", "chain": ["up"]}]}
    file.write_text(conf.settings(settings))
    return run("check", "-c", file, env={"SJ_K": "sk-canary-2", **env})


def test_check_with_a_good_key(upstream, tmp_path):
    up = upstream(answer(200, {"object": "list", "data": [{"id": "gpt-4.1"}]}))
    done = _check(tmp_path, up.url + "/v1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [(r.method, r.target, r.get("authorization")) for r in up.log] == [("GET", "/v1/models", "Bearer sk-canary-2")]


def test_check_with_a_wrong_key_says_so(upstream, tmp_path):
    done = _check(tmp_path, upstream(fail(401, "invalid_api_key")).url)
    assert done.returncode != 0
    assert re.search(r"401|key", done.stdout + done.stderr)
    assert "sk-canary-2" not in done.stdout + done.stderr


def test_check_with_nobody_there_says_so(tmp_path, dead_url):
    done = _check(tmp_path, dead_url)
    assert done.returncode != 0
    assert "up" in done.stdout + done.stderr


# ---- starting -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["STORMJIB_UPSTREAM", "OPENAI_BASE_URL"])
def test_it_starts_from_the_environment_alone(upstream, program, name):
    up, port = upstream(chat("from env")), free_port()
    env = {name: up.url + "/v1", "OPENAI_API_KEY": "sk-env", "STORMJIB_LISTEN": f"127.0.0.1:{port}", "STORMJIB_ADMIN": ""}
    running = program(env=env)
    eventually(lambda: running.alive() and _ready(port))
    with Client(("127.0.0.1", port)) as wire:
        assert b"from env" in wire.ask("POST", CHAT, [], BODY).body
    assert up.log[0].get("authorization") == "Bearer sk-env"


def _ready(port):
    try:
        return get(port, "/readyz")[0] == 200
    except OSError:
        return False


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
    proxy.write(conf.settings(proxy.settings) + "deadlin = \"1s\";\n")
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
        eventually(lambda: not _ready(proxy.port))
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
        eventually(lambda: not _ready(proxy.port))
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


# ---- TLS ------------------------------------------------------------------------------------------------------------------------


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


# ---- logs and secrets -----------------------------------------------------------------------------------------------------------

CANARIES = ["sk-canary-own", "sk-canary-client", "canary-prompt", "sk-canary-door", "canary-query", "canary-answer", "sk-canary-admin"]


def exercise(upstream, serve, **over):
    """A proxy that has met everything that carries a secret; and all that it said about it."""
    up = upstream(fail(503), answers.drop("reset"), chat("canary-answer"), fail(401, message="Incorrect API key provided: sk-canary-own"), answers.drop("reset"))
    settings = conf.one(up, client_keys=["${DOOR}"], admin_token="${ADMIN}", upstreams={"up": {"api_key": "${OWN}"}}, log={"level": "debug"})
    env = {"OWN": "sk-canary-own", "DOOR": "sk-canary-door", "ADMIN": "sk-canary-admin"}
    proxy = serve(conf.merged(settings, over), env=env)
    body = b'{"model":"gpt-4.1","messages":[{"role":"user","content":"canary-prompt"}]}'
    door = [("Authorization", "Bearer sk-canary-door"), ("api-key", "sk-canary-client")]
    said = []
    for n in range(3):
        got = proxy.post(body, f"{CHAT}?token=canary-query", door)
        said.append(str(got.headers) + ("" if n < 2 else got.body.decode()))
    said.append(proxy.post(body, headers=[("Authorization", "Bearer sk-canary-client")]).body.decode())
    pages = [proxy.admin(path, {"Authorization": "Bearer sk-canary-admin"}) for path in ("/metrics", "/state", "/")]
    assert pages[0][0] == pages[1][0] == 200
    said += [text for _, text in pages]
    proxy.stop()
    return proxy, said + [proxy.output()]


@pytest.mark.parametrize("form", ["logfmt", "json"])
def test_no_secret_is_ever_said(upstream, serve, form):
    proxy, said = exercise(upstream, serve, log={"format": form})
    for canary in CANARIES:
        for text in said:
            assert canary not in text, text[:2000]
    assert len(proxy.output()) > 200


def test_json_logs_are_json_lines(upstream, serve):
    proxy, _ = exercise(upstream, serve, log={"format": "json"})
    lines = [json.loads(line) for line in proxy.paths[1].read_text().splitlines() if line.startswith("{")]
    assert len(lines) >= 4
    assert any("503" in json.dumps(line) for line in lines)


def test_logfmt_lines_are_parsable(upstream, serve):
    proxy, _ = exercise(upstream, serve)
    pair = r'[a-z0-9_.]+=(?:"(?:[^"\\]|\\.)*"|[^\s"]*)'
    lines = [line for line in proxy.paths[1].read_text().splitlines() if "request_id=" in line or "event=" in line]
    assert len(lines) >= 4
    for line in lines:
        assert re.fullmatch(rf"{pair}(?: {pair})*", line), line


def test_an_exchange_is_one_log_line_with_its_request_id(upstream, serve):
    proxy = serve(conf.one(upstream(chat())))
    got = proxy.post(BODY)
    line = proxy.wait_line(rf".*{got.label('request-id')}.*")[0]
    assert "200" in line and "up" in line


def test_what_a_client_sends_cannot_forge_log_lines(upstream, serve):
    proxy = serve(conf.one(upstream(chat())))
    proxy.post(b'{"model":"x\\n2026 level=error forged=1"}')
    proxy.wait_line("forged")
    assert not re.search(r"^2026 level=error forged", proxy.output(), re.M)


def test_an_unread_stderr_does_not_stop_it(upstream, tmp_path):
    """stderr is a pipe that nobody reads: it must go on serving."""
    up, port = upstream(chat()), free_port()
    file = tmp_path / "piped.conf"
    file.write_text(conf.settings({"listen": f"127.0.0.1:{port}", "admin": "", **conf.one(up, log={"level": "debug"})}))
    reader, writer = os.pipe()
    process = subprocess.Popen([binary(), "-c", file], env=environment(), stdout=writer, stderr=writer)
    os.close(writer)
    try:
        eventually(lambda: process.poll() is None and _ready(port))
        with Client(("127.0.0.1", port)) as wire:
            for _ in range(600):
                assert wire.ask("POST", CHAT, [], BODY).status == 200
    finally:
        process.send_signal(signal.SIGTERM)
        # the sanitizer's report, if any, goes to the pipe too
        code = _drained(process, reader)
    assert code == 0


def _drained(process, reader):
    with os.fdopen(reader, "rb") as pipe:
        pipe.read()
    return process.wait(60)
