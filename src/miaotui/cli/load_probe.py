"""A fresh process that loads one model, says so, reads and writes a little, and tells what memory that took.

`miaotui compare` starts it, with `LLM`'s arguments as JSON on standard input.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from miaotui.errors import EngineStoppedError

PROMPT_TOKENS, OUTPUT_TOKENS = 512, 16


def probe(settings: Mapping[str, Any]) -> tuple[float, int]:
    """Seconds from the start of a process until it had the model, and its most resident bytes when it had used it.

    Raises EngineStoppedError where the process ended early.
    """
    package_root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, (package_root, os.environ.get("PYTHONPATH"))))
    start_s = time.monotonic()
    with subprocess.Popen(  # noqa: S603 (this very file)
        [sys.executable, "-m", __name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        env={**os.environ, "PYTHONPATH": path},
    ) as process:
        assert process.stdin is not None  # noqa: S101 (all three are pipes)
        assert process.stdout is not None  # noqa: S101
        assert process.stderr is not None  # noqa: S101
        try:
            process.stdin.write(json.dumps(settings))
            process.stdin.close()
            is_ready = process.stdout.readline() == "ready\n"
            load_s = time.monotonic() - start_s
            said, problem = process.stdout.read(), process.stderr.read()
        except BaseException:
            process.kill()
            raise
    if not is_ready or not said.strip().isdigit():
        last = (problem.strip().splitlines() or [f"it ended with {process.returncode}"])[-1]
        raise EngineStoppedError(f"a fresh process could not run {settings['model']}: {last}; --skip load does without")
    return load_s, int(said)


def _main() -> None:
    settings = json.load(sys.stdin)
    from miaotui.cli.output import peak_memory_bytes
    from miaotui.engine.llm import LLM

    with LLM(settings.pop("model"), **settings) as llm:
        print("ready", flush=True)
        most = min(PROMPT_TOKENS, llm.context_length - OUTPUT_TOKENS)
        prompt = [(7919 * i + 13) % llm.spec.vocab_size for i in range(most)]
        llm.generate(prompt, max_tokens=OUTPUT_TOKENS, temperature=0.0, ignore_eos=True)
        print(peak_memory_bytes())


if __name__ == "__main__":
    _main()
