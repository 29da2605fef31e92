"""What must not change while a study goes on: its spec, kept in the ledger, and held against the study file.

Its metrics, bounds, early stopping and space; what 64 configurations of the space are, field by field; and of its
protocols what decides the values of the metrics that are measured. How much is trained is no part of it: n_trials, and
how many replicas ``Adaptive`` adds when the search is done.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from aesearch.errors import UserError
from aesearch.protocols import Protocol, estimator
from aesearch.scores import CodeScore, Disentanglement
from aesearch.study.first_spec import first_changes, first_rule
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
    """Describe what must not change while a study goes on, as plain JSON."""
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
        "configurations": [describe(config) for _, config in study.probes],
    }


def check_spec(study: Study, known: Mapping[str, Any] | None) -> dict[str, Any]:
    """Hold a study against the spec that its ledger has ``known``, None where it has begun just now.

    Returns the spec to be kept from now on, in today's format. Raises UserError with each difference by name, or where
    a newer release wrote it.
    """
    written = known.get("format", 1) if known else FORMAT
    if written > FORMAT:
        raise UserError(
            f"the study {study.name} was gone on with by a newer release of aesearch, whose format is {written}, but "
            f"this one knows {FORMAT} at the most; install the newer one, or start over with --fresh"
        )
    if known:
        found = list(dict.fromkeys(_first_changes(study, known) if written == 1 else _changes(study, known)))
        if found:
            raise UserError(
                f"the space, metrics and budget of a study must not change, but of {study.name} "
                f"{'; '.join(map(str, found))}; "
                "start a new one from it with --fork NAME, or start over with --fresh, which moves the old one aside"
            )
    return describe_study(study)


def _asked(study: Study) -> dict[str, str]:
    bounds = [f"{one.name} {one.kind} {float(one.bound)!r}".removesuffix(".0") for one in study.constraints]
    return {
        "metrics": ", ".join(f"{metric.direction} {metric.name}" for metric in study.searched),
        "constraints": ", ".join(bounds) or "none",
    }


def _measured(study: Study) -> dict[str, tuple[Protocol, list[str]]]:
    """The protocols in use by name, each with the metrics that are measured under it."""
    found: dict[str, tuple[Protocol, list[str]]] = {}
    for _, config in study.probes:
        for score in (*config.monitored, *config.scores):
            if isinstance(score, CodeScore):
                _, metrics = found.setdefault(score.protocol.name, (score.protocol, []))
                own = score.chosen if isinstance(score, Disentanglement) else score.names
                metrics += [metric for metric in own if metric not in metrics]
    return found


def _describe_protocol(protocol: Protocol, metrics: list[str]) -> Node:
    decisive = dict.fromkeys(name for metric in metrics for name in protocol.decides(metric))
    return {
        "class": "Protocol",
        **{name: describe(getattr(protocol, name)) for name in decisive},
        "estimators": {metric: str(estimator(metric)) for metric in metrics},
    }


def _first_changes(study: Study, known: Mapping[str, str]) -> Iterator[Change]:
    yield from first_changes(study, known)
    yield from _rule_changes(first_rule(known), study)


def _changes(study: Study, written: Mapping[str, Any]) -> Iterator[Change]:
    known: Any = migrated({name: part for name, part in written.items() if name != "format"}, written["format"])
    for name, now in _asked(study).items():
        if known[name] != now:
            yield Change(name, known[name], now)
    yield from changes("early_stopping", known["early_stopping"], study.early_stopping)
    yield from _rule_changes(known["replicas"], study)
    space = {name: str(distribution) for name, distribution in study.distributions.items()}
    for name in {**known["space"], **space}:
        if known["space"].get(name) != space.get(name):
            yield Change(f"space.{name}", known["space"].get(name, ABSENT), space.get(name, ABSENT))
    yield from _protocol_changes(known["protocols"], study)
    yield from _configuration_changes(known["configurations"], study, same_space=known["space"] == space)


def _protocol_changes(known: Mapping[str, Any], study: Study) -> Iterator[Change]:
    """What has changed for the metrics that have been measured; those that are new have no values yet."""
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
    """What has changed of the sampled configurations; of another space only what all of them share."""
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
    """What has changed of the rule that adds replicas; a number of replicas is in the configurations.

    The search sees the first replicas only, so a rule may get another ``unlikely`` and a larger ``most``. If ``most``
    fell, trials could have more replicas than the others are to get. A rule cannot be added: it needs the models of
    trials that a study with a fixed number has removed already.
    """
    rule = study.adaptive
    if isinstance(known, dict) and rule and rule.most >= int(str(known["most"])):
        return
    if rule or isinstance(known, dict):
        yield Change("replicas", text(known) if isinstance(known, dict) else FIXED, repr(rule) if rule else FIXED)
