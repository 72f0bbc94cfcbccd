"""The files of conf/cases before other upstreams: nothing of them is changed but where the API is."""

import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[3]
CASES = sorted((ROOT / "conf/cases").glob("*.conf"))
ALL = sorted((ROOT / "conf").rglob("*.conf"))
KEY = "sk-canary-of-the-case"


def variables(text):
    """An environment in which it loads."""
    return {name: KEY for name in re.findall(r"\$\{(\w+)\}", text)}


def text_of(path, url):
    text, count = re.subn(r'base_url = "https://[^"]+"', f'base_url = "{url}/v1"', path.read_text())
    assert count, f"{path} names no API"
    return text


def named(name):
    return ROOT / f"conf/cases/{name}.conf"
