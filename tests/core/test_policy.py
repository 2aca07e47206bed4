"""A policy is read strictly, names every fault, and has one digest for one meaning."""

from __future__ import annotations

import json
import math
import tarfile
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import rfc8785
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from policy_samples import TEXT, changed, sample, shuffled
from pydantic import BaseModel

from broker.core import policy_checks, policy_model
from broker.core.errors import BrokerError, InputError
from broker.core.policy import canonical, digest, from_canonical, load, paths, resolve


def failure(*changes: tuple[str, Any]) -> BrokerError:
    with pytest.raises(BrokerError) as caught:
        load(changed(*changes), "p.yaml")
    return caught.value


def test_the_published_example_loads(shared_data: Path) -> None:
    text = (shared_data.parent / "policy-example.yaml").read_text()
    policy = load(text, "policy-example.yaml")
    assert policy.product == "vacancy-monthly"
    assert policy.coverage == Fraction(9, 10)
    assert policy.inputs["water"].max_gap == "P2D"
    assert policy.disclosure.dominance == ((1, 85),)


def test_no_float_is_in_the_resolved_form_and_numbers_keep_their_value() -> None:
    resolved = resolve(sample(("disclosure.p_percent", "12.50"), ("coverage", "1.0")))
    assert resolved["disclosure"]["p_percent"] == "12.5"
    assert resolved["coverage"] == 1
    assert resolved["engine"] == "1"

    def leaves(value: Any) -> list[Any]:
        if isinstance(value, dict):
            return [leaf for inner in value.values() for leaf in leaves(inner)]
        if isinstance(value, list):
            return [leaf for inner in value for leaf in leaves(inner)]
        return [value]

    assert not [leaf for leaf in leaves(resolved) if isinstance(leaf, float)]
    assert "0.9" in leaves(resolve(sample()))


@settings(max_examples=25, deadline=None)
@given(st.randoms(use_true_random=False))
def test_the_digest_does_not_depend_on_the_order_of_keys_or_the_style_of_the_text(random: Any) -> None:
    mixed = shuffled(yaml.safe_load(changed()), lambda keys: random.sample(keys, len(keys)))
    text = yaml.safe_dump(
        mixed, sort_keys=False, allow_unicode=True, default_flow_style=random.choice([True, False])
    )
    assert digest(load(text, "a.yaml")) == digest(load(TEXT, "b.yaml"))


def test_stating_a_default_does_not_change_the_digest() -> None:
    silent = sample(
        ("disclosure.zero_is_sensitive", ...), ("watermark", ...), ("coverage", ...), ("window.on_stall", ...)
    )
    assert digest(silent) == digest(sample())


CHANGES: list[tuple[str, Any]] = [
    ("product", "vacancy-weekly"),
    ("version", 2),
    ("domain", "water"),
    ("title.fr", "Logements vacants"),
    ("title.en", "Homes probably vacant."),
    ("meaning.fr", "Autre."),
    ("meaning.en", "Other."),
    ("processor", "someone"),
    ("dpia", "sha256:" + "2" * 64),
    ("purpose", "other"),
    ("lawful_basis.reference", "CGCT L2224-37-2"),
    ("lawful_basis", {"kind": "consent"}),
    ("references.cold-days.file", "other.csv"),
    ("references.cold-days.sha256", "sha256:" + "2" * 64),
    ("references.cold-days.title.fr", "Jours"),
    ("references.cold-days.title.en", "Days"),
    ("inputs.energy.measure", "gas"),
    ("inputs.energy.kind", "register"),
    ("inputs.energy.qualities", ["measured"]),
    ("inputs.energy.assign", "start"),
    ("inputs.energy.net", True),
    ("inputs.water.max_gap", "P1D"),
    ("window.length", "P1D"),
    ("window.base", "PT1H"),
    ("window.timezone", "Europe/Brussels"),
    ("window.lateness", "P2D"),
    ("window.on_stall", "release_without"),
    ("window.max_hold", "P9D"),
    ("watermark", {"event_time": {"idle_after": "PT6H"}}),
    ("coverage", "0.91"),
    ("areas.hierarchy", "iris-2025"),
    ("areas.levels", ["commune", "epci"]),
    ("dimensions", []),
    ("measures.vacant.where.energy", "sum <= 20000"),
    ("measures.vacant.where.water", "mean < 300000"),
    ("measures.vacant_share.of", ["premises", "vacant"]),
    ("measures.energy_kwh.unit", "MWh"),
    ("measures.energy_mean", ...),
    ("disclosure.min_contributors", 11),
    ("disclosure.min_holdings", 4),
    ("disclosure.p_percent", "15.5"),
    ("disclosure.dominance", [[1, 85], [2, 90]]),
    ("disclosure.without_each_holding", False),
    ("disclosure.min_attestations", 1),
    ("disclosure.zero_is_sensitive", False),
    ("disclosure.prior_percent", 40),
    ("disclosure.insider_margin", 6),
    ("disclosure.rounding.counts", 10),
    ("disclosure.rounding.magnitudes", 2),
    ("disclosure.waivers", []),
    ("disclosure.sealed", []),
    ("recipients", ["city"]),
    ("licence", "odbl"),
    ("retention.releases", "P5Y"),
    ("lines", {}),
    ("lines.disclosure.min_contributors", {"fr": "Dix.", "en": "Ten at least."}),
]


