"""Python values to libconfig text, and the configuration most tests start from."""


def render(value, depth=0):
    """dict: a group; list of dicts: a list ( ); other list: an array [ ]; the rest are scalars."""
    pad = "  " * depth
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "{\n" + settings(value, depth + 1) + pad + "}"
    if isinstance(value, (list, tuple)):
        items = ", ".join(render(v, depth + 1) for v in value)
        return f"({items})" if any(isinstance(v, dict) for v in value) else f"[{items}]"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return repr(value)


def settings(group, depth=0):
    pad = "  " * depth
    return "".join(f"{pad}{key} = {render(value, depth)};\n" for key, value in group.items())


def merged(base, over):
    """over laid upon base, group by group; None removes a key."""
    out = dict(base)
    for key, value in over.items():
        if value is None:
            out.pop(key, None)
        elif isinstance(value, dict) and isinstance(out.get(key), dict):
            out[key] = merged(out[key], value)
        else:
            out[key] = value
    return out


# Waits short enough for tests, and decided by nobody's dice.
QUICK = {"strategy": "fixed", "base": "20ms", "throttle_base": "20ms", "throttle_cap": "50ms"}
# One worker, and a drain that does not hold up a test's end.
ROOT = {"workers": 1, "drain_timeout": "2s"}
# A breaker and a budget that stay out of the way of tests about something else.
CALM = {
    "breaker": {"enabled": False},
    "global_breaker": {"enabled": False},
    "budget": {"enabled": False},
}


def one(upstream, **over):
    """One upstream 'up' that gets everything as it is."""
    routes = [{"model": "*", "chain": ["up"]}]
    base = {**ROOT, "upstreams": {"up": {"base_url": upstream.url}}, "routes": routes, "retry": QUICK, **CALM}
    return merged(base, over)


def chain(*upstreams, models=("gpt-4.1", "deepseek-v3.2", "small", "tiny"), **over):
    """upstream a, b, c ... and the chain a/gpt-4.1, b/deepseek-v3.2, ... for the model gpt-4.1."""
    names = "abcdefgh"[: len(upstreams)]
    base = {
        **ROOT,
        "upstreams": {n: {"base_url": u.url, "auth": "none"} for n, u in zip(names, upstreams)},
        "routes": [{"model": "gpt-4.1", "chain": [f"{n}/{m}" for n, m in zip(names, models)]}, {"model": "*", "chain": ["a"]}],
        "retry": QUICK,
        **CALM,
    }
    return merged(base, over)
