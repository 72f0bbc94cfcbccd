"""A raw HTTP/1.1 client: sends the bytes a test gives it and reads the answer strictly, noticing whether it ended as its framing says."""

import json
import socket
import struct
import time

TIMEOUT = 60


class Cut(Exception):
    """The connection ended before the answer did."""


class Answer:
    def __init__(self, status, reason, headers, raw_head):
        self.status, self.reason, self.headers, self.raw_head = status, reason, headers, raw_head
        self.body, self.whole, self.trailers = b"", False, []

    def all(self, name):
        return [v for n, v in self.headers if n.lower() == name.lower()]

    def get(self, name, default=None):
        return (self.all(name) or [default])[0]

    def label(self, name):
        return self.get("x-stormjib-" + name)

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def code(self):
        """The error code, whoever wrote the error."""
        return self.json["error"]["code"]

    @property
    def attempts(self):
        return int(self.label("attempts"))

    def __repr__(self):
        return f"<{self.status} {self.headers} {self.body[:300]!r} whole={self.whole}>"


class Client:
    def __init__(self, address, timeout=TIMEOUT, receive_buffer=0, tls=None):
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self.sock = socket.socket(family, socket.SOCK_STREAM)
        if receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.settimeout(timeout)
        self.sock.connect(address)
        if tls:
            self.sock = tls.wrap_socket(self.sock, server_hostname="localhost")
        self.buffer = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def send(self, data):
        self.sock.sendall(data)
        return self

    def close(self):
        self.sock.close()

    def reset(self):
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    # ---- reading ----------------------------------------------------------------------------------------------------------------

    def _more(self):
        try:
            data = self.sock.recv(65536)
        except ConnectionError as problem:
            raise Cut(str(problem)) from None
        if not data:
            raise Cut("closed")
        self.buffer += data

    def until(self, mark):
        while mark not in self.buffer:
            self._more()
        text, _, self.buffer = self.buffer.partition(mark)
        return text

    def exactly(self, n):
        parts, have = [self.buffer], len(self.buffer)
        while have < n:
            self.buffer = b""
            self._more()
            parts.append(self.buffer)
            have += len(self.buffer)
        data = b"".join(parts)
        self.buffer = data[n:]
        return data[:n]

    def rest(self):
        """Everything until the other side closes (or resets: then with what came before)."""
        try:
            while True:
                self._more()
        except Cut:
            data, self.buffer = self.buffer, b""
            return data

    def is_closed(self):
        """True when the other side closes, within the timeout, without sending anything more."""
        return self.rest() == b""

    def head(self):
        """The head of the final answer; 1xx are noted in .interim."""
        self.interim = []
        while True:
            raw = self.until(b"\r\n\r\n")
            lines = raw.decode("latin1").split("\r\n")
            version, status, reason = (lines[0].split(" ", 2) + [""])[:3]
            assert version in ("HTTP/1.1", "HTTP/1.0"), lines[0]
            pairs = [line.split(":", 1) for line in lines[1:]]
            answer = Answer(int(status), reason, [(n, v.strip()) for n, v in pairs], raw)
            if answer.status >= 200:
                return answer
            self.interim.append(answer.status)

    def chunk(self):
        """One chunk's bytes; b'' for the last one."""
        n = int(self.until(b"\r\n").split(b";")[0], 16)
        if n == 0:
            while self.until(b"\r\n"):
                pass
            return b""
        data = self.exactly(n + 2)
        assert data.endswith(b"\r\n"), "bad chunking from the proxy"
        return data[:-2]

    def read(self, method="GET", limit=None):
        """The whole answer. When the connection ends first: whole is False and body is what came."""
        answer = self.head()
        parts = []
        try:
            if method == "HEAD" or answer.status in (204, 304):
                pass
            elif "chunked" in (answer.get("transfer-encoding") or "").lower():
                assert answer.get("content-length") is None, "both framings from the proxy"
                while data := self.chunk():
                    parts.append(data)
            elif answer.get("content-length") is not None:
                want = int(answer.get("content-length"))
                while want and (data := self.exactly(min(want, 65536))):
                    parts.append(data)
                    want -= len(data)
            else:
                parts.append(self.rest())
            answer.whole = True
        except Cut:
            parts.append(self.buffer)
        answer.body = b"".join(parts)
        return answer

    def ask(self, method, target, headers=(), body=None, chunked=False):
        self.send(request(method, target, headers, body, chunked=chunked))
        return self.read(method)


def request(method, target, headers=(), body=None, chunked=False, host="proxy.test", version="HTTP/1.1"):
    lines = [f"{method} {target} {version}"]
    if host is not None and not any(n.lower() == "host" for n, _ in headers):
        lines.append(f"Host: {host}")
    lines += [f"{n}: {v}" for n, v in headers]
    if chunked:
        lines.append("Transfer-Encoding: chunked")
        parts = [body[at : at + 1000] for at in range(0, len(body), 1000)]
        payload = b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in parts) + b"0\r\n\r\n"
    else:
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        payload = body or b""
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin1") + payload


def eventually(true, timeout=TIMEOUT, every=0.02):
    """Polls for something that no event tells of; a bound, not an expectation."""
    end = time.monotonic() + timeout
    while not (value := true()):
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(every)
    return value
