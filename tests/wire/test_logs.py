"""Log lines, and the secrets that are never said (invariant 8)."""

import json
import os
import re
import signal
import subprocess

import pytest

from kit import answers, conf
from kit.answers import chat, fail
from kit.client import Client, eventually
from kit.proxy import binary, environment, free_port, is_ready

BODY = b'{"model":"gpt-4.1","messages":[]}'
CHAT = "/v1/chat/completions"


CANARIES = ["sk-canary-own", "sk-canary-client", "canary-prompt", "sk-canary-door", "canary-query", "canary-answer", "sk-canary-admin"]


def exercise(upstream, serve, **over):
    """A proxy that has met everything that carries a secret; and all that it said about it."""
    up = upstream(
        fail(503), answers.drop("reset"), chat("canary-answer"), fail(401, message="Incorrect API key provided: sk-canary-own"), answers.drop("reset")
    )
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
        eventually(lambda: process.poll() is None and is_ready(port))
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


def test_in_json_every_line_is_json(upstream, serve):
    proxy = serve(conf.one(upstream(answers.chat()), log={"format": "json"}, listen="0.0.0.0:0"), wait=False)
    proxy.wait_line('"event":"listening".*admin on')
    proxy.reload(retry={"max_attempts": 4})
    proxy.wait_line('"event":"reload","ok":true')
    proxy.reload(retry={"max_attempts": "many"})
    proxy.wait_line('"event":"reload","ok":false')
    proxy.stop()
    assert proxy.paths[0].read_text() == ""
    lines = [json.loads(line) for line in proxy.paths[1].read_text().splitlines()]
    events = [line["event"] for line in lines]
    assert events == ["config", "listening", "listening", "config", "reload", "config", "reload", "draining"]
    assert lines[0]["level"] == "warn" and "reachable from other machines" in lines[0]["message"]
    assert lines[5]["level"] == "error" and "retry.max_attempts" in lines[5]["message"]
    assert lines[4]["message"].startswith("configuration reloaded")


def test_reloads_are_events(upstream, serve):
    proxy = serve(conf.one(upstream(answers.chat())))
    proxy.reload(retry={"max_attempts": 4})
    assert proxy.wait_line(r"level=info event=reload ok=true message=\"configuration reloaded\"")
    proxy.reload(retry={"max_attempts": "many"})
    assert proxy.wait_line(r"level=error event=reload ok=false")
    assert "key 'retry.max_attempts'" in proxy.output()
