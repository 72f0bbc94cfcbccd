"""The real openai package for Python before the proxy: it must notice nothing but that things go better."""

import asyncio
import json
import threading

import pytest

from kit import answers, api, conf
from kit.answers import ROLE, chat_events, delta, event, fail, sse
from kit.client import eventually

openai = pytest.importorskip("openai")

USER = [{"role": "user", "content": "hi"}]
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}}]


@pytest.fixture
def sdk(plain):
    """(client, upstream): the module's proxy with a well-behaved API behind it."""
    plain.up.use(api.serve_all())
    with openai.OpenAI(base_url=plain.proxy.url + "/v1", api_key="sk-test") as client:
        yield client, plain.up


def test_chat(sdk):
    client, up = sdk
    got = client.chat.completions.create(model="gpt-4.1", messages=USER)
    assert got.choices[0].message.content == "Hi there"
    assert got.usage.total_tokens == 5
    assert up.log[0].get("authorization") == "Bearer sk-test"
    assert json.loads(up.log[0].body) == {"model": "gpt-4.1", "messages": USER}


def test_a_stream(sdk):
    client, _ = sdk
    parts = list(client.chat.completions.create(model="gpt-4.1", messages=USER, stream=True))
    assert "".join(p.choices[0].delta.content or "" for p in parts) == "Hi there"
    assert parts[-1].choices[0].finish_reason == "stop"


def test_tools(sdk):
    client, _ = sdk
    got = client.chat.completions.create(model="gpt-4.1", messages=USER, tools=TOOLS)
    assert json.loads(got.choices[0].message.tool_calls[0].function.arguments) == {"city": "Oslo"}


def test_streamed_tools(sdk):
    client, _ = sdk
    parts = client.chat.completions.create(model="gpt-4.1", messages=USER, tools=TOOLS, stream=True)
    text = "".join(c.function.arguments or "" for p in parts for c in p.choices[0].delta.tool_calls or [])
    assert json.loads(text) == {"city": "Oslo"}


def test_embeddings(sdk):
    client, _ = sdk
    got = client.embeddings.create(model="e", input="x", encoding_format="float")
    assert got.data[0].embedding == [0.25, -0.5]


def test_responses(sdk):
    client, _ = sdk
    assert client.responses.create(model="gpt-4.1", input="hi").output_text == "Hi there"


def test_streamed_responses(sdk):
    client, _ = sdk
    events = list(client.responses.create(model="gpt-4.1", input="hi", stream=True))
    assert [e.type for e in events][-1] == "response.completed"
    assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == "Hi there"


def test_models(sdk):
    client, _ = sdk
    assert [m.id for m in client.models.list()] == ["gpt-4.1"]


def test_files(sdk):
    client, up = sdk
    made = client.files.create(file=("a.jsonl", api.CONTENT), purpose="batch")
    assert made.id == "file-1"
    assert api.CONTENT in up.log[0].body
    assert client.files.content("file-1").read() == api.CONTENT
    assert client.files.delete("file-1").deleted


def test_speech_and_transcription(sdk):
    client, up = sdk
    assert client.audio.speech.create(model="tts-1", voice="alloy", input="hi").read() == api.AUDIO
    assert client.audio.transcriptions.create(model="whisper-1", file=("a.mp3", api.AUDIO)).text == "hello"
    assert api.AUDIO in up.log[1].body


def test_async_calls_side_by_side(plain):
    plain.up.use(api.serve_all())

    async def many():
        async with openai.AsyncOpenAI(base_url=plain.proxy.url + "/v1", api_key="k") as client:

            async def one(n):
                if n % 2:
                    return (await client.chat.completions.create(model=f"m{n}", messages=USER)).choices[0].message.content
                stream = await client.chat.completions.create(model=f"m{n}", messages=USER, stream=True)
                return "".join([p.choices[0].delta.content or "" async for p in stream])

            return await asyncio.gather(*(one(n) for n in range(40)))

    assert asyncio.run(many()) == ["Hi there"] * 40
    assert len(plain.up.log) == 40


ERRORS = {
    400: openai.BadRequestError,
    401: openai.AuthenticationError,
    403: openai.PermissionDeniedError,
    404: openai.NotFoundError,
    409: openai.ConflictError,
    422: openai.UnprocessableEntityError,
    429: openai.RateLimitError,
    500: openai.InternalServerError,
    503: openai.InternalServerError,
}
# 429 and 5xx are retried by us; 409 is not, but the SDK repeats it by itself unless told not to (other answers keep what upstream sent).
COUNTS = {429: 5, 500: 5, 503: 5, 409: 3}


