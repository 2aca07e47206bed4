"""What is wrong in the files of `broker dry-run`: a message for every mistake, that names it and who must act."""

from __future__ import annotations

from typing import Any

import pytest
from trial_files import AREAS, ENERGY, LAX, POINT, WATER, Reading, Trial, consents, local, plain

from broker import cli

# -- bad input: the row ---------------------------------------------------------------------------------

ROWS: dict[str, tuple[Reading, str, str]] = {
    "NaN": (("energy-a", POINT, local(1), "NaN"), "quarantined", "not_finite"),
    "infinite": (("energy-a", POINT, local(1), "-inf"), "quarantined", "not_finite"),
    "no number": (("energy-a", POINT, local(1), "many"), "quarantined", "bad_value"),
    "empty": (("energy-a", POINT, local(1), ""), "quarantined", "bad_value"),
    "inexact": (("energy-a", POINT, local(1), "1.5"), "quarantined", "inexact_value"),
    "negative": (("energy-a", POINT, local(1), "-1"), "quarantined", "negative"),
    "enormous": (("energy-a", POINT, local(1), "9" * 18), "quarantined", "out_of_bounds"),
    "far future": (("energy-a", POINT, "2150-01-01T00:00:00Z", 1), "quarantined", "far_future"),
    "unset clock": (("energy-a", POINT, "1970-01-01T00:00:00Z", 1), "quarantined", "bad_timestamp"),
    "no offset": (("energy-a", POINT, "2024-01-01T00:00:00", 1), "quarantined", "bad_timestamp"),
    "unknown point": (("energy-a", "nobody", local(1), 1), "refused", "unknown_delivery_point"),
    "another's point": (("energy-b", POINT, local(1), 1), "refused", "unknown_delivery_point"),
    "crossing": (("energy-a", POINT, local(1)[:11] + "12:00:00+01:00", 1), "refused", "crosses_window"),
}


@pytest.mark.parametrize("kind", ROWS)
def test_a_bad_row_is_counted_and_told_and_changes_nothing(
    kind: str, trial: Trial, capsys: pytest.CaptureFixture[str]
) -> None:
    row, outcome, reason = ROWS[kind]
    trial.put("energy", [*plain(trial), row])
    assert trial.run() == 0
    summary = trial.summary
    assert (summary["read"], summary["admitted"], summary[outcome]) == (25, 24, {reason: 1})
    assert summary["read"] == summary["admitted"] + sum(
        {**summary["quarantined"], **summary["refused"]}.values()
    )
    assert trial.truth("used")["2024-01-01", "K1"] == "6000"
    told = capsys.readouterr().err
    assert f"[{reason}]" in told
    assert "must act: partner" in told
    assert POINT not in told


def test_readings_of_a_partner_that_the_policy_does_not_name_are_refused_and_it_is_named(
    trial: Trial, capsys: pytest.CaptureFixture[str]
) -> None:
    trial.readings["energy"] += f"energy-x,{POINT},{local(1)},1\nenergy-x,{POINT},{local(9)},1\n"
    assert trial.run() == 0
    summary = trial.summary
    assert (summary["read"], summary["admitted"], summary["refused"]) == (26, 24, {"no_product": 2})
    assert trial.truth("used")["2024-01-01", "K1"] == "6000"
    told = capsys.readouterr().err
    assert "2 readings of partner energy-x in the file of input energy" in told


def test_a_negative_water_register_is_quarantined(trial: Trial) -> None:
    trial.policy |= {
        "inputs": {"water": WATER},
        "measures": {"used": {"kind": "sum", "input": "water", "unit": "mL"}},
    }
    trial.homes = {"w0": ("water-n", "K1", "house")}
    trial.readings = {}
    trial.put("water", [("water-n", "w0", local(1), -5), ("water-n", "w0", local(2), 5)])
    assert trial.run() == 0
    assert trial.summary["quarantined"] == {"negative": 1}


def ahead(trial: Trial, year: int) -> list[Reading]:
    return [(row[0], row[1], row[2].replace("2024", str(year)), row[3]) for row in plain(trial)]


@pytest.mark.parametrize("year", [2024, 2095])
def test_a_reading_far_ahead_of_the_others_is_no_mark_of_its_partner(year: int, trial: Trial) -> None:
    """Also where all lie ahead of the clock: the files decide, not the day of the run."""
    late = [("energy-a", point, f"{year + 3}-01-01T00:00:00Z", 1) for point in [*trial.homes][:3]]
    trial.put("energy", [*ahead(trial, year), *late] if year > 2024 else ahead(trial, year))
    trial.readings["energy"] += f"energy-a,{POINT},2150-01-01T00:00:00Z,1\n"
    assert trial.run() == 0
    assert trial.summary["quarantined"] == {"far_future": 4 if year > 2024 else 1}
    assert trial.truth("used")[f"{year}-01-01", "K1"] == "6000"
    assert {date for date, _ in trial.truth("used")} == {f"{year}-01-01", f"{year}-01-02"}


