"""Text files that people give to a command."""

from __future__ import annotations

from pathlib import Path

from broker.core.errors import InputError


def read_text(path: Path) -> str:
    """The file's text. Raises InputError (`unreadable_file`) where there is none, or it is not UTF-8."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            "unreadable_file", f"cannot be read as UTF-8 text ({error})", where=str(path)
        ) from error
