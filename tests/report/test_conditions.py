"""The report of a study with conditions: each by itself, and none against another."""

import re
from dataclasses import replace

import numpy as np
import pytest
from helpers.conditions import NORMAL, within
from helpers.results import make
from mlflow.utils.validation import _validate_model_alias_name
from optuna.distributions import CategoricalDistribution

from aesearch.errors import UserError
from aesearch.report import best_trial, registered_trials, write_report
from aesearch.report.analysis import analyse
from aesearch.report.conditions import conditions_of
from aesearch.report.page import _conditions_table
from aesearch.report.words import cuts, details, headlines

RNG = np.random.default_rng(0)
NOISE = {(c, latent, seed): RNG.standard_normal() for c in range(3) for latent in range(2, 13, 2) for seed in range(3)}


def nothing(condition: int, latent: int, seed: int) -> float:
    """The condition is all, the code size nothing."""
    return 100.0**condition * (1 + 0.02 * NOISE[condition, latent, seed])


def effect(condition: int, latent: int, seed: int) -> float:
    """Each condition has its best at another code size; in all mse grows with it, but for the best."""
    best = latent == 4 + 2 * condition
    return 100.0**condition * (1 + 0.02 * latent - 0.5 * best + 0.01 * NOISE[condition, latent, seed])


def rising(condition: int, latent: int, seed: int) -> float:
    return 100.0**condition * (1 + 0.02 * latent + 0.01 * NOISE[condition, latent, seed])


def text(analysis) -> str:
    return "\n".join([*headlines(analysis), *details(analysis)])


def test_each_condition_has_its_own_best(tmp_path):
    made = within(tmp_path, effect)
    analysis = analyse(made)
    assert registered_trials(made) == {"best-normal-3": 1, "best-normal-1": 8, "best-normal-a_b": 15}
    assert analysis.front == [1, 8, 15]
    assert analysis.shown == {"best of normal = 3": 1, "best of normal = 1": 8, "best of normal = a b": 15}
    assert analysis.parameters == ["latent_dim"]
    lines = headlines(analysis)
    assert re.match(
        r"normal = 1: the best of 6 trials on val/mse is 8 \(latent_dim = 6\): test/mse .*; it is the best with a "
        r"chance of 100%\.",
        lines[1],
    )
    table = _conditions_table(analysis)
    assert table["normal"].tolist() == ["3", "1", "a b"]
    assert table["trial"].tolist() == ["1", "8", "15"]
    assert table["the best"].tolist() == ["100%"] * 3
    assert {"latent_dim", "test/mse", "seeds", "val/mse expected [95 %]"} <= set(table)
    # Without conditions the easiest has the best of all.
    assert registered_trials(within(tmp_path / "whole", effect, per=False)) == {"knee": 1}


def test_no_trend_is_told_where_only_conditions_differ(tmp_path):
    said = text(analyse(within(tmp_path, nothing)))
    assert "Within each normal, as latent_dim rises (2 to 12): test/mse shows no trend that is told from noise" in said
    assert "differences between settings are not told from differences between seeds" in said
    assert "means within each normal that a parameter alone explains, each trial predicted from the others: " in said
    assert "latent_dim not told from noise" in said


def test_a_trend_that_conditions_hide_is_told(tmp_path):
    said = text(analyse(within(tmp_path, rising)))
    assert re.search(
        r"Within each normal, as latent_dim rises \(2 to 12\): test/mse rises in 3 of 3 \(Spearman \+", said
    )
    assert "over the 54 models of 18 trials in 3 conditions, and seeds the rest" in said
    assert re.search(r"latent_dim 9\d% \(noise up to \d+%, p = .001\)", said)
    whole = text(analyse(within(tmp_path / "whole", rising, per=False)))
    assert "test/mse shows no trend that is told from noise" in whole