def test_every_changed_line_changes_the_digest() -> None:
    digests = {"": digest(sample())}
    for path, value in CHANGES:
        extra = [("inputs.water.max_gap", "PT2H")] if path == "window.base" else []
        values = yaml.safe_load(changed(*extra))
        if path.startswith("lines."):
            values["lines"]["disclosure.min_contributors"] = value
            text = yaml.safe_dump(values)
        else:
            text = changed(*extra, (path, value))
        found = digest(load(text, "p.yaml"))
        assert found not in digests.values(), path
        digests[path] = found


def test_canonical_bytes_give_the_same_policy_back_and_nothing_else_is_accepted() -> None:
    policy = sample()
    data = canonical(policy)
    assert from_canonical(data, "log") == policy
    spaced = json.dumps(json.loads(data)).encode()
    for other in (spaced, data + b" ", b"[1]", b"{", data.replace(b'"engine":"1"', b'"engine":"0"')):
        with pytest.raises(InputError, match="bad_policy"):
            from_canonical(other, "log")


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("min_contributers", "the fields there are"),
        ("disclosure.min_contributers", "did you mean `min_contributors`"),
        ("inputs.water.max_gaps", "did you mean `max_gap`"),
        ("measures.energy_kwh.units", "did you mean `unit`"),
        ("window.lenght", "did you mean `length`"),
        ("title.frr", "did you mean `fr`"),
        ("references.cold-days.sha265", "did you mean `sha256`"),
    ],
)
def test_an_unknown_field_is_named_with_the_nearest_known_one(path: str, hint: str) -> None:
    error = failure((path, 10))
    assert isinstance(error, InputError)
    assert error.reason == "unknown_field"
    assert error.where == "p.yaml"
    assert f"`{path}`" in error.what
    assert hint in error.what


def test_all_faults_are_in_one_message() -> None:
    error = failure(
        ("version", "one"), ("join", "houses"), ("window.lenght", "P1D"), ("disclosure.p_percent", ...)
    )
    for path in ("`version`", "`join`", "`window.lenght`", "`disclosure.p_percent`"):
        assert path in error.what
    assert "pydantic" not in error.what


