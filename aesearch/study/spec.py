"""Spec of a study: all that must stay the same while the study continues.

The ledger keeps it, and each call of ``run`` compares the study file with it. It has the metrics, the bounds, the
conditions, the early stopping, the space, all fields of 64 sampled configurations, the study file's own code in them,
and those constants of the protocols that decide the measured metrics. The amount of training is no part of it:
``n_trials``, and the replicas that ``Adaptive`` adds after the search.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from aesearch.errors import UserError
from aesearch.protocols import Protocol, estimator
from aesearch.scores import CodeScore, Disentanglement
from aesearch.study.first_spec import first_changes, first_rule
from aesearch.study.own_code import changed_line, own_code
from aesearch.study.study import Study
from aesearch.train.description import (
    ABSENT,
    FORMAT,
    Change,
    Description,
    Node,
    changes,
    describe,
    field_changes,
    migrated,
    text,
)

FIXED = "a fixed number"


def describe_study(study: Study) -> dict[str, Any]:
    """Describe all that must stay the same while a study continues, as plain JSON."""
    return {
        "format": FORMAT,
        "class": "Study",
        **_asked(study),
        "early_stopping": describe(study.early_stopping),
        "replicas": describe(study.adaptive),
        "space": {name: str(distribution) for name, distribution in study.distributions.items()},
        "protocols": {
            name: _describe_protocol(protocol, metrics) for name, (protocol, metrics) in _measured(study).items()
        },
        "estimators": _estimators(study),
        "code": _code(study),
        "configurations": [describe(config) for _, config in study.probes],
    }


def check_spec(study: Study, known: Mapping[str, Any] | None) -> dict[str, Any]:
    """Compare a study with the spec in its ledger, and return the spec to keep.

    known: the spec in the ledger; None for a new study.

    Returns the spec in today's format. Raises UserError where they differ, with each difference by name, or where a
    newer release wrote the spec.
    """
    written = known.get("format", 1) if known else FORMAT
    if written > FORMAT:
        raise UserError(
            f"the study {study.name} was continued by a newer release of aesearch, whose format is {written}, but this "
            f"one knows formats up to {FORMAT}; install the newer one, or start over with --fresh"
        )
    if known:
        found = list(dict.fromkeys(_first_changes(study, known) if written == 1 else _changes(study, known)))
        if found:
            raise UserError(
                f"the study {study.name} has changed since it began: {'; '.join(map(str, found))}; undo the change, "
                "start a new study from it with --fork NAME, or start over with --fresh, which moves the old one aside"
            )
    return describe_study(study)


def _code(study: Study) -> dict[str, str]:
    """Find the study file's own code that its configurations train with."""
    return own_code(study.source()["file_text"], study.module.__name__, tuple(config for _, config in study.probes))


def _asked(study: Study) -> dict[str, str]:
    bounds = [f"{one.name} {one.kind} {float(one.bound)!r}".removesuffix(".0") for one in study.constraints]
    return {
        "metrics": ", ".join(f"{metric.direction} {metric.name}" for metric in study.searched),
        "constraints": ", ".join(bounds) or "none",
        # Without conditions a study has the spec that earlier releases wrote.
        **({"per": ", ".join(study.per)} if study.per else {}),
    }


def _measured(study: Study) -> dict[str, tuple[Protocol, list[str]]]:
    """List the protocols in use by name, each with the metrics measured under it."""
    found: dict[str, tuple[Protocol, list[str]]] = {}
    for _, config in study.probes:
        for score in (*config.monitored, *config.scores):
            if isinstance(score, CodeScore):
                _, metrics = found.setdefault(score.protocol.name, (score.protocol, []))
                own = score.chosen if isinstance(score, Disentanglement) else score.names
                metrics += [metric for metric in own if metric not in metrics]
    return found


def _estimators(study: Study) -> dict[str, str]:
    """List the versions of the scores that have no protocol, by type."""
    scores = (score for _, config in study.probes for score in config.scores)
    return {type(score).__name__: str(score.estimator) for score in scores if not isinstance(score, CodeScore)}


def _estimator_changes(known: Mapping[str, str], study: Study) -> Iterator[Change]:
    """Yield the changes of estimators.

    A release before they were counted had the first of each.
    """
    for name, now in _estimators(study).items():
        if known.get(name, "1") != now:
            yield Change(f"estimators.{name}", known.get(name, "1"), now)


