"""A process that is asked in lines of JSON and answers in lines of JSON."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any


class WorkerDied(Exception):
    """A worker's process has ended, with its message on stderr."""


class Worker:
    """One process; its first line says that it is ready, and whatever else there is to know. Raises WorkerDied."""

    def __init__(self, command: Sequence[str], environ: Mapping[str, str] | None = None) -> None:
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environ)
        self.facts = self._answer()

    def ask(self, question: Any) -> Any:
        """The answer to a question. Raises WorkerDied."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """No more questions: the process ends by itself."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise WorkerDied
        return json.loads(line)
