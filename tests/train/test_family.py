"""Every objective with every network that it admits, and with every corruption and bottleneck of its kind."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.small import TINY

from aesearch.bottlenecks import FlowCode, Gaussian, InverseAutoregressive, Plain, VampPrior, VectorQuantized
from aesearch.corruptions import Masking, SaltAndPepper
from aesearch.datasets import Data, Iris
from aesearch.errors import UserError
from aesearch.metrics import metric_of
from aesearch.model import load_model, save_model
from aesearch.networks import MLP, Conv, ResNet
from aesearch.objectives import (
    DIPVAE,
    IWAE,
    VAE,
    WAE,
    AnnealedVAE,
    BetaTCVAE,
    BetaVAE,
    Contractive,
    Cyclical,
    FactorVAE,
    FreeBits,
    InfoVAE,
    KLSparse,
    Linear,
    Reconstruction,
    Sparse,
    pixels,
)
from aesearch.protocols import chen
from aesearch.scores import Disentanglement, Likelihood
from aesearch.train import Engine, TrainConfig, train

OBJECTIVES = [
    Reconstruction(),
    Reconstruction("gaussian"),
    Reconstruction("laplace"),
    Sparse(),
    KLSparse(),
    Contractive(0.01),
    VAE(),
    BetaVAE(),
    FreeBits(),
    AnnealedVAE(5.0, gamma=1.0),
    IWAE(samples=3),
    BetaTCVAE(),
    BetaTCVAE(estimator="stratified"),
    FactorVAE(hidden=(32, 32)),
    DIPVAE(1.0, 1.0),
    DIPVAE(1.0, 1.0, kind=2),
    InfoVAE(scale=10.0),
    WAE(10.0),
]
NETWORKS = {
    "mlp": MLP((32,)),
    "mlp dropout": MLP((32,), dropout=0.1),
    "conv": Conv((8,), dense=0, kernel=3, norm="group"),
    "conv batch norm": Conv((8, 16), dense=16, norm="batch"),
    "resnet": ResNet((4,)),
}
BOTTLENECKS = [
    (Reconstruction(), VectorQuantized(codes=16)),
    (Reconstruction("gaussian"), VectorQuantized(codes=16, codebook="gradient")),
    (Sparse(), Plain(nonnegative=True)),
    (VAE(), Gaussian(VampPrior(5))),
    (IWAE(samples=2), Gaussian(VampPrior(5))),
    (VAE(), InverseAutoregressive(hidden=16)),
    (IWAE(samples=2), InverseAutoregressive(hidden=16)),
]


def config(objective, network, **changes) -> TrainConfig:
    fields = {"replicas": 2, "epochs": 3, "batch_size": 32, "learning_rate": 3e-3} | changes
    return TrainConfig(TINY, network, 4, objective, **fields)


def name(value) -> str:
    return repr(value).split("(")[0] + "-" + getattr(value, "likelihood", "")


def check(trained: TrainConfig, data: Data, folder) -> None:
    epochs = list(train(trained, data))
    first_metrics = epochs[0].metrics
    first, last = first_metrics["train/loss"], epochs[-1].metrics["train/loss"]
    assert all(after < before for before, after in zip(first, last, strict=True)), (first, last)
    result = epochs[-1].result
    for split in ("val", "test"):
        names = {f"{split}/{metric}" for metric in trained.final_names(split)}
        assert names == {metric for metric in result.metrics if metric.startswith(split)}
    assert all(np.isfinite(value) for values in result.metrics.values() for value in values)
    assert all(metric_of(metric).explanation for metric in (*first_metrics, *result.metrics)), "each is described"
    save_model(folder, trained, dict(result.weights))
    x = torch.from_numpy(np.array(data.images[data.test])).float() / 255
    for replica in range(2):
        loaded = load_model(folder, replica)
        assert loaded.config == trained
        model = loaded.network
        label = torch.zeros(len(x), dtype=torch.int64) if trained.conditional else None
        with torch.no_grad():
            logits = model.decode(model.encode(x, label), label)
        if not trained.conditional:
            mse = (pixels(logits, trained.objective.likelihood) - x).square().mean()
            assert mse.item() == pytest.approx(result.metrics["test/mse"][replica], rel=1e-4)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("objective", OBJECTIVES, ids=name)
def test_every_objective_learns_with_every_network(objective, network, few, tmp_path):
    if objective.differentiates and NETWORKS[network].stateful:
        with pytest.raises(UserError, match="needs a network without batch norm or dropout"):
            config(objective, NETWORKS[network])
        return
    check(config(objective, NETWORKS[network]), few, tmp_path)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize(("objective", "bottleneck"), BOTTLENECKS, ids=lambda value: name(value))
def test_every_bottleneck_learns_with_every_network(objective, bottleneck, network, few, tmp_path):
    built = NETWORKS[network]
    refused = (bottleneck.spatial and "mlp" in network) or (
        isinstance(bottleneck, Gaussian) and bottleneck.prior and built.stateful
    )
    if refused:
        with pytest.raises(UserError, match="needs a network"):
            config(objective, built, bottleneck=bottleneck).build()
        return
    check(config(objective, built, bottleneck=bottleneck), few, tmp_path)


@pytest.mark.parametrize("network", ["mlp", "conv batch norm"])
@pytest.mark.parametrize(
    "objective",
    [VAE("gaussian_global"), VAE("gaussian_pixel"), VAE("logistic"), IWAE(2, "logistic")],
    ids=name,
)
def test_a_likelihood_with_a_scale_learns(objective, network, few, tmp_path):
    scored = config(objective, NETWORKS[network], scores=(Likelihood(2, images=8),))
    check(scored, few, tmp_path)
    check(replace(scored, objective=replace(objective), precision="bfloat16"), few, tmp_path)


def test_a_table_has_a_learned_scale_and_no_bits(data_root):
    """Its columns have no 256 values, so there is no probability of them."""
    for likelihood in ("gaussian_global", "gaussian_pixel"):
        tabled = replace(config(VAE(likelihood), NETWORKS["mlp"], scores=(Likelihood(2),)), data=Iris())
        names = {f"test/{metric}" for metric in tabled.final_names("test")}
        assert {"test/log_likelihood_2", "test/rate", "test/distortion"} < names
        result = list(train(tabled, Iris().load(data_root)))[-1].result
        assert names == {metric for metric in result.metrics if metric.startswith("test/")}
        assert "test/bits_per_dim_2" not in names
    with pytest.raises(UserError, match='a table needs likelihood="gaussian", "laplace", "gaussian_global" or "gau'):
        replace(tabled, objective=VAE("logistic"))


def test_a_grid_has_a_scale_too(few, tmp_path):
    for likelihood in ("gaussian_pixel", "logistic"):
        check(config(Reconstruction(likelihood), NETWORKS["conv"], bottleneck=VectorQuantized(16)), few, tmp_path)


def test_a_global_scale_learns_the_rmse(few):
    trained = config(Reconstruction("gaussian_global"), NETWORKS["mlp"], epochs=100, learning_rate=1e-3)
    result = list(train(trained, few))[-1].result
    scale = torch.nn.functional.softplus(10 * result.weights["log_scale"] + 6) - 6
    x = torch.from_numpy(np.array(few.images[few.train])).float() / 255
    for replica, found in enumerate(scale.exp().tolist()):
        model = trained.build().eval()
        model.load_state_dict({key: tensor[replica] for key, tensor in result.weights.items()})
        with torch.no_grad():
            error = (pixels(model.decode(model.encode(x)), "gaussian_global") - x).square().mean().sqrt().item()
        assert found == pytest.approx(error, rel=0.15)
        assert found < 0.2, "it began at 1"


def test_a_sparse_code_is_what_the_decoder_gets(few):
    trained = config(KLSparse(target=0.1, weight=30.0), NETWORKS["mlp"], epochs=60, replicas=1)
    result = list(train(trained, few))[-1].result
    model = trained.build().eval()
    model.load_state_dict({key: tensor[0] for key, tensor in result.weights.items()})
    seen = []
    model.decoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    x = torch.from_numpy(np.array(few.images[few.train])).float() / 255
    with torch.no_grad():
        output = model(x, torch.zeros(1, len(x), 4), decode_mean=True)
    assert torch.equal(seen[0], output.code.mean)
    assert 0 <= seen[0].min() < seen[0].max() <= 1
    assert seen[0].mean(0).tolist() == pytest.approx([0.1] * 4, abs=0.04)
    with pytest.raises(
        UserError, match=r"KLSparse needs a code between 0 and 1, but got Plain.*bottleneck=Sigmoid\(\)"
    ):
        replace(trained, bottleneck=Plain())


ALIKE = [
    (VAE("gaussian_global"), "mlp", None),
    (VAE("gaussian_pixel"), "conv batch norm", None),
    (VAE("logistic"), "conv", None),
    (KLSparse(), "mlp", None),
    (Contractive(0.01), "mlp", None),
    (BetaTCVAE(), "mlp", None),
    (VAE(), "mlp", Gaussian(VampPrior(5))),
    (Reconstruction(), "conv", VectorQuantized(16)),
]


@pytest.mark.parametrize(("objective", "network", "bottleneck"), ALIKE, ids=lambda value: name(value))
def test_vmapped_replicas_are_looped_ones(objective, network, bottleneck, few):
    """Learned scales, pseudo-inputs and the buffers of a codebook are each replica's own."""
    trained = config(objective, NETWORKS[network], epochs=2, bottleneck=bottleneck, warmup=Linear(0.5))
    looped, vmapped = (list(train(trained, few, engine=Engine(vmapped=way)))[-1] for way in (False, True))
    assert vmapped.metrics["val/loss"] == pytest.approx(looped.metrics["val/loss"], rel=1e-4)
    for key, tensor in looped.result.weights.items():
        if key in ("log_scale", "pseudo_inputs", "bottleneck.use", "bottleneck.vectors"):
            torch.testing.assert_close(vmapped.result.weights[key], tensor, rtol=1e-2, atol=1e-3)
            assert not torch.equal(tensor[0], tensor[1])


