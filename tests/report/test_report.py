import json
import re
import shutil
import subprocess
from dataclasses import asdict, replace
from itertools import pairwise

import numpy as np
import optuna
import pandas as pd
import pytest
from helpers.results import keep_codes, make
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from safetensors.numpy import load, save

from aesearch.errors import UserError
from aesearch.metrics import MetricKind, metric_of
from aesearch.pareto import on_front
from aesearch.protocols import epoch, fast
from aesearch.records import medians
from aesearch.records.results import spread
from aesearch.report import best_trial, words, write_report
from aesearch.report.analysis import analyse
from aesearch.report.certainty import Certainty
from aesearch.report.code_maps import code_map
from aesearch.report.figures import FIGURES
from aesearch.report.figures.heat_maps import _unnumbered
from aesearch.report.judged import Judged
from aesearch.report.page import write_pages
from aesearch.report.words import details, headlines, outcome


def findings(analysis):
    """All of them, as on the page."""
    return [*headlines(analysis), *details(analysis)]


@given(arrays(float, st.tuples(st.integers(1, 12), st.integers(1, 3)), elements=st.integers(0, 4).map(float)))
def test_the_front_is_what_nothing_dominates(costs):
    front = on_front(costs)
    for i, row in enumerate(costs):
        dominated = any((other <= row).all() and (other < row).any() for other in costs)
        assert front[i] == (not dominated)


def test_the_analysis_finds_what_was_put_in(tmp_path):
    analysis = analyse(make(tmp_path))
    assert analysis.front == list(range(12)), "both grow with beta, so all are on the front"
    assert analysis.shown["best val/mse"] == 0
    assert analysis.shown["best val/mig"] == 11
    assert analysis.parameters[0] == "beta"
    assert analysis.rank_correlation("beta", "test/mse").rho == pytest.approx(1)
    assert analysis.importance.loc["test/mse", "beta"] > 0.8
    found = analysis.components("test/mse")
    # Seeds are at -2 %, 0 and +2 % of each trial's value.
    assert found.seeds == pytest.approx((0.02**2 * analysis.complete["test/mse"] ** 2).mean())
    assert found.settings == pytest.approx(analysis.complete["test/mse"].var() - found.seeds / 3)


def test_names_that_no_two_trials_share_explain_nothing(tmp_path):
    """Each trial is predicted from the others, which know nothing of its name."""
    results = make(tmp_path)
    names = results.trials.assign(**{"param:network": [f"net {key}" for key in results.trials["trial"]]})
    analysis = analyse(replace(results, trials=names))
    assert analysis.everywhere == ["beta", "latent_dim"]
    only = names.drop(columns=["param:beta", "param:latent_dim"])
    assert analyse(replace(results, trials=only)).explained == {}
    assert "that a parameter alone explains" not in "\n".join(findings(analyse(replace(results, trials=only))))


def test_the_words_say_it_with_numbers(tmp_path):
    analysis = analyse(make(tmp_path))
    assert outcome(analysis).startswith("14 trials: 12 complete, 1 pruned, 1 failed, 3 replicas (seeds) each; 14.0")
    text = "\n".join(findings(analysis))
    assert "12 of 12 complete trials are Pareto-optimal on val" in text
    assert "As beta rises (0.25 to " in text
    assert "test/mse rises from " in text
    assert "test/mse rises from " in text
    assert re.search(r"\(Spearman \+1.00 \[\+0.9\d to \+1.00\], 12 trials, p (= .001|< .001)\)", text)
    assert re.search(
        r"of test/mse over .*: beta 9\d% \(noise up to \d\d%, p = .001\), latent_dim not told from noise",
        text,
    )
    assert re.search(
        r"Settings explain 9\d% \[9\d% to (9\d|100)%\] of the variance of test/mig over the 36 models of 12", text
    )
    assert "p < .001): settings differ, and one seed of a setting tells more of the setting than of the seed." in text