def test_with_now_nothing_depends_on_the_clock(trial: Trial, capsys: pytest.CaptureFixture[str]) -> None:
    assert trial.run("--now", local(1)) == 0  # the second day ends more than 24 h later
    assert trial.summary["quarantined"] == {"far_future": 12}
    assert trial.run("--now", local(2)) == 0
    assert trial.summary["quarantined"] == {}
    assert trial.run("--now", "today") == 2
    assert "--now" in capsys.readouterr().err


def test_a_row_of_too_many_fields_is_one_bad_row(trial: Trial) -> None:
    trial.readings["energy"] += f"energy-a,{POINT},{local(1)},1,measured,PT1H,more,and,more\n"
    assert trial.run() == 0
    assert trial.summary["quarantined"] == {"undecodable": 1}
    assert trial.summary["admitted"] == 24


# -- bad input: sites -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda text: text.replace(f"home-{POINT},K1", f"home-{POINT},nowhere"), "area_not_in_hierarchy"),
        (lambda text: text + f"energy-a,holding-a,{POINT},another,K2,house\n", "overlapping_sites"),
    ],
)
def test_sites_that_contradict_are_named_and_their_readings_refused(
    change: Any, reason: str, trial: Trial, capsys: pytest.CaptureFixture[str]
) -> None:
    trial.run()
    trial.sites = change((trial.folder / "sites.csv").read_text())
    capsys.readouterr()
    assert trial.run() == 0
    assert trial.summary["refused"] == {"contested_site": 2}
    assert trial.truth("homes")["2024-01-01", "K1"] == "5"
    told = capsys.readouterr().err
    assert f"partner energy-a, delivery point {POINT}" in told
    assert f"[{reason}]" in told


def with_water(trial: Trial, area: str, segment: str) -> None:
    """One home has water, too, and only such homes count."""
    trial.policy |= {
        "join": "premises",
        "inputs": {
            "energy": trial.policy["inputs"]["energy"],
            "water": {key: value for key, value in WATER.items() if key != "max_gap"} | {"kind": "interval"},
        },
        "dimensions": ["segment"],
    }
    trial.homes["w"] = "water-n", area, segment
    trial.premises = {"w": f"home-{POINT}"}
    trial.put("water", [("water-n", "w", local(day), 1) for day in (1, 2)])


def test_premises_that_do_not_count_are_told_with_who_must_act(
    trial: Trial, capsys: pytest.CaptureFixture[str]
) -> None:
    with_water(trial, area="K2", segment="house")
    assert trial.run() == 0
    assert ("2024-01-01", "K1") not in trial.truth("homes")
    told = capsys.readouterr().err
    assert "up to 1 premises do not count in each of 2 windows: their delivery points disagree" in told
    assert "energy-a, water-n must compare" in told
    assert "up to 11 premises do not count in each of 2 windows: the readings" in told
    assert POINT not in told


@pytest.mark.parametrize("kind", ["interval", "register"])
def test_a_home_that_two_partners_claim_at_one_time_is_told_with_who_must_act(
    kind: str, trial: Trial, capsys: pytest.CaptureFixture[str]
) -> None:
    if kind == "register":
        trial.policy["inputs"] = {"energy": ENERGY | {"kind": "register", "max_gap": "P2D"}}
        trial.put("energy", [row for day in (1, 2, 3) for row in plain(trial, [day], 1000 * day)])
    trial.premises = {"energy-b-K1-0": f"home-{POINT}"}
    assert trial.run() == 0
    assert trial.truth("homes")["2024-01-01", "K1"] == "4"
    told = capsys.readouterr().err
    assert "readings of up to 1 premises do not count in each of 2 windows" in told
    assert "energy-a, energy-b must compare" in told
    assert POINT not in told


def test_a_home_that_changes_its_supplier_is_claimed_by_one_at_a_time(
    trial: Trial, capsys: pytest.CaptureFixture[str]
) -> None:
    trial.premises = {"energy-b-K1-0": f"home-{POINT}"}
    taken_over = [(POINT, local(2)), ("energy-b-K1-0", local(1))]
    trial.put("energy", [row for row in plain(trial) if row[1:3] not in taken_over])
    assert trial.run() == 0
    assert trial.truth("homes")["2024-01-01", "K1"] == trial.truth("homes")["2024-01-02", "K1"] == "5"
    assert "contested" not in capsys.readouterr().err