@pytest.mark.parametrize("objective", [one for one in OBJECTIVES if one.variational], ids=name)
def test_a_flow_learns_with_every_objective_that_takes_it(objective, few, tmp_path):
    flow = InverseAutoregressive(hidden=16)
    if not issubclass(FlowCode, objective.needs):
        with pytest.raises(UserError, match=r"needs a .*posterior.*, but got InverseAutoregressive.*write .*Gaussian"):
            config(objective, NETWORKS["mlp"], bottleneck=flow)
        return
    check(config(objective, NETWORKS["mlp"], bottleneck=flow), few, tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"noise_factor": 0.3},
        {"corruption": Masking(0.3)},
        {"corruption": SaltAndPepper(0.2)},
        {"warmup": Linear(0.5)},
        {"warmup": Cyclical(2)},
        {"precision": "bfloat16"},
    ],
    ids=str,
)
@pytest.mark.parametrize("objective", [Reconstruction(), BetaVAE(), FactorVAE(hidden=(32,))], ids=name)
def test_corruptions_and_warmups_combine_with_objectives(objective, changes, few, tmp_path):
    check(config(objective, NETWORKS["conv"], **changes), few, tmp_path)


@pytest.mark.parametrize("objective", [Reconstruction(), BetaVAE(), FactorVAE(hidden=(32,)), IWAE(samples=2)], ids=name)
@pytest.mark.parametrize("network", ["mlp dropout", "conv batch norm", "resnet"])
def test_replicas_are_alike_alone_vmapped_and_streamed(objective, network, few):
    trained = config(objective, NETWORKS[network], epochs=2, noise_factor=0.1)
    ways = [Engine(), Engine(vmapped=True), Engine(streaming=True)]
    runs = [[epoch.metrics["val/loss"] for epoch in train(trained, few, engine=way)] for way in ways]
    single = [epoch.metrics["val/loss"] for epoch in train(replace(trained, replicas=1), few)]
    for epoch in range(2):
        assert runs[1][epoch] == pytest.approx(runs[0][epoch], rel=1e-4)
        assert runs[2][epoch] == runs[0][epoch]
        assert single[epoch] == runs[0][epoch][:1]


