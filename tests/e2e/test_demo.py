"""`arriero demo` and the start: what a person at a terminal sees."""

import subprocess

import pytest

from support import WORK, Gateway, eventually, free_port, get


def test_the_three_printed_curl_lines_work(demo_gateway):
    def printed():
        lines = [line.strip().removeprefix("$ ") for line in demo_gateway.output().splitlines()]
        return [line for line in lines if line.startswith("curl ")]

    lines = eventually("demo prints three curl lines", lambda: printed() if len(printed()) >= 3 else None)
    for line in lines:
        done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0 and done.stdout, f"{line}\n{done.stderr}"
        assert '"error"' not in done.stdout, f"{line}\n{done.stdout}"


def test_federated_answers(demo_gateway):
    assert get(f"{demo_gateway.url}/") == (200, "Ollama is running")
    for path in ("/api/version", "/api/tags", "/api/ps", "/v1/models"):
        assert get(f"{demo_gateway.url}{path}")[0] == 200, path
    assert get(f"{demo_gateway.url}/no/such/path")[0] == 404


def test_admin_listener(demo_gateway):
    assert get(f"{demo_gateway.admin}/internal/health")[0] == 200
    assert get(f"{demo_gateway.admin}/internal/ready")[0] == 200
    status, text = get(f"{demo_gateway.admin}/metrics")
    assert status == 200 and "# TYPE arriero_" in text


@pytest.mark.parametrize("text, word", [
    ("server: { prot: 1 }", "port"),
    ("discovery: { static: { endpoints: [ { url: 'ftp://gpu-1' } ] } }", "http"),
    ("server: { port: [", ""),
])
def test_a_bad_configuration_starts_nothing_and_says_where(exe, text, word):
    WORK.mkdir(exist_ok=True)
    path = WORK / f"bad-{free_port()}.yaml"
    path.write_text(text)
    for command in (["check", str(path)], ["serve", "-c", str(path)]):
        done = subprocess.run([exe, *command], capture_output=True, text=True, timeout=30)
        assert done.returncode != 0
        said = done.stdout + done.stderr
        assert f"{path.name}:1:" in said or "line 1" in said, said
        assert word in said, said


def test_sigterm_ends_an_idle_gateway_cleanly(exe):
    gateway = Gateway.demo(exe)
    gateway.child.terminate()
    assert gateway.child.wait(timeout=60) == 0
