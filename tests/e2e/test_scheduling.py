"""What scheduling is worth over live nodes: fewer loads of the same work, and a flood that drowns nobody else."""

import collections
import concurrent.futures
import http.client
import json
import queue
import random
import threading
from urllib.parse import urlsplit

from support import Gateway, Node, eventually

MODELS = [f"model-{n}" for n in range(6)]
REQUESTS = 300
CLIENTS = 6
SEED = 4


def chat(gateway, model, user=None):
    """(status, headers) of a short chat, answered as a whole."""
    link = http.client.HTTPConnection(urlsplit(gateway.url).netloc, timeout=120)
    headers = {"Content-Type": "application/json"}
    if user:
        headers["X-OpenWebUI-User-Id"] = user
    body = {"model": model, "stream": False, "messages": [{"role": "user", "content": "Say hello."}]}
    try:
        link.request("POST", "/api/chat", json.dumps(body), headers)
        answer = link.getresponse()
        answer.read()
        return answer.status, answer.headers
    finally:
        link.close()


def mix():
    """The same requests for everybody: the second model is wanted half as often as the first, the third a third as often, and so on."""
    weights = [1 / rank for rank in range(1, len(MODELS) + 1)]
    return random.Random(SEED).choices(MODELS, weights, k=REQUESTS)


def small_nodes(exe):
    """Three nodes with every model on disk and room for two of them, all with the same two in memory: the rest has to find its place."""
    return [
        Node(exe, tokens=4, disk=MODELS, loaded=MODELS[:2], loaded_max=2, load_delay_ms=200, token_delay_ms=5)
        for _ in range(3)
    ]


def work_off(exe, balancer):
    """Answers by status, and how often the nodes had to load a model."""
    nodes, gateway = small_nodes(exe), None
    try:
        gateway = Gateway.over(exe, [node.url for node in nodes], MODELS, load_balancer=balancer)
        before = [node.loads() for node in nodes]
        with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
            statuses = collections.Counter(status for status, _ in pool.map(lambda model: chat(gateway, model), mix()))
        return statuses, sum(node.loads() for node in nodes) - sum(before)
    finally:
        for process in (gateway, *nodes):
            if process:
                process.kill()


def test_the_same_work_needs_far_fewer_loads(exe):
    statuses, loads = {}, {}
    for balancer in ("least-connections", "adaptive"):
        statuses[balancer], loads[balancer] = work_off(exe, balancer)
    assert all(counts == {200: REQUESTS} for counts in statuses.values()), statuses
    assert loads["adaptive"] <= loads["least-connections"] / 3, loads


def test_a_flood_does_not_keep_another_tenant_out(exe):
    node = Node(exe, tokens=256, token_delay_ms=0)
    gateway, over = None, threading.Event()
    flood, light = queue.SimpleQueue(), []

    def keep_asking():
        while not over.is_set():
            flood.put(chat(gateway, "qwen3", "flood"))

    try:
        endpoint = {"url": node.url, "name": "node-0", "type": "ollama", "slots": 2}
        static = {"type": "static", "static": {"endpoints": [endpoint]}}
        gateway = Gateway.discovering(exe, static, ["qwen3"], queue={"max_length": 8})
        with concurrent.futures.ThreadPoolExecutor(12) as pool:
            try:
                jobs = [pool.submit(keep_asking) for _ in range(12)]
                eventually("the flood is turned away", lambda: flood.qsize() > 50)
                light = [chat(gateway, "qwen3", "light") for _ in range(20)]
            finally:
                over.set()
            for job in jobs:
                job.result()
        answers = [flood.get() for _ in range(flood.qsize())]
    finally:
        for process in (gateway, node):
            if process:
                process.kill()

    assert {status for status, _ in light} == {200}
    assert {status for status, _ in answers} == {200, 503}
    assert all(headers["Retry-After"] for status, headers in answers if status == 503)
