"""What every reading on a stream keeps to: measures and their smallest units, kinds, qualities.

The Avro schemas say the same and a test compares both. Energy is counted in Wh and volume in mL, as int64: no
float ever holds a reading.
"""

from __future__ import annotations

UNITS: dict[str, str] = {"electricity": "Wh", "gas": "Wh", "heat": "Wh", "water": "mL"}
KINDS: tuple[str, ...] = ("interval", "register")
UNKNOWN_QUALITY = "unknown"
QUALITIES: tuple[str, ...] = (UNKNOWN_QUALITY, "measured", "estimated", "substituted")
MARK = "completeness-mark"
"""Name of the schema of completeness marks."""


def reading_schema(measure: str, kind: str) -> str:
    """Name of the schema of one measure's interval or register readings; KeyError for what does not exist."""
    if measure not in UNITS or kind not in KINDS:
        raise KeyError(f"{measure}-{kind}")
    return f"{measure}-{kind}"
