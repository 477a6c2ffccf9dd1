"""Model management: the Python `ollama` client unmodified, and a blob of many gigabytes through a gateway that stays small."""

import hashlib
import http.client

import ollama
import pytest

from support import CHAT, EMBEDDER, Gateway, Node, get

GIB = 1 << 30
BLOB_BYTES = 4 * GIB
GROWTH_BYTES_MAX = 16 << 20
PIECE = bytes(1 << 20)


@pytest.fixture(scope="module")
def managed(exe):
    """(gateway, its two nodes), with management on."""
    nodes = [Node(exe) for _ in range(2)]
    gateway = Gateway.over(exe, [node.url for node in nodes], [CHAT, EMBEDDER], sections={"management": {"enabled": True}})
    yield gateway, nodes
    for process in [gateway, *nodes]:
        process.kill()


@pytest.fixture
def client(managed):
    return ollama.Client(host=managed[0].url, timeout=60)


def names(client):
    return {model.model for model in client.list().models}


def names_on(node):
    return {model.model for model in ollama.Client(host=node.url).list().models}


def test_a_pull_is_rendered_from_its_progress_and_then_the_model_is_there(client, managed):
    before, steps = {}, list(client.pull("phi4", stream=True))
    for step in steps:
        if step.digest:
            done, total = step.completed or 0, step.total
            assert before.get(step.digest, 0) <= done <= total, step
            before[step.digest] = done
    assert before, "there is a bar"
    assert [step.status for step in steps].count("success") == 1 and steps[-1].status == "success"
    assert "phi4:latest" in names(client)
    assert all("phi4:latest" in names_on(node) for node in managed[1])
    assert client.show("phi4").details.format == "gguf"
    assert client.pull("phi4").status == "success"


def test_a_model_is_copied_used_and_deleted(client, managed):
    assert client.copy(CHAT, "mine").status == "success"
    assert "mine:latest" in names(client)
    assert client.chat("mine", [{"role": "user", "content": "Say hello."}], options={"num_predict": 2}).done
    assert client.delete("mine").status == "success"
    assert "mine:latest" not in names(client)
    assert all("mine:latest" not in names_on(node) for node in managed[1])
    with pytest.raises(ollama.ResponseError) as err:
        client.delete("mine")
    assert err.value.status_code == 404 and "not found" in err.value.error


def test_a_model_is_created_from_another(client):
    steps = list(client.create("pirate", from_=CHAT, system="Talk like a pirate.", stream=True))
    assert steps[-1].status == "success"
    assert client.create("pirate2", from_=CHAT, system="Arr.").status == "success"
    assert {"pirate:latest", "pirate2:latest"} <= names(client)


def test_a_file_is_uploaded_and_made_a_model(client, managed, tmp_path):
    path = tmp_path / "tiny.gguf"
    path.write_bytes(b"GGUF" + bytes(3_000_000))
    digest = client.create_blob(path)
    assert client.create("made", files={"tiny.gguf": digest}).status == "success"
    assert all("made:latest" in names_on(node) for node in managed[1])


def test_an_embedder_still_embeds(client):
    assert client.embed(EMBEDDER, "a sky").embeddings


def test_errors_name_the_node(client, managed):
    with pytest.raises(ollama.ResponseError) as err:
        client.push("no-such-model")
    assert err.value.status_code == 404
    managed_url = managed[0].url
    status, text = get(f"{managed_url}/api/tags/1")
    assert status == 200 and "models" in text


def memory(process, field):
    """A line of /proc/PID/status, in bytes."""
    with open(f"/proc/{process.child.pid}/status") as status:
        line = next(line for line in status if line.startswith(f"{field}:"))
    return int(line.split()[1]) << 10


def upload(gateway, digest, length):
    host = gateway.url.removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=120)
    pieces = (PIECE for _ in range(length // len(PIECE)))
    connection.request("POST", f"/api/blobs/sha256:{digest}", body=pieces, headers={"Content-Length": str(length)})
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


def digest_of_zeros(length):
    digest = hashlib.sha256()
    for _ in range(length // len(PIECE)):
        digest.update(PIECE)
    return digest.hexdigest()


def test_a_blob_of_4_gib_streams_through_without_being_held(managed):
    gateway, nodes = managed
    small = 64 << 20
    status, text = upload(gateway, digest_of_zeros(small), small)
    assert status == 201, text
    before = memory(gateway, "VmRSS")
    status, text = upload(gateway, digest_of_zeros(BLOB_BYTES), BLOB_BYTES)
    assert status == 201, text
    growth = memory(gateway, "VmHWM") - before
    assert growth < GROWTH_BYTES_MAX, f"the gateway grew by {growth >> 20} MiB"
    for node in nodes:
        assert max(seen["body_bytes"] for seen in node.seen()) == BLOB_BYTES