@pytest.mark.parametrize(("metrics", "value"), [(1, nothing), (2, rising)])
def test_no_sentence_compares_conditions(tmp_path, metrics, value):
    made = within(tmp_path / "made", value, metrics=metrics)
    page = write_report(made, tmp_path / "out")
    said = (page.parent / "report.md").read_text()
    assert "of each condition" in said
    for words in (
        "of 18 complete trials are Pareto-optimal",
        "The best trial on",
        "lowest and its highest quarter",
        "hypervolume",
        "How many seeds tell",
        "could be the best",
    ):
        assert words not in said.partition("## How to read")[0], words
    found = [line for line in said.splitlines() if line.startswith("- ") and "18 trials" in line]
    assert found
    assert all(line.startswith("- Within each normal, ") for line in found)
    drawn = {path.stem for path in (page.parent / "figures").glob("*.png")}
    assert {"sweeps", "heat_map", "learning_curves"} <= drawn
    assert ("plane" in drawn) == (metrics == 2)


def test_many_conditions_have_a_sentence_each_up_to_twelve(tmp_path):
    made = within(tmp_path, rising)
    choices = [str(number) for number in range(18)]
    made.trials["param:normal"] = choices
    made = replace(made, distributions=made.distributions | {"normal": _json(choices)})
    lines = headlines(analyse(made))
    assert sum(": its only complete trial is " in line for line in lines) == 12
    assert "The best trials of 6 more: normal = 12: 12, normal = 13: 13" in "\n".join(lines)
    assert len(analyse(made).shown) == 6
    assert cuts(analyse(made)) == [
        "Pictures, and columns of the table of all metrics, are of 6 of 18 conditions, evenly chosen."
    ]


def _json(choices) -> str:
    from optuna.distributions import distribution_to_json

    return distribution_to_json(CategoricalDistribution(choices))


def test_a_bound_that_no_trial_of_a_condition_keeps_is_said(tmp_path):
    made = within(tmp_path, rising)
    analysis = analyse(replace(made, info={**made.info, "constraints": [["val/mse", "at most", 50.0]]}))
    assert headlines(analysis)[0] == (
        "6 of 18 complete trials have val/mse at most 50; none of (normal = 1, normal = a b) does, so all of these are "
        "compared."
    )
    assert len(analysis.feasible) == 18


def test_the_model_of_a_condition_is_asked_for(tmp_path):
    made = within(tmp_path / "made", effect)
    assert best_trial(made, None, ["normal=1"]) == 8
    assert best_trial(made, "test/mig", ["normal=a b"]) == 17
    for given, said in (
        (
            [],
            "sorts has a best trial in each of 3 conditions and none of all; choose one with --per normal=3, or a tri",
        ),
        (["normal=4"], "sorts has no complete trial with normal = 4: known: 1, 3, a b"),
        (["norml=3"], "sorts has no condition 'norml': did you mean normal"),
        (["3"], "--per 3 is not valid; write a name and a value, such as --per normal=3"),
    ):
        with pytest.raises(UserError, match=re.escape(said)):
            best_trial(made, None, given)
    with pytest.raises(UserError, match=r"known compares all its trials, so --per normal=3 chooses nothing; leave it"):
        best_trial(make(tmp_path / "plain"), None, ["normal=3"])


def test_every_alias_is_one_that_mlflow_takes(tmp_path):
    complete = analyse(within(tmp_path, nothing)).complete
    choices = ["a b", "a_b", "a/b", "é", "x" * 300, "v1", "latest", 0.5, None, True]
    frame = complete.iloc[: len(choices)].assign(**{"param:normal": choices})
    found = conditions_of(frame, {"normal": CategoricalDistribution(choices)}, ["normal"])
    aliases = [condition.alias for condition in found]
    assert len(set(aliases)) == len(choices)
    for alias in aliases:
        _validate_model_alias_name(alias)
    assert "best-normal-v1" in aliases
    assert [str(condition) for condition in conditions_of(complete, {"normal": NORMAL}, ["normal"])] == [
        "normal = 3",
        "normal = 1",
        "normal = a b",
    ]