def test_premises_with_too_few_readings_are_told(trial: Trial, capsys: pytest.CaptureFixture[str]) -> None:
    trial.policy["window"] = {"length": "P1D", "base": "PT1H", "timezone": "Europe/Paris"}
    hours = [f"2024-01-01T{hour:02d}:00:00+01:00" for hour in range(24)]
    rows = [(home[0], point, at, 1) for point, home in trial.homes.items() for at in hours]
    trial.put("energy", [row for row in rows if row[1:3] != (POINT, hours[5])])
    assert trial.run() == 0
    assert trial.truth("homes")["2024-01-01", "K1"] == "5"
    assert "up to 1 premises do not count in each of 1 windows: the readings" in capsys.readouterr().err


def test_a_segment_that_one_partner_leaves_empty_is_the_other_s(
    trial: Trial, capsys: pytest.CaptureFixture[str]
) -> None:
    with_water(trial, area="K1", segment="")
    assert trial.run() == 0
    assert trial.truth("homes", "house")["2024-01-01", "K1"] == "1"
    assert "disagree" not in capsys.readouterr().err


@pytest.mark.parametrize("holding", ["holding-w", "typo"])
def test_a_waiver_of_a_holding_without_sites_is_without_effect_and_told(
    holding: str, trial: Trial, capsys: pytest.CaptureFixture[str]
) -> None:
    waiver = {"holding": holding, "column": "water", "basis": "Decree", "areas": ["epci"]}
    trial.policy |= {
        "inputs": trial.policy["inputs"] | {"water": WATER},
        "disclosure": LAX | {"waivers": [waiver]},
    }
    trial.put("water", [])
    trial.policy["window"]["on_stall"] = "release_without"
    assert trial.run() == 0
    assert f"the waiver of {holding} for water is without effect" in capsys.readouterr().err
    assert trial.truth("used")["2024-01-01", "K1"] == "6000"


def test_a_home_that_moves_counts_where_it_was(trial: Trial) -> None:
    trial.run()
    lines = (trial.folder / "sites.csv").read_text().splitlines()
    moved = [
        f"energy-a,holding-a,{POINT},home-{POINT},K1,house,,{local(2)}",
        f"energy-a,holding-a,{POINT},home-{POINT},K2,house,{local(2)},",
    ]
    kept = [f"{line},," for line in lines[1:] if f",{POINT}," not in line]
    trial.sites = "\n".join([lines[0] + ",valid_from,valid_to", *kept, *moved]) + "\n"
    assert trial.run() == 0
    assert [trial.truth("homes")[f"2024-01-0{day}", "K1"] for day in (1, 2)] == ["6", "5"]
    assert [trial.truth("homes")[f"2024-01-0{day}", "K2"] for day in (1, 2)] == ["6", "7"]


# -- bad input: files -----------------------------------------------------------------------------------


def broken_policy(trial: Trial) -> None:
    trial.policy["disclosures"] = {}


def unknown_rule(trial: Trial) -> None:
    trial.policy["disclosure"] = LAX | {"min_contributers": 3}


def empty_readings(trial: Trial) -> None:
    trial.readings["energy"] = ""


def empty_sites(trial: Trial) -> None:
    trial.sites = ""


def no_column(trial: Trial) -> None:
    trial.readings["energy"] = trial.readings["energy"].replace("timestamp", "when")


def other_input(trial: Trial) -> None:
    trial.readings = {"gas": trial.readings["energy"]}


def cyclic_areas(trial: Trial) -> None:
    trial.areas = "area,parent,level\nK1,K2,commune\nK2,K1,commune\n"


def unknown_parent(trial: Trial) -> None:
    trial.areas = AREAS + "K4,E9,commune\n"


def bad_consent(trial: Trial) -> None:
    trial.consent = consents((POINT, "planning", "yesterday", "", ""))