@pytest.mark.parametrize(
    ("change", "missing"),
    [
        ({}, set()),
        ({"metrics": 1}, {"plane.png"}),
        ({"complete": 2}, {"importance.png"}),
        ({"complete": 1, "replicas": 1}, {"importance.png", "agreement.png"}),
        ({"complete": 0}, {f"{name}.png" for name in FIGURES}),
    ],
    ids=["two metrics", "one metric", "two trials", "one replica", "none complete"],
)
def test_a_report_is_written_whatever_came_of_the_study(tmp_path, change, missing):
    page = write_report(make(tmp_path / "pictures", **change), tmp_path / "out")
    html, markdown = page.read_text(), (tmp_path / "out" / "report.md").read_text()
    drawn = {file.name for file in (tmp_path / "out" / "figures").iterdir()}
    assert drawn == {f"{name}.png" for name in FIGURES} - missing
    assert html.count("data:image/png;base64,") == len(drawn)
    assert "http" not in html.replace("http-equiv", "")
    assert "What does &lt;beta&gt; do?" in html
    assert ("probe: test accuracy" in markdown) == bool(change.get("complete", 12)), "explained where it was measured"
    assert "perplexity:" not in markdown
    assert "it broke &lt;b&gt;" in html
    for name in drawn:
        assert f"(figures/{name})" in markdown
    trials = pd.read_csv(tmp_path / "out" / "trials.csv")
    assert trials["state"].tolist()[-2:] == ["FAIL", "PRUNED"]
    assert list(trials.columns[4:7]) == ["beta", "latent_dim", "network"]


def test_figures_have_content_and_none_is_blank(tmp_path):
    page = write_report(make(tmp_path / "pictures"), tmp_path / "out")
    for file in (page.parent / "figures").iterdir():
        picture = np.asarray(Image.open(file).convert("L"))
        assert picture.std() > 5, file.name
        assert min(picture.shape) > 200, file.name


@pytest.mark.slow
def test_a_browser_shows_every_figure_of_the_page(tmp_path):
    chromium = shutil.which("chromium")
    if not chromium:
        pytest.skip("chromium is not installed")
    page = write_report(make(tmp_path / "pictures"), tmp_path / "out")
    script = (
        "<script>addEventListener('load', () => document.body.append('LOADED ' + JSON.stringify("
        "[...document.images].map(i => [i.naturalWidth, ...['right', 'top'].map(s => i.getBoundingClientRect()[s]), "
        "innerWidth]))))</script>"
    )
    probe = page.with_name("probe.html")
    probe.write_text(page.read_text().replace("</body>", f"{script}</body>"))
    flags = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-sync"
    command = [
        chromium,
        "--window-size=1280,800",
        *flags.split(),
        f"--user-data-dir={tmp_path / 'profile'}",
        "--dump-dom",
        probe.as_uri(),
    ]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    images = json.loads(dom.split("LOADED ")[-1].split("</body>")[0])
    assert len(images) == len(FIGURES)
    for natural_width, right, _, window in images:
        assert natural_width > 200
        assert right <= window
    assert images[0][2] < 800, "a screen at most before the first figure"


def test_cells_of_the_heat_map_do_not_overlap(tmp_path):
    from aesearch.report.figures.heat_maps import _cells

    labels = list(_cells(analyse(make(tmp_path)), "beta").cat.categories)
    ends = [tuple(map(float, label.split(" to "))) for label in labels]
    assert len(ends) == 4
    assert all(before[1] == after[0] for before, after in pairwise(ends))


def test_a_score_is_searched_without_a_curve(tmp_path):
    """Epochs do not measure it, so the curves are those of val/loss."""
    made = make(tmp_path / "pictures", metrics=1)
    info = made.info | {"metrics": [["val/probe_100", "maximize"]]}
    history = made.history.drop(columns=[name for name in made.history if "probe" in name or "test/" in name])
    page = write_report(replace(made, info=info, history=history), tmp_path / "out")
    assert (page.parent / "figures" / "learning_curves.png").exists()
    assert "The best trial on val/probe_100 is 11" in (page.parent / "report.md").read_text()


