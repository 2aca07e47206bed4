"""Where the folders that ship with the broker are: beside the package in a checkout, inside it when installed."""

from __future__ import annotations

from pathlib import Path

from broker.core.errors import OperatorError

_PACKAGE = Path(__file__).parent.parent


def data_folder(name: str) -> Path:
    """The folder `schemas` or `policies`. Raises OperatorError where an installation lacks it."""
    for folder in (_PACKAGE.parent / name, _PACKAGE / "_data" / name):
        if folder.is_dir():
            return folder
    raise OperatorError(
        "bad_installation", f"the folder {name} is missing: install the broker again", where=str(_PACKAGE)
    )
