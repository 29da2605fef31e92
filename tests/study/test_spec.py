"""What must not change while a study goes on, and what may, by name."""

import hashlib
import json
from dataclasses import make_dataclass, replace

import optuna
import pytest
from helpers.small import TINY, make

from aesearch import ASHA, Adaptive, AtMost, TrainConfig
from aesearch.errors import UserError
from aesearch.networks import MLP
from aesearch.objectives import BetaVAE
from aesearch.protocols import Protocol, dlib, fast
from aesearch.scores import UDR, Disentanglement, Quality
from aesearch.study import Study, check_spec, describe_study
from aesearch.train.description import FORMAT


def study(objective=BetaVAE, protocol: Protocol | None = None, shift=0.0, bound=16.0, scores=(), **fields) -> Study:
    def space(trial: optuna.Trial) -> TrainConfig:
        beta = trial.suggest_float("beta", 0.5, bound, log=True)
        linked = beta + shift if beta > 4 else beta
        config = TrainConfig(TINY, MLP((8,)), 2, objective(linked), epochs=1, scores=scores)
        return replace(config, scores=(Disentanglement((), protocol),)) if protocol else config

    return make(space=space, **fields)


def kept(one: Study) -> dict:
    """The spec that a ledger has kept."""
    return json.loads(json.dumps(check_spec(one, None)))


def refused(known: dict, one: Study) -> str:
    with pytest.raises(UserError, match="study s has changed since it began: ") as caught:
        check_spec(one, known)
    return str(caught.value).partition("since it began: ")[2].partition("; undo the change")[0]


def test_a_spec_is_plain_json_and_the_same_each_time():
    assert kept(study()) == describe_study(study()) == check_spec(study(), kept(study()))


def test_how_much_is_trained_is_no_part_of_it():
    known = kept(study())
    check_spec(study(n_trials=9, sampler="random", keep=None, cpus=2, enqueue=({"beta": 1.0},)), known)


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"overrides": {"epochs": 9}}, "config.epochs was 1, is 9"),
        ({"seed": 1}, "config.seed was 0, is 1"),
        ({"replicas": 5}, "config.replicas was 3, is 5"),
        ({"early_stopping": ASHA(1, 3)}, "early_stopping.factor was 2, is 3"),
        ({"early_stopping": None}, "early_stopping was ASHA(grace=1, factor=2), is None"),
        ({"constraints": (AtMost("val/mse", 0.02),)}, "constraints was none, is val/mse at most 0.02"),
    ],
)
def test_what_differs_is_named(change, difference):
    assert (
        refused(kept(study(early_stopping=ASHA(1, 2))), study(**{"early_stopping": ASHA(1, 2)} | change)) == difference
    )


def test_a_range_is_named_without_the_samples_it_makes():
    found = refused(kept(study()), study(bound=8.0, seed=1))
    assert found.startswith("space.beta was FloatDistribution(high=16.0, ")
    assert ", is FloatDistribution(high=8.0, " in found
    assert found.endswith("; config.seed was 0, is 1")


def test_what_some_sampled_configurations_have_is_counted():
    changed = sum(trial.params["beta"] > 4 for trial, _ in study().probes)
    assert 10 < changed < 64
    found = refused(kept(study()), study(shift=1.0))
    assert found.startswith(f"config.objective.beta of {changed} of 64 sampled configurations was ")
    assert found.endswith(" in the first")


def test_a_later_field_counts_once_it_is_used():
    before = make_dataclass("Own", [("beta", float, 1.0)], bases=(BetaVAE,), frozen=True)
    after = make_dataclass("Own", [("rate", float, 0.0)], bases=(before,), frozen=True)
    updated = check_spec(study(after), kept(study(before)))
    assert updated["configurations"][0]["objective"]["rate"] == "0.0"
    assert refused(kept(study(before)), study(lambda beta: after(beta, rate=0.5))) == (
        "config.objective.rate was not there, is 0.5"
    )
    # Once the study has gone on, the default is known, and one that changes again is seen.
    again = make_dataclass("Own", [("rate", float, 0.1)], bases=(before,), frozen=True)
    assert refused(updated, study(again)) == "config.objective.rate was 0.0, is 0.1"


def test_only_constants_that_measured_metrics_read_must_stay():
    protocol = replace(fast, name="mine", metrics=("mig", "factor_vae"))
    known = kept(study(protocol=protocol))
    check_spec(study(protocol=replace(protocol, pair_size=7, regressor="lasso", unordered=("shape",))), known)
    assert refused(known, study(protocol=replace(protocol, bins=7))) == "protocols.mine.bins was 20, is 7"
    assert refused(known, study(protocol=replace(protocol, seed=7))) == "protocols.mine.seed was 0, is 7"


def test_a_metric_may_come_and_none_may_go():
    protocol = replace(fast, name="mine", metrics=("mig", "factor_vae"))
    known = kept(study(protocol=protocol))
    more = study(protocol=replace(protocol, metrics=("beta_vae", "mig", "factor_vae"), pair_size=7))
    assert check_spec(more, known)["protocols"]["mine"]["pair_size"] == "7"
    less = study(protocol=replace(protocol, metrics=("mig",)))
    assert refused(known, less) == "protocols.mine.estimators.factor_vae was 1, is not there"


