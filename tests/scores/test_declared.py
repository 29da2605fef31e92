"""Every metric of every score is described, in aesearch and in a person's study file."""

from dataclasses import asdict, dataclass
from inspect import isabstract, isclass
from pathlib import Path

import pytest

from aesearch import scores
from aesearch.errors import UserError
from aesearch.metrics import MetricKind, metric_of
from aesearch.metrics.registry import KINDS
from aesearch.protocols import READY
from aesearch.scores import (
    UDR,
    Comparison,
    Denoising,
    Disentanglement,
    FineTuned,
    Likelihood,
    Probe,
    Quality,
    Score,
    check_declared,
    declared,
)
from aesearch.search.ledger import Ledger
from aesearch.study import load_study

KINDS_OF_SCORES = [
    kind
    for kind in map(vars(scores).get, scores.__all__)
    if isclass(kind) and issubclass(kind, Score | Comparison) and not isabstract(kind)
]
VARIANTS = [
    *(kind() for kind in KINDS_OF_SCORES),
    *(Disentanglement(protocol=protocol) for protocol in READY.values()),
    Denoising((0.05, 1)),
    Probe((10, "all"), raw=True),
    Probe((10, "all"), factor="shape"),
    FineTuned((10,)),
    Likelihood(samples=1),
]

STUDY = '''"""Sharp?"""
from dataclasses import dataclass

from aesearch import Digits, Minimize, Study, TrainConfig
from aesearch.metrics import MetricKind
from aesearch.networks import MLP
from aesearch.objectives import Reconstruction
from aesearch.scores import Comparison, Score

@dataclass(frozen=True)
class Blur(Score):
    KINDS
    splits = ("val", "test")
    names = ("blur",)

    def check(self, data, objective):
        pass

    def measure(self, trained, split):
        return {"blur": 0.5}

@dataclass(frozen=True)
class Likeness(Comparison):
    kinds = (MetricKind("likeness", "more", "", "as like as two peas.", None, None, "pairs", compares=True),)
    names = ("likeness",)

    def check(self, data, objective):
        pass

    def compare(self, models, split):
        return {"likeness": tuple(0.5 for _ in models)}

def space(trial):
    latent_dim = trial.suggest_int("latent_dim", 2, 4)
    return TrainConfig(Digits(), MLP((8,)), latent_dim, Reconstruction(), epochs=1, scores=(Blur(),))

study = Study("sharp", space, Minimize("val/mse"), n_trials=2, comparisons=(Likeness(),))
'''
BLUR = 'MetricKind("blur", better="less", unit="pixels", explanation="x.", floor=None, ceiling=None, cost="images")'


def test_there_are_scores():
    assert {UDR, Disentanglement, Probe} < set(KINDS_OF_SCORES)


@pytest.mark.parametrize("score", VARIANTS, ids=repr)
def test_every_metric_of_every_score_is_described(score):
    check_declared(score)
    for split in score.splits:
        for name in score.names:
            assert metric_of(f"{split}/{name}").explanation
    if isinstance(score, Disentanglement):
        measured = {metric: declared.MEASURES[metric] for metric in score.chosen}
        for measure in measured.values():
            assert all((KINDS[name].floor is not None) == measure.labelled for name in measure.names)
    if isinstance(score, Comparison):
        assert all(metric_of(f"val/study.{name}").compares for name in score.names)


def test_every_described_metric_is_of_a_score_or_of_training():
    measured = {metric_of(name).name for score in VARIANTS for name in score.names}
    of_epochs = ["loss", "mse", "bce", "elbo", "kl", "active_units", "perplexity", "sparsity", "denoising_mse"]
    assert measured | set(of_epochs) == set(KINDS)


def test_a_score_without_kinds_is_an_error():
    @dataclass(frozen=True)
    class Forgotten(Quality):
        names = ("psnr", "forgotten")

    with pytest.raises(UserError, match="Forgotten measures 'forgotten', which no MetricKind describes"):
        declared.check_scores([Probe, Forgotten, "not a score"])


def test_a_measure_without_kinds_is_an_error(monkeypatch):
    monkeypatch.setitem(declared.MEASURES, "mig", declared.MEASURES["mig"]._replace(names=("mig", "mgi")))
    with pytest.raises(UserError, match=r"MEASURES\['mig'\] measures \('mig', 'mgi'\), but its kinds are \('mig',\)"):
        declared.check_measures()
    monkeypatch.delitem(declared.MEASURES, "mig")
    with pytest.raises(UserError, match=r"MEASURES\['mig'\] measures \(\), but its kinds are \('mig',\)"):
        declared.check_measures()


def own_study(folder: Path, kinds: str) -> Path:
    path = folder / "sharp.py"
    path.write_text(STUDY.replace("KINDS", kinds))
    return path


def test_a_score_of_ones_own_says_what_its_metric_is(tmp_path):
    study = load_study(own_study(tmp_path, f"kinds = ({BLUR},)"))
    ledger = Ledger.open(study, tmp_path / "home")
    described = ledger.describe()["kinds"]
    ledger.close()
    assert [kind["name"] for kind in described] == ["blur", "likeness"]
    assert described == [asdict(kind) for kind in study.kinds]
    assert metric_of("test/blur", study.kinds).better == "less"
    assert "blur" not in KINDS, "another study may mean something else by it"


@pytest.mark.parametrize(
    ("kinds", "message"),
    [
        ("pass", r"Blur measures 'blur', which no MetricKind describes; write in Blur: kinds = \(MetricKind\('blur'"),
        ('kinds = (MetricKind("blur", "less"),)', "missing 5 required positional arguments: 'unit'"),
        (f"kinds = ({BLUR.replace('less', 'lower')},)", "unknown better 'lower' of blur: known: less, more"),
        (f"kinds = ({BLUR}, {BLUR.replace('blur', 'mig')})", "'mig', which is a metric of aesearch; give its own"),
    ],
)
def test_one_that_does_not_gets_one_line(tmp_path, kinds, message):
    with pytest.raises(UserError, match=message) as caught:
        load_study(own_study(tmp_path, kinds))
    assert "\n" not in str(caught.value)
    assert "sharp.py" in str(caught.value)


def test_a_comparison_of_ones_own_must_say_it_too(tmp_path):
    path = own_study(tmp_path, f"kinds = ({BLUR},)")
    path.write_text("\n".join(line for line in path.read_text().splitlines() if 'likeness", "more' not in line))
    with pytest.raises(UserError, match="Likeness measures 'likeness', which no MetricKind describes"):
        load_study(path)


def test_the_line_that_is_asked_for_can_be_written_as_it_stands():
    with pytest.raises(UserError) as caught:
        check_declared(type("Own", (Score,), {"splits": (), "names": ("own",), "check": None, "measure": None})())
    line = str(caught.value).split("kinds = ")[1]
    assert eval(line, {"MetricKind": MetricKind})[0].name == "own"