def test_what_the_best_trial_is_may_be_asked_of_any_metric(tmp_path):
    made = make(tmp_path / "pictures")
    analysis = analyse(made)
    assert best_trial(made) == analysis.chosen == analysis.knee[0]
    assert best_trial(made, "test/mse") == int(analysis.complete["test/mse"].idxmin())
    assert best_trial(made, "test/mig") == int(analysis.complete["test/mig"].idxmax())
    assert best_trial(made, "val/loss") == int(analysis.complete["val/loss"].idxmin())
    with pytest.raises(UserError, match="unknown metric 'test/msee': did you mean test/mse"):
        best_trial(made, "test/msee")
    with pytest.raises(UserError, match="no trial of known is complete, so it has no model; run the study"):
        best_trial(make(tmp_path / "none", complete=0))


@pytest.mark.parametrize("better", ["less", "more"])
def test_the_best_in_a_metric_of_ones_own_is_what_its_kind_says(tmp_path, better):
    made = make(tmp_path / "pictures")
    for column in [name for name in made.trials if str(name).startswith("test/mse")]:
        made.trials[column.replace("mse", "blur")] = made.trials[column]
    kind = asdict(MetricKind("blur", better, "pixels", "width of edges.", None, None, "images"))
    described = replace(made, info=made.info | {"kinds": [kind]})
    medians = analyse(made).complete["test/blur"]
    assert best_trial(described, "test/blur") == (medians.idxmin() if better == "less" else medians.idxmax())
    lines = words.protocol(analyse(described))
    assert "blur: width of edges." in lines
    assert any("pixels (blur)" in line for line in lines)
    # Of a study that was run before scores said what they measure.
    assert not any("blur" in line for line in words.protocol(analyse(made)))
    with pytest.raises(UserError, match="no MetricKind describes test/blur, so its better direction is unknown; give"):
        best_trial(made, "test/blur")


def test_numbers_and_protocols_keep_the_direction(tmp_path):
    made = make(tmp_path)
    for column in [name for name in made.trials if str(name).startswith("test/mse")]:
        made.trials[column.replace("mse", "bits_per_dim_64")] = made.trials[column]
        made.trials[column.replace("mse", "fast.mutual_information")] = made.trials[column]
    for metric in ("test/bits_per_dim_64", "test/fast.mutual_information"):
        assert best_trial(made, metric) == 0, "less is better"


def test_the_report_explains_what_it_shows(tmp_path):
    lines = words.protocol(analyse(make(tmp_path)))
    assert "Less is better of mse, loss, pca_mse; more is better of mig, probe, udr_lasso." in lines
    assert "Units: per pixel (mse, pca_mse); nats per image (loss); the others are pure numbers." in lines
    for name in ("mse", "mig", "loss", "probe", "pca_mse", "udr_lasso"):
        assert lines.count(f"{name}: {metric_of(name).explanation}") == 1, "once, of all protocols"


def test_a_trial_without_a_value_is_not_the_best(tmp_path):
    """As one that was not measured again, or whose metric is not defined."""
    made = make(tmp_path / "pictures")
    best = best_trial(made, "test/fast.mig")
    others = made.trials["trial"] != best
    for lacking in (made.trials["trial"] < best, others):
        made.trials.loc[lacking, "test/fast.mig"] = np.nan
        assert best_trial(made, "test/fast.mig") == best
    made.trials["test/fast.mig"] = np.nan
    with pytest.raises(UserError, match=r"no complete trial has a value of test/fast\.mig, so none is best in it; cho"):
        best_trial(made, "test/fast.mig")


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (1, 2, 0)])
def test_a_table_has_nan_where_a_replica_has_no_value(order):
    values = [[float("nan"), 1.0, 2.0][i] for i in order]
    row = spread("val/mse", values)
    assert all(np.isnan(value) for value in (*row.values(), *medians({"val/mse": values}, ["val/mse"])))
    assert spread("val/mse", [3.0, 1.0, 2.0]) == {"val/mse": 2.0, "val/mse_min": 1.0, "val/mse_max": 3.0}


