"""The Python `ollama` client, over simulated nodes and, where there is one, a real Ollama."""

import ollama
import pytest

from support import CHAT, EMBEDDER, eventually

HELLO = [{"role": "user", "content": "Say hello."}]
WEATHER_TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city",
        "parameters": {"type": "object", "required": ["city"], "properties": {"city": {"type": "string"}}},
    },
}


@pytest.fixture
def client(native):
    return ollama.Client(host=native.url, timeout=60)


def test_list_names_the_installed_models(client):
    names = {model.model for model in client.list().models}
    assert {f"{CHAT}:latest", f"{EMBEDDER}:latest"} <= names


def test_show(client):
    shown = client.show(CHAT)
    assert shown.details.format == "gguf"
    assert "completion" in shown.capabilities


def test_ps_after_a_chat_has_the_model(client):
    client.chat(CHAT, HELLO, options={"num_predict": 1})
    # Loaded models reach the catalogue by discovery, a moment later.
    eventually("ps lists the model", lambda: [m for m in client.ps().models if m.model.startswith(CHAT)])


def test_chat(client):
    answer = client.chat(CHAT, HELLO, options={"num_predict": 8})
    assert answer.done and answer.message.role == "assistant" and answer.message.content
    assert answer.eval_count > 0


def test_chat_stream(client):
    parts = list(client.chat(CHAT, HELLO, stream=True, options={"num_predict": 8}))
    assert len(parts) > 2
    assert [part.done for part in parts].count(True) == 1 and parts[-1].done
    assert "".join(part.message.content for part in parts)


@pytest.mark.parametrize("stream", [False, True])
def test_generate(client, stream):
    answer = client.generate(CHAT, "Say hello.", stream=stream, options={"num_predict": 8})
    parts = list(answer) if stream else [answer]
    assert parts[-1].done
    assert "".join(part.response for part in parts)


def test_embed(client):
    one = client.embed(EMBEDDER, "a sky")
    two = client.embed(EMBEDDER, ["a sky", "a sea"])
    assert len(one.embeddings) == 1 and len(two.embeddings) == 2
    assert len({len(vector) for vector in [*one.embeddings, *two.embeddings]}) == 1
    assert client.embeddings(EMBEDDER, "a sky").embedding


def test_tool_call(client):
    answer = client.chat(CHAT, [{"role": "user", "content": "What is the weather in Lima?"}], tools=[WEATHER_TOOL])
    (call, *_) = answer.message.tool_calls
    assert call.function.name == "get_weather"


def test_unknown_model_is_a_404_with_a_reason(client):
    with pytest.raises(ollama.ResponseError) as err:
        client.chat("no-such-model", HELLO)
    assert err.value.status_code == 404
    assert 'no-such-model' in err.value.error and 'not found' in err.value.error


def test_management_is_off_unless_it_is_switched_on(demo_gateway):
    client = ollama.Client(host=demo_gateway.url)
    with pytest.raises(ollama.ResponseError) as err:
        client.delete(CHAT)
    assert err.value.status_code == 403
    assert "management.enabled" in err.value.error


def test_async_client(native):
    import asyncio

    async def talk():
        client = ollama.AsyncClient(host=native.url)
        stream = await client.chat(CHAT, HELLO, stream=True, options={"num_predict": 4})
        return [part async for part in stream]

    assert asyncio.run(talk())[-1].done


def test_a_client_that_leaves_frees_the_node(lone):
    gateway, node = lone
    stream = ollama.Client(host=gateway.url).chat(CHAT, HELLO, stream=True, options={"num_predict": 5000})
    next(stream)
    stream.close()
    eventually("the node saw the client leave", lambda: any(
        seen["path"] == "/api/chat" and seen["outcome"].lower() == "cancelled" for seen in node.seen()))
