"""Fixtures: gateways over simulated nodes, over a real engine, over a real Ollama."""

import os
import subprocess
import sys

import pytest

from support import CHAT, EMBEDDER, HERE, OTHER_CHAT, TINY, WORK, Engine, Gateway, Node, binary, get, which


def pytest_addoption(parser):
    parser.addoption(
        "--control", action="store_true",
        help="send the engine tests to one engine directly: is it the gateway or the engine that fails?",
    )


@pytest.fixture(scope="session")
def exe(request):
    if request.config.getoption("--control"):
        pytest.skip("the control run has no gateway")
    return binary()


@pytest.fixture(scope="session")
def tiny_model():
    """The file of a tiny random model with a context long enough for long streams."""
    path = WORK / "tiny.gguf"
    WORK.mkdir(exist_ok=True)
    make = [sys.executable, str(HERE / "mkgguf.py"), str(path), "--dim", "128", "--context", "16384"]
    subprocess.run(make, check=True, stdout=subprocess.DEVNULL)
    return path


@pytest.fixture(scope="session")
def demo_gateway(exe):
    """`arriero demo`: three simulated nodes and a gateway in one process."""
    gateway = Gateway.demo(exe)
    yield gateway
    gateway.kill()


@pytest.fixture
def herd(exe):
    """Three simulated nodes, each its own process."""
    nodes = [Node(exe) for _ in range(3)]
    yield nodes
    for node in nodes:
        node.kill()


@pytest.fixture
def herd_gateway(exe, herd):
    gateway = Gateway.over(exe, [node.url for node in herd], [CHAT])
    yield gateway
    gateway.kill()


@pytest.fixture
def lone(exe):
    """(gateway, its only node): whatever the gateway sends goes there."""
    node = Node(exe)
    gateway = Gateway.over(exe, [node.url], [CHAT])
    yield gateway, node
    gateway.kill()
    node.kill()


@pytest.fixture(scope="module")
def engines(tiny_model):
    """Two real inference servers."""
    pair = [Engine(tiny_model) for _ in range(2)]
    yield pair
    for engine in pair:
        engine.kill()


@pytest.fixture(scope="module")
def engine_gateway(request, engines):
    """A gateway over both engines; with --control the first engine itself."""
    if request.config.getoption("--control"):
        yield engines[0]
        return
    exe = request.getfixturevalue("exe")
    gateway = Gateway.over(exe, [engine.url for engine in engines], [TINY], kind=Engine.type)
    yield gateway
    gateway.kill()


@pytest.fixture(scope="session")
def real_ollama_gateway(exe):
    """A gateway over a real `ollama serve`, where one is installed."""
    if not which("ollama"):
        pytest.skip("no `ollama` on the PATH")
    address = os.environ.get("OLLAMA_HOST", "127.0.0.1:11434")
    url = address if "://" in address else f"http://{address}"
    if get(f"{url}/api/version")[0] != 200:
        pytest.skip(f"`ollama` is installed but does not answer at {url}; start `ollama serve`")
    have = get(f"{url}/api/tags")[1]
    if missing := [m for m in (CHAT, OTHER_CHAT, EMBEDDER) if f'"{m}' not in have]:
        pytest.skip(f"the Ollama at {url} lacks {', '.join(missing)}; pull them")
    gateway = Gateway.over(exe, [url], [CHAT, EMBEDDER])
    yield gateway
    gateway.kill()


@pytest.fixture(params=["demo", "ollama"])
def native(request):
    """The gateway the Ollama clients talk to: over simulated nodes, then over a real one."""
    return request.getfixturevalue({"demo": "demo_gateway", "ollama": "real_ollama_gateway"}[request.param])


class Target:
    """Where an OpenAI or Anthropic client is sent, and what it may ask for."""

    def __init__(self, server, chat, embedder, gateway):
        self.url, self.chat, self.embedder = server.url, chat, embedder
        self.is_gateway = gateway


@pytest.fixture(params=["demo", "engine"])
def target(request):
    control = request.config.getoption("--control")
    if request.param == "engine":
        return Target(request.getfixturevalue("engine_gateway"), TINY, TINY, gateway=not control)
    if control:
        pytest.skip("the control run needs no simulated nodes")
    return Target(request.getfixturevalue("demo_gateway"), CHAT, EMBEDDER, gateway=True)


@pytest.fixture
def gateway_target(target):
    """For answers that only a gateway gives: an engine serves its one model under any name."""
    if not target.is_gateway:
        pytest.skip("says something about the gateway, not about the engine")
    return target
