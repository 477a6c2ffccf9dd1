"""The npm clients `ollama` and `openai`, driven by the scripts in js/."""

import pytest

from support import CHAT, EMBEDDER, node_script, which

pytestmark = pytest.mark.skipif(not which("node"), reason="no `node` on the PATH")


@pytest.fixture
def openai(target):
    return lambda case: node_script("openai", target.url, case, target.chat, target.embedder)


@pytest.fixture
def ollama(native):
    return lambda case: node_script("ollama", native.url, case, CHAT, EMBEDDER)


def test_openai_models(openai, target):
    assert target.chat in {name.removesuffix(":latest") for name in openai("models")}


def test_openai_chat(openai):
    assert openai("chat")["choices"][0]["message"]["content"]


def test_openai_stream(openai):
    said = [chunk["choices"][0] for chunk in openai("stream") if chunk["choices"]]
    assert "".join(choice["delta"].get("content") or "" for choice in said)
    assert said[-1]["finish_reason"] in ("stop", "length")


def test_openai_completion(openai):
    assert openai("completion")["choices"][0]["text"]


def test_openai_embeddings(openai):
    one, two = openai("embeddings")["data"]
    assert len(one["embedding"]) == len(two["embedding"]) > 0


def test_openai_tool_call(demo_gateway):
    answer = node_script("openai", demo_gateway.url, "tool", CHAT, EMBEDDER)
    assert answer["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "get_weather"


def test_openai_unknown_model(gateway_target):
    answer = node_script("openai", gateway_target.url, "unknown", gateway_target.chat, gateway_target.embedder)
    assert answer["status"] == 404 and "no-such-model" in answer["error"]["message"]


def test_openai_abort(openai):
    assert openai("abort")["choices"]


def test_ollama_models(ollama):
    assert {f"{CHAT}:latest", f"{EMBEDDER}:latest"} <= set(ollama("models"))


def test_ollama_chat(ollama):
    answer = ollama("chat")
    assert answer["done"] and answer["message"]["content"]


@pytest.mark.parametrize("case", ["stream", "generate"])
def test_ollama_stream(ollama, case):
    parts = ollama(case)
    assert len(parts) > 2 and [part["done"] for part in parts].count(True) == 1 and parts[-1]["done"]


def test_ollama_embed(ollama):
    assert len(ollama("embed")["embeddings"]) == 2


def test_ollama_tool_call(ollama):
    assert ollama("tool")["message"]["tool_calls"][0]["function"]["name"] == "get_weather"


def test_ollama_unknown_model(ollama):
    answer = ollama("unknown")
    assert answer["status"] == 404 and "no-such-model" in answer["error"]


def test_ollama_abort(ollama):
    answer = ollama("abort")
    assert answer["left"] == "AbortError" and answer["after"]["done"]
