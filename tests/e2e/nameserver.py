"""A real name server, dnsmasq, whose records a test rewrites."""

import getpass
import os
import shutil
import signal
import socket
import struct

from support import WORK, Process, free_port


class NameServer(Process):
    """dnsmasq on 127.0.0.1; it knows the names of its hosts file and nothing else."""

    def __init__(self, port=None, **records):
        exe = shutil.which("dnsmasq", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        assert exe, "dnsmasq is missing; run: apt-get install dnsmasq-base"
        self.port = port or free_port()
        self.address = f"127.0.0.1:{self.port}"
        WORK.mkdir(exist_ok=True)
        self.hosts = WORK / f"dnsmasq-{self.port}.hosts"
        self._write(records)
        super().__init__("dnsmasq", [
            exe, "--keep-in-foreground", "--conf-file=/dev/null", f"--user={getpass.getuser()}",
            f"--pid-file={WORK / f'dnsmasq-{self.port}.pid'}", "--log-facility=-", "--log-queries",
            f"--port={self.port}", "--listen-address=127.0.0.1", "--bind-interfaces",
            "--no-resolv", "--no-hosts", "--local=/test/", f"--addn-hosts={self.hosts}",
        ])
        self.until("answers", self._answers)

    def set(self, **records):
        """From now on herd="10.0.0.1 10.0.0.2" are the records of herd.test; all other names are gone."""
        self._write(records)
        self.child.send_signal(signal.SIGHUP)

    def _write(self, records):
        lines = [f"{address} {name}.test\n" for name, addresses in records.items() for address in addresses.split()]
        new = self.hosts.with_suffix(".new")
        new.write_text("".join(lines))
        new.replace(self.hosts)

    def _answers(self):
        """Whether it says anything about any name."""
        question = struct.pack(">HHHHHH", 1, 0x0100, 1, 0, 0, 0) + b"\x04none\x04test\x00" + struct.pack(">HH", 1, 1)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.settimeout(0.5)
            s.connect(("127.0.0.1", self.port))
            try:
                s.send(question)
                return s.recv(512)[:2] == question[:2]
            except OSError:
                return False
