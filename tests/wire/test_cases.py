"""The files of conf/cases as they stand, on the wire: each runs; a key is checked; a batch client gets all it wants to know (BEHAVIOUR 16)."""

import asyncio
import concurrent.futures
import json
import re
import time

import pytest

from kit import answers, case
from kit.client import eventually
from kit.proxy import run

MORE = "workers = 1; drain_timeout = \"2s\";\n"


def serve_case(serve, name, upstream):
    text = case.text_of(case.named(name), upstream.url)
    return serve(MORE + text, env=case.variables(text))


def body(model="gpt-4.1", text="hi"):
    return json.dumps({"model": model, "messages": [{"role": "user", "content": text}]}).encode()


@pytest.mark.parametrize("path", case.ALL, ids=lambda path: "/".join(path.parts[-2:]))
def test_every_configuration_loads_without_a_word(path):
    done = run("config", "-c", path, env=case.variables(path.read_text()))
    assert (done.returncode, done.stderr) == (0, "")
    assert case.KEY not in done.stdout


@pytest.mark.parametrize("path", case.CASES, ids=lambda path: path.stem)
def test_every_case_serves(path, serve, upstream):
    up = upstream(answers.chat())
    proxy = serve_case(serve, path.stem, up)
    got = proxy.post(body("linear" if path.stem == "strategies" else "gpt-4.1"))
    assert got.status == 200 and got.attempts == 1
    assert up.log[-1].get("authorization") == f"Bearer {case.KEY}"
    assert not re.search(r"level=(warn|error)|warning:", proxy.output()), proxy.output()
    assert case.KEY not in proxy.output()


def test_the_strategies_are_chosen_by_model(serve, upstream):
    up = upstream(answers.chat())
    proxy = serve_case(serve, "strategies", up)
    for name in ("linear", "exponential", "jittered", "decorrelated"):
        assert proxy.post(body(name)).label("target") == "openai/gpt-4.1-mini"
    assert {json.loads(request.body)["model"] for request in up.log} == {"gpt-4.1-mini"}
    assert proxy.post(body("gpt-4.1")).status == 404


def test_basic_tells_of_each_attempt_and_warns_before_each_wait(serve, upstream):
    up = upstream(answers.fail(503), answers.fail(500), answers.chat())
    proxy = serve_case(serve, "basic", up)
    assert proxy.post(body()).attempts == 3
    proxy.wait_line("event=completed")
    lines = [dict(re.findall(r"(\w+)=(\S+)", line)) for line in proxy.output().splitlines() if "event=attempt" in line or "event=retry" in line]
    assert [(line["event"], line["level"], line["reason"]) for line in lines] == [
        ("attempt", "info", "503"),
        ("retry", "warn", "503"),
        ("attempt", "info", "500"),
        ("retry", "warn", "500"),
    ]
    assert [line["delay_ms"] for line in lines if line["event"] == "retry"] == ["2000", "2000"]
    assert up.log[1].at - up.log[0].at > 1.99 and up.log[2].at - up.log[1].at > 1.99


# ---- a key --------------------------------------------------------------------------------------------------------------------------


def check(tmp_path, url, **env):
    file = tmp_path / "key.conf"
    file.write_text(case.text_of(case.named("key"), url))
    done = run("check", "-c", file, "--timeout", 20, env=env)
    assert case.KEY not in done.stdout + done.stderr
    return done


def test_a_good_key_is_found_good(upstream, tmp_path):
    up = upstream(answers.answer(200, {"object": "list", "data": [{"id": "gpt-4.1", "object": "model"}]}))
    done = check(tmp_path, up.url, OPENAI_API_KEY=case.KEY)
    assert done.returncode == 0 and "ok, 1 model" in done.stdout
    assert [(r.method, r.target, r.get("authorization")) for r in up.log] == [("GET", "/v1/models", f"Bearer {case.KEY}")]


def test_a_wrong_key_is_told_plainly(upstream, tmp_path):
    done = check(tmp_path, upstream(answers.fail(401, "invalid_api_key")).url, OPENAI_API_KEY=case.KEY)
    assert done.returncode == 77
    line = next(line for line in done.stdout.splitlines() if line.startswith("openai"))
    assert "WRONG KEY" in line and "OPENAI_API_KEY" in line and "key.conf:3" in line


