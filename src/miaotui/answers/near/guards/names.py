"""Names: what one question writes as a name the other must write as one."""

from __future__ import annotations

from miaotui.answers.near.guards.sequences import shown
from miaotui.answers.near.text import Text


def same_names(asked: Text, kept: Text) -> str | None:
    """Refuse a name that only one of them knows: Rust is not rust, nor Turkey turkey; "paris" is no other Paris."""
    for these, others, whose in ((asked, kept, "the question"), (kept, asked, "the kept question")):
        missing = sorted(these.names - others.names)
        if missing:
            return f"only {whose} names {shown(missing)}"
    return None
