"""Processes and sockets the end-to-end tests are made of."""

import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).parent
WORK = HERE / ".work"
ROOT = HERE.parent.parent

# How the binary is started; the only place that knows its command line.
DEMO = ["demo", "--port", "{port}", "--admin-port", "{admin_port}"]
DEMO_NODE = ["demo-node", "--host", "{host}", "--port", "{port}"]
SERVE = ["serve", "-c", "{config}"]

# What the simulated nodes of `demo` and `demo-node` have installed.
CHAT, OTHER_CHAT, EMBEDDER = "llama3.2", "qwen3", "nomic-embed-text"
# What the real engine serves.
TINY = "tiny"

START_SECONDS_MAX = 30


class StartError(AssertionError):
    """A process did not come up; the text carries the end of its log."""


def free_port():
    """A TCP port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def binary():
    """The arriero under test: BIN_UNDER_TEST, else what `cargo build --release` makes."""
    if chosen := os.environ.get("BIN_UNDER_TEST"):
        return str(pathlib.Path(chosen).resolve())
    subprocess.run(["cargo", "build", "--release", "--locked"], cwd=ROOT, check=True)
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    return str(target / "release" / "arriero")


def get(url, timeout=5):
    """(status, text) of a GET; (None, reason) when nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=timeout) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as err:
        return err.code, err.read().decode()
    except OSError as err:
        return None, str(err)


def eventually(what, check, seconds=START_SECONDS_MAX):
    """Ask until CHECK gives something true, and return that; bounded."""
    deadline = time.monotonic() + seconds
    while True:
        if found := check():
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: still not so after {seconds} s")
        time.sleep(0.02)


class Process:
    """One child process whose output goes to a log file in WORK."""

    def __init__(self, name, argv):
        WORK.mkdir(exist_ok=True)
        self.name = name
        self.log = WORK / f"{name}-{free_port()}.log"
        with self.log.open("wb") as log:
            self.child = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT)

    def output(self):
        return self.log.read_text(errors="replace")

    def until(self, what, check):
        """Wait for CHECK; fail at once, with the log, when the process ends before."""

        def step():
            if self.child.poll() is not None:
                raise StartError(f"{self.name} exited with {self.child.returncode}:\n{self.output()[-4000:]}")
            return check()

        try:
            return eventually(f"{self.name}: {what}", step)
        except AssertionError as err:
            self.kill()
            raise StartError(f"{err}\n{self.output()[-4000:]}") from err

    def kill(self):
        """As a power cut; a polite end has a test of its own."""
        self.child.kill()
        self.child.wait()


class Node(Process):
    """A simulated node in a process of its own, so that it can be killed."""

    def __init__(self, exe, port=None, host="127.0.0.1", tokens=20, loaded=(), disk=(), **limits):
        """LOADED and DISK are chat models in memory and on disk; LIMITS are options of `demo-node` by name, such as load_delay_ms."""
        self.port = port or free_port()
        self.url = f"http://{host}:{self.port}"
        options = [("model", name) for name in loaded] + [("disk", name) for name in disk] + [("tokens", tokens), *limits.items()]
        super().__init__("node", [
            exe,
            *(part.format(host=host, port=self.port) for part in DEMO_NODE),
            *(f"--{name.replace('_', '-')}={value}" for name, value in options),
        ])
        self.until("answers /api/version", lambda: get(f"{self.url}/api/version")[0] == 200)

    def seen(self):
        """Every request the node received, with its outcome."""
        return json.loads(get(f"{self.url}/demo/seen")[1])["seen"]

    def loads(self):
        """How often the node has put a model into memory, those at the start included."""
        return json.loads(get(f"{self.url}/demo/seen")[1])["loads"]


class Engine(Process):
    """llama.cpp's own server in a process of its own."""

    type = "llamacpp"

    def __init__(self, model, port=0):
        super().__init__("engine", [
            sys.executable, str(HERE / "engine.py"), str(model), "--alias", TINY,
            "--port", str(port), "--context", "16384",
        ])
        self.url = self.until("prints its address", self._address)

    def _address(self):
        lines = [line for line in self.output().splitlines() if line.startswith("http://")]
        return lines[0] if lines and get(f"{lines[0]}/health")[0] == 200 else None

    def metric(self, name):
        for line in get(f"{self.url}/metrics")[1].splitlines():
            if line.startswith(f"llamacpp:{name} "):
                return float(line.split()[1])
        raise AssertionError(f"the engine has no metric {name}")


class Gateway(Process):
    """An arriero; `.url` is where clients go, `.admin` the other listener."""

    def __init__(self, argv, port, admin_port):
        self.url = f"http://127.0.0.1:{port}"
        self.admin = f"http://127.0.0.1:{admin_port}"
        super().__init__("gateway", argv)

    @classmethod
    def demo(cls, exe):
        port, admin_port = free_port(), free_port()
        argv = [exe, *(part.format(port=port, admin_port=admin_port) for part in DEMO)]
        return cls(argv, port, admin_port).ready([CHAT, EMBEDDER])

    @classmethod
    def over(cls, exe, nodes, models, kind="ollama", **proxy):
        """A gateway with a configuration file that names NODES (their URLs)."""
        endpoints = [
            {"url": url, "name": f"node-{n}", "type": kind, "check_interval": "500ms", "check_timeout": "400ms"}
            for n, url in enumerate(nodes)
        ]
        return cls.discovering(exe, {"type": "static", "static": {"endpoints": endpoints}}, models, **proxy)

    @classmethod
    def discovering(cls, exe, discovery, models, sections=None, **proxy):
        """A gateway with a configuration file whose `discovery` section this is; SECTIONS are others, by name."""
        port, admin_port = free_port(), free_port()
        config = WORK / f"gateway-{port}.yaml"
        WORK.mkdir(exist_ok=True)
        config.write_text(configuration(port, admin_port, discovery, proxy, sections or {}))
        argv = [exe, *(part.format(config=config) for part in SERVE)]
        return cls(argv, port, admin_port).ready(models)

    def ready(self, models):
        """Wait until every one of MODELS can be served."""
        for model in models:
            self.until(
                f"is ready for {model}",
                lambda model=model: get(f"{self.admin}/internal/ready?model={model}")[0] == 200,
            )
        return self


def configuration(port, admin_port, discovery, proxy, sections):
    """The text of a configuration file; JSON values, since YAML reads them."""
    discovery = {"model_discovery": {"interval": "1s", "timeout": "2s"}, **discovery}
    return "\n".join([
        f"server: {{ host: 127.0.0.1, port: {port} }}",
        f"admin: {{ host: 127.0.0.1, port: {admin_port} }}",
        f"proxy: {json.dumps({'load_balancer': 'round-robin', **proxy})}",
        f"discovery: {json.dumps(discovery)}",
        *(f"{name}: {json.dumps(section)}" for name, section in sections.items()),
        "",
    ])


def node_script(name, *args):
    """Run js/NAME.mjs and return the JSON it prints."""
    done = subprocess.run(
        ["node", str(HERE / "js" / f"{name}.mjs"), *args],
        capture_output=True, text=True, timeout=120,
    )
    assert done.returncode == 0, f"{name}.mjs {args}:\n{done.stderr}"
    return json.loads(done.stdout)


def which(program):
    return shutil.which(program) is not None
