"""A scripted upstream: a raw-socket HTTP/1.1 server in a thread that does, byte for byte, what a test's script says for each request,
and remembers exactly what arrived. Nothing in it is forgiving: what a test reads in the log is what stood on the wire."""

import asyncio
import itertools
import socket
import struct
import threading
import time

TIMEOUT = 60  # no wait of the tests is longer; a bound against hanging, never an expectation


class Gone(Exception):
    """The other side closed the connection while a script was still writing."""


class Gate:
    """Opened by the test, awaited by a script (or the other way round)."""

    def __init__(self, loop):
        self._loop, self._event, self._seen = loop, asyncio.Event(), threading.Event()

    def open(self):
        self._seen.set()
        self._loop.call_soon_threadsafe(self._event.set)

    async def passed(self):
        await asyncio.wait_for(self._event.wait(), TIMEOUT)

    def wait(self, timeout=TIMEOUT):
        assert self._seen.wait(timeout), "the gate was not opened in time"


class Request:
    """What arrived: the exact head and body, when, and on which connection."""

    def __init__(self, head, connection, nth):
        self.head, self.body, self.connection, self.nth = head, b"", connection, nth
        self.at, self.gone_at, self.answered_at = time.monotonic(), None, None
        lines = head.split(b"\r\n")
        self.method, self.target, self.version = lines[0].decode("latin1").split(" ", 2)
        pairs = [line.split(b":", 1) for line in lines[1:] if line]
        self.headers = [(n.decode("latin1"), v.strip(b" \t").decode("latin1")) for n, v in pairs]

    def all(self, name):
        return [v for n, v in self.headers if n.lower() == name.lower()]

    def get(self, name, default=None):
        return (self.all(name) or [default])[0]

    def __repr__(self):
        return f"<{self.method} {self.target} {len(self.body)} bytes, connection {self.connection}.{self.nth}>"


class Call:
    """One request and the way to answer it; handed to the script's behaviour."""

    def __init__(self, upstream, wire, request, index):
        self.upstream, self.wire, self.request, self.index = upstream, wire, request, index

    async def write(self, data):
        await self.wire.write(data)

    async def chunk(self, data):
        await self.wire.write(b"%x\r\n%b\r\n" % (len(data), data))

    async def end(self):
        await self.wire.write(b"0\r\n\r\n")

    def close(self):
        self.wire.transport.close()

    def reset(self):
        self.wire.reset()

    async def until_gone(self):
        await asyncio.wait_for(self.wire.gone.wait(), TIMEOUT)


class Wire(asyncio.Protocol):
    """One connection. Reads on while a script writes, so that a peer's leaving is noticed at once."""

    def __init__(self, upstream):
        self.upstream, self.number = upstream, next(upstream.numbers)
        self.buffer, self.fresh, self.gone, self.flowing = bytearray(), asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.flowing.set()
        self.request, self.transport, self.task = None, None, None

    def connection_made(self, transport):
        self.transport = transport
        self.upstream.wires.add(self)
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.upstream.send_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self.upstream.send_buffer)
            transport.set_write_buffer_limits(high=self.upstream.send_buffer)
        self.task = asyncio.ensure_future(self._serve())

    def data_received(self, data):
        self.buffer += data
        self.fresh.set()

    def eof_received(self):
        self._left()

    def connection_lost(self, error):
        self._left()
        self.upstream.wires.discard(self)

    def pause_writing(self):
        self.flowing.clear()

    def resume_writing(self):
        self.flowing.set()

    def _left(self):
        if self.request is not None and self.request.gone_at is None:
            self.request.gone_at = time.monotonic()
        self.gone.set()
        self.fresh.set()
        self.flowing.set()
        self.upstream.tell()

    def reset(self):
        sock = self.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    async def write(self, data):
        if self.gone.is_set() or self.transport.is_closing():
            raise Gone
        self.transport.write(data)
        await self.flowing.wait()
        if self.gone.is_set():
            raise Gone
        await asyncio.sleep(0)

    async def _until(self, mark):
        while mark not in self.buffer:
            await self._more()
        text, _, rest = bytes(self.buffer).partition(mark)
        self.buffer = bytearray(rest)
        return text

    async def _exactly(self, n):
        while len(self.buffer) < n:
            await self._more()
        data, self.buffer = bytes(self.buffer[:n]), self.buffer[n:]
        return data

    async def _more(self):
        if self.gone.is_set():
            raise Gone
        self.fresh.clear()
        await self.fresh.wait()

    async def _body(self, request):
        if "chunked" in (request.get("transfer-encoding") or "").lower():
            body = b""
            while n := int((await self._until(b"\r\n")).split(b";")[0], 16):
                body += await self._exactly(n)
                await self._exactly(2)
            while await self._until(b"\r\n"):
                pass
            return body
        return await self._exactly(int(request.get("content-length") or 0))

    async def _serve(self):
        try:
            for nth in itertools.count():
                head = await self._until(b"\r\n\r\n")
                request = Request(head, self.number, nth)
                self.request = request
                request.body = await self._body(request)
                await self.upstream.answer(self, request)
                request.answered_at = time.monotonic()
                self.request = None
                self.upstream.tell()
                if self.transport.is_closing():
                    return
        except (Gone, ConnectionError):
            pass
        except Exception as problem:  # a broken script must fail its test, not vanish in a thread
            self.upstream.problems.append(problem)
            self.transport.abort()


class Upstream:
    """script: behaviours for the 1st, 2nd, ... request; the last one repeats. A behaviour is an async function of a Call."""

    def __init__(self, *script, tls=None, send_buffer=0, host="127.0.0.1", port=0):
        self.log, self.problems, self.wires = [], [], set()
        self.numbers, self.send_buffer = itertools.count(1), send_buffer
        self.changed = threading.Condition()
        self.use(*script)
        self.loop = asyncio.new_event_loop()
        self.socket = socket.create_server((host, port), backlog=1024)
        self.port = self.socket.getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.server = self._run(self.loop.create_server(lambda: Wire(self), sock=self.socket, ssl=tls, backlog=1024))

    def _run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(TIMEOUT)

    def use(self, *script):
        """Another script from here on; the log starts anew."""
        with self.changed:
            self.script, self.served, self.log = list(script), 0, []

    def gate(self):
        return Gate(self.loop)

    def tell(self):
        with self.changed:
            self.changed.notify_all()

    async def answer(self, wire, request):
        with self.changed:
            index, self.served = self.served, self.served + 1
            self.log.append(request)
            self.changed.notify_all()
            assert self.script, f"nothing scripted for {request}"
            behaviour = self.script[min(index, len(self.script) - 1)]
        await behaviour(Call(self, wire, request, index))

    def wait(self, count, timeout=TIMEOUT):
        """Until so many requests have arrived."""
        return self.until(lambda: len(self.log) >= count and self.log, timeout)

    def until(self, true, timeout=TIMEOUT):
        with self.changed:
            assert self.changed.wait_for(true, timeout), f"did not come: {self.log}"
            return true()

    def until_gone(self, index=-1, timeout=TIMEOUT):
        """Until the peer of that request has left; when it did."""
        return self.until(lambda: self.log and self.log[index].gone_at, timeout)

    def bodies(self):
        return [request.body for request in self.log]

    def stop_listening(self):
        self.loop.call_soon_threadsafe(self.server.close)

    def close(self):
        async def down():
            self.server.close()
            for wire in list(self.wires):
                wire.task.cancel()
                wire.transport.abort()
            await asyncio.sleep(0)

        self._run(down())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(TIMEOUT)
        self.loop.close()
        assert not self.problems, self.problems
