"""The program under test: stormjib with a generated configuration on free ports, started, watched and stopped by its process id."""

import http.client
import itertools
import os
import pathlib
import re
import signal
import socket
import subprocess

from . import client, conf

TIMEOUT = 60
REPORT = re.compile(r"(ERROR|WARNING): \w+Sanitizer|runtime error:|SUMMARY: \w+Sanitizer|Assertion .* failed|LeakSanitizer")


def binary():
    path = os.environ.get("SJ_BINARY")
    assert path, "SJ_BINARY names the stormjib binary to test (tests/run sets it)"
    return str(pathlib.Path(path).resolve())


def _ports():
    """Below the ephemeral range and apart for each pytest-xdist worker, so that nobody takes a port between our look and its use."""
    worker = int(re.sub(r"\D", "", os.environ.get("PYTEST_XDIST_WORKER", "gw0")) or 0)
    span = 1200
    base = 12000 + (worker % 16) * span
    for n in itertools.count(os.getpid() % span):
        yield base + n % span


_next = _ports()


def free_port():
    for port in itertools.islice(_next, 1000):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                pass
    raise AssertionError("no free port")


def environment(extra=None):
    keep = {k: v for k, v in os.environ.items() if not k.startswith(("STORMJIB", "OPENAI", "http_", "https_", "HTTP_", "HTTPS_"))}
    # A small quarantine, so that memory given back shows in the resident size.
    keep["ASAN_OPTIONS"] = "detect_leaks=1:exitcode=99:quarantine_size_mb=8:" + os.environ.get("ASAN_OPTIONS", "")
    keep["UBSAN_OPTIONS"] = "print_stacktrace=1:" + os.environ.get("UBSAN_OPTIONS", "")
    keep["TSAN_OPTIONS"] = "exitcode=98:" + os.environ.get("TSAN_OPTIONS", "")
    return {**keep, **(extra or {})}


def run(*arguments, env=None, cwd=None, timeout=TIMEOUT):
    """A subcommand that ends by itself."""
    done = subprocess.run([binary(), *map(str, arguments)], env=environment(env), cwd=cwd, capture_output=True, text=True, timeout=timeout)
    assert not REPORT.search(done.stderr), done.stderr
    return done


class Program:
    """A running stormjib (any subcommand that serves), its output in files."""

    def __init__(self, folder, arguments, env=None, name="stormjib"):
        self.folder, self.name = pathlib.Path(folder), name
        self.paths = [self.folder / f"{name}.{end}" for end in ("out", "err")]
        with open(self.paths[0], "wb") as out, open(self.paths[1], "wb") as err:
            self.process = subprocess.Popen([binary(), *map(str, arguments)], env=environment(env), cwd=self.folder, stdout=out, stderr=err)
        self.pid = self.process.pid

    def output(self):
        return "".join(path.read_text(errors="replace") for path in self.paths)

    def alive(self):
        assert self.process.poll() is None, f"it ended by itself with {self.process.returncode}:\n{self.output()}"
        return True

    def wait_line(self, pattern, timeout=TIMEOUT, count=1):
        """Until its output has so many matches of the pattern; the last one's match."""

        def found():
            matches = list(re.finditer(pattern, self.output(), re.M))
            return matches[-1] if len(matches) >= count else (self.process.poll() is not None and self._dead(pattern))

        return client.eventually(found, timeout)

    def _dead(self, pattern):
        raise AssertionError(f"ended with {self.process.returncode} before {pattern!r}:\n{self.output()}")

    def signal(self, number):
        self.process.send_signal(number)

    def wait(self, timeout=TIMEOUT):
        return self.process.wait(timeout)

    def stop(self):
        """SIGTERM, and everything that must hold at the end: a clean exit, no sanitizer report."""
        if self.process.poll() is None:
            self.signal(signal.SIGTERM)
        try:
            code = self.wait()
        except subprocess.TimeoutExpired:
            self.signal(signal.SIGABRT)
            self.process.wait(TIMEOUT)
            raise AssertionError(f"it did not end after SIGTERM:\n{self.output()}") from None
        assert not REPORT.search(self.output()), self.output()[-20000:]
        assert code == 0, f"exit code {code}:\n{self.output()[-20000:]}"

    def rss_kib(self):
        return int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{self.pid}/status").read_text())[1])


def get(port, path, headers=None, timeout=TIMEOUT):
    """A plain GET outside of what a test is about: (status, text)."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("GET", path, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def is_ready(port):
    """Whether a proxy on that port takes traffic."""
    try:
        return get(port, "/readyz")[0] == 200
    except OSError:
        return False


class Proxy(Program):
    """`stormjib -c FILE` with the settings given, as values or as text, ready to serve."""

    def __init__(self, folder, settings, env=None, name="stormjib", wait=True, extra_listen=()):
        self.port, self.admin_port = free_port(), free_port()
        listen = f"127.0.0.1:{self.port}"
        own = {"listen": [listen, *extra_listen] if extra_listen else listen, "admin": f"127.0.0.1:{self.admin_port}"}
        self.settings = conf.settings(own) + settings if isinstance(settings, str) else {**own, **settings}
        self.file = pathlib.Path(folder) / f"{name}.conf"
        self.write(self.settings)
        super().__init__(folder, ["-c", self.file], env, name)
        self.address, self.url = ("127.0.0.1", self.port), f"http://127.0.0.1:{self.port}"
        if wait:
            self.wait_ready()

    def write(self, settings):
        self.file.write_text(settings if isinstance(settings, str) else conf.settings(settings))

    def is_ready(self):
        return self.alive() and is_ready(self.port)

    def wait_ready(self):
        client.eventually(self.is_ready)
        return self

    def reload(self, **over):
        """Other settings, SIGHUP, and nothing awaited: see wait_line."""
        self.settings = conf.merged(self.settings, over)
        self.write(self.settings)
        self.signal(signal.SIGHUP)

    def connect(self, **options):
        return client.Client(self.address, **options)

    def ask(self, method, target, headers=(), body=None, **options):
        with self.connect() as wire:
            return wire.ask(method, target, headers, body, **options)

    def post(self, body, target="/v1/chat/completions", headers=()):
        return self.ask("POST", target, [("Content-Type", "application/json"), *headers], body)

    def admin(self, path, headers=None):
        return get(self.admin_port, path, headers)

    def metrics(self):
        status, text = self.admin("/metrics")
        assert status == 200
        return text

    def metric(self, name, **labels):
        """The sum of a metric's samples that have these labels."""
        total = 0.0
        for line in self.metrics().splitlines():
            match = re.fullmatch(r"(\w+)(?:\{(.*)\})? (\S+)", line)
            if match and match[1] == name and all(f'{k}="{v}"' in (match[2] or "") for k, v in labels.items()):
                total += float(match[3])
        return total
