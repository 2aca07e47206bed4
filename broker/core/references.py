"""Outside facts that a policy leans on: public lists of dates, hashed in the policy that every partner signed.

A reference is a CSV with a header and at least the column `date` (`YYYY-MM-DD`); its other columns tell people
why a date is in it. The policy holds the SHA-256 of the file's bytes: another list is another policy.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from datetime import date
from hashlib import sha256

from broker.core.errors import InputError, Refused
from broker.core.policy import Policy


def read_references(policy: Policy, files: Mapping[str, bytes]) -> dict[str, frozenset[str]]:
    """The dates of each reference of the policy, from the bytes of its files (by reference name).

    Raises Refused (`wrong_reference`) where bytes differ from the hash in the policy, InputError
    (`bad_reference`) where a file is absent or no list of dates.
    """
    return {name: _dates(policy, name, files.get(name)) for name in sorted(policy.references)}


def _dates(policy: Policy, name: str, content: bytes | None) -> frozenset[str]:
    where = f"{policy.product}: reference {name}"
    if content is None:
        raise InputError("bad_reference", f"the file {policy.references[name].file} is missing", where=where)
    found = f"sha256:{sha256(content).hexdigest()}"
    if found != policy.references[name].sha256:
        raise Refused(
            "wrong_reference",
            f"the file has {found}, the policy was signed with {policy.references[name].sha256}: "
            "bring back the signed file, or have a new version of the policy signed",
            where=where,
        )
    try:
        rows = list(csv.DictReader(io.StringIO(content.decode("utf-8"))))
        return frozenset(date.fromisoformat(row["date"]).isoformat() for row in rows)
    except (UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            "bad_reference", f"not a CSV with a column `date` of YYYY-MM-DD: {error}", where=where
        ) from error
