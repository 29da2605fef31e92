"""A study file's own code: what a change of it comes to when the study goes on."""

import json
from pathlib import Path

import pytest

from aesearch.errors import UserError
from aesearch.study import check_spec, load_study

FILE = '''"""Own?"""
import math
from dataclasses import dataclass

from aesearch import Minimize, Sprites, Study, TrainConfig
from aesearch.networks import MLP
from aesearch.objectives import VAE, BetaVAE

A, WEIGHT = 2.0, 1.0
UNUSED = 3
if A > 1:
    SHIFT = 0.0


def weighted(value):
    """Weigh."""
    return WEIGHT * value + SHIFT


@dataclass(frozen=True)
class Base(BetaVAE):
    rate: float = 0.5

    def regulariser(self, output, target, step):
        return weighted(super().regulariser(output, target, step))


class Own(Base):
    """Weighs."""


def space(trial):
    class Net(MLP):
        depth = 1

    beta = trial.suggest_float("beta", 0.5, 8.0)
    return TrainConfig(Sprites(resolution=16, positions=8), Net((8,)), 2, Own(beta), epochs=1)


def unused():
    return math.pi


study = Study("own", space, Minimize("val/mse"), n_trials=2)
'''


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "own.py"


def kept(file: Path, text: str = FILE) -> dict:
    file.write_text(text)
    return json.loads(json.dumps(check_spec(load_study(file), None)))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("    rate: float = 0.5\n", "    # The rate.\n\n    rate: float = (\n        0.5)\n"),
        ('"""Weighs."""', '"""Weighs, by WEIGHT."""'),
        ('    """Weigh."""\n', ""),
        ("UNUSED = 3", "UNUSED = 4"),
        ("return math.pi", "return math.e"),
        ("import VAE, BetaVAE", "import BetaVAE"),
        ('    beta = trial.suggest_float("beta", 0.5, 8.0)', '    beta = trial.suggest_float("beta", 0.5, 2 * 4.0)'),
    ],
)
def test_what_is_not_trained_with_may_change(file, before, after):
    known = kept(file)
    assert before in FILE
    assert kept(file, FILE.replace(before, after))["code"] == known["code"]
    check_spec(load_study(file), known)


@pytest.mark.parametrize(
    ("before", "after", "difference"),
    [
        ("WEIGHT = 2.0, 1.0", "WEIGHT = 2.0, 3.0", "the code of WEIGHT was A, WEIGHT = (2.0, 1.0), is A, WEIGHT ="),
        ("SHIFT = 0.0", "SHIFT = 1.0", "the code of SHIFT was SHIFT = 0.0, is SHIFT = 1.0"),
        ("return WEIGHT *", "return 2 * WEIGHT *", "the code of weighted was return WEIGHT * value + SHIFT, is return"),
        ("return weighted(super()", "return 2 * weighted(super()", "the code of Base was return weighted(super()"),
        ('    """Weighs."""', "    def extra(self):\n        pass", "the code of Own was pass, is def extra(self):"),
        ("depth = 1", "depth = 2", "the code of Net was depth = 1, is depth = 2"),
        ("import VAE, BetaVAE", "import VAE, DIPVAE as BetaVAE", "the code of BetaVAE was from aesearch.objectives"),
    ],
)  # fmt: skip
def test_what_is_trained_with_is_refused_in_one_line(file, before, after, difference):
    known = kept(file)
    assert before in FILE
    file.write_text(FILE.replace(before, after))
    with pytest.raises(UserError) as refused:
        check_spec(load_study(file), known)
    assert difference in str(refused.value)
    assert "undo the change, start a new study from it with --fork NAME" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_spec_of_a_release_that_knew_no_code_goes_on(file):
    known = kept(file)
    del known["code"]
    later = kept(file, FILE.replace("SHIFT = 0.0", "SHIFT = 1.0"))
    assert check_spec(load_study(file), known) == later
