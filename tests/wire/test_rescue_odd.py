"""What may come in place of the rest of a broken stream, and what may go wrong beside it (BEHAVIOUR 12)."""

import pytest

from kit import answers, conf
from kit.answers import answer
from test_rescue import FIRST, STREAM, cut
from test_streams import broken, texts

HUGE = answer(200, b'{"choices":[{"message":{"content":"' + b"x" * 1_500_000 + b'"}}]}')


def test_a_long_answer_that_is_no_stream_ends_nothing(plain):
    plain.up.use(cut(FIRST, 3), HUGE)
    got = plain.proxy.post(STREAM)
    assert (texts(got.body), broken(got)) == (["Hel", "lo, "], "stream_broken")
