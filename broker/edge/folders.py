"""Folders that results are written to: found unusable before the work, not after it."""

from __future__ import annotations

import tempfile
from pathlib import Path

from broker.core.errors import InputError


def writable_folder(folder: Path) -> Path:
    """The folder, made where it was missing. Raises InputError where no file can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(
            "unwritable_folder",
            f"nothing can be written there ({error.strerror}): choose another folder",
            where=str(folder),
        ) from error
    return folder
