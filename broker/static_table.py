"""A static table's wiring: microdata, SPEC and hierarchies in, protected tables or an audit out.

Invariants
- A run that fails or is refused leaves no results, also none of a run before it under the same names.
- Paths in a SPEC are relative to it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from broker.core.disclosure.problem import Limits
from broker.core.errors import Refused
from broker.core.static.findings import Finding
from broker.core.static.hierarchy import Hierarchy
from broker.core.static.microdata import Hierarchies, Microdata
from broker.core.static.published import table_csv
from broker.core.static.spec import TOTAL, Spec, load
from broker.edge.memory import peak_bytes
from broker.edge.microdata import read_hierarchy, read_microdata, read_published
from broker.edge.results import prepare, write
from broker.edge.text_files import read_text
from broker.stages.audit_table import audit_from_outside, audit_with_microdata
from broker.stages.static_table import protect_tables

Step = Callable[[str], None]


def run_protect(
    microdata_file: Path,
    spec_file: Path,
    out: Path,
    *,
    public: bool,
    limits: Limits,
    begins: Step = lambda _: None,
) -> dict[str, Any]:
    """Protects the tables and writes them to `out` and, linked ones, beside it; the summary."""
    step = _watched(begins, limits)
    spec = load(read_text(spec_file), str(spec_file))
    results = {name: beside(out, name) for name in spec.tables}
    prepare(results.values(), [microdata_file, spec_file, *_hierarchy_files(spec, spec_file)])
    step(f"reading {microdata_file}")
    microdata, hierarchies = _read(microdata_file, spec, _given(spec, spec_file))
    found = protect_tables(microdata, hierarchies, spec, limits, step)
    stated = found.stated
    step(f"writing {out}")
    write(
        {
            file: table_csv(
                stated.tables, name, stated.judged, found.published, stated.contributions, public=public
            )
            for name, file in results.items()
        }
    )
    return {"tables": {str(results[name]): summary for name, summary in found.summary.items()}}


def run_audit(
    file: Path,
    spec_file: Path,
    microdata_file: Path | None,
    *,
    limits: Limits,
    begins: Step = lambda _: None,
) -> list[Finding]:
    """What can be computed of the figures that a table and those linked to it suppress. Files of linked tables are
    looked for beside `file`."""
    step = _watched(begins, limits)
    spec = load(read_text(spec_file), str(spec_file))
    paths = {name: beside(file, name) for name in spec.tables}
    given = _given(spec, spec_file)
    tables = {}
    for name, dimensions in spec.tables.items():
        step(f"reading {paths[name]}")
        tables[name] = read_published(paths[name], list(dimensions), given[name])
    where = {name: str(path) for name, path in paths.items()}
    if microdata_file is not None:
        step(f"reading {microdata_file}")
        microdata, hierarchies = _read(microdata_file, spec, given)
        return audit_with_microdata(tables, where, microdata, hierarchies, spec, limits, step)
    flat = {
        column: Hierarchy.flat(
            {
                code
                for table in tables.values()
                if column in table.cells.columns
                for code in table.cells[column]
            }
            - {TOTAL}
        )
        for column in spec.columns
    }
    return audit_from_outside(tables, where, _complete(given, flat), limits, step)


def beside(out: Path, table: str) -> Path:
    """The file of a linked table (`""`: the main one)."""
    return out.with_name(f"{out.name}.{table}.csv") if table else out


Given = dict[str, dict[str, Hierarchy | None]]
"""Table → dimension → its hierarchy, None where it is flat."""


def _given(spec: Spec, spec_file: Path) -> Given:
    files = {file: read_hierarchy(file) for file in dict.fromkeys(_hierarchy_files(spec, spec_file))}
    return {
        name: {
            column: None if dimension.hierarchy is None else files[spec_file.parent / dimension.hierarchy]
            for column, dimension in dimensions.items()
        }
        for name, dimensions in spec.tables.items()
    }


def _read(microdata_file: Path, spec: Spec, given: Given) -> tuple[Microdata, Hierarchies]:
    known = {
        column: [
            hierarchy for dimensions in given.values() if (hierarchy := dimensions.get(column)) is not None
        ]
        for column in spec.columns
    }
    microdata = read_microdata(microdata_file, spec, known)
    flat = {column: Hierarchy.flat(microdata.rows[column].unique()) for column in spec.columns}
    return microdata, _complete(given, flat)


def _complete(given: Given, flat: Mapping[str, Hierarchy]) -> Hierarchies:
    return {
        name: {column: hierarchy or flat[column] for column, hierarchy in dimensions.items()}
        for name, dimensions in given.items()
    }


def _hierarchy_files(spec: Spec, spec_file: Path) -> list[Path]:
    return [
        spec_file.parent / dimension.hierarchy
        for dimensions in spec.tables.values()
        for dimension in dimensions.values()
        if dimension.hierarchy is not None
    ]


def _watched(begins: Step, limits: Limits) -> Step:
    """Refuses at the next step where more memory was taken than is allowed."""

    def step(what: str) -> None:
        peak = peak_bytes()
        if peak > limits.memory:
            raise Refused(
                "too_large",
                f"{peak // 2**20} MB of memory were needed up to {what}, {limits.memory // 2**20} MB are allowed: "
                "raise --max-memory, or ask for fewer dimensions or generations",
            )
        begins(what)

    return step
