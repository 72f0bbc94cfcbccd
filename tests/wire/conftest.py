"""Fixtures. Each test that needs a peculiar proxy starts its own (`serve`); tests about plain carrying share one per module (`plain`)."""

import collections
import pathlib
import shutil
import ssl
import subprocess

import pytest

from kit import answers, conf
from kit.proxy import Program, Proxy, free_port
from kit.together import together
from kit.upstream import Upstream


@pytest.fixture
def upstream():
    """upstream(*script, ...) starts a scripted upstream; all are closed, and their scripts' faults raised, at the end."""
    started = []

    def start(*script, **options):
        started.append(Upstream(*script, **options))
        return started[-1]

    yield start
    for each in started:
        each.close()


@pytest.fixture
def serve(tmp_path):
    """serve(settings, env=...) starts a proxy; at the end each must leave with 0 and without a sanitizer's report."""
    started = []

    def start(settings, env=None, **options):
        started.append(Proxy(tmp_path, settings, env, name=f"stormjib{len(started) or ''}", **options))
        return started[-1]

    yield start
    _stop_all(started)


@pytest.fixture
def program(tmp_path):
    """program(*arguments) starts any other subcommand that serves."""
    started = []

    def start(*arguments, env=None):
        started.append(Program(tmp_path, arguments, env, name=f"program{len(started)}"))
        return started[-1]

    yield start
    _stop_all(started)


def _stop_all(started):
    problems = []
    for each in started:
        try:
            each.stop()
        except AssertionError as problem:
            problems.append(str(problem))
    assert not problems, "\n".join(problems)


Plain = collections.namedtuple("Plain", "proxy up")


@pytest.fixture(scope="module")
def plain_pair(tmp_path_factory):
    with together(tmp_path_factory.mktemp("plain"), conf.one) as pair:
        yield Plain(*pair)


@pytest.fixture
def plain(plain_pair):
    """A proxy before one scripted upstream, shared by the module; the script starts anew for each test."""
    plain_pair.proxy.alive()
    plain_pair.up.use(answers.chat())
    return plain_pair


@pytest.fixture
def dead_url():
    """A base URL where nobody listens."""
    return f"http://127.0.0.1:{free_port()}"


Tls = collections.namedtuple("Tls", "ca context")


@pytest.fixture(scope="session")
def tls(tmp_path_factory):
    """A private CA and a server's context with a certificate of it for localhost."""
    if not shutil.which("openssl"):
        pytest.skip("no openssl on this machine")
    room = tmp_path_factory.mktemp("tls")

    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], cwd=room, check=True, capture_output=True)

    new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    openssl("req", "-x509", *new_key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=test CA", "-days", "2")
    openssl("req", *new_key, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=localhost")
    (room / "names").write_text("subjectAltName=DNS:localhost\n")
    openssl(
        "x509",
        "-req",
        "-in",
        "server.csr",
        "-CA",
        "ca.pem",
        "-CAkey",
        "ca.key",
        "-CAcreateserial",
        "-extfile",
        "names",
        "-out",
        "server.pem",
        "-days",
        "2",
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(room / "server.pem", room / "server.key")
    return Tls(room / "ca.pem", context)


@pytest.fixture(scope="session")
def project():
    return pathlib.Path(__file__).resolve().parents[2]