def two_holdings(trial: Trial) -> None:
    trial.run()
    trial.sites = (trial.folder / "sites.csv").read_text().replace("holding-a", "holding-z", 1)


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (broken_policy, ["policy.yaml", "disclosures", "unknown_field"]),
        (unknown_rule, ["policy.yaml", "min_contributers", "min_contributors"]),
        (empty_readings, ["energy.csv", "empty_file"]),
        (empty_sites, ["sites.csv", "empty_file"]),
        (no_column, ["energy.csv", "timestamp"]),
        (other_input, ["gas", "energy"]),
        (cyclic_areas, ["K1"]),
        (unknown_parent, ["E9"]),
        (bad_consent, ["consent.csv", "line 2", "granted_from"]),
        (two_holdings, ["energy-a", "holding-z"]),
    ],
)
def test_a_file_that_is_wrong_stops_the_run_with_its_name(
    spoil: Any, named: list[str], trial: Trial, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(trial)
    capsys.readouterr()
    assert trial.run() == 2
    told = capsys.readouterr().err
    assert told.startswith("broker: ")
    assert len(told.strip().splitlines()) == 1
    for word in named:
        assert word in told


def test_a_run_that_fails_leaves_no_results_of_the_one_before(trial: Trial) -> None:
    assert trial.run() == 0
    (trial.folder / "out" / "mine.txt").write_text("kept")
    assert {path.name for path in (trial.folder / "out").iterdir()} > {"releases.csv", "summary.json"}
    empty_readings(trial)
    assert trial.run() == 2
    assert [path.name for path in (trial.folder / "out").iterdir()] == ["mine.txt"]


def test_a_missing_file_is_bad_input() -> None:
    missing = [
        *("dry-run", "nowhere.yaml"),
        "--readings",
        "energy=x",
        "--sites",
        "x",
        "--areas",
        "x",
        "--out",
        "x",
    ]
    assert cli.run(missing) == 2


@pytest.mark.parametrize(
    "rule", ["min_contributors", "min_holdings", "p_percent", "dominance", "without_each_holding"]
)
@pytest.mark.parametrize("empty", [True, False])
def test_a_missing_or_empty_rule_is_refused(
    rule: str, empty: bool, trial: Trial, capsys: pytest.CaptureFixture[str]
) -> None:
    rules: dict[str, Any] = dict(LAX)
    if empty:
        rules[rule] = [] if rule == "dominance" else None
    else:
        del rules[rule]
    trial.policy["disclosure"] = rules
    assert trial.run() == 3
    told = capsys.readouterr().err
    assert rule in told
    assert "[empty_rule]" in told
    assert not (trial.folder / "out" / "releases.csv").exists()


@pytest.mark.parametrize("rule", ["rounding", "insider_margin", "zero_is_sensitive", "waivers"])
def test_any_rule_left_empty_is_refused_and_leaves_no_release(rule: str, trial: Trial) -> None:
    assert trial.run() == 0
    trial.policy["disclosure"] = LAX | {rule: None}
    assert trial.run() == 3
    assert not any((trial.folder / "out").iterdir())
    del trial.policy["disclosure"][rule]
    assert trial.run() == 0


@pytest.mark.parametrize(
    ("stated", "told"), [({}, True), ({"min_attestations": 1}, True), ({"min_attestations": 0}, False)]
)
def test_a_rule_that_is_not_enforced_yet_is_named(
    stated: dict[str, int], told: bool, trial: Trial, capsys: pytest.CaptureFixture[str]
) -> None:
    trial.policy["disclosure"] = LAX | stated
    assert trial.run() == 0
    assert ("not enforced yet" in capsys.readouterr().err) == told


def test_without_readings_of_a_partner_nothing_is_released_and_it_is_named(
    trial: Trial, capsys: pytest.CaptureFixture[str]
) -> None:
    trial.put("energy", [row for row in plain(trial) if row[0] != "energy-b"])
    assert trial.run() == 0
    assert trial.rows("releases") == []
    told = capsys.readouterr().err
    assert "energy-b" in told
    assert "energy-a" not in told
    trial.policy["window"]["on_stall"] = "release_without"
    assert trial.run() == 0
    assert trial.truth("homes")["2024-01-01", "K1"] == "4"


def test_a_file_with_a_header_only_has_no_readings(trial: Trial, capsys: pytest.CaptureFixture[str]) -> None:
    trial.put("energy", [])
    assert trial.run() == 0
    assert trial.rows("releases") == []
    assert trial.summary["read"] == 0
    assert "energy-b" in capsys.readouterr().err


def test_no_result_takes_the_place_of_a_file_that_it_is_made_from(
    trial: Trial, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever tries a policy on figures that an earlier run left would have lost them before they were read."""
    given = trial.folder / "out" / "releases.csv"
    given.parent.mkdir()
    given.write_text(consents(), encoding="utf-8")
    assert trial.run("--consent", str(given)) == 2
    said = capsys.readouterr().err
    assert "[overwrites_input]" in said and str(given) in said
    assert given.read_text(encoding="utf-8") == consents()
