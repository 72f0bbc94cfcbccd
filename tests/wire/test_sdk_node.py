"""The real openai package for Node before the proxy. Each call is a process of its own that prints its outcome."""

import json
import os
import pathlib
import shutil
import subprocess

import pytest

from kit import answers, api, conf
from kit.answers import ROLE, delta, event, fail, sse

HERE = pathlib.Path(__file__).parent / "node"
# tests/run installs the package there; module resolution starts at the script, so the script is run from a copy beside it.
ROOM = pathlib.Path(os.environ.get("SJ_NODE_ROOM", HERE))


@pytest.fixture(scope="module", autouse=True)
def room():
    if not shutil.which("node"):
        pytest.skip("no node on this machine")
    if not (ROOM / "node_modules" / "openai").is_dir():
        pytest.skip("the openai package for Node is not installed (tests/run does it)")
    if ROOM != HERE:
        shutil.copy(HERE / "calls.mjs", ROOM / "calls.mjs")


def call(name, url):
    done = subprocess.run(["node", ROOM / "calls.mjs", name, url + "/v1"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


CALLS = {
    "chat": "Hi there",
    "stream": "Hi there",
    "tools": {"city": "Oslo"},
    "streamedTools": {"city": "Oslo"},
    "embeddings": [0.25, -0.5],
    "responses": "Hi there",
    "streamedResponses": "Hi there",
    "files": ["file-1", len(api.CONTENT), True],
    "speech": len(api.AUDIO),
    "sideBySide": ["Hi there"] * 20,
}


@pytest.mark.parametrize("name,want", CALLS.items(), ids=CALLS.keys())
def test_a_call(plain, name, want):
    plain.up.use(api.serve_all())
    assert call(name, plain.proxy.url) == {"value": want}


ERRORS = {
    400: ("BadRequestError", 1),
    401: ("AuthenticationError", 1),
    404: ("NotFoundError", 1),
    422: ("UnprocessableEntityError", 1),
    429: ("RateLimitError", 5),
    500: ("InternalServerError", 5),
}


@pytest.mark.parametrize("status", ERRORS)
def test_errors_are_of_the_right_class_and_never_multiplied(plain, status):
    plain.up.use(fail(status, "the_code"))
    kind, count = ERRORS[status]
    got = call("chat", plain.proxy.url)
    assert (got["error"], got["status"], got["code"]) == (kind, status, "the_code")
    assert len(plain.up.log) == count


def test_trouble_is_not_noticed(plain):
    plain.up.use(fail(503), answers.drop("reset"), answers.chat("at last"))
    assert call("chat", plain.proxy.url) == {"value": "at last"}
    assert len(plain.up.log) == 3


def test_a_stream_that_fails_early_is_not_noticed(plain):
    plain.up.use(sse(event(answers.error_json("server_error"))), sse(*answers.chat_events("fine")))
    assert call("stream", plain.proxy.url) == {"value": "fine"}


def test_a_broken_stream_raises(upstream, serve):
    up = upstream(sse(ROLE, delta("Hel"), then="close"))
    proxy = serve(conf.one(up, routes=[{"model": "*", "chain": ["up"], "rescue": "off"}]))
    assert call("partial", proxy.url)["value"] == {"text": "Hel", "code": "stream_broken", "kind": "APIError"}


def test_a_stream_that_breaks_is_mended_unseen(plain):
    plain.up.use(sse(ROLE, delta("Hel"), then="reset"), sse(*answers.chat_events("Hello", " there")))
    assert call("stream", plain.proxy.url) == {"value": "Hello there"}
    assert len(plain.up.log) == 2


def test_a_response_that_breaks_is_mended_unseen(plain):
    events = api.responses_events()
    plain.up.use(sse(*events[:2], then="reset"), sse(*events))
    assert call("streamedResponses", plain.proxy.url) == {"value": "Hi there"}
    assert len(plain.up.log) == 2


def test_an_abort_cancels_upstream(plain):
    plain.up.use(sse(ROLE, delta("Hel"), then="hang"))
    assert call("abort", plain.proxy.url) == {"value": "aborted"}
    plain.up.until_gone(0)
    assert len(plain.up.log) == 1


def test_a_deadline_answers_before_the_sdk_times_out(plain):
    plain.up.use(answers.hang())
    got = call("timeout", plain.proxy.url)
    assert (got["status"], got["code"]) == (504, "deadline_exceeded")
    assert len(plain.up.log) == 1


def stand_ins(up, **route):
    return conf.one(up, routes=[{"model": "*", "chain": ["up"], **route}], retry={"max_attempts": 1})


@pytest.mark.parametrize("name", ["zero", "streamedZero", "embeddings"])
def test_a_stored_answer_is_read_like_the_first(upstream, serve, name):
    up = upstream(api.serve_all())
    proxy = serve(stand_ins(up, stale_if_error="1h"))
    first = call(name, proxy.url)
    up.use(fail(503))
    assert "value" in first and call(name, proxy.url) == first
    assert proxy.metric("stormjib_stale_served_total") == 1


@pytest.mark.parametrize("name", ["chat", "stream", "final", "responses", "streamedResponses"])
def test_a_configured_text_is_read_as_an_answer(upstream, serve, name):
    proxy = serve(stand_ins(upstream(fail(503)), degraded="We are busy. \u2713"))
    assert call(name, proxy.url) == {"value": "We are busy. \u2713"}
    assert proxy.metric("stormjib_degraded_served_total") == 1