def test_metrics_stand_beside_their_floor_and_ceiling(tmp_path):
    analysis = analyse(make(tmp_path))
    judged = Judged(analysis)
    first = analysis.shown["knee"]
    value = analysis.complete["test/fast.mig"][first]
    assert judged.normalised(first, "test/fast.mig") == pytest.approx((value - 0.1) / 0.8)
    assert np.isnan(judged.normalised(first, "test/mse")), "it has neither"
    table = judged.table().set_index("metric")
    row = table.loc["test/fast.mig"]
    assert (row["protocol"], row[f"trial {first}: floor to ceiling"]) == ("fast", "0.1 ± 0.01 to 0.9")
    assert row[f"knee: trial {first}"].endswith(f"] = {(value - 0.1) / 0.8:.0%}")
    assert (table.loc["test/mse", ["protocol", f"trial {first}: floor to ceiling"]] == "").all()
    found = analysis.components("test/fast.mig")
    assert row["SD over seeds"] == f"{found.seeds**0.5:.3g}"
    assert row["settings explain"] == f"{found.share:.0%} [{found.low:.0%} to {found.high:.0%}]"
    assert "val/study.udr_lasso" in table.index
    assert "val/probe_10" not in table.index


def test_each_percentage_stands_beside_its_own_floor(tmp_path):
    made = make(tmp_path)
    analysis = analyse(made)
    first, second = list(dict.fromkeys(analysis.shown.values()))[:2]
    known = made.references.copy()
    of_second = (known["trial"] == second) & (known["metric"] == "test/fast.mig")
    known.loc[of_second, ["floor", "spread"]] = 0.15, 0.5
    judged = Judged(analyse(replace(made, references=known)))
    row = judged.table().set_index("metric").loc["test/fast.mig"]
    names = {key: f"{what}: trial {key}" for what, key in analysis.shown.items()}
    for trial, floor, around in ((first, 0.1, 0.01), (second, 0.15, 0.5)):
        share = (analysis.complete["test/fast.mig"][trial] - floor) / (0.9 - floor)
        assert row[f"trial {trial}: floor to ceiling"] == f"{floor} ± {around} to 0.9"
        assert f"] = {share:.0%}" in row[names[trial]]
    assert row[names[second]].endswith(", as noise")
    assert not row[names[first]].endswith(", as noise")
    columns = list(judged.table())
    for place, name in enumerate(columns):
        if name.endswith(": floor to ceiling"):
            assert columns[place - 1].endswith(name.removesuffix(": floor to ceiling"))


def test_two_protocols_never_share_a_column(tmp_path):
    made = make(tmp_path)
    markdown = (write_report(made, tmp_path / "out").parent / "report.md").read_text()
    assert "| test/mig " in markdown
    assert "| test/fast.mig " in markdown
    for protocol in (epoch, fast):
        assert f"Protocol {protocol.name} ({protocol.hash})" in markdown
    assert list(Judged(analyse(made)).protocols.values()).count("fast") == 2, "on val and on test"


def test_what_needs_no_labels_is_held_against_what_does(tmp_path):
    judged = Judged(analyse(make(tmp_path)))
    # All grow with beta, but the seeds' spread turns some neighbours around.
    assert judged.correlations.loc["val/study.udr_lasso", "test/fast.mig"] > 0.85
    assert judged.correlations.loc["test/mse", "test/mig"] > 0.85
    (sentence,) = judged.agreements()
    assert sentence.startswith(
        "val/study.udr_lasso, which needs no labels, correlates over the 36 models of 12 trials with the 2 labelled"
    )
    assert "of trial 11, has the median rank 1 of 36" in sentence
    (spread,) = judged.spread()
    assert re.match(
        r"Settings explain 9\d% to 9\d% of the variance over models of the 2 metrics with a protocol", spread
    )
    assert "For 0 of them the differences between settings are not told" in spread


