"""The shipped policies run together, name what they lean on by digest, and explain every line twice."""

from __future__ import annotations

from datetime import date
from hashlib import sha256
from pathlib import Path

import pytest
from decided import shipped_plan

from broker.core.policy import Policy, load, paths, resolve
from broker.core.references import read_references
from broker.edge.data import data_folder
from broker.sim import TerritorySpec, generate
from broker.sim.use import cold_days

FOLDER = data_folder("policies")
FILES = sorted(FOLDER.glob("*.yaml"))


def policy(path: Path) -> Policy:
    return load(path.read_text(encoding="utf-8"), path.name)


def test_there_are_the_three_products_that_a_municipality_would_ask_for() -> None:
    assert [p.stem for p in FILES] == ["energy-water-daily", "underheating-monthly", "vacancy-monthly"]
    daily, underheating, vacancy = map(policy, FILES)
    assert (daily.join, daily.window.length) == ("none", "P1D")
    for joint in (underheating, vacancy):
        assert (joint.join, joint.window.length) == ("premises", "P1M")
        assert any({"energy", "water"} == set(getattr(m, "where", {})) for m in joint.measures.values())
    assert {w.holding for w in daily.disclosure.waivers} == {"water-n", "water-s"}
    assert not underheating.disclosure.waivers and not vacancy.disclosure.waivers


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_field_is_explained_itself_or_as_part_of_a_line(path: Path) -> None:
    found = policy(path)
    implied = {"references"} - ({"references"} if found.references else set())
    for field in paths(found) - implied:
        covered = any(
            field == line or field.startswith(f"{line}.") or line.startswith(f"{field}.")
            for line in found.lines
        )
        assert covered, field
    for line, text in found.lines.items():
        assert text.fr != text.en, line
        assert min(len(text.fr), len(text.en)) > 10, line
    assert found.title.fr != found.title.en
    assert found.meaning.fr != found.meaning.en


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_nothing_is_left_to_defaults(path: Path) -> None:
    """What partners sign stands in the file: each resolved field of a rule is written there."""
    text = path.read_text(encoding="utf-8")
    resolved = resolve(policy(path))
    for field in (*resolved["disclosure"], *resolved["window"], *resolved["retention"]):
        assert f"{field}:" in text, field


def test_the_impact_assessment_is_the_one_that_the_policies_name() -> None:
    found = "sha256:" + sha256((FOLDER / "dpia" / "housing.md").read_bytes()).hexdigest()
    assert {policy(path).dpia for path in FILES} == {found}


def test_cold_days_are_those_of_the_simulated_weather() -> None:
    found = policy(FOLDER / "underheating-monthly.yaml")
    files = {name: (FOLDER / "references" / r.file).read_bytes() for name, r in found.references.items()}
    dates = read_references(found, files)["cold-days"]
    assert dates == {day.isoformat() for day in cold_days(date(2026, 1, 1), 90)}
    assert 8 <= sum(day.startswith("2026-01") for day in dates) <= 23


def test_all_three_run_side_by_side_on_the_territory() -> None:
    world = generate(TerritorySpec(epcis=2, communes=4, iris=8, premises=80, days=2, half_hourly=None))
    plan = shipped_plan(world)
    assert sorted(plan.products()) == [path.stem for path in FILES]
    (domain,) = plan.domains.values()
    assert domain.streams == tuple(sorted(world.streams))
