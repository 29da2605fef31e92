"""Protocols are values with a hash that a figure can be held to."""

import json
import subprocess
import sys
from dataclasses import fields, replace

import numpy as np
import pytest

from aesearch.errors import UserError
from aesearch.model import from_json, to_json
from aesearch.protocols import DRAWN, METRICS, READ, READY, Protocol, chen, dlib, epoch, fast, infogan_cr, ready
from aesearch.scores import Disentanglement
from aesearch.scores.disentanglement import MEASURES
from aesearch.scores.source import Posterior, Sample, Source

CHANGED = {
    "draws": "split",
    "points": 11,
    "test_points": 12,
    "codes": "sampled",
    "without": ("shape",),
    "bins": 7,
    "mig": "posteriors",
    "samples": 13,
    "images": None,
    "sap": "r2",
    "unordered": ("shape",),
    "regressor": "random_forest",
    "votes": 14,
    "test_votes": 15,
    "vote_size": 16,
    "pair_size": 17,
    "pairs": "one_value",
    "active": 0.5,
    "seed": 18,
}


def test_all_fields_but_name_and_metrics_change_the_hash():
    assert set(CHANGED) == {field.name for field in fields(Protocol)} - {"name", "metrics"}
    hashes = {name: replace(dlib, **{name: value}).hash for name, value in CHANGED.items()}
    assert len({dlib.hash, *hashes.values()}) == len(CHANGED) + 1
    assert replace(dlib, name="other", metrics=("mig",)).hash == dlib.hash
    assert replace(infogan_cr, active=0).hash == infogan_cr.hash, "0 is 0.0"


def test_the_hash_is_the_same_in_every_process():
    code = "from aesearch.protocols import READY; print({name: p.hash for name, p in READY.items()})"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found.strip() == str({name: protocol.hash for name, protocol in READY.items()})
    assert len({protocol.hash for protocol in READY.values()}) == len(READY) == 5


def test_an_estimator_that_changes_changes_every_hash(monkeypatch):
    before = dlib.hash
    monkeypatch.setattr("aesearch.protocols.ESTIMATORS", 0)
    assert dlib.hash != before


def test_the_ready_ones_are_their_sources():
    assert (dlib.points, dlib.test_points, dlib.bins, dlib.votes, dlib.test_votes, dlib.active) == (
        *(10_000, 5_000, 20, 10_000, 5_000),
        0.05,
    )
    assert (chen.metrics, chen.codes, chen.mig, chen.without) == (("mig",), "sampled", "posteriors", ("shape",))
    assert (infogan_cr.points, infogan_cr.votes, infogan_cr.vote_size, infogan_cr.test_votes) == (73_728, 500, 100, 0)
    assert {protocol.draws for protocol in (epoch, fast)} == {"split"}, "so that they can be searched"
    assert ready("dlib") is dlib
    with pytest.raises(UserError, match="unknown protocol 'dlip': did you mean dlib"):
        ready("dlip")


def test_only_the_protocol_of_every_epoch_has_bare_names():
    assert epoch.prefix == ""
    assert {protocol.prefix for protocol in READY.values()} == {"", "fast.", "dlib.", "chen.", "infogan_cr."}


def test_the_description_is_plain_json_with_the_hash():
    described = json.loads(json.dumps(dlib.describe()))
    assert set(described) == {field.name for field in fields(Protocol)} | {"hash", "estimators"}
    assert described["hash"] == dlib.hash
    assert described["points"] == 10_000
    assert described["estimators"] >= 1


@pytest.mark.parametrize("protocol", [*READY.values(), replace(chen, name="own", images=None, without=(), active=0.3)])
def test_a_score_with_its_protocol_survives_saving(protocol):
    score = Disentanglement(("mig",), protocol)
    restored = from_json(json.loads(json.dumps(to_json(score))))
    assert restored == score
    assert restored.protocol.hash == protocol.hash


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "a b"}, "a protocol's name must be made of letters"),
        ({"name": ""}, "a protocol's name must be made of letters"),
        ({"name": 5}, "a protocol's name must be made of letters"),
        ({"metrics": ("migg",)}, "unknown metric 'migg': did you mean mig"),
        ({"draws": "alle"}, "unknown draws 'alle': did you mean all"),
        ({"sap": "svmm"}, "unknown sap 'svmm': did you mean svm"),
        ({"codes": "means"}, "unknown codes 'means': did you mean mean"),
        ({"mig": "bined"}, "unknown mig 'bined': did you mean binned"),
        ({"regressor": "forest"}, "unknown regressor 'forest': did you mean random_forest"),
        ({"pairs": "one"}, r"unknown pairs 'one': .*one_value"),
        ({"points": 1}, "points must be a whole number of at least 2, but got points=1"),
        ({"points": 2.5}, "points must be a whole number of at least 2, but got points=2.5"),
        ({"points": "many"}, "points must be a whole number of at least 2, but got points='many'"),
        ({"test_points": -1}, "test_points must be a whole number of at least 0"),
        ({"bins": 1}, "bins must be a whole number of at least 2"),
        ({"samples": 0}, "samples must be a whole number of at least 1"),
        ({"images": 0}, "images must be a whole number of at least 1, but got images=0"),
        ({"votes": 0}, "votes must be a whole number of at least 1"),
        ({"vote_size": 1}, "vote_size must be a whole number of at least 2"),
        ({"pair_size": 0}, "pair_size must be a whole number of at least 1"),
        ({"test_votes": -1}, "test_votes must be a whole number of at least 0"),
        ({"seed": -1}, "seed must be a whole number of at least 0"),
        ({"active": -0.1}, "active must be a deviation of at least 0"),
        ({"active": float("nan")}, "active must be a deviation of at least 0"),
        ({"metrics": "mig"}, "metrics must be a tuple of names"),
        ({"without": "shape"}, "without must be a tuple of names, such as .* but got without='shape'"),
        ({"unordered": ["shape"]}, "unordered must be a tuple of names"),
    ],
)
def test_a_field_that_cannot_be_is_refused(change, message):
    with pytest.raises(UserError, match=message):
        replace(dlib, **change)


class Watched(Protocol):
    """A protocol that notes which of its fields are read."""

    def __getattribute__(self, name):
        if name in CHANGED:
            read.add(name)
        return super().__getattribute__(name)


read: set[str] = set()


@pytest.mark.parametrize("metric", METRICS)
def test_what_decides_a_metric_is_what_its_estimator_reads(metric):
    rng = np.random.default_rng(0)
    factors = rng.integers(3, size=(200, 2))
    means = factors.astype(np.float32) + rng.normal(0, 0.1, (200, 2)).astype(np.float32)
    posterior = Posterior(means, np.full_like(means, -4))
    source = Source(lambda places: Posterior(means[places], posterior.log_variances[places]), 200, factors, ("a", "b"))
    few = {"points": 100, "test_points": 50, "samples": 10, "votes": 20, "test_votes": 10, "vote_size": 4}
    decisive = set()
    for variant in ({"sap": "r2"}, {"unordered": ("a",), "sap": "r2"}, {"codes": "sampled", "mig": "posteriors"}):
        protocol = Watched("watched", **few, regressor="lasso", **variant)
        read.clear()
        MEASURES[metric].of(Sample(source, protocol, whole=True))
        decisive |= read
    assert decisive - set(DRAWN) == set(READ[metric])
    assert set(dlib.decides(metric)) >= decisive
    assert set(dlib.decides("one of a person's own")) == set(CHANGED)