def test_without_protocols_nothing_is_judged(tmp_path):
    made = make(tmp_path / "pictures")
    bare = replace(made, references=made.references.iloc[:0], protocols={})
    page = write_report(bare, tmp_path / "out")
    assert not (page.parent / "figures" / "scores.png").exists()
    assert "floors and ceilings" not in page.read_text()


def test_the_code_map_finds_the_code_of_a_factor(tmp_path):
    keep_codes(tmp_path)
    found = code_map(tmp_path)
    assert found.names == ("shape", "x"), "the constant factor is left out"
    assert found.information.shape == (2, 2)
    assert found.information[0, 1] == pytest.approx(1)
    assert found.information[1, 1] < 0.1
    assert found.importance[0, 1] > 0.99
    (tmp_path / "reference.safetensors").unlink()
    assert code_map(tmp_path) is None


HUGE = {"factors": np.array([[0], [10**15], [10**15]]), "codes": np.ones((3, 2), "f4"), "kl": np.ones(2, "f4")}


@pytest.mark.parametrize(
    ("tensors", "names", "said"),
    [
        (b"\xff" * 64, ["x"], "header"),
        (HUGE | {"codes": np.ones((2, 2), "f4")}, ["x"], "must have the axes"),
        (HUGE | {"codes": np.array(1.0, "f4")}, ["x"], "must have the axes"),
        (HUGE | {"factors": np.ones((3, 1), "f4")}, ["x"], "int64 numbers"),
        (HUGE, ["x", "y"], "a text for each column"),
        (HUGE, [["x"]], "a text for each column"),
        (HUGE, ["x"], ""),
        (HUGE | {"kl": np.array([np.nan, 1], "f4")}, ["x"], ""),
    ],
)
def test_a_map_of_codes_that_others_have_changed_is_left_out(tensors, names, said, tmp_path, capsys):
    """MLflow's artifacts are read: whoever can write there must not stop a report, or fill the memory."""
    keep_codes(tmp_path, names)
    content = tensors if isinstance(tensors, bytes) else save(tensors)
    (tmp_path / "reference.safetensors").write_bytes(content)
    assert code_map(tmp_path) is None
    error = capsys.readouterr().err
    assert error.count("\n") == (1 if said else 0)
    assert said in error


def test_factors_of_any_values_are_counted(tmp_path):
    keep_codes(tmp_path)
    plain = code_map(tmp_path)
    kept = load((tmp_path / "reference.safetensors").read_bytes())
    kept["factors"] = kept["factors"] * 10**15 - 5
    (tmp_path / "reference.safetensors").write_bytes(save(kept))
    for known, found in zip(plain, code_map(tmp_path), strict=True):
        np.testing.assert_array_equal(known, found)


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n" + bytes(99), "huge"])
def test_a_picture_that_others_have_changed_is_left_out(content, tmp_path, capsys):
    made = make(tmp_path / "pictures", complete=4)
    for folder in made.pictures.values():
        if content == "huge":
            Image.new("1", (16_384, 8_192)).save(folder / "traversals.png")
        else:
            (folder / "traversals.png").write_bytes(content)
    assert FIGURES["traversals"].draw(analyse(made)) is None
    assert "no picture traversals.png: " in capsys.readouterr().err


