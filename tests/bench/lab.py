"""What the measuring programs share: processes on free ports of 127.0.0.1, their CPU time and memory, wrk, and the mock's own counts."""

import atexit
import contextlib
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent


def build(folder):
    """The release build whose binary is measured."""
    subprocess.run(["cmake", "-S", ROOT, "-B", folder, "-DCMAKE_BUILD_TYPE=Release", "-DSJ_TESTS=OFF", "-DSJ_SANITIZE="],
                   check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["cmake", "--build", folder, "-j2", "--target", "stormjib"], check=True, stdout=subprocess.DEVNULL)
    return pathlib.Path(folder) / "stormjib"


def need(program, package):
    if shutil.which(program) or pathlib.Path("/usr/sbin", program).exists():
        return
    command = ["apt-get", "install", "-y", "--no-install-recommends", package]
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise SystemExit(f"{program} is missing; install it first: {' '.join(command)}")
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def wait_for_port(port, process, seconds=10):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if process.poll() is not None:
            raise SystemExit(f"{process.args[0]} ended with {process.returncode} before it listened")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise SystemExit(f"{process.args[0]} does not listen on port {port}")


class Server:
    """A running program; its output goes to a file, as a log would. Ends with us at the latest."""

    def __init__(self, name, command, port, folder, stream_port=None):
        self.name, self.port, self.stream_port = name, port, stream_port or port
        self.log = open(folder / f"{name}.log", "wb")
        self.process = subprocess.Popen([str(c) for c in command], stdout=self.log, stderr=self.log, stdin=subprocess.DEVNULL)
        atexit.register(self.stop)
        wait_for_port(port, self.process)

    def pids(self):
        pid = self.process.pid
        children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [pid, *map(int, children)]

    def cpu_s(self):
        """Time on a CPU, user and system, of all threads; the kernel counts nanoseconds."""
        total = 0
        for pid in self.pids():
            for task in os.listdir(f"/proc/{pid}/task"):
                total += int(pathlib.Path(f"/proc/{pid}/task/{task}/schedstat").read_text().split()[0])
        return total / 1e9

    def rss_kb(self):
        """Resident memory of the process that does the work (nginx: the worker)."""
        status = pathlib.Path(f"/proc/{self.pids()[-1]}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0])

    def stop(self):
        atexit.unregister(self.stop)
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.log.close()


def fill(template, folder, values):
    text = (HERE / template).read_text()
    for key, value in values.items():
        text = text.replace(f"@{key}@", str(value))
    path = folder / template
    path.write_text(text)
    return path


def case(name, folder, port, mock, more=""):
    """A file of conf/cases before a mock; nothing of it is changed but where it listens and where the API is."""
    text, count = re.subn(r'base_url = "https://[^"]+"', f'base_url = "http://127.0.0.1:{mock.port}/v1"', (ROOT / f"conf/cases/{name}.conf").read_text())
    if not count:
        raise SystemExit(f"{name}.conf names no API")
    os.environ.setdefault("OPENAI_API_KEY", "sk-bench-key")
    path = folder / f"{name}.conf"
    path.write_text(f'listen = "127.0.0.1:{port}";\nadmin = "";\n{more}{text}')
    return path


def start_mock(binary, folder, name="mock", **options):
    (port,) = free_ports(1)
    options = {"log_size": 16, **options}
    arguments = [part for key, value in options.items() for part in (f"--{key.replace('_', '-')}", value)]
    return Server(name, [binary, "mock", "--port", port, *arguments], port, folder)


def start_nginx(folder, upstream):
    whole, stream = free_ports(2)
    conf = fill("nginx.conf", folder, {"DIR": folder, "UPSTREAM": upstream, "PORT_WHOLE": whole, "PORT_STREAM": stream})
    return Server("nginx", ["/usr/sbin/nginx", "-c", conf, "-p", folder, "-g", "daemon off;"], whole, folder, stream)


def start_haproxy(folder, upstream):
    whole, stream = free_ports(2)
    conf = fill("haproxy.cfg", folder, {"UPSTREAM": upstream, "PORT_WHOLE": whole, "PORT_STREAM": stream})
    return Server("haproxy", ["/usr/sbin/haproxy", "-db", "-f", conf], whole, folder, stream)


def start_stormjib(binary, folder, upstream, max_open_wait="15s", name="stormjib"):
    port, admin = free_ports(2)
    conf = fill("stormjib.conf", folder, {"UPSTREAM": upstream, "PORT_WHOLE": port, "PORT_ADMIN": admin,
                                          "MAX_OPEN_WAIT": max_open_wait})
    return Server(name, [binary, "serve", "-c", conf], port, folder)


def wrk(port, body_file, seconds, connections):
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "-s", str(HERE / "wrk.lua"),
               f"http://127.0.0.1:{port}/v1/chat/completions", "--", str(body_file)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(output.strip().splitlines()[-1])


def ask(port, method, path, body=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
    answer = connection.getresponse()
    data = answer.read()
    connection.close()
    return answer.status, data


def answer_size(port, body_file):
    """Bytes of one answer as they come over the wire, head and framing included."""
    body = pathlib.Path(body_file).read_bytes()
    with socket.create_connection(("127.0.0.1", port), 10) as s:
        s.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n"
                  b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        size = 0
        while part := s.recv(65536):
            size += len(part)
    return size


def mock_rules(mock, **rules):
    rules = {name.replace("_", "-"): value for name, value in rules.items()}
    status, answer = ask(mock.port, "POST", "/mock/rules", json.dumps(rules))
    if status != 200:
        raise SystemExit(f"the mock refused {rules}: {answer.decode(errors='replace')}")


def mock_attempts(mock):
    return json.loads(ask(mock.port, "GET", "/mock/stats")[1])["attempts"]
