"""Files of results: whole or not at all, and never over what they were made from."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from broker.core.errors import InputError
from broker.edge.folders import writable_folder


def prepare(results: Iterable[Path], sources: Iterable[Path]) -> None:
    """Remove results of an earlier run; make their folders. Raises InputError where a result would take the place of
    a source (`overwrites_input`), or nothing can be written."""
    known = {source.resolve() for source in sources}
    files = list(results)
    for file in files:
        if file.resolve() in known:
            raise InputError(
                "overwrites_input", "the result would overwrite a file that it is made from", where=str(file)
            )
    for file in files:
        writable_folder(file.parent)
        if file.is_dir():
            raise InputError(
                "unwritable_file", "there is a folder of that name: choose another", where=str(file)
            )
        file.unlink(missing_ok=True)


def write(results: Mapping[Path, bytes]) -> None:
    """All files, each complete before it gets its name."""
    with tempfile.TemporaryDirectory(dir=next(iter(results)).parent, prefix=".unfinished-") as folder:
        made = {}
        for number, (file, data) in enumerate(results.items()):
            made[file] = Path(folder) / str(number)
            made[file].write_bytes(data)
        for file, whole in made.items():
            os.replace(whole, file)  # noqa: PTH105 - the one call that says what is meant
