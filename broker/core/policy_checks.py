"""What can be wrong with a policy, in words: the validator's findings, and contradictions between fields.

Invariants
- One error lists every offending field: dotted path, what is wrong, what to write.
- Of several kinds of fault the reader's own comes first: an unknown or malformed field is InputError; only a
  policy that is well written and lacks a rule or a legal ground is Refused (`empty_rule`): no rule, no
  release.
- Nothing loose is assumed. A rule that is written down but empty (null, "", [], {}) is refused, whichever it is;
  `waivers: []` and `sealed: []` say "none" and are none. What may be left out takes its safe value, which the
  resolved policy states (see `policy_model.Disclosure`).
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import Any, Final

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from broker.core import policy_model as model
from broker.core.calendar import duration_ms
from broker.core.contract import QUALITIES, UNITS
from broker.core.errors import BrokerError, InputError, Refused
from broker.core.policy_fields import unit_divisor, units_of
from broker.core.policy_model import Count, Input, Mean, Policy, Ratio, Sum

# How to say on purpose that a rule is off, or what a missing ground looks like.
RULES: Final = {
    "disclosure": "state min_contributors, min_holdings, p_percent, dominance and without_each_holding",
    "disclosure.min_contributors": "1 switches it off on purpose",
    "disclosure.min_holdings": "1 switches it off on purpose",
    "disclosure.p_percent": "0 switches it off on purpose",
    "disclosure.dominance": "[[1, 100]] switches it off on purpose",
    "disclosure.without_each_holding": "false switches it off on purpose",
    "disclosure.min_attestations": "0 switches it off on purpose; left out it is 2",
    "disclosure.zero_is_sensitive": "false switches it off on purpose; left out it is true",
    "disclosure.prior_percent": "left out it is 50",
    "disclosure.insider_margin": "0 switches it off on purpose; left out it is 5",
    "disclosure.rounding": "leave it out for exact figures",
    "disclosure.rounding.counts": "leave it out for exact counts",
    "disclosure.rounding.magnitudes": "leave it out for exact sums",
    "disclosure.waivers": "[] is for none",
    "disclosure.sealed": "[] is for none",
    "coverage": "write for example 0.9; left out it is 1, or 0.9 for a month",
    "controllers": "name the partners who decide on purposes and means, GDPR art. 4(7)",
    "processor": "name who runs the broker, GDPR art. 28",
    "dpia": "write sha256: and the digest of the impact assessment, GDPR art. 35",
    "purpose": "name the purpose, GDPR art. 5(1)(b)",
    "lawful_basis": "write {kind: public_task, reference: <text of law>} or {kind: consent}, GDPR art. 6",
    "lawful_basis.kind": "public_task or consent, GDPR art. 6",
    "recipients": "name who may read, or [public]",
    "retention": "write {contributions: until-release, releases: P10Y}, GDPR art. 5(1)(e)",
    "retention.contributions": "write until-release, GDPR art. 5(1)(e)",
    "retention.releases": "write for example P10Y, GDPR art. 5(1)(e)",
}
_EMPTY: Final[tuple[Any, ...]] = (None, "", [], {})
_NONE_MEANT: Final = ("disclosure.waivers", "disclosure.sealed")

_MODELS: Final[dict[str, type[BaseModel]]] = {
    "": Policy,
    "title": model.Text,
    "meaning": model.Text,
    "lawful_basis": model.LawfulBasis,
    "references.*": model.Reference,
    "references.*.title": model.Text,
    "inputs.*": model.Input,
    "window": model.WindowRule,
    "watermark": model.Watermark,
    "watermark.event_time": model.EventTime,
    "areas": model.AreaRule,
    "measures.*.count": model.Count,
    "measures.*.sum": model.Sum,
    "measures.*.mean": model.Mean,
    "measures.*.ratio": model.Ratio,
    "disclosure": model.Disclosure,
    "disclosure.rounding": model.Rounding,
    "disclosure.waivers.*": model.Waiver,
    "retention": model.Retention,
    "lines.*": model.Text,
}
_KINDS: Final = ("count", "sum", "mean", "ratio")

_WORDS: Final = {
    "missing": "is missing",
    "none_required": "must be empty",
    "string_type": "must be text",
    "int_type": "must be a whole number",
    "bool_type": "must be true or false",
    "dict_type": "must be a mapping {name: …}",
    "model_type": "must be a mapping {field: …}",
    "model_attributes_type": "must be a mapping {field: …}",
    "tuple_type": "must be a list [ … ]",
    "union_tag_not_found": "needs `kind`: count, sum, mean or ratio",
}


def empty_rules(values: dict[str, Any]) -> list[str]:
    """Rules that the file states but leaves empty: dotted paths, in the order of `RULES`."""
    return [path for path in RULES if _stated_empty(values, path.split(".")) and path not in _NONE_MEANT]


def _stated_empty(values: Any, steps: list[str]) -> bool:
    for step in steps:
        if not isinstance(values, dict) or step not in values:
            return False
        values = values[step]
    return _is_empty(values)


def refused_as_empty(paths: list[str], name: str) -> Refused:
    """The refusal of a policy that is well formed but for these empty rules."""
    what = "; ".join(f"`{path}` is empty ({RULES[path]})" for path in paths)
    return Refused("empty_rule", f"{what}. An empty or missing rule means no release", where=name)


def refusal(error: ValidationError, empty_paths: list[str], name: str) -> BrokerError:
    """The one error for all findings of the validator and all empty rules; `name` is the policy's file name."""
    findings = _own(error.errors(include_url=False))
    empty = [finding for finding in findings if _is_empty_rule(finding)]
    unknown = [finding for finding in findings if finding["type"] == "extra_forbidden"]
    found = [_path(finding) for finding in findings]
    others = [
        f"`{p}` is empty ({RULES[p]})"
        for p in empty_paths
        if not any(f"{at}.".startswith(f"{p}.") for at in found)
    ]
    what = "; ".join([*(_sentence(finding) for finding in findings), *others])
    if unknown:
        return InputError("unknown_field", what, where=name)
    if len(empty) < len(findings):
        return InputError("bad_policy", what, where=name)
    return Refused("empty_rule", f"{what}. An empty or missing rule means no release", where=name)