def test_a_changed_estimator_concerns_who_measures_with_it(monkeypatch):
    known, hashed = kept(study(protocol=replace(dlib, name="mine", metrics=("mig",)))), dlib.hash
    one = study(protocol=replace(dlib, name="mine", metrics=("mig",)))
    monkeypatch.setattr("aesearch.protocols.ESTIMATORS", 9)
    monkeypatch.setattr("aesearch.protocols.CHANGED", {"irs": 9})
    check_spec(one, known)
    assert dlib.hash != hashed, "figures of the one and the other irs are never compared"
    monkeypatch.setattr("aesearch.protocols.CHANGED", {"mig": 9})
    assert refused(known, one) == (
        "protocols.epoch.estimators.mig was 1, is 9; protocols.mine.estimators.mig was 1, is 9"
    )


def test_scores_of_two_versions_are_never_in_one_study():
    known = kept(study(scores=(UDR(), Quality())))
    assert known["estimators"] == {"UDR": "2", "Quality": "1"}
    before = {name: part for name, part in known.items() if name != "estimators"}
    assert refused(before, study(scores=(UDR(), Quality()))) == "estimators.UDR was 1, is 2"
    quality = kept(study(scores=(Quality(),)))
    check_spec(study(scores=(Quality(),)), {name: part for name, part in quality.items() if name != "estimators"})


def test_a_number_of_replicas_is_the_same_wherever_it_stands():
    check_spec(study(replicas=3), kept(study()))
    check_spec(study(overrides={"replicas": 3}), kept(study(replicas=3)))
    assert refused(kept(study(replicas=3)), study(replicas=2)) == "config.replicas was 3, is 2"


def test_a_rule_for_replicas_may_ask_for_more():
    known = kept(study(replicas=Adaptive(3, 5)))
    assert check_spec(study(replicas=Adaptive(3, 9, unlikely=0.3)), known)["replicas"]["most"] == "9"
    described = "replicas was Adaptive(first=3, most=5, unlikely=0.1), is "
    assert refused(known, study(replicas=Adaptive(3, 4))) == f"{described}Adaptive(first=3, most=4, unlikely=0.1)"
    assert refused(known, study(replicas=3)) == f"{described}a fixed number"
    assert refused(kept(study()), study(replicas=Adaptive(3, 5))) == (
        "replicas was a fixed number, is Adaptive(first=3, most=5, unlikely=0.1)"
    )
    assert refused(known, study(replicas=Adaptive(2, 5))) == "config.replicas was 3, is 2"


def test_a_spec_of_a_newer_release_is_refused():
    with pytest.raises(
        UserError, match=rf"by a newer .* format is {FORMAT + 1}, but this one knows formats up to {FORMAT}"
    ):
        check_spec(study(), kept(study()) | {"format": FORMAT + 1})


def first(one: Study, rule: Adaptive | None = None) -> dict[str, str]:
    """What 0.1.0 kept: texts, and a hash of the reprs of the configurations, which had the rule for replicas."""
    reprs = [repr(config) for _, config in one.probes]
    shared = {"config": "TrainConfig", "config.epochs": "1", "config.replicas": "3"}
    if rule:
        reprs = [text.replace("replicas=3", f"replicas={rule!r}") for text in reprs]
        shared |= {"config.replicas": "Adaptive", "config.replicas.first": "3"}
        shared |= {"config.replicas.most": f"{rule.most}", "config.replicas.unlikely": f"{rule.unlikely}"}
    return {
        "metrics": "minimize val/mse",
        "early_stopping": "None",
        "constraints": "none",
        "space.beta": str(one.distributions["beta"]),
        "protocols": f"epoch {one.probes[0][1].protocols[0].hash_of(1)}",
        **shared,
        "configurations": hashlib.sha256(f"[{', '.join(reprs)}]".encode()).hexdigest(),
    }


def test_a_spec_of_the_first_release_becomes_one_of_today():
    assert check_spec(study(), first(study())) == describe_study(study())
    assert "config.epochs was 1, is 9" in refused(first(study()), study(overrides={"epochs": 9}))
    assert refused(first(study()), study(constraints=(AtMost("val/mse", 2.0),))) == (
        "constraints was none, is val/mse at most 2"
    )


def test_a_rule_of_the_first_release_goes_on_in_the_study():
    known = first(study(), Adaptive(3, 5))
    for rule in (Adaptive(3, 5), Adaptive(3, 8, unlikely=0.2)):
        assert check_spec(study(replicas=rule), known) == describe_study(study(replicas=rule))
    assert "replicas was Adaptive(first=3, most=5, unlikely=0.1), is Adaptive(first=3, most=4" in refused(
        known, study(replicas=Adaptive(3, 4))
    )
    assert "config.replicas was Adaptive, is 3" in refused(known, study())
