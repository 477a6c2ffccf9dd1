"""Nodes that are killed while the gateway works: nobody notices, or everybody is told."""

import concurrent.futures
import http.client
import json
import threading
from urllib.parse import urlsplit

import anthropic
import ollama
import openai
import pytest

from support import CHAT, TINY, Engine, Gateway, eventually

HELLO = [{"role": "user", "content": "Say hello."}]
# dialect → path, more fields of a streamed request, what ends a whole stream, what an in-band error looks like
DIALECTS = {
    "ollama": ("/api/chat", {"options": {"num_predict": 30}}, b'"done":true', b'{"error"'),
    "openai": ("/v1/chat/completions", {"max_tokens": 30}, b"data: [DONE]", b'data: {"error"'),
    "anthropic": ("/v1/messages", {"max_tokens": 30}, b"event: message_stop", b"event: error"),
}


class Exchange:
    """One request and all that came of it."""

    def __init__(self, gateway, path, body, on_first=lambda exchange: None):
        self.status, self.node, self.data, self.broken = None, None, b"", None
        self.over = False
        link = http.client.HTTPConnection(urlsplit(gateway.url).netloc, timeout=60)
        try:
            link.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
            answer = link.getresponse()
            self.status, self.node = answer.status, answer.headers.get("X-Arriero-Node")
            while more := answer.read1():
                first, self.data = not self.data, self.data + more
                if first:
                    on_first(self)
        except (OSError, http.client.HTTPException) as err:
            self.broken = repr(err)
        finally:
            self.over = True
            link.close()

    def __repr__(self):
        return f"<{self.status} from {self.node}, {len(self.data)} bytes, broken: {self.broken}, ends {self.data[-160:]!r}>"


def quick(gateway):
    return Exchange(gateway, "/api/chat", {
        "model": CHAT, "messages": HELLO, "stream": False, "options": {"num_predict": 1}})


def failed(exchanges):
    return [e for e in exchanges if e.status != 200 or e.broken or b'"done":true' not in e.data]


def use_every_node(gateway):
    """Until each of the three has answered: then all are known, and idle connections to all of them exist."""
    nodes = set()

    def ask():
        exchange = quick(gateway)
        assert not failed([exchange]), exchange
        nodes.add(exchange.node)
        return len(nodes) == 3

    eventually("all three nodes have worked", ask)


def test_a_node_killed_while_idle_costs_no_request(herd, herd_gateway):
    use_every_node(herd_gateway)
    herd[1].kill()
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        after = list(pool.map(lambda _: quick(herd_gateway), range(1000)))

    assert not failed(after)
    assert "node-1" not in {e.node for e in after}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_node_killed_under_load_is_told_or_not_noticed(herd, herd_gateway, dialect):
    use_every_node(herd_gateway)
    path, fields, end, error = DIALECTS[dialect]
    body = {"model": CHAT, "messages": HELLO, "stream": True, **fields}
    streaming, exchanges, lock = threading.Event(), [], threading.Lock()

    def first_byte(exchange):
        if exchange.node == "node-1":
            streaming.set()

    def work(_):
        exchange = Exchange(herd_gateway, path, body, first_byte)
        with lock:
            exchanges.append(exchange)

    with concurrent.futures.ThreadPoolExecutor(24) as pool:
        jobs = [pool.submit(work, n) for n in range(72)]
        assert streaming.wait(30), "no stream of node-1 began"
        herd[1].kill()
        for one in jobs:
            one.result()

    whole = [e for e in exchanges if e.status == 200 and not e.broken and end in e.data]
    cut = [e for e in exchanges if e.status == 200 and e.data and e not in whole]
    assert len(whole) + len(cut) == 72, [e for e in exchanges if e not in whole and e not in cut]
    assert cut and {e.node for e in cut} == {"node-1"}, "a stream was under way on node-1 when it died"
    # No cut stream ends like a whole one: it carries an error, or it breaks off, or both.
    assert not [e for e in cut if end in e.data or not (error in e.data or e.broken)]
    assert [e for e in cut if error in e.data], "a dying node is also told in the dialect"


def ollama_stream(url, model):
    parts = ollama.Client(host=url, timeout=60).chat(model, HELLO, stream=True, options={"num_predict": 2000})
    return (part.message.content for part in parts)


def openai_stream(url, model):
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=60)
    return client.chat.completions.create(model=model, messages=HELLO, max_tokens=2000, stream=True)


def anthropic_stream(url, model):
    client = anthropic.Anthropic(base_url=url, api_key="none", max_retries=0, timeout=60)
    events = client.messages.create(model=model, messages=HELLO, max_tokens=2000, stream=True)
    return (event for event in events if event.type == "content_block_delta")


# Each client's own errors, and those of the HTTP library under it for a connection that breaks off.
TOLD = (ollama.ResponseError, openai.APIError, anthropic.APIError)


def is_told(err):
    return isinstance(err, TOLD) or type(err).__module__.split(".")[0] in ("httpx", "httpx2", "httpcore", "httpcore2")


@pytest.mark.parametrize("stream", [ollama_stream, openai_stream, anthropic_stream])
def test_a_client_library_raises_when_its_node_dies(lone, stream):
    gateway, node = lone
    parts = stream(gateway.url, CHAT)
    next(parts)
    node.kill()
    with pytest.raises(Exception) as err:
        list(parts)
    assert is_told(err.value), repr(err.value)


@pytest.mark.parametrize("stream", [openai_stream, anthropic_stream])
def test_a_real_engine_that_dies_is_told_and_then_not_missed(exe, tiny_model, stream):
    doomed = Engine(tiny_model)
    spare = None
    gateway = Gateway.over(exe, [doomed.url], [TINY], kind=Engine.type)
    try:
        parts = stream(gateway.url, TINY)
        next(parts)
        doomed.kill()
        with pytest.raises(Exception) as err:
            list(parts)
        assert is_told(err.value), repr(err.value)
        spare = Engine(tiny_model, port=int(doomed.url.rsplit(":", 1)[1]))
        gateway.ready([TINY])
        assert next(stream(gateway.url, TINY))
    finally:
        for process in (gateway, doomed, spare):
            if process:
                process.kill()