def test_the_front_holds_what_keeps_the_bounds(tmp_path):
    made = make(tmp_path)
    bound = float(analyse(made).complete["val/mse"].iloc[5])
    bounded = replace(made, info=made.info | {"constraints": [["val/mse", "at most", bound]]})
    analysis = analyse(bounded)
    assert analysis.front == list(range(6))
    assert analysis.chosen in analysis.front
    assert analysis.shown["best val/mig"] == 5
    assert findings(analysis)[0] == f"6 of 12 complete trials have val/mse at most {bound:.4g}."
    none = analyse(replace(made, info=made.info | {"constraints": [["val/mig", "at least", 9.0]]}))
    assert none.front == list(range(12))
    assert findings(none)[0] == (
        "0 of 12 complete trials have val/mig at least 9; none does, so what follows is about all complete trials."
    )


def test_how_sure_a_front_is(tmp_path):
    results = make(tmp_path, replicas=4)
    # Trials 0 and 1 are told apart by far more than seeds move them; 2 and 3 are made alike.
    rows = results.replicas
    noise = np.array([-1.0, 1.0, -0.5, 0.5])
    for key, (mse, mig) in {0: (1.0, 1.0), 1: (3.0, 3.0), 2: (2.0, 2.0), 3: (2.001, 2.001)}.items():
        rows.loc[rows["trial"] == key, "val/mse"] = mse + 0.01 * noise
        rows.loc[rows["trial"] == key, "val/mig"] = mig + 0.01 * noise
    keep = [0, 1, 2, 3]
    trials = results.trials[results.trials["trial"].isin(keep)].copy()
    for name in ("val/mse", "val/mig"):
        trials[name] = rows[rows["trial"].isin(keep)].groupby("trial")[name].median().to_numpy()
    results = replace(results, trials=trials, replicas=rows[rows["trial"].isin(keep)])
    certainty = Certainty(analyse(results))
    assert certainty.shown == [0, 2, 3, 1]
    assert certainty.chances[0] == certainty.chances[1] == 1.0
    # The two alike are both on the front if the one with less mse has less mig: in half of the cases.
    assert 0.6 < certainty.chances[2] < 0.9
    table = certainty.table().set_index("trial")
    assert table.loc["0", "better val/mse than the next"] == "100%"
    assert table.loc["0", "better val/mig than the next"] == "0%"
    assert 40 < int(table.loc["2", "better val/mse than the next"].rstrip("%")) < 80
    assert table.loc["1", "better val/mse than the next"] == ""
    assert (table["seeds"] == "4").all()
    middle, low, _, high = table.loc["0", "val/mse expected [95 %]"].replace("[", "").replace("]", "").split()
    assert 0.97 < float(low) < float(middle) < float(high) < 1.03
    assert float(middle) == pytest.approx(1.0, abs=0.005)


def test_with_one_metric_the_best_few_are_compared(tmp_path):
    analysis = analyse(make(tmp_path, metrics=1))
    certainty = Certainty(analysis)
    table = certainty.table()
    assert len(table) == 3
    assert list(table.columns)[2] == "the best"
    assert certainty.shown[0] == analysis.chosen
    assert sum(certainty.chances.values()) == pytest.approx(1.0)


def test_of_two_the_likelier_is_chosen(tmp_path):
    results = make(tmp_path)
    bound = float(analyse(results).complete["val/mse"].iloc[1])
    two = analyse(replace(results, info=results.info | {"constraints": [["val/mse", "at most", bound]]}))
    assert (two.front, two.knee) == ([0, 1], None)
    chances = Certainty(two).chances
    assert two.chosen == max(two.front, key=lambda key: chances[key])
    assert set(two.shown) == {"best val/mse", "best val/mig"}
    assert two.shown[next(iter(two.shown))] == two.chosen
    assert "A front of 2 has no knee" in findings(two)[1]
    assert f"the model of trial {two.chosen}" in findings(two)[1]


def test_the_knee_has_its_chance(tmp_path):
    one = analyse(make(tmp_path, replicas=1))
    assert one.knee[1] is None
    assert "with a chance of" not in findings(one)[0]
    several = analyse(make(tmp_path / "several"))
    key, found = several.knee
    assert f"The knee is trial {key} (" in findings(several)[0]
    assert f"with a chance of {found.chance:.0%}, and trial {several.front[found.second]} with" in findings(several)[0]


