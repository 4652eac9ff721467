"""The Anthropic SDK, unchanged but for its base URL and key, against upstreams of both shapes."""

import anthropic
import pytest

from conftest import TOKEN

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
WEATHER = {
    "name": "get_weather",
    "description": "The weather of a city",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


@pytest.fixture
def client(relay):
    return anthropic.Anthropic(base_url=relay, api_key=TOKEN, max_retries=0)


@pytest.fixture
def counts_input(release):
    """Whether the accumulator reads input tokens at a stream's end. The old one reads them at its start alone, where a
    translated stream cannot know them."""
    return release == "newest"


def user(content):
    return [{"role": "user", "content": content}]


def text_of(message):
    return "".join(block.text for block in message.content if block.type == "text")


def final(client, **request):
    with client.messages.stream(max_tokens=1000, **request) as stream:
        return stream.get_final_message()


def whole(client, **request):
    return client.messages.create(max_tokens=1000, **request)


ways = pytest.mark.parametrize("ask", [whole, final], ids=["whole", "streamed"])


@ways
def test_creates(client, any_model, ask, counts_input):
    message = ask(client, model=any_model, messages=user("Hello there"), system="Be brief")
    assert "Hello there" in text_of(message)
    assert message.stop_reason == "end_turn"
    assert message.usage.output_tokens > 0
    assert message.usage.input_tokens > 0 or (ask is final and not counts_input)
    assert message.model


def test_a_stream_says_the_same_as_a_whole_answer(client, any_model, counts_input):
    streamed = final(client, model=any_model, messages=user("Hello there"))
    answered = whole(client, model=any_model, messages=user("Hello there"))
    assert text_of(streamed) == text_of(answered)
    assert streamed.usage.output_tokens == answered.usage.output_tokens
    assert streamed.usage.input_tokens == answered.usage.input_tokens or not counts_input


@ways
def test_loops_through_parallel_tool_calls(client, any_model, ask):
    messages = user("What is the weather in Paris and in Rome?")
    message = ask(client, model=any_model, messages=messages, tools=[WEATHER])
    assert message.stop_reason == "tool_use"
    calls = [block for block in message.content if block.type == "tool_use"]
    assert [call.input for call in calls] == [{"city": "Paris"}, {"city": "Rome"}]
    assert len({call.id for call in calls}) == 2
    called = [{"type": "tool_use", "id": call.id, "name": call.name, "input": call.input} for call in calls]
    results = [
        {"type": "tool_result", "tool_use_id": call.id, "content": f"sunny in {call.input['city']}"} for call in calls
    ]
    messages = messages + [{"role": "assistant", "content": called}, {"role": "user", "content": results}]
    answer = ask(client, model=any_model, messages=messages, tools=[WEATHER])
    assert "sunny in Rome" in text_of(answer)


@ways
def test_sends_images(client, any_model, ask):
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}
    message = ask(client, model=any_model, messages=user([{"type": "text", "text": "Look"}, image]))
    assert "1 image(s)" in text_of(message)


THINKING = {"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}}


def test_shows_thinking(client, any_model):
    message = whole(client, model=any_model, messages=user("Think"), extra_body=THINKING)
    assert message.content[0].type == "thinking" and "thinks" in message.content[0].thinking


def test_streams_thinking(client, any_model):
    # Event by event, because the old accumulator was written before there was thinking.
    request = {"model": any_model, "messages": user("Think"), "extra_body": THINKING}
    events = list(client.messages.create(max_tokens=1000, stream=True, **request))
    deltas = [event.delta for event in events if event.type == "content_block_delta"]
    assert "thinks" in "".join(getattr(delta, "thinking", None) or "" for delta in deltas)


@ways
def test_keeps_to_a_schema(client, any_model, ask):
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string"}, "inhabitants": {"type": "integer"}},
        "required": ["city", "inhabitants"],
        "additionalProperties": False,
    }
    body = {"output_config": {"format": {"type": "json_schema", "schema": schema}}}
    message = ask(client, model=any_model, messages=user("Name a place"), extra_body=body)
    assert text_of(message).replace(" ", "") == '{"city":"demo","inhabitants":1}'


def test_lists_models(client, release):
    if release == "newest":
        ids = {model.id for model in client.models.list()}
    else:
        # The old release has no method for it yet, but sends what marks the caller's shape.
        ids = {model["id"] for model in client.get("/v1/models", cast_to=object)["data"]}
    assert {"chat-model", "messages-model"} <= ids and "forbidden" not in ids


def test_counts_tokens(client, any_model):
    counting = getattr(client.messages, "count_tokens", None) or client.beta.messages.count_tokens
    count = counting(model=any_model, messages=user("Hello there, how are you today?"))
    assert count.input_tokens > 3


@pytest.mark.parametrize("shape", ["chat", "messages"])
@pytest.mark.parametrize(
    "status, error, kind",
    [
        (400, anthropic.BadRequestError, "invalid_request_error"),
        (404, anthropic.NotFoundError, "not_found_error"),
        (413, anthropic.APIStatusError, "request_too_large"),
        (429, anthropic.RateLimitError, "rate_limit_error"),
        (500, anthropic.InternalServerError, "api_error"),
        (529, anthropic.InternalServerError, "overloaded_error"),
    ],
)
def test_raises_typed_errors_of_upstreams(client, shape, status, error, kind):
    with pytest.raises(error) as raised:
        whole(client, model=f"{shape}-fails-{status}", messages=user("Hello"))
    assert raised.value.body["error"]["type"] == kind
    with pytest.raises(error):
        final(client, model=f"{shape}-fails-{status}", messages=user("Hello"))


def test_raises_typed_errors_of_the_router(client, relay):
    with pytest.raises(anthropic.NotFoundError):
        whole(client, model="no-such-model", messages=user("Hello"))
    with pytest.raises(anthropic.PermissionDeniedError):
        whole(client, model="forbidden", messages=user("Hello"))
    with pytest.raises(anthropic.BadRequestError):
        whole(client, model="chat-model", messages=[])
    with pytest.raises(anthropic.AuthenticationError):
        stranger = anthropic.Anthropic(base_url=relay, api_key="nobody-knows-this-token-at-all-00", max_retries=0)
        whole(stranger, model="chat-model", messages=user("Hello"))


@pytest.mark.parametrize("path", ["", "/", "/v1", "/anthropic", "/anthropic/v1/"])
def test_any_spelling_of_the_base_url_works(relay, path):
    client = anthropic.Anthropic(base_url=f"{relay}{path}", api_key=TOKEN, max_retries=0)
    assert text_of(whole(client, model="messages-model", messages=user("Hello")))
