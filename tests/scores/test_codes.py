"""What a protocol draws, and what is measured of it, with the floor and the ceiling."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.small import TINY

from aesearch.autoencoder import Autoencoder
from aesearch.bottlenecks import Gaussian, VectorQuantized
from aesearch.datasets import Data, Digits
from aesearch.errors import UserError
from aesearch.metrics import beta_vae_score, dci, factor_vae_score, mig, mig_chen, sap, sap_mixed, sap_svm
from aesearch.networks import MLP, Conv
from aesearch.objectives import VAE, Reconstruction
from aesearch.protocols import chen, dlib, epoch, fast
from aesearch.scores import UDR, Disentanglement, Posterior, Source, Trained, protocols
from aesearch.scores.disentanglement import MEASURES
from aesearch.scores.source import Sample
from aesearch.train import TrainConfig, train

SIZES = (3, 4, 5)
SMALL = replace(dlib, name="small", points=600, test_points=300, votes=300, test_votes=150)


def grid(repeats: int = 20) -> np.ndarray:
    values = np.stack(np.unravel_index(np.arange(60), SIZES), axis=1)
    return np.tile(values, (repeats, 1))


class Encoder:
    """Codes that exist already, and every place that was asked for."""

    def __init__(self, codes: np.ndarray, log_vars: np.ndarray | None = None) -> None:
        self.codes, self.log_vars, self.asked = codes, log_vars, []

    def __call__(self, places):
        self.asked += places.tolist()
        return Posterior(self.codes[places], None if self.log_vars is None else self.log_vars[places])


def source(codes: np.ndarray, log_vars: np.ndarray | None = None) -> Source:
    return Source(Encoder(codes, log_vars), len(codes), grid(len(codes) // 60), ("shape", "x", "y"))


def perfect(repeats: int = 20) -> np.ndarray:
    factors = grid(repeats)
    return ((factors - factors.mean(0)) / factors.std(0)).astype(np.float32)


def test_points_of_all_images_are_drawn_with_replacement():
    sample = Sample(source(perfect(2)), SMALL, whole=False)
    assert (len(sample.codes), len(sample.test_codes)) == (600, 300)
    assert len(np.unique(sample.places)) <= 120 < len(sample.places)
    np.testing.assert_array_equal(sample.factors, grid(2)[sample.places])
    np.testing.assert_array_equal(sample.test_codes, perfect(2)[sample.test_places])


def test_points_of_a_split_are_drawn_once_and_in_proportion():
    split = replace(SMALL, draws="split")
    sample = Sample(source(perfect(20)), split, whole=False)
    both = np.concatenate([sample.places, sample.test_places])
    assert (len(sample.places), len(sample.test_places), len(set(both))) == (600, 300, 900)
    small = Sample(source(perfect(1)), split, whole=False)
    assert (len(small.places), len(small.test_places)) == (40, 20)
    assert set(small.places) | set(small.test_places) == set(range(60))


def test_without_test_points_the_points_judge_themselves():
    sample = Sample(source(perfect()), replace(SMALL, test_points=0), whole=False)
    np.testing.assert_array_equal(sample.test_codes, sample.codes)
    assert len(sample.codes) == 600


@pytest.mark.parametrize("whole", [False, True])
def test_no_item_is_encoded_twice(whole):
    made = source(perfect())
    sample = Sample(made, SMALL, whole)
    for _ in range(2):
        assert len(sample.codes) == 600
        assert len(sample.test_codes) == 300
        if whole:
            assert len(sample.all_codes) == 1200
    assert len(made.encode.asked) == len(set(made.encode.asked))
    assert (len(made.encode.asked) == 1200) == whole


def test_metrics_that_vote_over_all_items_encode_each_once():
    made = source(perfect())
    Disentanglement(("factor_vae", "beta_vae", "mig", "dci"), SMALL).of_source(made)
    assert sorted(made.encode.asked) == list(range(1200))


def test_a_sampled_code_is_of_its_items_posterior_alone():
    means, log_vars = np.full((6000, 2), 3.0, np.float32), np.full((6000, 2), 2 * np.log(0.5), np.float32)
    made = source(means, log_vars)
    sampled = replace(SMALL, codes="sampled", draws="split", points=4000, test_points=0)
    codes = Sample(made, sampled, whole=False)
    assert codes.codes.mean() == pytest.approx(3.0, abs=0.02)
    assert codes.codes.std() == pytest.approx(0.5, abs=0.02)
    everything = Sample(made, sampled, whole=True)
    np.testing.assert_array_equal(codes.codes, everything.all_codes[codes.places])


def test_factors_can_be_left_out():
    sample = Sample(source(perfect()), replace(SMALL, without=("shape",), unordered=("y",)), whole=False)
    np.testing.assert_array_equal(sample.factors, grid()[sample.places][:, 1:])
    assert sample.unordered.tolist() == [False, True]
    noisy_shape = perfect()
    noisy_shape[:, 0] = 0
    (with_shape,) = Disentanglement(("mig",), SMALL).of_source(source(noisy_shape)).values()
    (without,) = Disentanglement(("mig",), replace(SMALL, without=("shape",))).of_source(source(noisy_shape)).values()
    assert without == pytest.approx(1, abs=0.05)
    assert with_shape == pytest.approx(2 / 3, abs=0.05)


def trained(data: Data, cache=None, latent_dim: int = 4) -> Trained:
    torch.manual_seed(0)
    model = Autoencoder(MLP((8,)), (1, 2, 2), latent_dim, Gaussian()).eval()

    def images(index):
        return torch.from_numpy(data.images[index])

    return Trained(model, VAE(), data, images, 0, ("shape", "x", "y"), cache)


def gridded() -> Data:
    images = np.random.default_rng(0).random((1200, 1, 2, 2)).astype(np.float32)
    places = np.arange(1200)
    return Data(images, train=places[:400], val=places[400:800], test=places[800:], factors=grid())


@pytest.mark.parametrize("metric", [name for name, measure in MEASURES.items() if measure.labelled])
def test_noise_scores_the_floor_and_the_factors_the_ceiling(metric):
    score = Disentanglement((metric,), SMALL)
    found = score.references(trained(gridded()), "test")
    assert tuple(found) == score.names == tuple(f"small.{name}" for name in MEASURES[metric].names)
    noise = np.random.default_rng(5).normal(size=(1200, 4)).astype(np.float32)
    floors, ceilings = score.of_source(source(noise)), score.of_source(source(perfect()))
    for name, reference in found.items():
        assert reference.floor == pytest.approx(floors[name], abs=0.15)
        assert reference.ceiling == pytest.approx(ceilings[name], abs=1e-6)
        assert reference.ceiling > reference.floor + 0.1


def noisy() -> np.ndarray:
    """Codes of middling quality, one of them small."""
    codes = perfect() @ np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
    codes += 0.5 * np.random.default_rng(4).normal(size=codes.shape)
    return (codes * [1, 1, 0.04]).astype(np.float32)


def measured(metric: str, **fields) -> float:
    log_vars = np.full((1200, 3), -2.0, np.float32)
    first, *_ = Disentanglement((metric,), replace(SMALL, **fields)).of_source(source(noisy(), log_vars)).values()
    return first


def test_what_votes_has_the_numbers_of_its_protocol():
    z, v = noisy(), grid()
    fields = {"votes": 90, "test_votes": 40, "vote_size": 5, "active": 0.05, "seed": 3}
    assert measured("factor_vae", **fields) == factor_vae_score(z, v, 90, 40, 5, 0.05, 3)
    other = [fields | change for change in ({"test_votes": 70}, {"vote_size": 20}, {"active": 0.0}, {"seed": 4})]
    assert measured("factor_vae", **fields) not in [measured("factor_vae", **changed) for changed in other]
    fields = {"votes": 90, "test_votes": 40, "pair_size": 3, "pairs": "one_value", "seed": 3}
    assert measured("beta_vae", **fields) == beta_vae_score(z, v, 90, 40, 3, 3, one_value=True)
    other = [fields | change for change in ({"test_votes": 70}, {"pair_size": 20}, {"pairs": "own_value"}, {"seed": 4})]
    assert measured("beta_vae", **fields) not in [measured("beta_vae", **changed) for changed in other]


def test_each_form_of_a_metric_is_that_of_its_protocol():
    sample = Sample(source(noisy()), SMALL, whole=False)
    pair = (sample.codes, sample.factors, sample.test_codes, sample.test_factors)
    forms = {
        sap(*pair[:2]): measured("sap", sap="r2"),
        sap_svm(*pair): measured("sap", sap="svm"),
        sap_mixed(*pair, np.array([True, False, False])): measured("sap", sap="r2", unordered=("shape",)),
    }
    assert len(forms) == 3
    assert all(expected == pytest.approx(found) for expected, found in forms.items())
    for regressor in ("lasso", "random_forest"):
        assert measured("dci", regressor=regressor) == dci(*pair, regressor, 0).disentanglement
    assert measured("dci", regressor="lasso") != measured("dci", regressor="random_forest")
    fields = {"mig": "posteriors", "samples": 80, "images": 30, "seed": 5}
    log_vars = np.full((1200, 3), -2.0, np.float32)
    assert measured("mig", **fields) == mig_chen(noisy(), log_vars, grid(), 80, 30, 5)
    other = [fields | change for change in ({"samples": 90}, {"images": None}, {"seed": 6})]
    assert measured("mig", **fields) not in [measured("mig", **changed) for changed in other]
    assert measured("mig", bins=20) != measured("mig", bins=5)


def test_a_protocol_of_several_scores_lists_all_measures():
    found = protocols((Disentanglement(("mig",)), Disentanglement(("dci",)), UDR(), Disentanglement(("mig",), SMALL)))
    assert found.pop("UDR-2")["measured"] == ["udr_lasso", "udr_spearman"], "the version of its estimator"
    assert {name: known["measured"] for name, known in found.items()} == {
        "fast": ["fast.mig", "fast.dci_disentanglement", "fast.dci_completeness", "fast.dci_informativeness"],
        "small": ["small.mig"],
    }


def test_metrics_of_fast_are_high_for_factors_low_for_noise():
    few = replace(fast, points=800, test_points=400, votes=400, test_votes=200)
    noise = np.random.default_rng(5).normal(size=(1200, 4)).astype(np.float32)
    low, high = (Disentanglement(protocol=few).of_source(source(codes)) for codes in (noise, perfect()))
    assert set(low) == set(high) == set(Disentanglement(protocol=few).names)
    chance = {"factor_vae": 1 / 3, "beta_vae": 1 / 3, "explicitness": 0.5, "infom": 1 / 3}
    bounds = {"mig": 0.95, "sap": 0.99, "factor_vae": 0.99, "beta_vae": 0.99, "dci_disentanglement": 0.99}
    bounds |= {"dci_completeness": 0.99, "dci_informativeness": 0.99, "explicitness": 0.85, "mig_sup": 0.95}
    for name, least in bounds.items():
        assert high[f"fast.{name}"] > least, name
        assert low[f"fast.{name}"] < chance.get(name, 0.4) + 0.12, name
    assert high["fast.total_correlation"] < 0.02
    assert high["fast.mutual_information"] < 0.02


def test_a_model_encodes_all_images_once_for_all_votes():
    asked = []
    one = trained(gridded())
    seen = replace(one, images=lambda index: asked.append(index.copy()) or one.images(index))
    dear = Disentanglement(("factor_vae",), SMALL), Disentanglement(("beta_vae", "mig"), replace(SMALL, seed=2))
    first, second = (score.measure(seen, "test") for score in dear)
    np.testing.assert_array_equal(np.sort(np.concatenate(asked)), np.arange(1200))
    alone = dear[1].measure(replace(seen, _everything=[]), "test")
    assert alone == second
    assert {*first, *second} == {"small.factor_vae", "small.beta_vae", "small.mig"}


def test_floors_of_posteriors_are_those_of_the_prior():
    own = replace(chen, name="own", without=(), samples=300)
    found = Disentanglement(("mig",), own).references(trained(gridded()), "test")["own.mig"]
    assert found.floor == pytest.approx(0, abs=0.05)
    assert found.ceiling == pytest.approx(1, abs=0.05)


def test_references_are_computed_once_and_kept(tmp_path):
    score = Disentanglement(("mig",), SMALL)
    one = trained(gridded(), tmp_path)
    first = score.references(one, "test")
    files = sorted((tmp_path / "references").glob("*.json"))
    assert len(files) == 2, "a floor and a ceiling"
    for file in files:
        rows = json.loads(file.read_text())
        file.write_text(json.dumps([[0.25 + 0.5 * (place == 0) * (len(rows) > 1)] for place in range(len(rows))]))
    floor, ceiling, spread = score.references(one, "test")["small.mig"]
    assert (floor, ceiling) == pytest.approx((0.25 + 0.5 / 3, 0.25)), "read from there"
    assert spread == pytest.approx(0.5 / 3**0.5)
    assert score.references(trained(gridded(), tmp_path, latent_dim=5), "test")["small.mig"].floor != 0.25
    other = Disentanglement(("mig",), replace(SMALL, bins=10))
    assert other.references(one, "test")["small.mig"].ceiling != 0.25
    assert first["small.mig"].ceiling > 0.9


def test_a_folder_that_cannot_be_written_is_done_without(tmp_path):
    (tmp_path / "file").write_text("")
    score = Disentanglement(("mig",), SMALL)
    one, other = trained(gridded(), tmp_path / "file"), trained(gridded())
    assert score.references(one, "test") == score.references(other, "test")


def test_a_score_on_codes_is_the_function_on_arrays():
    one = trained(gridded())
    protocol = replace(epoch, name="own")
    found = Disentanglement(("mig", "total_correlation"), protocol).measure(one, "val")
    codes = one.codes("val")
    assert found["own.mig"] == pytest.approx(mig(codes, gridded().factors[400:800]))
    assert set(found) == {"own.mig", "own.total_correlation"}


def test_what_sees_all_images_is_only_ever_called_test():
    assert Disentanglement(protocol=dlib).splits == ("test",)
    assert Disentanglement(protocol=fast).splits == ("val", "test")


def make(**fields) -> TrainConfig:
    return TrainConfig(**({"data": TINY, "network": MLP((8,)), "latent_dim": 2, "objective": VAE()} | fields))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"scores": (Disentanglement(protocol=chen),), "objective": Reconstruction()}, "chen needs posteriors"),
        ({"scores": (Disentanglement(),), "data": Digits()}, "need ground-truth factors that vary"),
        ({"scores": (Disentanglement(("mig",)), Disentanglement(("mig",)))}, r"^fast\.mig would be measured twice"),
        (
            {"scores": (Disentanglement(("mig",)), Disentanglement(("sap",), replace(fast, seed=1)))},
            "^two protocols that differ are named 'fast'",
        ),
        ({"monitors": (Disentanglement(("mig",), dlib),)}, "monitors need a protocol that draws the means of a split"),
        (
            {"monitors": (Disentanglement(("mig",), replace(fast, mig="posteriors")),)},
            "monitors need a protocol that draws the means of a split",
        ),
        ({"monitors": (UDR(),)}, "monitors must be a tuple of scores on codes"),
        ({"scores": (UDR(),), "replicas": 1}, "UDR compares a fixed number of replicas, but got replicas=1"),
        (
            {
                "scores": (Disentanglement(),),
                "network": Conv((4,)),
                "objective": Reconstruction(),
                "bottleneck": VectorQuantized(),
            },
            "Disentanglement needs a code that is one vector",
        ),
    ],
)
def test_scores_that_cannot_be_are_refused_before_any_training(fields, message):
    with pytest.raises(UserError, match=message):
        make(**fields)


def test_a_metric_that_a_protocol_does_not_define_is_refused():
    with pytest.raises(UserError, match="the protocol chen does not define the metric 'dci'"):
        Disentanglement(("dci",), chen)
    with pytest.raises(UserError, match=r"protocol must be a Protocol, such as protocols.dlib, but got 'dlib'"):
        Disentanglement(("mig",), "dlib")


def test_the_study_file_chooses_what_each_epoch_measures(tiny):
    config = make(epochs=2, replicas=1, monitors=(Disentanglement(("modularity",), epoch),))
    epochs = list(train(config, tiny))
    assert all("val/modularity" in one.metrics for one in epochs)
    assert not any("val/mig" in one.metrics for one in epochs)
    assert "modularity" in config.final_names("val")
    bare = list(train(make(epochs=1, replicas=1, monitors=()), tiny))
    assert not {"val/mig", "val/sap"} & set(bare[-1].result.metrics)
    assert bare[-1].result.protocols == {}


def test_a_result_says_its_protocols_and_references(tiny, tmp_path):
    config = make(epochs=1, replicas=2, scores=(Disentanglement(("mig", "total_correlation")),))
    *_, last = train(config, tiny, cache=tmp_path)
    protocols = last.result.protocols
    assert {name: known["hash"] for name, known in protocols.items()} == {"epoch": epoch.hash, "fast": fast.hash}
    assert protocols["epoch"]["measured"] == ["mig", "sap"]
    assert protocols["fast"]["measured"] == ["fast.mig", "fast.total_correlation"]
    names = {f"{split}/{name}" for split in ("val", "test") for name in ("mig", "sap", "fast.mig")}
    assert set(last.result.references) == names
    assert all(floor < ceiling for floor, ceiling, _ in last.result.references.values())
    assert len(last.result.metrics["test/fast.mig"]) == 2
