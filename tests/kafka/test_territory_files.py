"""A territory's files are read strictly, and every mistake is named with its file and field."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from territories import head, partner, territory

from broker.core.errors import InputError
from broker.core.territory import make_territory
from broker.edge.territory import load_territory


def write(folder: Path, files: dict[str, Any]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return folder


def whole() -> dict[str, Any]:
    return {
        "territory.yaml": head(),
        "areas.csv": "area,parent,level\nT,,epci\nC,T,commune\n",
        "partners/en-a.yaml": partner("en-a", "power"),
        "recipients/ville.yaml": {"name": "ville", "title": "Ville", "products": ["vacancy"]},
        "policies/vacancy.yaml": "product: vacancy\n",
        "references/cold.csv": "date\n2026-01-01\n",
        "agreements/vacancy-v1.en-a.note": "note\n",
        "partners/README": "not a partner",
    }


def test_the_whole_folder_is_read(tmp_path: Path) -> None:
    found = load_territory(write(tmp_path, whole()))
    assert found.territory.lanes == 2
    assert [p.name for p in found.territory.partners] == ["en-a"]
    assert found.areas.rows() == [("T", "", "epci"), ("C", "T", "commune")]
    assert found.policies == {"vacancy.yaml": "product: vacancy\n"}
    assert found.references == {"cold.csv": b"date\n2026-01-01\n"}
    assert found.agreements == {"vacancy-v1.en-a.note": "note\n"}
    assert found.geometry is None


def test_streams_are_listed_for_the_plan() -> None:
    assert [stream.topic for stream in territory().streams] == [
        "in.en-a.gas",
        "in.en-a.power",
        "in.en-b.power",
    ]


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("territory.yaml", head() | {"lane": 3}, ["territory.yaml", "lane", "did you mean `lanes`"]),
        ("territory.yaml", head() | {"lanes": 0}, ["territory.yaml", "lanes"]),
        ("territory.yaml", head() | {"lanes": True}, ["territory.yaml", "lanes"]),
        ("territory.yaml", head() | {"timezone": "Paris"}, ["timezone", "Europe/Paris"]),
        ("partners/en-a.yaml", {"name": "en-a"}, ["partners/en-a.yaml", "holding", "missing"]),
        ("partners/en-a.yaml", partner("en-z", "power"), ["partners/en-a.yaml", "en-z.yaml"]),
        (
            "partners/en-a.yaml",
            partner("En_a", "power"),
            ["partners/en-a.yaml", "name", "lower case letters"],
        ),
        ("partners/en-a.yaml", partner("en-a"), ["partners/en-a.yaml", "streams"]),
        ("partners/en-a.yaml", partner("en-a", "power", "power"), ["same name"]),
        ("partners/en-a.yaml", partner("en-a", "a.b"), ["streams.0.name", "part of topics"]),
        ("partners/admin.yaml", partner("admin", "power"), ["partners/admin.yaml", "kept for the broker"]),
        ("partners/broker-x.yaml", partner("broker-x", "power"), ["kept for the broker"]),
        (
            "recipients/ingest.yaml",
            {"name": "ingest", "title": "I", "products": ["p"]},
            ["kept for the broker"],
        ),
        ("areas.csv", "area,level\n", ["areas.csv", "area,parent,level"]),
        ("areas.csv", "", ["areas.csv"]),
        ("partners/en-a.yaml", "name: [", ["partners/en-a.yaml"]),
        ("policies/vacancy.yaml", None, ["vacancy.yaml", "UTF-8"]),
    ],
)
def test_a_mistake_is_named_with_file_and_field(
    tmp_path: Path, file: str, content: Any, words: list[str]
) -> None:
    folder = write(tmp_path, whole() | ({file: content} if content is not None else {}))
    if content is None:
        (folder / file).write_bytes(b"\xff\xfe\xff")
    with pytest.raises(InputError) as refused:
        load_territory(folder)
    for word in words:
        assert word in str(refused.value)


def test_an_empty_folder_is_no_territory(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no_territory"):
        load_territory(tmp_path)


def test_no_file_outside_the_folder_is_read() -> None:
    areas = {"hierarchy": "iris-2026", "file": "../areas.csv"}
    with pytest.raises(InputError, match=r"areas\.file"):
        make_territory(head() | {"areas": areas}, {}, {})