def test_a_list_with_one_wrong_entry_is_not_called_empty() -> None:
    error = failure(("recipients", ["no spaces please"]))
    assert "`recipients.0`" in error.what
    assert "empty" not in error.what


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ([("product", "Vacancy")], "`product`"),
        ([("version", True)], "`version`"),
        ([("version", 0)], "`version`"),
        ([("window.timezone", "Europe/Rennes")], "`window.timezone`"),
        ([("window.timezone", "../../etc/passwd")], "`window.timezone`"),
        ([("window.length", "PT1H"), ("inputs.water.max_gap", "P1D")], "shorter than its base"),
        ([("window.lateness", "P1M")], "not a fixed span"),
        ([("watermark", "clock")], "`watermark`"),
        ([("watermark", {"event_time": {"idle_after": "PT0S"}})], "idle_after"),
        ([("coverage", "1.2")], "`coverage`"),
        ([("coverage", "0")], "`coverage`"),
        ([("areas.group", "commune")], "group must be the last"),
        ([("areas.levels", ["iris", "iris", "epci"])], "occurs twice"),
        ([("dimensions", ["income"])], "`dimensions.0`"),
        ([("controllers", ["energy-a", "water-n"])], "add energy-b"),
        ([("measures.vacant.where.gas", "sum < 1")], "names gas"),
        ([("measures.vacant.where.energy", "__import__('os')")], "`measures.vacant.where.energy`"),
        ([("measures.vacant_share.of", ["vacant", "homes"])], "names homes"),
        ([("measures.vacant_share.of", ["vacant", "energy_mean"])], "names energy_mean"),
        ([("measures.vacant_share.of", ["vacant", "vacant"])], "same measure twice"),
        ([("measures.energy_mean.of", ["premises", "energy_kwh"])], "[a sum, a count]"),
        ([("measures.energy_kwh.input", ...)], "`measures.energy_kwh.input` is missing"),
        ([("measures.energy_kwh.unit", "m3")], "does not convert"),
        ([("measures.energy_kwh.kind", "median")], "`measures.energy_kwh`"),
        ([("measures.energy_kwh.kind", ...)], "needs `kind`"),
        ([("measures", {})], "`measures`"),
        ([("join", "none")], "needs `join: premises`"),
        ([("inputs.energy.max_gap", "P1D")], "kind: register only"),
        ([("inputs.water.assign", "start")], "kind: interval only"),
        ([("inputs.water.max_gap", "P3D")], "at most two base windows"),
        ([("inputs.water.unit", "gal")], "`inputs.water.unit`"),
        ([("inputs.water.unit", "kWh")], "water is counted in one of mL, L, m3"),
        ([("inputs.energy.unit", "m3")], "electricity is counted in one of Wh, kWh, MWh, GWh"),
        ([("inputs.water.measure", "wter")], "one of electricity, gas, heat, water"),
        ([("inputs.water.qualities", ["measured", "bogus"])], "names bogus: write some of unknown, measured"),
        ([("inputs.energy.days", "warm-days")], "not in `references`"),
        ([("inputs.energy.days", ...)], "used by no input"),
        ([("inputs.water.net", "no")], "true or false"),
        ([("lawful_basis", {"kind": "consent", "reference": "x"})], "never a mixture"),
        ([("lawful_basis", {"kind": "public_task"})], "never a mixture"),
        ([("disclosure.waivers.0", [])], "`disclosure.waivers.0`"),
        ([("disclosure.sealed", ["holdings"])], "sealed names holdings"),
        ([("disclosure.dominance", [[1, 101]])], "`disclosure.dominance.0.1`"),
        ([("disclosure.dominance", [[1]])], "`disclosure.dominance.0.1`"),
        ([("recipients", ["public", "public"])], "occurs twice"),
        ([("measures.energy_kwh.kind", "median")], "not `median`"),
    ],
)
def test_a_contradiction_or_malformed_field_is_named(changes: list[tuple[str, Any]], said: str) -> None:
    if changes == [("disclosure.waivers.0", [])]:
        changes = [("disclosure.waivers", [[]])]
    error = failure(*changes)
    assert error.reason == "bad_policy"
    assert isinstance(error, InputError)
    assert said in error.what, error.what


@pytest.mark.parametrize(("column", "areas"), [("gas", ["commune"]), ("water", ["quarter"])])
def test_a_waiver_names_an_input_and_levels_of_the_policy(column: str, areas: list[str]) -> None:
    waiver = {"holding": "w", "column": column, "basis": "Law", "areas": areas}
    assert "disclosure.waivers.0" in failure(("disclosure.waivers", [waiver])).what


def test_a_controller_need_not_contribute() -> None:
    more = sample(("controllers", ["city", "energy-a", "energy-b", "water-n"]))
    assert "city" in more.controllers


def test_names_are_those_that_people_put_into_their_files() -> None:
    policy = sample(
        ("controllers", ["Energy_A.1", "energy-b", "water-n"]),
        ("inputs.energy.partners", ["Energy_A.1", "energy-b"]),
        ("inputs.Water_1", yaml.safe_load(changed())["inputs"]["water"]),
        ("purpose", "Housing vacancy (2026)"),
        ("measures.kWh", {"kind": "sum", "input": "energy", "unit": "kWh", "where": {"Water_1": "sum > 0"}}),
        ("disclosure.waivers.0.holding", "Water N & fils"),
        ("disclosure.waivers.0.column", "Water_1"),
        ("areas.levels", ["IRIS", "commune", "epci"]),
    )
    assert policy.inputs["energy"].partners == ("Energy_A.1", "energy-b")
    assert policy.disclosure.waivers[0].holding == "Water N & fils"
    assert from_canonical(canonical(policy), "log") == policy
    for path, value in (
        ("product", "a_b"),
        ("purpose", " x"),
        ("inputs.energy.partners", ["a/b"]),
        ("purpose", "a\nb"),
    ):
        assert f"`{path}" in failure((path, value)).what


def test_the_release_group_may_lie_above_the_published_levels() -> None:
    assert sample(("areas.levels", ["iris", "commune"])).areas.group == "epci"
    waiver = {"holding": "w", "column": "water", "basis": "Law", "areas": ["epci"]}
    sample(("areas.levels", ["iris", "commune"]), ("disclosure.waivers", [waiver]))


