"""What answers cost, and what a cheaper target or another price list saves (BEHAVIOUR 15)."""

import json
import re

from kit import answers, case, conf
from kit.answers import chat, fail

# Published prices per 1M tokens.
PRICES = [{"model": "gpt-4.1*", "input": 8.0, "output": 8.0}, {"model": "b/deepseek-*", "input": 0.42, "output": 0.42}]
ELSEWHERE = [{"model": "gpt-4.1", "input": 10.0, "output": 10.0}, {"model": "deepseek-v3.2", "input": 0.4, "output": 0.4}]
USAGE = {"prompt_tokens": 1000, "completion_tokens": 500, "total_tokens": 1500}
BODY = b'{"model":"gpt-4.1"}'


def metric(proxy, name, **labels):
    inside = ",".join(f'{k}="{v}"' for k, v in labels.items())
    found = re.search(rf"^stormjib_{name}{{{re.escape(inside)}}} (\S+)$", proxy.metrics(), re.M)
    return float(found[1]) if found else None


def completed(proxy, count=1):
    return proxy.wait_line(r".*event=completed .*", count=count)[0]


def told(line, key):
    found = re.search(rf" {key}=(\S+)", line)
    return found and float(found[1])


def test_the_cost_of_an_answer(upstream, serve):
    a = upstream(chat(usage=USAGE))
    proxy = serve(conf.chain(a, prices=PRICES))
    proxy.post(BODY)
    line = completed(proxy)
    assert " cost_usd=0.012" in line and "saved" not in line
    assert metric(proxy, "cost_dollars_total", target="a/gpt-4.1") == 0.012
    assert metric(proxy, "cost_saved_dollars_total", target="a/gpt-4.1", against="first_target") is None
    totals = json.loads(proxy.admin("/state")[1])["totals"]
    assert (totals["cost_usd"], totals["fallback_saved_usd"], totals["cost_unknown"]) == (0.012, 0, 0)


def test_what_a_fallback_saved(upstream, serve):
    a, b = upstream(fail(402, "no_money")), upstream(chat(usage=USAGE))
    proxy = serve(conf.chain(a, b, prices=PRICES, compare_prices=ELSEWHERE))
    proxy.post(BODY)
    proxy.post(BODY)
    line = completed(proxy, count=2)
    assert (told(line, "cost_usd"), told(line, "fallback_saved_usd")) == (0.00063, 0.01137)
    assert told(line, "compare_saved_usd") == -0.00003
    assert metric(proxy, "cost_dollars_total", target="b/deepseek-v3.2") == 0.00126
    assert metric(proxy, "cost_saved_dollars_total", target="b/deepseek-v3.2", against="first_target") == 0.02274
    assert metric(proxy, "cost_extra_dollars_total", target="b/deepseek-v3.2", against="compare_prices") == 0.00006
    totals = json.loads(proxy.admin("/state")[1])["totals"]
    assert (totals["cost_usd"], totals["fallback_saved_usd"], totals["compare_saved_usd"]) == (0.00126, 0.02274, -0.00006)


def test_a_stream_that_tells_its_usage(upstream, serve):
    usage = answers.event({"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": [], "usage": USAGE})
    events = answers.chat_events("Hi")
    a = upstream(answers.sse(*events[:-1], usage, events[-1]), answers.sse(*events))
    proxy = serve(conf.chain(a, prices=PRICES))
    proxy.post(b'{"model":"gpt-4.1","stream":true}')
    assert told(completed(proxy), "cost_usd") == 0.012
    # Without a usage block it is not known, and that is counted.
    proxy.post(b'{"model":"gpt-4.1","stream":true}')
    assert told(completed(proxy, count=2), "cost_usd") is None
    assert metric(proxy, "cost_unknown_total", target="a/gpt-4.1") == 1


def test_a_model_without_a_price_and_an_error_cost_nothing(upstream, serve):
    a = upstream(chat(usage=USAGE), fail(400, "bad"))
    proxy = serve(conf.chain(a, prices=PRICES))
    proxy.post(b'{"model":"other"}')
    proxy.post(BODY)
    assert "cost_usd" not in completed(proxy, count=2)
    assert metric(proxy, "cost_unknown_total", target="a/other") == 1
    assert metric(proxy, "cost_unknown_total", target="a/gpt-4.1") is None


def test_without_prices_nothing_is_told(upstream, serve):
    a = upstream(chat(usage=USAGE))
    proxy = serve(conf.chain(a))
    proxy.post(BODY)
    assert "usd" not in completed(proxy)
    assert not re.search(r"^stormjib_cost\w+{", proxy.metrics(), re.M)
    assert json.loads(proxy.admin("/state")[1])["prices"] is False


def test_prices_change_with_a_reload(upstream, serve):
    a = upstream(chat(usage=USAGE))
    proxy = serve(conf.chain(a, prices=PRICES, log={"format": "json"}))
    proxy.post(BODY)
    proxy.wait_line('"event":"completed"')
    proxy.reload(prices=[{"model": "*", "input": 1.0, "output": 2.0, "cached_input": 0.1}])
    proxy.wait_line("configuration reloaded")
    a.use(chat(usage={**USAGE, "prompt_tokens_details": {"cached_tokens": 400}}))
    costs = []
    while len(costs) < 20 and 0.00164 not in costs:  # workers take the reload one after the other
        proxy.post(BODY)
        proxy.wait_line('"event":"completed"', count=2 + len(costs))
        lines = [json.loads(line) for line in proxy.output().splitlines() if '"event":"completed"' in line]
        costs = [line["cost_usd"] for line in lines[1:]]
    assert costs[-1] == 0.00164


def test_another_list_alone_is_pointless_and_said_so(upstream, serve):
    a = upstream(chat(usage=USAGE))
    proxy = serve(conf.chain(a, compare_prices=ELSEWHERE))
    assert "compare_prices': has no effect: there are no prices" in proxy.output()


def test_the_case_of_the_price_lists(upstream, serve):
    """conf/cases/costs.conf as it stands, but for where the API is: a million tokens either way at the cheap model."""
    million = {"prompt_tokens": 1_000_000, "completion_tokens": 1_000_000, "total_tokens": 2_000_000}
    up = upstream(fail(402, "no_money"), chat(usage=million))
    text = case.text_of(case.named("costs"), up.url)
    proxy = serve('workers = 1; drain_timeout = "2s";\n' + text, env=case.variables(text))
    assert proxy.post(BODY).status == 200
    line = completed(proxy)
    assert "target=router/deepseek/deepseek-v3.2" in line
    assert (told(line, "cost_usd"), told(line, "fallback_saved_usd"), told(line, "compare_saved_usd")) == (0.84, 15.16, -0.14)
