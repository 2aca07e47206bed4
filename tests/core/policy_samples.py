"""A complete policy in text form, and ways to change it, for the tests of what reads policies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import yaml

from broker.core.policy import Policy, load

TEXT = """\
product: vacancy-monthly
version: 1
domain: housing
title: {fr: "Logements probablement vacants", en: "Homes probably vacant"}
meaning: {fr: "Nombre de logements sans usage notable.", en: "Number of homes without notable use."}
controllers: [energy-a, energy-b, water-n]
processor: broker
dpia: "sha256:0000000000000000000000000000000000000000000000000000000000000000"
purpose: housing-vacancy
lawful_basis: {kind: public_task, reference: "CGCT L2224-37-1"}
references:
  cold-days:
    file: cold-days.csv
    sha256: "sha256:1111111111111111111111111111111111111111111111111111111111111111"
    title: {fr: "Jours froids", en: "Cold days"}
inputs:
  energy:
    {measure: electricity, unit: Wh, kind: interval, partners: [energy-a, energy-b],
     qualities: [measured, estimated], days: cold-days}
  water: {measure: water, unit: mL, kind: register, partners: [water-n], qualities: [measured], max_gap: P2D}
join: premises
window: {length: P1M, base: P1D, timezone: Europe/Paris, lateness: P1D, on_stall: hold, max_hold: P10D}
watermark: marks
coverage: 0.9
areas: {hierarchy: iris-2026, levels: [iris, commune, epci], group: epci}
dimensions: [segment]
measures:
  premises: {kind: count}
  vacant: {kind: count, where: {energy: "sum < 20000", water: "sum < 300000"}}
  vacant_share: {kind: ratio, of: [vacant, premises]}
  energy_kwh: {kind: sum, input: energy, unit: kWh}
  energy_mean: {kind: mean, of: [energy_kwh, premises]}
disclosure:
  min_contributors: 10
  min_holdings: 3
  p_percent: 15
  dominance: [[1, 85]]
  without_each_holding: true
  min_attestations: 2
  zero_is_sensitive: true
  prior_percent: 50
  insider_margin: 5
  rounding: {counts: 5, magnitudes: 3}
  waivers: [{holding: water-holding, column: water, basis: "Decree 2016-973", areas: [commune]}]
  sealed: [p_percent]
recipients: [public]
licence: etalab-2.0
retention: {contributions: until-release, releases: P10Y}
lines:
  disclosure.min_contributors: {fr: "Dix au moins.", en: "Ten at least."}
"""


def put(values: dict[str, Any], path: str, value: Any) -> None:
    """Set a dotted path; `...` as value removes the field."""
    *parents, last = path.split(".")
    at: Any = values
    for step in parents:
        at = at[int(step)] if isinstance(at, list) else at[step]
    if value is ...:
        del at[last]
    else:
        at[last] = value


def changed(*changes: tuple[str, Any]) -> str:
    """The sample's text with fields set (dotted path, value; `...` removes)."""
    values = yaml.safe_load(TEXT)
    values["coverage"] = "0.9"
    for path, value in changes:
        put(values, path, value)
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def sample(*changes: tuple[str, Any]) -> Policy:
    """The sample as a policy, with fields set."""
    return load(changed(*changes), "sample.yaml")


def shuffled(value: Any, shuffle: Callable[[list[Any]], list[Any]]) -> Any:
    """The same value with the keys of every mapping in another order."""
    if isinstance(value, dict):
        return {key: shuffled(value[key], shuffle) for key in shuffle(list(value))}
    if isinstance(value, list):
        return [shuffled(inner, shuffle) for inner in value]
    return value