def test_a_list_that_a_writer_named_once_and_used_twice_is_the_list() -> None:
    values = yaml.safe_load(changed())
    values["inputs"] = {"energy": {**values["inputs"]["energy"], "partners": values["controllers"]}}
    values |= {"measures": {"n": {"kind": "count"}}, "lines": {}}
    values["disclosure"]["waivers"] = []
    text = yaml.safe_dump(values)
    assert "*id001" in text
    assert load(text, "p").inputs["energy"].partners == ("energy-a", "energy-b", "water-n")
    assert digest(load(text, "p")) == digest(load(json.dumps(values), "p"))


def test_a_line_explains_a_field_that_exists() -> None:
    text = TEXT.replace("disclosure.min_contributors: {fr", "disclosure.min_contributor: {fr")
    with pytest.raises(InputError, match=r"did you mean `disclosure\.min_contributors`"):
        load(text, "p.yaml")
    assert {"inputs.energy.partners", "measures.vacant.where.water", "window"} <= paths(sample())


def test_coverage_and_gap_have_defaults_of_their_window() -> None:
    assert sample(("coverage", ...)).coverage == Fraction(9, 10)
    assert sample(("coverage", ...), ("window.length", "P1D")).coverage == 1
    assert sample(("inputs.water.max_gap", ...)).inputs["water"].max_gap == "P1D"


def test_without_a_join_a_measure_stays_within_one_input() -> None:
    alone = {
        "homes": {"kind": "count"},
        "dry": {"kind": "count", "where": {"water": "sum < 1000"}},
        "m3": {"kind": "sum", "input": "water", "unit": "m3", "where": {"water": "max > 0"}},
    }
    policy = sample(("join", "none"), ("measures", alone))
    assert policy.measures["dry"].model_dump()["input"] == "water"
    assert policy.measures["homes"].model_dump()["input"] is None
    alone["m3"]["where"] = {"energy": "sum > 0"}
    assert "needs `join: premises`" in failure(("join", "none"), ("measures", alone)).what


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("product: a\nproduct: b\n", "occurs twice"),
        ("disclosure: {p_percent: 1, p_percent: 100}\n", "occurs twice"),
        ("a: &x\n  <<: {b: 1}\n", "merge keys"),
        ("a: &x b\n*x : 1\n", "as a key"),
        ("a: 1\n&x b: 1\n", "as a key"),
        ("&x a: *x\n", "as a key"),
        ("a: &x [1, *x]\n", "inside its own anchor"),
        ("&x\na: {b: *x}\n", "inside its own anchor"),
        ("a: *x\n", "undefined alias"),
        (
            "a: &a [1, 1]\n"
            + "".join(f"{b}: &{b} [*{a}, *{a}]\n" for a, b in pairwise("abcdefghijklmnopqrst")),
            "more than 100000 values",
        ),
        ("a: !!python/object:os.system {}\n", "tags"),
        ("a: !!int '3'\n", "tags"),
        ("- 1\n", "one mapping"),
        ("", "one mapping"),
        ("a: [1\n", "not valid YAML"),
        ("a: 1\n---\nb: 2\n", "not valid YAML"),
        ("[1]: 2\n", "one word"),
        ('a: "\\ud800"\n', "not a Unicode character"),
        ("a: " + "[" * 5000, "nested too deeply"),
        ("a: \x01\n", "not valid YAML"),
    ],
)
def test_yaml_that_means_two_things_is_refused_with_its_place(text: str, said: str) -> None:
    with pytest.raises(InputError, match="bad_yaml") as caught:
        load(text, "p.yaml")
    assert said in str(caught.value)
    assert caught.value.where.startswith("p.yaml")


def test_words_that_yaml_1_1_takes_for_something_else_stay_text() -> None:
    policy = load(
        TEXT.replace('en: "Homes probably vacant"', "en: no").replace("processor: broker", "processor: 0.10"),
        "p",
    )
    assert policy.title.en == "no"
    assert policy.processor == "0.10"


def test_the_table_of_suggestions_knows_every_mapping_of_the_file() -> None:
    models = {
        value
        for value in vars(policy_model).values()
        if isinstance(value, type) and issubclass(value, BaseModel) and not value.__name__.startswith("_")
    } - {BaseModel}
    assert models == set(policy_checks._MODELS.values())


def test_the_canonical_form_is_rfc_8785(shared_data: Path) -> None:
    with tarfile.open(shared_data / "vectors/jcs_rfc8785/testdata.tar.gz") as archive:

        def read(name: str) -> bytes:
            member = archive.extractfile(f"testdata/{name}")
            assert member is not None
            return member.read()

        for name in ("arrays", "french", "structures", "unicode", "values", "weird"):
            found = rfc8785.dumps(json.loads(read(f"input/{name}.json")))
            assert found == bytes.fromhex(read(f"outhex/{name}.txt").decode()), name
    with pytest.raises(rfc8785.CanonicalizationError):
        rfc8785.dumps(math.nan)
