"""PostgreSQL and Redis, started for the tests alone: in throw-away folders, on sockets and ports of their own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

START_S = 60.0
MEET_AGAIN_S = 20.0
"""Longer than nodes wait for an answer to a greeting."""
REQUIRED = os.environ.get("MIAOTUI_SERVERS") == "required"


def program(name: str) -> str:
    """Its path; without it the test is skipped, or fails where servers are required."""
    found = shutil.which(name)
    if found is None:
        candidates = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[4]))
        found = str(candidates[-1]) if candidates else None
    if found is None:
        missing = f"{name} is not installed; `scripts/services.sh` installs it (as root, on Debian and Ubuntu)"
        if REQUIRED:
            pytest.fail(missing)
        pytest.skip(missing)
    return found


class Server:
    """A process with a folder of its own; as another user where it must not run as root."""

    user: str | None = None

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="miaotui-"))
        self.user = self.user if os.geteuid() == 0 else None
        if self.user is not None:
            shutil.chown(self.folder, self.user)
        self._process: subprocess.Popen[bytes] | None = None
        self._log = self.folder / "log"

    def command(self) -> list[str]:
        raise NotImplementedError

    def answers(self) -> bool:
        raise NotImplementedError

    def start(self) -> None:
        """Start it, anew if it has not started: after a kill its children may still hold on to things."""
        give_up_s = time.monotonic() + START_S
        while not self.answers():
            if self._process is None or self._process.poll() is not None:
                with self._log.open("ab") as log:
                    self._process = subprocess.Popen(
                        self.command(), stdout=log, stderr=log, user=self.user, cwd=self.folder, start_new_session=True
                    )
            if time.monotonic() > give_up_s:
                raise AssertionError(f"{self.command()[0]} does not start: {self._log.read_text()[-2000:]}")
            _pause()

    def kill(self) -> None:
        """End it as a crash does."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def freeze(self) -> None:
        """Let it take connections and never answer."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        for each in (self._process.pid, *_children(self._process.pid)):
            with contextlib.suppress(ProcessLookupError):  # a child that has just ended
                os.kill(each, number)

    def remove(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.thaw()
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


class Postgres(Server):
    """A cluster on a Unix socket. It does not sync: what the tests crash is the server, not the machine."""

    user = "postgres"

    def __init__(self, *options: str) -> None:
        super().__init__()
        self._options = options
        self._programs = {name: program(name) for name in ("initdb", "postgres", "pg_isready")}
        subprocess.run(
            [self._programs["initdb"], "-D", str(self.folder / "data"), "-U", "miaotui", "-A", "trust", "-E", "UTF8",
             "--locale=C", "--no-sync"],
            user=self.user, cwd=self.folder, check=True, capture_output=True,
        )  # fmt: skip
        self.url = f"postgresql://miaotui@/postgres?host={self.folder}"

    def command(self) -> list[str]:
        settings = ["listen_addresses=", f"unix_socket_directories={self.folder}", "fsync=off", "shared_buffers=64MB",
                    "max_connections=50", *self._options]  # fmt: skip
        flags = [part for setting in settings for part in ("-c", setting)]
        return [self._programs["postgres"], "-D", str(self.folder / "data"), *flags]

    def answers(self) -> bool:
        asked = [self._programs["pg_isready"], "-q", "-h", str(self.folder), "-t", "5"]
        return subprocess.run(asked, check=False).returncode == 0


class RedisServer(Server):
    """A server that writes down every change before it says so, on a free port."""

    def __init__(self, *options: str) -> None:
        super().__init__()
        self._program = program("redis-server")
        self._options = options
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        return [self._program, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder), "--save", "",
                "--appendonly", "yes", "--appendfsync", "everysec", *self._options]  # fmt: skip

    def answers(self) -> bool:
        return self.ask("PING").startswith(b"+PONG")

    def ask(self, *command: str) -> bytes:
        """Its reply as it is written, or nothing."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
                connection.sendall((" ".join(command) + "\r\n").encode())
                return connection.recv(1 << 16)
        except OSError:
            return b""


class RedisCluster:
    """Three servers that share the slots."""

    def __init__(self) -> None:
        self.nodes = [RedisServer("--cluster-enabled", "yes") for _ in range(3)]
        self.url = f"redis+cluster://127.0.0.1:{self.nodes[0].port}"

    def start(self) -> None:
        edges = [0, 5461, 10923, 16384]
        for number, node in enumerate(self.nodes):
            node.start()
            node.ask("CLUSTER", "ADDSLOTSRANGE", str(edges[number]), str(edges[number + 1] - 1))
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", str(number + 1))
        meet_s = 0.0

        def agrees() -> bool:
            nonlocal meet_s
            if all(map(self._is_whole, self.nodes)):
                return True
            if time.monotonic() >= meet_s:  # a node gives a greeting up that is not answered in time
                self._meet()
                meet_s = time.monotonic() + MEET_AGAIN_S
            return False

        wait_until(agrees, "the cluster agrees")

    def _meet(self) -> None:
        """Make all know each other: what they would gossip in time."""
        for node in self.nodes:
            for other in self.nodes:
                if node is not other:
                    node.ask("CLUSTER", "MEET", "127.0.0.1", str(other.port))

    @staticmethod
    def _is_whole(node: RedisServer) -> bool:
        said = node.ask("CLUSTER", "INFO")
        return b"cluster_state:ok" in said and b"cluster_known_nodes:3" in said

    def remove(self) -> None:
        for node in self.nodes:
            node.remove()


def free_port() -> int:
    """A port that nobody listens on, low enough that a cluster's second port, 10,000 above, exists."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        for candidate in (port, port - 20_000):
            if 1024 < candidate < 55_000:
                return candidate


def wait_until(is_so: Callable[[], bool], what: str) -> None:
    """Ask again and again. Fails where it never becomes so."""
    give_up_s = time.monotonic() + START_S
    while not is_so():
        assert time.monotonic() < give_up_s, f"it never was so that {what}"
        _pause()


def _pause() -> None:
    """Let what is waited for have the processor."""
    time.sleep(0.02)


def _children(pid: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.append(int(stat.parent.name))
    return found
