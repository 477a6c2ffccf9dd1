"""What only a real inference engine does to a gateway: llama.cpp's habits, not ours."""

import json
import urllib.request

import ollama
import pytest

from support import TINY


@pytest.fixture
def gateway(request, engine_gateway):
    if request.config.getoption("--control"):
        pytest.skip("says something about the gateway, not about the engine")
    return engine_gateway


def chat(gateway):
    """(status, node) of one short chat."""
    body = {"model": TINY, "max_tokens": 1, "messages": [{"role": "user", "content": "Say hello."}]}
    request = urllib.request.Request(
        f"{gateway.url}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert json.load(answer)["choices"]
        return answer.status, answer.headers["X-Arriero-Node"]


def test_connections_that_the_engine_closes_cost_no_request(gateway):
    # llama.cpp closes a kept connection after its hundredth request; both engines get past that here.
    answers = [chat(gateway) for _ in range(250)]
    assert {status for status, _ in answers} == {200}
    assert {node for _, node in answers} == {"node-0", "node-1"}


def test_ollama_lists_the_models_of_other_engines(gateway):
    names = {model.model for model in ollama.Client(host=gateway.url).list().models}
    assert TINY in {name.removesuffix(":latest") for name in names}
