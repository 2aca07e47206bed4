"""What a policy file may leave out, filled in: defaults that depend on another field.

Tolerant of any shape, which validation judges afterwards.
"""

from __future__ import annotations

from typing import Any, Final

_COVERAGE: Final = {"PT1H": 1, "P1D": 1, "P1M": "0.9"}  # a meter may fail for three days of a month


def with_defaults(value: dict[str, Any]) -> dict[str, Any]:
    """The fields of a policy file with the defaults of coverage, `max_gap` and a measure's only input."""
    window, inputs, measures = (_mapping(value.get(field)) for field in ("window", "inputs", "measures"))
    filled = dict(value)
    if value.get("coverage") is None and window.get("length") in _COVERAGE:
        filled["coverage"] = _COVERAGE[window["length"]]
    if inputs:
        filled["inputs"] = {name: _input_defaults(spec, window.get("base")) for name, spec in inputs.items()}
    if measures:
        filled["measures"] = {
            name: _measure_defaults(spec, list(inputs), value.get("join")) for name, spec in measures.items()
        }
    return filled


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _input_defaults(spec: Any, base: Any) -> Any:
    if isinstance(spec, dict) and spec.get("kind") == "register" and spec.get("max_gap") is None:
        return {**spec, "max_gap": base}
    return spec


def _measure_defaults(spec: Any, inputs: list[str], join: Any) -> Any:
    """A measure's only possible input: the policy's only one, or under `join: none` the one that `where`
    names.
    """
    if (
        not isinstance(spec, dict)
        or spec.get("kind") not in ("sum", "count")
        or spec.get("input") is not None
    ):
        return spec
    where = spec.get("where")
    if spec["kind"] == "sum" and len(inputs) == 1:
        return {**spec, "input": inputs[0]}
    if join == "none" and isinstance(where, dict) and len(where) == 1:
        return {**spec, "input": next(iter(where))}
    return spec