@pytest.mark.parametrize("status,kind", ERRORS.items())
def test_errors_are_of_the_right_class_and_never_multiplied(sdk, status, kind):
    client, up = sdk
    up.use(fail(status, "the_code", message="the message"))
    with pytest.raises(kind) as caught:
        client.chat.completions.create(model="gpt-4.1", messages=USER)
    assert (caught.value.status_code, caught.value.code) == (status, "the_code")
    assert "the message" in caught.value.message
    assert len(up.log) == COUNTS.get(status, 1)


def test_trouble_is_not_noticed(sdk):
    client, up = sdk
    up.use(fail(503), answers.drop("reset"), fail(429), answers.chat("at last"))
    got = client.chat.completions.create(model="gpt-4.1", messages=USER)
    assert (got.choices[0].message.content, len(up.log)) == ("at last", 4)
    assert {r.get("x-stainless-retry-count") for r in up.log} <= {"0", None}


def test_our_own_errors_are_api_errors_and_not_repeated(upstream, serve, dead_url):
    proxy = serve(conf.one(upstream(answers.chat()), upstreams={"up": {"base_url": dead_url}}))
    with openai.OpenAI(base_url=proxy.url + "/v1", api_key="k") as client, pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(model="gpt-4.1", messages=USER)
    assert (caught.value.status_code, caught.value.code, caught.value.type) == (502, "upstream_unreachable", "stormjib_error")
    assert caught.value.response.headers["x-should-retry"] == "false"
    eventually(lambda: proxy.metric("stormjib_exchanges_total", target="up/gpt-4.1") >= 1)
    assert proxy.metric("stormjib_exchanges_total", target="up/gpt-4.1") == 1


def test_a_deadline_answers_before_the_sdk_times_out(upstream, serve):
    up = upstream(answers.hang())
    proxy = serve(conf.one(up))
    with openai.OpenAI(base_url=proxy.url + "/v1", api_key="k", timeout=8) as client, pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(model="gpt-4.1", messages=USER)
    assert caught.value.status_code == 504
    assert len(up.log) == 1


def test_a_broken_stream_raises(upstream, serve):
    up = upstream(sse(ROLE, delta("Hel"), then="close"))
    proxy = serve(conf.one(up, routes=[{"model": "*", "chain": ["up"], "rescue": "off"}]))
    got = []
    with openai.OpenAI(base_url=proxy.url + "/v1", api_key="k") as client, pytest.raises(openai.APIError) as caught:
        for part in client.chat.completions.create(model="gpt-4.1", messages=USER, stream=True):
            got.append(part.choices[0].delta.content)
    assert got == ["", "Hel"]
    assert caught.value.code == "stream_broken"


def test_a_stream_that_fails_early_is_not_noticed(sdk):
    client, up = sdk
    up.use(sse(event(answers.error_json("server_error"))), sse(ROLE, then="close"), sse(*chat_events("fine")))
    parts = client.chat.completions.create(model="gpt-4.1", messages=USER, stream=True)
    assert "".join(p.choices[0].delta.content or "" for p in parts) == "fine"
    assert len(up.log) == 3


def test_leaving_a_stream_cancels_it(sdk):
    client, up = sdk
    up.use(sse(ROLE, delta("Hel"), then="hang"))
    with client.chat.completions.create(model="gpt-4.1", messages=USER, stream=True) as stream:
        next(iter(stream))
    up.until_gone(0)
    assert len(up.log) == 1


def test_cancelling_a_task_cancels_the_call(plain):
    plain.up.use(answers.hang())

    async def cancelled():
        async with openai.AsyncOpenAI(base_url=plain.proxy.url + "/v1", api_key="k") as client:
            task = asyncio.ensure_future(client.chat.completions.create(model="gpt-4.1", messages=USER))
            await asyncio.to_thread(plain.up.wait, 1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(cancelled())
    plain.up.until_gone(0)
    assert len(plain.up.log) == 1


def test_an_sdk_timeout_cancels_upstream(plain):
    """A client whose patience we were not told of: its leaving must reach the upstream."""
    plain.up.use(answers.hang())
    with openai.OpenAI(base_url=plain.proxy.url + "/v1", api_key="k", max_retries=0) as client, pytest.raises(openai.APIError):
        client.chat.completions.create(model="gpt-4.1", messages=USER, timeout=2)
    plain.up.until_gone(0)
    assert len(plain.up.log) == 1


def test_threads_share_a_client(sdk):
    client, up = sdk
    results = []
    threads = [
        threading.Thread(target=lambda n=n: results.append(client.chat.completions.create(model=f"m{n}", messages=USER).choices[0].message.content))
        for n in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert results == ["Hi there"] * 16
    eventually(lambda: len(up.log) == 16)
