"""A process of its own that looks for answers in texts with regular expressions from a file, which may take for ever.

It reads [[regex, text], …] as JSON from standard input and writes, a line each, what was found, or null: the first
group of the first match, or all of it. It is run by its path, without the package, and ended when it takes too long.
"""

from __future__ import annotations

import json
import re
import sys


def found(regex: str, text: str) -> str | None:
    """The first group of the first match, all of it where there are no groups; None without a match."""
    match = re.search(regex, text)
    if match is None:
        return None
    return match.group(1) if match.re.groups else match.group()


if __name__ == "__main__":
    for pattern, searched in json.load(sys.stdin):
        print(json.dumps(found(pattern, searched)), flush=True)
