"""Nodes that come and go with the records of a name, as behind a headless service."""

import concurrent.futures
import threading

import pytest

from nameserver import NameServer
from support import CHAT, Gateway, Node, eventually, free_port, get
from test_chaos import HELLO, Exchange, failed, quick

FIRST, SECOND, THIRD = "127.0.0.2", "127.0.0.3", "127.0.0.4"


@pytest.fixture
def nodes(exe):
    """Address → node; one port for all, since a record names no port."""
    port = free_port()
    nodes = {host: Node(exe, port=port, host=host, tokens=400) for host in (FIRST, SECOND, THIRD)}
    yield nodes
    for node in nodes.values():
        node.kill()


@pytest.fixture
def names():
    server = NameServer(herd=f"{FIRST} {SECOND}")
    yield server
    server.kill()


@pytest.fixture
def gateway(exe, nodes, names):
    herd = {"name": "herd.test", "port": nodes[FIRST].port, "type": "ollama", "interval": "1s", "server": names.address}
    gateway = Gateway.discovering(exe, {"type": "dns", "dns": [herd]}, [CHAT])
    yield gateway
    gateway.kill()


def serving(gateway):
    """The addresses that a round of requests reaches; with round-robin a few requests reach every node."""
    exchanges = [quick(gateway) for _ in range(9)]
    assert not failed(exchanges), failed(exchanges)
    return {host for e in exchanges for host in (FIRST, SECOND, THIRD) if host in e.node}


def until_serving(gateway, *hosts):
    eventually(f"requests reach {hosts} and nobody else", lambda: serving(gateway) == set(hosts))


def test_every_record_is_a_node_and_so_is_one_added_later(gateway, names):
    until_serving(gateway, FIRST, SECOND)
    names.set(herd=f"{FIRST} {SECOND} {THIRD}")
    until_serving(gateway, FIRST, SECOND, THIRD)


def test_a_node_whose_record_is_removed_ends_its_streams_and_gets_no_more(gateway, nodes, names):
    until_serving(gateway, FIRST, SECOND)
    under_way, begun = [], threading.Event()

    def first_byte(exchange):
        under_way.append(exchange)
        if {host for host in (FIRST, SECOND) for e in under_way if host in e.node} == {FIRST, SECOND}:
            begun.set()

    body = {"model": CHAT, "messages": HELLO, "stream": True, "options": {"num_predict": 400}}
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        streams = [pool.submit(Exchange, gateway, "/api/chat", body, first_byte) for _ in range(4)]
        assert begun.wait(30), "no stream began on one of the nodes"
        names.set(herd=FIRST)
        until_serving(gateway, FIRST)
        assert not [e for e in under_way if e.over], "the streams outlive the change"
        exchanges = [one.result() for one in streams]

    assert not failed(exchanges), failed(exchanges)
    before = len(nodes[SECOND].seen())
    assert [e for e in exchanges if SECOND in e.node]
    assert serving(gateway) == {FIRST}
    chats = [it for it in nodes[SECOND].seen()[before:] if it["path"] == "/api/chat"]
    assert not chats, chats


def test_the_last_good_answer_is_kept_while_the_name_server_is_away(gateway, names):
    until_serving(gateway, FIRST, SECOND)
    names.kill()
    gateway.until("tells of it", lambda: "last good answer stays in use: 2 addresses" in gateway.output())
    assert serving(gateway) == {FIRST, SECOND}

    back = NameServer(port=names.port, herd=THIRD)
    try:
        until_serving(gateway, THIRD)
        assert "`herd.test` now resolves to 1 address" in gateway.output()
    finally:
        back.kill()


def test_a_name_that_is_gone_takes_nobody_away(gateway, names):
    until_serving(gateway, FIRST, SECOND)
    names.set(other=THIRD)
    gateway.until("tells of it", lambda: f"NXDOMAIN from {names.address}" in gateway.output())
    assert serving(gateway) == {FIRST, SECOND}


def test_a_record_of_a_metadata_service_is_ignored_and_told(gateway, names):
    until_serving(gateway, FIRST, SECOND)
    names.set(herd=f"{FIRST} 169.254.169.254")
    until_serving(gateway, FIRST)
    ignored = [line for line in gateway.output().splitlines() if "169.254.169.254" in line]
    assert len(ignored) == 1 and "ignored" in ignored[0], ignored
    assert "169.254.169.254" not in get(f"{gateway.admin}/metrics")[1]