def _own(findings: list[ErrorDetails]) -> list[ErrorDetails]:
    """Without those lists that count as too short only because an entry of theirs is a finding itself."""
    places = [finding["loc"] for finding in findings]
    return [
        finding
        for finding, at in zip(findings, places, strict=True)
        if finding["type"] != "too_short" or not any(p != at and p[: len(at)] == at for p in places)
    ]


def _is_empty_rule(finding: ErrorDetails) -> bool:
    path = _path(finding)
    if path.startswith("disclosure.dominance."):  # [[]], [null]
        return _is_empty(finding["input"])
    ruled = path in RULES or (path.startswith("disclosure.waivers.") and path.endswith(".basis"))
    return ruled and (finding["type"] == "missing" or _is_empty(finding["input"]))


def _is_empty(value: Any) -> bool:
    return any(value is empty or (type(value) is type(empty) and value == empty) for empty in _EMPTY)


def _steps(finding: ErrorDetails) -> list[str]:
    steps = [str(step) for step in finding["loc"]]
    # The validator names the chosen kind of a measure between the measure's name and its field.
    if len(steps) > 3 and steps[0] == "measures" and steps[2] in _KINDS:
        del steps[2]
    return [step for step in steps if step != "[key]"]


def _path(finding: ErrorDetails) -> str:
    return ".".join(_steps(finding))


def _sentence(finding: ErrorDetails) -> str:
    path = _path(finding)
    if finding["type"] == "extra_forbidden":
        return f"`{path}` is not a field of a policy{_suggestion(finding)}"
    if _is_empty_rule(finding):
        said = "is missing" if finding["type"] == "missing" else "is empty"
        rule = "disclosure.dominance" if path.startswith("disclosure.dominance.") else path
        return f"`{path}` {said} ({RULES.get(rule, 'name the text of law')})"
    return f"`{path or 'policy'}` {_complaint(finding)}"


