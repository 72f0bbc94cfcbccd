"""Recorded traffic of real APIs through the proxy. The recordings are not part of the project; where they are absent this says so."""

import os
import pathlib
import subprocess
import sys
import tarfile

import pytest

from kit import answers, conf
from kit.proxy import free_port


@pytest.fixture(scope="module")
def corpus():
    """SJ_CORPUS, or shared/corpus beside the project's folder."""
    here = pathlib.Path(__file__).resolve()
    places = [os.environ.get("SJ_CORPUS", "")] + [str(here.parents[up] / "shared" / "corpus") for up in (3, 4)]
    found = [pathlib.Path(p) for p in places if p and (pathlib.Path(p) / "replay.py").exists()]
    if not found:
        pytest.skip("the recorded corpus is not on this machine (set SJ_CORPUS to its folder)")
    return found[0]


@pytest.mark.timeout(400)
@pytest.mark.parametrize("workers", [1, 2])
def test_recorded_traffic_passes_identically_both_ways(corpus, serve, workers):
    port = free_port()
    settings = {
        **conf.ROOT,
        "workers": workers,
        "upstreams": {"up": {"base_url": f"http://127.0.0.1:{port}"}},
        "routes": [{"model": "*", "chain": ["up"]}],
        **conf.CALM,
    }
    proxy = serve(settings)
    command = [
        sys.executable,
        corpus / "replay.py",
        "--root",
        corpus / "openai-wire-corpus.jsonl.xz",
        "--upstream-port",
        str(port),
        "--target",
        f"127.0.0.1:{proxy.port}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=380)
    assert "requests identical at upstream: 1030  responses identical at client: 1030  errors: 0" in done.stdout, done.stdout + done.stderr


def test_json_bodies_of_every_kind_arrive_byte_for_byte(corpus, plain):
    """Valid, invalid and undefined ones (nst/JSONTestSuite): as a body they are none of our business."""
    plain.up.use(answers.chat())
    with tarfile.open(corpus / "JSONTestSuite-test_parsing.tar.xz") as archive:
        bodies = [archive.extractfile(m).read() for m in archive if m.isfile() and m.name.endswith(".json")]
    assert len(bodies) == 318
    with plain.proxy.connect() as wire:
        for body in bodies:
            assert wire.ask("POST", "/v1/chat/completions", [("Content-Type", "application/json")], body).status == 200
    assert plain.up.bodies() == bodies


def test_json_objects_move_to_another_model_by_one_splice(corpus, upstream, serve):
    """Wrapped as a member beside `model`, each valid text is carried to the fallback with nothing but the model changed."""
    quota = answers.fail(429, "insufficient_quota", "insufficient_quota")
    a, b = upstream(quota), upstream(answers.chat())
    proxy = serve(conf.chain(a, b))
    with tarfile.open(corpus / "JSONTestSuite-test_parsing.tar.xz") as archive:
        texts = [archive.extractfile(m).read() for m in archive if m.isfile() and pathlib.Path(m.name).name.startswith("y_")]
    with proxy.connect() as wire:
        for text in texts:
            assert wire.ask("POST", "/v1/chat/completions", [], b'{"x":' + text + b',"model": "gpt-4.1"}').status == 200
    assert b.bodies() == [b'{"x":' + text + b',"model": "deepseek-v3.2"}' for text in texts]
