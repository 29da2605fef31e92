"""Spec of a study in format 1, which release 0.1.0 wrote.

It has a hash of the sampled configurations, and the fields that they all share.
"""

import hashlib
from collections.abc import Iterator, Mapping

from aesearch.protocols import ESTIMATORS, estimator
from aesearch.scores import CodeScore, Disentanglement
from aesearch.study.study import Study
from aesearch.train import TrainConfig
from aesearch.train.description import ABSENT, Change, Description, Node, text
from aesearch.train.first_format import as_first, first_text


def first_rule(known: Mapping[str, str]) -> Node | None:
    """Describe the ``Adaptive`` that the configurations had in format 1.

    Returns None where they had a fixed number of replicas.
    """
    if known.get("config.replicas") != "Adaptive":
        return None
    return {"class": "Adaptive", **{name: known[f"config.replicas.{name}"] for name in ("first", "most", "unlikely")}}


def first_changes(study: Study, known: Mapping[str, str]) -> Iterator[Change]:
    """Yield the differences of a study from its spec in format 1.

    known: that spec. A difference of one sampled configuration has no name there, so only the hash tells it.
    """
    protocols = {
        f"{score.protocol.name} {score.protocol.hash_of(_version(score))}"
        for _, config in study.probes
        for score in (*config.monitored, *config.scores)
        if isinstance(score, CodeScore)
    }
    asked = {
        "metrics": ", ".join(f"{metric.direction} {metric.name}" for metric in study.searched),
        "early_stopping": first_text(study.early_stopping),
        "constraints": ", ".join(f"{one.name} {one.kind} {one.bound:g}" for one in study.constraints) or "none",
        **{f"space.{name}": str(distribution) for name, distribution in study.distributions.items()},
        "protocols": ", ".join(sorted(protocols)),
        **({"per": ", ".join(study.per)} if study.per else {}),
    }
    shared = {name: value for name, value in known.items() if name == "config" or name.startswith("config.")}
    hashed = known["configurations"]
    yield from _differing({name: known[name] for name in known.keys() - shared.keys() - {"configurations"}}, asked)
    rule = first_rule(known)
    configs = [_as_first(config, study, rule) for _, config in study.probes]
    now = hashlib.sha256(f"[{', '.join(map(text, configs))}]".encode()).hexdigest()
    if now == hashed:
        return
    every = [dict(_flat("config", config)) for config in configs]
    named = list(_differing(shared, dict(set(every[0].items()).intersection(*(one.items() for one in every)))))
    yield from named or [Change("the hash of the sampled configurations", hashed[:8], now[:8])]


def _version(score: CodeScore) -> int:
    """Find the version of estimators that decides a score's values."""
    return max(map(estimator, score.chosen)) if isinstance(score, Disentanglement) else ESTIMATORS


def _as_first(config: TrainConfig, study: Study, rule: Node | None) -> Description:
    """Describe a configuration as 0.1.0 did, with the rule for replicas in it."""
    described = as_first(config)
    if rule and study.adaptive and isinstance(described, dict):
        return described | {"replicas": rule | {"first": str(study.adaptive.first)}}
    return described


def _differing(known: Mapping[str, str], now: Mapping[str, str]) -> Iterator[Change]:
    for name in sorted(known.keys() | now.keys()):
        if known.get(name) != now.get(name):
            yield Change(name, known.get(name, ABSENT), now.get(name, ABSENT))


def _flat(name: str, description: Description) -> Iterator[tuple[str, str]]:
    """Flatten nested classes to pairs of dotted field name and text.

    The text of a class is its name.
    """
    if not isinstance(description, dict):
        yield name, text(description)
        return
    yield name, str(description["class"]).rpartition(".")[2]
    for field, value in description.items():
        if field != "class":
            yield from _flat(f"{name}.{field}", value)
