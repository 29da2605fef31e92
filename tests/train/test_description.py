"""Descriptions are compared by name, under the names of any release."""

import json
from dataclasses import dataclass, make_dataclass, replace

import pytest
from helpers.small import TINY

from aesearch.bottlenecks import VampPrior
from aesearch.networks import MLP
from aesearch.objectives import BetaTCVAE, BetaVAE, Contractive, KLSparse, Linear
from aesearch.protocols import fast
from aesearch.scores import Disentanglement
from aesearch.train import TrainConfig
from aesearch.train.description import DESCRIBED, Migration, changes, describe, migrated, text
from aesearch.train.first_format import first_text

SCORES = (Disentanglement(("mig",), replace(fast, name="mine", bins=7)), Disentanglement(("sap",)))
CONFIG = TrainConfig(TINY, MLP((8,)), 2, BetaVAE(0.1 + 0.2), warmup=Linear(0.5), scores=SCORES)


def differences(known, value) -> list[str]:
    return [str(change) for change in changes("config", json.loads(json.dumps(describe(known))), value)]


def own(**defaults):
    """A class of a person's own: an objective with such fields beside those of BetaVAE."""
    fields = [(name, type(value), value) for name, value in defaults.items()]
    return make_dataclass("Own", fields, bases=(BetaVAE,), frozen=True)


def test_a_description_has_every_field_and_says_floats_exactly():
    assert describe(BetaVAE(0.1 + 0.2)) == {
        "class": "BetaVAE",
        "beta": "0.30000000000000004",
        "likelihood": "'bernoulli'",
    }
    assert describe(MLP((8,)))["hidden"] == ["8"]
    assert text(describe(CONFIG)) == repr(CONFIG) == first_text(CONFIG)


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({}, []),
        ({"epochs": 9}, ["config.epochs was 20, is 9"]),
        ({"network": MLP((8, 8))}, ["config.network.hidden was (8,), is (8, 8)"]),
        ({"objective": BetaVAE(0.3)}, ["config.objective.beta was 0.30000000000000004, is 0.3"]),
        ({"warmup": None}, ["config.warmup was Linear(over=0.5), is None"]),
        ({"scores": (SCORES[0], Disentanglement(("dci",)))}, ["config.scores[1].metrics was ('sap',), is ('dci',)"]),
    ],
)
def test_differences_are_named(change, difference):
    assert differences(CONFIG, replace(CONFIG, **change)) == difference


def test_an_added_field_differs_only_where_it_is_used():
    before, after = own(), own(weight_decay=0.0)
    config = replace(CONFIG, objective=before(2.0))
    assert differences(config, replace(CONFIG, objective=after(2.0))) == []
    used = replace(CONFIG, objective=after(2.0, weight_decay=0.1))
    assert differences(config, used) == ["config.objective.weight_decay was not there, is 0.1"]


def test_a_field_that_was_removed_is_a_difference():
    before, after = own(weight_decay=0.0), own()
    assert differences(before(2.0), after(2.0)) == ["config.weight_decay was 0.0, is not there"]


def test_a_default_that_changes_is_a_difference():
    before, after = own(weight_decay=0.0), own(weight_decay=0.1)
    assert differences(before(2.0), after(2.0)) == ["config.weight_decay was 0.0, is 0.1"]
    assert differences(before(2.0), after(2.0, weight_decay=0.0)) == []


def renamed(node):
    """BetaVAE was VAEWithBeta, its beta was weight, and what it did then is now kind="old"."""
    if node["class"] != "VAEWithBeta":
        return node
    return {"class": "BetaVAE", "beta": node["weight"], "likelihood": node["likelihood"]}


def networks(node):
    """MLP did then what it now does with dropout=0.25."""
    return {**node, "dropout": "0.25"} if node["class"] == "MLP" and "dropout" not in node else node


def test_migrations_give_descriptions_the_names_of_today(monkeypatch):
    steps = (Migration("VAEWithBeta is BetaVAE", "0.1.0", "plain words", renamed),)
    known = {"class": "VAEWithBeta", "weight": "2.0", "likelihood": "'bernoulli'"}
    monkeypatch.setattr("aesearch.train.description.MIGRATIONS", steps)
    found = migrated({"format of": known, "many": [known, known]}, DESCRIBED)
    assert found == {"format of": describe(BetaVAE(2.0)), "many": [describe(BetaVAE(2.0))] * 2}
    assert migrated(known, DESCRIBED + 1) == known, "a description of today is left as it is"


@pytest.mark.parametrize(
    ("now", "field", "was"),
    [
        (KLSparse(), "decoded", "logit"),
        (BetaTCVAE(), "normalised", False),
        (Contractive(), "normalised", False),
        (VampPrior(), "bounded", False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_other_numbers_are_another_configuration(now, field, was):
    """Else trials of before and of today would stand in one study."""
    known = {name: value for name, value in describe(now).items() if name != field}
    found = list(map(str, changes("config", migrated(known, DESCRIBED), now)))
    assert found == [f"config.{field} was {was!r}, is {getattr(now, field)!r}"]
    as_before = replace(now, **{field: was})
    assert list(changes("config", migrated(known, DESCRIBED), as_before)) == []
    assert first_text(as_before) == text(known) != first_text(now)


def test_a_first_repr_is_rebuilt_through_migrations(monkeypatch):
    steps = tuple(Migration(change.__name__, "0.1.0", "", change) for change in (renamed, networks))
    monkeypatch.setattr("aesearch.train.description.MIGRATIONS", steps)
    first = {"VAEWithBeta": "weight likelihood", "MLP": "hidden activation decoder_hidden decoder_activation"}
    monkeypatch.setattr("aesearch.train.first_format.FIELDS", first)
    assert first_text(BetaVAE(2.0)) == "VAEWithBeta(weight=2.0, likelihood='bernoulli')"
    assert first_text(own()(2.0)) == "Own(weight=2.0, likelihood='bernoulli')"
    old = "MLP(hidden=(8,), activation='silu', decoder_hidden=None, decoder_activation=None"
    assert first_text(MLP((8,), dropout=0.25)) == f"{old})"
    assert first_text(MLP((8,))) == f"{old}, dropout=0.0)", "which no release has written"


def test_the_first_release_knew_no_later_fields_and_metrics(monkeypatch):
    later = {"BetaVAE": "beta", "Protocol": "name metrics bins", "Disentanglement": "metrics protocol"}
    monkeypatch.setattr("aesearch.train.first_format.FIELDS", later)
    monkeypatch.setattr("aesearch.train.first_format.METRICS", "mig dci")
    assert first_text(BetaVAE(2.0)) == "BetaVAE(beta=2.0)"
    assert first_text(own(rate=0.5)(2.0)) == "Own(beta=2.0, rate=0.5)", "a field of a person's own was there"
    assert first_text(BetaVAE(2.0, "gaussian")) == "BetaVAE(beta=2.0, likelihood='gaussian')"
    assert "metrics=('mig', 'dci'), bins=20" in first_text(Disentanglement(("mig",)))


@dataclass(frozen=True)
class Adrift:
    """A class of a study file that has the name of no class of aesearch."""

    kind: tuple[int, ...] = ()


def test_values_that_are_no_dataclasses_are_their_reprs():
    assert describe(Adrift()) == {"class": "Adrift", "kind": []}
    assert describe(Adrift((1, 2))) == {"class": "Adrift", "kind": ["1", "2"]}
    assert describe([1, 2]) == "[1, 2]"
    assert first_text(Adrift((1,))) == "Adrift(kind=(1,))"
