"""A proxy and its upstreams that a whole module of tests shares."""

import contextlib

from . import answers
from .proxy import Proxy
from .upstream import Upstream


@contextlib.contextmanager
def together(folder, settings, count=1):
    """settings: a function of the upstreams. Gives (proxy, upstream...); each must end well."""
    with contextlib.ExitStack() as ends:
        upstreams = [Upstream(answers.chat()) for _ in range(count)]
        for each in upstreams:
            ends.callback(each.close)
        proxy = Proxy(folder, settings(*upstreams))
        ends.callback(proxy.stop)
        yield (proxy, *upstreams)
