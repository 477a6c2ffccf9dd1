"""The Python `openai` client, over simulated nodes and over a real engine."""

import openai
import pytest

from support import CHAT, TINY, eventually, get

HELLO = [{"role": "user", "content": "Say hello."}]
WEATHER = [{"role": "user", "content": "What is the weather in Lima?"}]
WEATHER_TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city",
        "parameters": {"type": "object", "required": ["city"], "properties": {"city": {"type": "string"}}},
    },
}


def client_of(server):
    # No retries of its own: what the gateway answers first is what is tested.
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=60)


@pytest.fixture
def client(target):
    return client_of(target)


def test_models(client, target):
    assert target.chat in {model.id.removesuffix(":latest") for model in client.models.list()}


def test_one_model(gateway_target):
    model = client_of(gateway_target).models.retrieve(gateway_target.chat)
    assert model.id.removesuffix(":latest") == gateway_target.chat


def test_chat(client, target):
    answer = client.chat.completions.create(model=target.chat, messages=HELLO, max_tokens=8)
    (choice,) = answer.choices
    assert choice.message.role == "assistant" and choice.message.content
    assert choice.finish_reason in ("stop", "length")
    assert 0 < answer.usage.completion_tokens <= 8


def test_chat_stream_with_usage(client, target):
    stream = client.chat.completions.create(
        model=target.chat, messages=HELLO, max_tokens=8, stream=True, stream_options={"include_usage": True})
    chunks = list(stream)
    said = [chunk.choices[0] for chunk in chunks if chunk.choices]
    assert "".join(choice.delta.content or "" for choice in said)
    assert said[-1].finish_reason in ("stop", "length")
    assert chunks[-1].usage.completion_tokens > 0 and not chunks[-1].choices


@pytest.mark.parametrize("stream", [False, True])
def test_completions(client, target, stream):
    answer = client.completions.create(model=target.chat, prompt="Once", max_tokens=8, stream=stream)
    parts = list(answer) if stream else [answer]
    texts = [choice.text for part in parts for choice in part.choices]
    assert "".join(texts)


@pytest.mark.parametrize("asked", ["a sky", ["a sky", "a sea"]])
@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_embeddings(client, target, asked, encoding):
    answer = client.embeddings.create(model=target.embedder, input=asked, encoding_format=encoding)
    assert len(answer.data) == (1 if isinstance(asked, str) else len(asked))
    assert all(item.embedding for item in answer.data)


def test_responses(client, target):
    answer = client.responses.create(model=target.chat, input="Say hello.", max_output_tokens=8)
    assert answer.output_text


def test_responses_stream(client, target):
    events = list(client.responses.create(model=target.chat, input="Say hello.", max_output_tokens=8, stream=True))
    assert events[0].type == "response.created" and events[-1].type in ("response.completed", "response.incomplete")
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta")


@pytest.mark.parametrize("stream", [False, True])
def test_tool_call(demo_gateway, stream):
    answer = client_of(demo_gateway).chat.completions.create(
        model=CHAT, messages=WEATHER, tools=[WEATHER_TOOL], stream=stream)
    if stream:
        calls = [call for chunk in answer if chunk.choices for call in chunk.choices[0].delta.tool_calls or []]
    else:
        calls = answer.choices[0].message.tool_calls
        assert answer.choices[0].finish_reason == "tool_calls"
    assert calls[0].function.name == "get_weather"


@pytest.mark.parametrize("stream", [False, True])
def test_unknown_model_is_a_404_in_openai_shape(gateway_target, stream):
    with pytest.raises(openai.NotFoundError) as err:
        client_of(gateway_target).chat.completions.create(model="no-such-model", messages=HELLO, stream=stream)
    assert "no-such-model" in err.value.message
    assert {"message", "type", "param", "code"} <= set(err.value.body)


def test_answers_name_their_node(gateway_target):
    raw = client_of(gateway_target).chat.completions.with_raw_response.create(
        model=gateway_target.chat, messages=HELLO, max_tokens=1)
    assert raw.headers["x-arriero-node"] and raw.headers["x-request-id"]
    assert "llama.cpp" not in raw.headers.get("server", "")
    assert "access-control-allow-origin" not in raw.headers


def test_a_client_that_leaves_frees_the_engine(engines, engine_gateway):
    asked = 16000

    def decoded():
        return sum(engine.metric("tokens_predicted_total") for engine in engines)

    def busy():
        return sum(engine.metric("requests_processing") for engine in engines)

    before = decoded()
    stream = client_of(engine_gateway).chat.completions.create(
        model=TINY, messages=HELLO, max_tokens=asked, stream=True)
    next(stream)
    stream.close()
    eventually("no engine is at work", lambda: busy() == 0)
    assert decoded() - before < asked


def test_readiness_knows_the_models(demo_gateway):
    assert get(f"{demo_gateway.admin}/internal/ready?model={CHAT}")[0] == 200
    assert get(f"{demo_gateway.admin}/internal/ready?model=no-such-model")[0] == 503