def _complaint(finding: ErrorDetails) -> str:
    kind, context = finding["type"], finding.get("ctx", {})
    if kind in _WORDS:
        return _WORDS[kind]
    if kind == "value_error":
        return f"is wrong: {context['error']}"
    if kind in ("literal_error", "union_tag_invalid"):
        allowed = context.get("expected") or context.get("expected_tags")
        return f"must be {allowed}, not {_shown(context.get('tag', finding['input']))}"
    if kind == "string_pattern_mismatch":
        return f"is {_shown(finding['input'])}, which is not of the form {context['pattern']}"
    if kind in ("too_short", "too_long"):
        return "must not be empty" if context.get("actual_length") == 0 else "has the wrong number of entries"
    return f"is {_shown(finding['input'])}: {finding['msg'].lower()}"


def _shown(value: Any) -> str:
    return f"`{value!s:.60}`" if isinstance(value, str | int) else "a list or mapping"


def _suggestion(finding: ErrorDetails) -> str:
    *parent, field = [str(step) for step in finding["loc"]]
    fields = next((list(m.model_fields) for pattern, m in _MODELS.items() if _matches(pattern, parent)), [])
    near = get_close_matches(field, fields, n=1, cutoff=0.6)
    if near:
        return f": did you mean `{near[0]}`?"
    return f": the fields there are {', '.join(fields)}" if fields else ""


def _matches(pattern: str, steps: list[str]) -> bool:
    parts = pattern.split(".") if pattern else []
    return len(parts) == len(steps) and all(a in ("*", b) for a, b in zip(parts, steps, strict=True))


def contradictions(policy: Policy) -> list[str]:
    """Every contradiction between fields of a policy whose fields are each well formed; empty where there is
    none.
    """
    return [
        *_about_partners(policy),
        *_about_inputs(policy),
        *_about_window(policy),
        *_about_measures(policy),
        *_about_waivers(policy),
        *_about_lines(policy),
    ]


def _about_partners(policy: Policy) -> list[str]:
    contributing = {partner for spec in policy.inputs.values() for partner in spec.partners}
    lacking = sorted(contributing - set(policy.controllers))
    return (
        [f"`controllers` must hold the partners of all inputs: add {', '.join(lacking)}"] if lacking else []
    )


def _about_inputs(policy: Policy) -> list[str]:
    problems = []
    base = 2 * duration_ms(policy.window.base)
    for name, spec in policy.inputs.items():
        at = f"inputs.{name}"
        problems += _about_contract(at, spec)
        if spec.kind == "interval" and spec.max_gap is not None:
            problems.append(f"`{at}.max_gap` is for kind: register only: remove it")
        if spec.kind == "register" and spec.assign is not None:
            problems.append(f"`{at}.assign` is for kind: interval only: remove it")
        if spec.max_gap is not None and not 0 < duration_ms(spec.max_gap) <= base:
            problems.append(
                f"`{at}.max_gap` must be longer than nothing and at most two base windows "
                f"({policy.window.base})"
            )
        if spec.days is not None and spec.days not in policy.references:
            problems.append(f"`{at}.days` names `{spec.days}`, which is not in `references`")
    used = {spec.days for spec in policy.inputs.values()}
    problems += [
        f"`references.{name}` is used by no input: remove it"
        for name in policy.references
        if name not in used
    ]
    return problems


def _about_contract(at: str, spec: Input) -> list[str]:
    """What readings cannot be of: a measure, a unit of it or a quality that no stream has."""
    problems = []
    if spec.measure not in UNITS:
        problems.append(f"`{at}.measure` is `{spec.measure}`: write one of {', '.join(UNITS)}")
    elif spec.smallest != UNITS[spec.measure]:
        units = ", ".join(units_of(UNITS[spec.measure]))
        problems.append(f"`{at}.unit` is {spec.unit}, but {spec.measure} is counted in one of {units}")
    strange = [quality for quality in spec.qualities if quality not in QUALITIES]
    if strange:
        problems.append(f"`{at}.qualities` names {', '.join(strange)}: write some of {', '.join(QUALITIES)}")
    return problems