def test_a_host_that_is_not_there_is_not_a_wrong_key(tmp_path, dead_url):
    done = check(tmp_path, dead_url, OPENAI_API_KEY=case.KEY)
    assert done.returncode == 69
    assert "UNREACHABLE" in done.stdout and "KEY" not in done.stdout.replace("OPENAI_API_KEY", "")


def test_without_the_variable_it_does_not_start(tmp_path):
    for command in (["check", "-c"], ["-c"]):
        done = run(*command, case.named("key"))
        assert done.returncode == 78 and "OPENAI_API_KEY" in done.stderr


# ---- a batch ------------------------------------------------------------------------------------------------------------------------

SIZE, AT_ONCE = 50, 10


class Bench:
    """A behaviour: holds everything until the gate opens; the third question is refused, the seventh fails at first."""

    def __init__(self, gate):
        self.gate, self.running, self.most, self.failed = gate, 0, 0, False

    async def __call__(self, call):
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.gate.passed()
            await asyncio.sleep(0.01)
            await self.choose(json.loads(call.request.body)["messages"][0]["content"])(call)
        finally:
            self.running -= 1

    def choose(self, question):
        if question == "item 3":
            return answers.fail(400, "invalid_value", "invalid_request_error", "no such thing")
        if question == "item 7" and not self.failed:
            self.failed = True
            return answers.fail(503)
        return answers.chat("answer to " + question)


def ask(proxy, item):
    """What a batch client keeps of an item."""
    began = time.monotonic()
    got = proxy.post(body(text=f"item {item}"))
    return {
        "id": got.label("request-id"),
        "item": item,
        "success": got.status == 200,
        "result": got.json["choices"][0]["message"]["content"] if got.status == 200 else None,
        "error": None if got.status == 200 else got.code,
        "attempts": got.attempts,
        "seconds": time.monotonic() - began,
        "told": {name: int(ms) for name, ms in re.findall(r"(\w+);dur=(\d+)", got.get("server-timing"))},
    }


def test_a_batch_of_fifty(serve, upstream):
    up = upstream()
    gate = up.gate()
    bench = Bench(gate)
    up.use(bench)
    proxy = serve_case(serve, "batch", up)
    with concurrent.futures.ThreadPoolExecutor(SIZE) as pool:
        began = time.monotonic()
        items = [pool.submit(ask, proxy, item) for item in range(SIZE)]
        eventually(lambda: proxy.metric("stormjib_upstream_waiting") == SIZE - AT_ONCE and bench.running == AT_ONCE)
        gate.open()
        items = [item.result() for item in items]
        took = time.monotonic() - began
    assert bench.most == AT_ONCE

    # Of each item: id, success, result or error, attempts, latency.
    assert len({item["id"] for item in items}) == SIZE
    assert [item["item"] for item in items if not item["success"]] == [3]
    assert items[3]["error"] == "invalid_value"
    assert all(item["result"] == f"answer to item {item['item']}" for item in items if item["success"])
    assert {item["item"]: item["attempts"] for item in items if item["attempts"] != 1} == {7: 2}
    assert sum(item["told"]["queue"] > 0 for item in items) >= SIZE - AT_ONCE
    assert all(sum(item["told"].values()) <= item["seconds"] * 1000 + 2 for item in items)

    # In all: success rate, mean latency, attempts, throughput, from the client's own list and from the metrics alike.
    def total(name, **labels):
        return proxy.metric("stormjib_" + name, target="openai/gpt-4.1", **labels)

    eventually(lambda: total("exchanges_total") == SIZE)
    assert total("exchanges_total", status_class="2xx") == sum(item["success"] for item in items) == SIZE - 1
    assert total("attempts_total") == sum(item["attempts"] for item in items) == SIZE + 1
    assert total("exchange_duration_seconds_count") == SIZE
    # An exchange is over a moment after its client has everything.
    assert 0 < total("exchange_duration_seconds_sum") <= 1.5 * sum(item["seconds"] for item in items)
    throughput = total("exchanges_total") / proxy.metric("stormjib_uptime_seconds")
    assert 0 < throughput < SIZE / took, "the program is older than the batch"
