"""The Python `anthropic` client, over simulated nodes and over a real engine."""

import anthropic
import pytest

from support import CHAT

HELLO = [{"role": "user", "content": "Say hello."}]
WEATHER = [{"role": "user", "content": "What is the weather in Lima?"}]
WEATHER_TOOL = {
    "name": "get_weather",
    "description": "The weather of a city",
    "input_schema": {"type": "object", "required": ["city"], "properties": {"city": {"type": "string"}}},
}


def client_of(server):
    return anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0, timeout=60)


@pytest.fixture
def client(target):
    return client_of(target)


def test_message(client, target):
    answer = client.messages.create(model=target.chat, max_tokens=8, messages=HELLO)
    assert answer.role == "assistant" and answer.content[0].text
    assert answer.stop_reason in ("end_turn", "max_tokens")
    assert answer.usage.output_tokens > 0


def test_message_stream(client, target):
    with client.messages.stream(model=target.chat, max_tokens=8, messages=HELLO) as stream:
        assert "".join(stream.text_stream)
        final = stream.get_final_message()
    assert final.stop_reason in ("end_turn", "max_tokens")


def test_raw_events_come_in_order(client, target):
    events = [event.type for event in client.messages.create(
        model=target.chat, max_tokens=4, messages=HELLO, stream=True)]
    assert events[0] == "message_start" and events[-1] == "message_stop"
    assert events.index("content_block_start") < events.index("content_block_delta") < events.index("message_delta")


def test_system_and_turns(client, target):
    answer = client.messages.create(model=target.chat, max_tokens=4, system="Be brief.", messages=[
        *HELLO, {"role": "assistant", "content": "Hello."}, {"role": "user", "content": [{"type": "text", "text": "Again."}]}])
    assert answer.content


def test_tool_use(demo_gateway):
    answer = client_of(demo_gateway).messages.create(model=CHAT, max_tokens=64, messages=WEATHER, tools=[WEATHER_TOOL])
    (call,) = [block for block in answer.content if block.type == "tool_use"]
    assert call.name == "get_weather" and answer.stop_reason == "tool_use"


def test_unknown_model_is_a_404_in_anthropic_shape(gateway_target):
    with pytest.raises(anthropic.NotFoundError) as err:
        client_of(gateway_target).messages.create(model="no-such-model", max_tokens=4, messages=HELLO)
    assert err.value.body["type"] == "error"
    assert err.value.body["error"]["type"] == "not_found_error"
    assert "no-such-model" in err.value.body["error"]["message"]


def test_bad_request_is_a_400_in_anthropic_shape(gateway_target):
    with pytest.raises(anthropic.BadRequestError) as err:
        client_of(gateway_target).messages.create(model=7, max_tokens=4, messages=HELLO)
    assert err.value.body["type"] == "error"


def test_leaving_a_stream_leaves_the_gateway_well(client, target):
    with client.messages.stream(model=target.chat, max_tokens=2000, messages=HELLO) as stream:
        next(iter(stream))
    assert client.messages.create(model=target.chat, max_tokens=1, messages=HELLO).content