def test_of_one_seed_nothing_is_said_to_be_sure(tmp_path):
    certainty = Certainty(analyse(make(tmp_path, replicas=1)))
    assert not certainty.known
    assert certainty.table().empty
    assert certainty.sentences() == []


def test_a_page_of_a_large_study_is_cut_and_says_so(tmp_path):
    made = make(tmp_path / "pictures", complete=210)
    unused = {f"unused_{i}": optuna.distributions.FloatDistribution(0.0, 1.0) for i in range(20)}
    columns = pd.DataFrame({f"param:{name}": np.linspace(0, 1, len(made.trials)) for name in unused})
    texts = {name: optuna.distributions.distribution_to_json(one) for name, one in unused.items()}
    trials = pd.concat([made.trials, columns], axis=1)
    trials.loc[trials["state"] == "FAIL", "reason"] = "it broke"
    failed = pd.concat([trials[trials["state"] == "FAIL"].assign(trial=1000 + i, reason=f"why {i}") for i in range(15)])
    large = replace(made, trials=pd.concat([trials, failed]), distributions={**made.distributions, **texts})
    analysis = analyse(large)
    page = write_pages(analysis, {}, tmp_path)
    html, markdown = page.read_text(), (tmp_path / "report.md").read_text()
    assert page.stat().st_size < 1e6
    for said in (
        "The table of trials has the best 200 of 227 by Pareto rank; trials.csv has all.",
        "The tables of the front have 200 of its 210 trials, evenly along it.",
        "Tables, sentences and figures have 8 of 23 parameters, those that explain most of the variance; trials.csv",
        "What parameters explain is computed over 200 of 210 complete trials, evenly chosen.",
        "6 failed for other reasons, which their runs in MLflow have",
    ):
        assert said in html
        assert said in markdown
    assert "The best trials" in html
    assert "All trials" not in html
    # The front, its certainty, and all trials.
    assert html.count("<tr>") + html.count("<tr ") == pytest.approx(3 * 201 + 2 * 10, abs=20)
    assert len(analysis.listed_front) == 200
    assert set(analysis.shown.values()) <= set(analysis.listed_front)
    assert max(map(len, findings(analysis))) < 1500
    assert len(analysis.trials_table().columns) > 20, "trials.csv has all parameters"
    assert FIGURES["learning_curves"].cut(analysis) == "100 of 211 trials are drawn, evenly chosen."
    assert FIGURES["scores"].cut(analysis) == "41 of 210 complete trials are drawn, evenly chosen."
    assert _unnumbered(600) == ""
    assert _unnumbered(1764) == "The 1,764 cells have no room for numbers."
    assert FIGURES["sweeps"].cut(analysis) == ""
    assert words.cuts(analyse(made)) != []
    assert words.cuts(analyse(make(tmp_path / "small"))) == []


def test_the_listed_trials_are_the_best(tmp_path):
    made = make(tmp_path, metrics=1, complete=300)
    analysis = analyse(made)
    by_mse = analysis.complete["val/mse"].sort_values().index[:200]
    assert analysis.listed_trials == sorted(by_mse)
    unknown = made.trials.copy()
    unknown.loc[unknown["trial"].isin(by_mse[:5]), "val/mse"] = np.nan
    assert not set(by_mse[:5]) & set(analyse(replace(made, trials=unknown)).listed_trials)


def test_a_parameter_that_no_trial_has_is_left_out(tmp_path):
    """As one of a branch of the space that none of a few trials took."""
    made = make(tmp_path / "pictures", complete=4)
    texts = {**made.distributions, "depth": made.distributions["latent_dim"]}
    analysis = analyse(replace(made, distributions=texts))
    assert "depth" not in write_pages(analysis, {}, tmp_path).read_text()
