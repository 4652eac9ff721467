"""The OpenAI SDK, unchanged but for its base URL and key, against upstreams of both shapes."""

import json

import openai
import pydantic
import pytest

from conftest import NARROW_TOKEN, TOKEN

PIXEL = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


@pytest.fixture
def client(relay):
    return openai.OpenAI(base_url=f"{relay}/v1", api_key=TOKEN, max_retries=0)


def user(content):
    return [{"role": "user", "content": content}]


def streaming(client):
    """The SDK's own accumulator, which moved out of beta."""
    return getattr(client.chat.completions, "stream", None) or client.beta.chat.completions.stream


def parsing(client):
    return getattr(client.chat.completions, "parse", None) or client.beta.chat.completions.parse


def test_creates(client, any_model):
    answer = client.chat.completions.create(model=any_model, messages=user("Hello there"))
    assert "Hello there" in answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 0


def test_streams_into_the_sdks_accumulator(client, any_model):
    options = {"include_usage": True}
    with streaming(client)(model=any_model, messages=user("Hello there"), stream_options=options) as stream:
        final = stream.get_final_completion()
    whole = client.chat.completions.create(model=any_model, messages=user("Hello there"))
    assert final.choices[0].message.content == whole.choices[0].message.content
    assert final.usage.completion_tokens == whole.usage.completion_tokens


def test_a_stream_shows_no_usage_unless_asked(client, any_model):
    chunks = list(client.chat.completions.create(model=any_model, messages=user("Hello"), stream=True))
    assert all(chunk.choices and not chunk.usage for chunk in chunks)


@pytest.mark.parametrize("streamed", [False, True])
def test_loops_through_parallel_tool_calls(client, any_model, streamed):
    messages = user("What is the weather in Paris and in Rome?")
    request = {"model": any_model, "messages": messages, "tools": [WEATHER]}
    if streamed:
        with streaming(client)(**request) as stream:
            choice = stream.get_final_completion().choices[0]
    else:
        choice = client.chat.completions.create(**request).choices[0]
    assert choice.finish_reason == "tool_calls"
    calls = choice.message.tool_calls
    assert [json.loads(call.function.arguments) for call in calls] == [{"city": "Paris"}, {"city": "Rome"}]
    assert len({call.id for call in calls}) == 2
    called = [
        {"id": call.id, "type": "function", "function": {"name": call.function.name, "arguments": call.function.arguments}}
        for call in calls
    ]
    messages = messages + [{"role": "assistant", "content": None, "tool_calls": called}]
    messages += [
        {"role": "tool", "tool_call_id": call.id, "content": f"sunny in {place}"}
        for call, place in zip(calls, ["Paris", "Rome"])
    ]
    answer = client.chat.completions.create(model=any_model, messages=messages, tools=[WEATHER])
    text = answer.choices[0].message.content
    assert "sunny in Rome" in text


class Place(pydantic.BaseModel):
    city: str
    inhabitants: int


def test_parses_structured_output(client, any_model):
    answer = parsing(client)(model=any_model, messages=user("Name a place"), response_format=Place)
    assert answer.choices[0].message.parsed == Place(city="demo", inhabitants=1)


def test_sends_images(client, any_model):
    content = [{"type": "text", "text": "Look"}, {"type": "image_url", "image_url": {"url": PIXEL}}]
    answer = client.chat.completions.create(model=any_model, messages=user(content))
    assert "1 image(s)" in answer.choices[0].message.content


@pytest.mark.parametrize("streamed", [False, True])
def test_shows_reasoning(client, any_model, streamed):
    request = {"model": any_model, "messages": user("Think"), "extra_body": {"reasoning_effort": "high"}}
    if streamed:
        deltas = [chunk.choices[0].delta for chunk in client.chat.completions.create(stream=True, **request) if chunk.choices]
        text = "".join((delta.model_extra or {}).get("reasoning_content") or "" for delta in deltas)
    else:
        text = client.chat.completions.create(**request).choices[0].message.model_extra["reasoning_content"]
    assert "thinks" in text


def test_lists_models(client):
    ids = {model.id for model in client.models.list()}
    assert {"chat-model", "messages-model"} <= ids and "forbidden" not in ids
    assert client.models.retrieve("chat-model").id == "chat-model"


@pytest.mark.parametrize("shape", ["chat", "messages"])
@pytest.mark.parametrize(
    "status, error",
    [
        (400, openai.BadRequestError),
        (404, openai.NotFoundError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
        (529, openai.InternalServerError),
    ],
)
def test_raises_typed_errors_of_upstreams(client, shape, status, error):
    with pytest.raises(error):
        client.chat.completions.create(model=f"{shape}-fails-{status}", messages=user("Hello"))
    with pytest.raises(error):
        client.chat.completions.create(model=f"{shape}-fails-{status}", messages=user("Hello"), stream=True)


def test_raises_typed_errors_of_the_router(client, relay):
    with pytest.raises(openai.NotFoundError) as unknown:
        client.chat.completions.create(model="no-such-model", messages=user("Hello"))
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.PermissionDeniedError):
        client.chat.completions.create(model="forbidden", messages=user("Hello"))
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model="chat-model", messages=[])
    with pytest.raises(openai.AuthenticationError) as refused:
        stranger = openai.OpenAI(base_url=f"{relay}/v1", api_key="nobody-knows-this-token-at-all-00", max_retries=0)
        stranger.chat.completions.create(model="chat-model", messages=user("Hello"))
    assert refused.value.code == "invalid_api_key"


def test_a_limit_raises_a_rate_limit_error_with_a_wait(relay):
    narrow = openai.OpenAI(base_url=f"{relay}/v1", api_key=NARROW_TOKEN, max_retries=0)
    with pytest.raises(openai.RateLimitError) as limited:
        for _ in range(3):
            narrow.chat.completions.create(model="chat-model", messages=user("Hello"))
    assert 0 < int(limited.value.response.headers["retry-after"]) <= 120


def test_embeds(client):
    vectors = client.embeddings.create(model="chat-model", input=["a", "b"], encoding_format="float")
    assert len(vectors.data) == 2


@pytest.mark.parametrize("path", ["", "/", "/v1", "/v1/", "/openai", "/openai/v1"])
def test_any_spelling_of_the_base_url_works(relay, path):
    client = openai.OpenAI(base_url=f"{relay}{path}", api_key=TOKEN, max_retries=0)
    assert client.chat.completions.create(model="chat-model", messages=user("Hello")).choices