def _describe_protocol(protocol: Protocol, metrics: list[str]) -> Node:
    decisive = dict.fromkeys(name for metric in metrics for name in protocol.decides(metric))
    return {
        "class": "Protocol",
        **{name: describe(getattr(protocol, name)) for name in decisive},
        "estimators": {metric: str(estimator(metric)) for metric in metrics},
    }


def _first_changes(study: Study, known: Mapping[str, str]) -> Iterator[Change]:
    yield from first_changes(study, known)
    yield from _estimator_changes({}, study)
    yield from _rule_changes(first_rule(known), study)


def _changes(study: Study, written: Mapping[str, Any]) -> Iterator[Change]:
    known: Any = migrated({name: part for name, part in written.items() if name != "format"}, written["format"])
    asked = _asked(study)
    for name in dict.fromkeys([*asked, *(["per"] if "per" in known else [])]):
        was, now = known.get(name, ABSENT), asked.get(name, ABSENT)
        if was != now:
            yield Change(name, was, now)
    yield from changes("early_stopping", known["early_stopping"], study.early_stopping)
    yield from _rule_changes(known["replicas"], study)
    space = {name: str(distribution) for name, distribution in study.distributions.items()}
    for name in {**known["space"], **space}:
        if known["space"].get(name) != space.get(name):
            yield Change(f"space.{name}", known["space"].get(name, ABSENT), space.get(name, ABSENT))
    yield from _protocol_changes(known["protocols"], study)
    yield from _estimator_changes(known.get("estimators", {}), study)
    code = _code(study)
    # Specs of earlier releases have no code: it counts from now on. A notebook's cannot be read.
    for name, was in known.get("code", {}).items() if study.path else ():
        if differs := changed_line(was, code.get(name, "")):
            yield Change(f"the code of {name}", *differs)
    yield from _configuration_changes(known["configurations"], study, same_space=known["space"] == space)


def _protocol_changes(known: Mapping[str, Any], study: Study) -> Iterator[Change]:
    """Yield the changes of protocols that touch metrics measured so far.

    New metrics have no values yet, so nothing about them is a change.
    """
    measured = _measured(study)
    for name, node in known.items():
        protocol, metrics = measured.get(name, (None, []))
        for metric, version in node["estimators"].items():
            now = str(estimator(metric)) if metric in metrics else ABSENT
            if now != version:
                yield Change(f"protocols.{name}.estimators.{metric}", version, now)
        if protocol:
            read = {one for metric in node["estimators"] for one in protocol.decides(metric)}
            constants = {one: value for one, value in node.items() if one != "estimators"}
            yield from field_changes(f"protocols.{name}", constants, protocol, read | constants.keys())


def _configuration_changes(known: list[Node], study: Study, same_space: bool) -> Iterator[Change]:
    """Yield the changes of the sampled configurations.

    Where the space has changed too, a sample is another point, so only changes that all samples share are told.
    """
    configs = [config for _, config in study.probes]
    found: dict[str, list[Change]] = {}
    for node, config in zip(known, configs, strict=False):
        for change in changes("config", node, config):
            found.setdefault(change.name, []).append(change)
    count = min(len(known), len(configs))
    for name, each in found.items():
        if len(each) == count and len(set(each)) == 1:
            yield each[0]
        elif same_space:
            first = "" if len(set(each)) == 1 else " in the first"
            yield Change(f"{name} of {len(each)} of {count} sampled configurations", each[0].was, each[0].now + first)


def _rule_changes(known: Description | None, study: Study) -> Iterator[Change]:
    """Yield the change of the rule that adds replicas, if it is one that is refused.

    The search sees only the first replicas, so ``unlikely`` may change and ``most`` may rise. A lower ``most`` is
    refused, as some trials may have more replicas already. A new rule is refused, as it needs the models of trials,
    which a study with a fixed number of replicas has removed. A fixed number is a field of the configurations.
    """
    rule = study.adaptive
    if isinstance(known, dict) and rule and rule.most >= int(str(known["most"])):
        return
    if rule or isinstance(known, dict):
        yield Change("replicas", text(known) if isinstance(known, dict) else FIXED, repr(rule) if rule else FIXED)