def test_a_warmup_weakens_the_regulariser_in_training_only(few):
    strong = config(BetaVAE(50.0), NETWORKS["mlp"], epochs=1)
    plain, warmed = (next(train(one, few)).metrics for one in (strong, replace(strong, warmup=Linear(1.0))))
    assert max(warmed["train/loss"]) < min(plain["train/loss"])
    expected = -warmed["val/elbo"][0] + 49 * warmed["val/kl"][0]
    assert warmed["val/loss"][0] == pytest.approx(expected, rel=1e-4)


def test_an_adversarial_objective_keeps_its_last_epoch(few):
    result = list(train(config(FactorVAE(hidden=(32,)), NETWORKS["mlp"]), few))[-1].result
    assert result.epochs == (3, 3)


@pytest.mark.parametrize(
    ("objective", "changes", "message"),
    [
        (VAE(), {"bottleneck": Plain()}, r"VAE needs a bottleneck of Gaussian\(\), but got Plain"),
        (Reconstruction(), {"bottleneck": Gaussian()}, "Reconstruction needs a bottleneck of Plain"),
        (BetaTCVAE(), {"bottleneck": Gaussian(VampPrior())}, "needs the standard normal prior"),
        (BetaTCVAE(), {"bottleneck": InverseAutoregressive()}, "BetaTCVAE needs a diagonal Gaussian posterior"),
        (FreeBits(), {"bottleneck": InverseAutoregressive()}, "FreeBits needs a posterior with independent units"),
        (
            VAE(),
            {"bottleneck": InverseAutoregressive(), "scores": (Disentanglement(protocol=chen),)},
            "Disentanglement needs a diagonal Gaussian posterior, as of",
        ),
        (WAE(), {"bottleneck": VectorQuantized(), "network": Conv()}, "needs a code that is one vector"),
        (
            VAE(),
            {"noise_factor": 0.1, "corruption": Masking()},
            r"noise_factor=.* and corruption=.* exclude each other; write corruption=.* alone",
        ),
        (VAE(), {"conditional": True}, "conditional=True needs data with labels"),
        (VAE(), {"corruption": "masking"}, "corruption must be a Corruption, such as Masking"),
        (VAE(), {"scores": [1]}, "scores must be a tuple of scores"),
    ],
)
def test_what_does_not_combine_is_refused(objective, changes, message):
    with pytest.raises(UserError, match=message):
        config(objective, changes.pop("network", MLP((8,))), **changes)