def _about_window(policy: Policy) -> list[str]:
    lateness = duration_ms(policy.window.lateness)
    if policy.watermark.event_time is not None and duration_ms(policy.watermark.event_time.idle_after) == 0:
        return ["`watermark.event_time.idle_after` must be longer than nothing, for example PT6H"]
    if policy.window.on_stall == "release_without" and duration_ms(policy.window.max_hold) < lateness:
        return ["`window.max_hold` is shorter than `window.lateness`: nothing could ever be waited for"]
    return []


def _about_measures(policy: Policy) -> list[str]:
    problems: list[str] = []
    for name, measure in policy.measures.items():
        if isinstance(measure, Mean | Ratio):
            problems += _about_quotient(policy, f"measures.{name}", measure)
        else:
            problems += _about_figure(policy, f"measures.{name}", measure)
    return problems


def _about_quotient(policy: Policy, at: str, measure: Mean | Ratio) -> list[str]:
    known = {name: m.kind for name, m in policy.measures.items() if isinstance(m, Count | Sum)}
    lost = [name for name in measure.of if name not in known]
    if lost:
        return [f"`{at}.of` names {', '.join(lost)}: write measures of this policy of kind count or sum"]
    kinds = [known[name] for name in measure.of]
    if measure.kind == "mean" and kinds != ["sum", "count"]:
        return [f"`{at}.of` must be [a sum, a count] for a mean, not [{', '.join(kinds)}]"]
    if measure.of[0] == measure.of[1]:
        return [f"`{at}.of` names the same measure twice"]
    return []


def _about_figure(policy: Policy, at: str, measure: Count | Sum) -> list[str]:
    inputs = ", ".join(policy.inputs)
    lost = sorted((set(measure.where) | ({measure.input} if measure.input else set())) - set(policy.inputs))
    if lost:
        return [f"`{at}` names {', '.join(lost)}, which is no input: the inputs are {inputs}"]
    problems = []
    if isinstance(measure, Sum):
        if measure.input is None:
            return [f"`{at}.input` is missing: a sum names one of {inputs}"]
        unit = policy.inputs[measure.input].smallest
        try:
            unit_divisor(unit, measure.unit)
        except InputError as error:
            problems.append(f"`{at}.unit` is wrong: {error.what}")
    if policy.join == "none" and set(measure.where) - {measure.input}:
        problems.append(
            f"`{at}.where` needs `join: premises`, because with `join: none` each input is aggregated alone; "
            "or write one condition, on the measure's own `input`"
        )
    return problems


def _about_waivers(policy: Policy) -> list[str]:
    problems = []
    levels = dict.fromkeys((*policy.areas.levels, policy.areas.group))
    for index, waiver in enumerate(policy.disclosure.waivers):
        at = f"disclosure.waivers.{index}"
        if waiver.column not in policy.inputs:
            problems.append(f"`{at}.column` is `{waiver.column}`: write an input, {', '.join(policy.inputs)}")
        # Area codes are looked up when the territory is known; a word in small letters can only be a level.
        words = [area for area in waiver.areas if not re.search("[0-9A-Z]", area)]
        lost = [level for level in words if level not in levels]
        if lost:
            problems.append(
                f"`{at}.areas` names {', '.join(lost)}: write levels, {', '.join(levels)}, or codes "
                "of areas, which hold a digit or a capital"
            )
    return problems


def _about_lines(policy: Policy) -> list[str]:
    if not policy.lines:
        return []
    known = paths(policy)
    problems = []
    for path in policy.lines:
        if path not in known:
            near = get_close_matches(path, known, n=1)
            hint = f": did you mean `{near[0]}`?" if near else ""
            problems.append(f"`lines` explains `{path}`, which is no field of this policy{hint}")
    return problems


def paths(policy: Policy) -> frozenset[str]:
    """Dotted path of every field that `lines` may explain: mappings and their fields; a list is one field."""
    found: set[str] = set()

    def walk(prefix: str, value: Any) -> None:
        found.add(prefix)
        if isinstance(value, dict):
            for key, inner in value.items():
                walk(f"{prefix}.{key}", inner)

    for field, value in policy.model_dump(mode="json", exclude={"lines"}).items():
        walk(field, value)
    return frozenset(found)
