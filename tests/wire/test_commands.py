"""Refusing to start, and the subcommands that end by themselves (CONFIG)."""

import re
import socket

import pytest

from kit import conf
from kit.answers import answer, fail
from kit.proxy import free_port, run

CONFIG_ERROR = 78  # EX_CONFIG
NO_INPUT = 66  # EX_NOINPUT
GOOD = 'listen = "127.0.0.1:0"; admin = "";\nupstreams = { up = { base_url = "http://127.0.0.1:1"; }; };\nroutes = ( { model = "*"; chain = [ "up" ]; } );\n'


# ---- refusing to start ----------------------------------------------------------------------------------------------------------

FAULTS = {
    "unknown key": ('deadlin = "1s";', 4, "deadline"),
    "unknown key in a group": ("retry = {\n  max_atempts = 3;\n};", 5, "max_attempts"),
    "wrong type": ('workers = "two";', 4, "workers"),
    "out of range": ("workers = -1;", 4, "workers"),
    "huge number": ("workers = 3000000000;", 4, "32 bits"),
    "bad duration": ('deadline = "soon";', 4, "deadline"),
    "duration without unit": ("deadline = 600;", 4, "deadline"),
    "bad size": ('max_body = "64 mugs";', 4, "max_body"),
    "bad strategy": ('retry = { strategy = "exponentially"; };', 4, "exponential"),
    "unset variable": ('client_keys = [ "${SJ_NOT_SET}" ];', 4, "SJ_NOT_SET"),
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
    assert done.returncode == NO_INPUT
    assert "nowhere.conf" in done.stderr
    for command in (["check", "--offline"], ["config"]):
        assert run(*command, "-c", tmp_path / "nowhere.conf").returncode == NO_INPUT


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


@pytest.mark.parametrize(
    "arguments", [["--help"], ["-h"], ["check", "--help"], ["health", "--help"], ["config", "--help"], ["mock", "--help"], ["demo", "--help"]]
)
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


def test_a_file_without_its_option_is_told_how(tmp_path):
    file = tmp_path / "shop.conf"
    file.write_text("")
    done = run(file)
    assert done.returncode == 64 and f"stormjib -c {file}" in done.stderr


def test_config_documents_every_key():
    done = run("config")
    assert done.returncode == 0
    for key in ("listen", "max_attempts", "failure_threshold", "recovery_timeout", "max_concurrent", "client_retries", "drain_timeout"):
        assert re.search(rf"^\W*{key}\b", done.stdout, re.M), key


def test_config_prints_the_effective_configuration_with_secrets_masked(tmp_path):
    file = tmp_path / "good.conf"
    file.write_text(GOOD.replace("base_url =", 'api_key = "${SJ_K}"; base_url ='))
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
    settings = {
        "listen": "127.0.0.1:0",
        "admin": "",
        "upstreams": {"up": {"base_url": base_url, "api_key": "${SJ_K}"}},
        "routes": [{"model": "*", "chain": ["up"]}],
    }
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
