"""x-stormjib-trail as data: [("a/gpt-4.1", "503"), ("wait", 520), ("b/x", "200")]."""

import re


def parse(text):
    steps = []
    for part in text.split(", "):
        if wait := re.fullmatch(r"wait (\d+)ms", part):
            steps.append(("wait", int(wait[1])))
        else:
            steps.append(tuple(part.split(" ")[:2]))
    return steps


def tries(text):
    """Only the attempts."""
    return [step for step in parse(text) if step[0] != "wait"]


def waits(text):
    return [step[1] for step in parse(text) if step[0] == "wait"]
