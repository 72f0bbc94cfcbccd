"""What may come in place of the rest of a broken stream, and what may go wrong beside it (BEHAVIOUR 12)."""

import pytest

from kit import answers, conf
from kit.answers import answer
from kit.client import request
from test_rescue import FIRST, STREAM, cut
from test_streams import CHAT, broken, texts

HUGE = answer(200, b'{"choices":[{"message":{"content":"' + b"x" * 1_500_000 + b'"}}]}')


def test_a_long_answer_that_is_no_stream_ends_nothing(plain):
    plain.up.use(cut(FIRST, 3), HUGE)
    got = plain.proxy.post(STREAM)
    assert (texts(got.body), broken(got)) == (["Hel", "lo, "], "stream_broken")


@pytest.mark.parametrize("answer_", [answers.chat("no stream"), HUGE], ids=["short", "long"])
def test_after_a_sign_of_life_an_answer_that_is_no_stream_is_an_error(upstream, serve, answer_):
    up = upstream()
    gate = up.gate()

    async def late(call):
        await gate.passed()
        await answer_(call)

    up.use(late)
    proxy = serve(conf.one(up, routes=[{"model": "*", "chain": ["up"], "keepalive": "1s"}]))
    with proxy.connect() as wire:
        wire.send(request("POST", CHAT, [], STREAM))
        assert wire.head().status == 200
        assert wire.chunk() == b": keepalive\n\n"
        gate.open()
        said = wire.rest()
    assert b'"code": "max_retries_exceeded"' in said and b"choices" not in said
    assert not said.endswith(b"0\r\n\r\n")
