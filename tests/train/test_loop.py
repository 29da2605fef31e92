import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.small import TINY

from aesearch.datasets import Data
from aesearch.errors import UserError
from aesearch.metrics import active_units, mig, sap
from aesearch.networks import MLP, Conv
from aesearch.objectives import VAE, BetaVAE, Reconstruction, bernoulli_nll
from aesearch.train import Engine, Epoch, NonFiniteLossError, TrainConfig, train
from aesearch.train.replicas import Replicas

CONFIG = TrainConfig(
    data=TINY, network=MLP((32,)), latent_dim=4, objective=BetaVAE(2.0), replicas=2, epochs=3, batch_size=100
)


def run(config: TrainConfig, data: Data, **kwargs) -> list[Epoch]:
    return list(train(config, data, **kwargs))


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("network", [MLP((32,)), Conv((4, 8), dense=16)])
@pytest.mark.parametrize(
    "objective", [Reconstruction(), Reconstruction("gaussian"), VAE(), VAE("gaussian"), BetaVAE(4.0)]
)
def test_every_objective_learns_with_every_network(tiny, network, objective):
    epochs = run(replace(CONFIG, network=network, objective=objective, learning_rate=3e-3), tiny)
    first, last = epochs[0].metrics, epochs[-1].metrics
    assert all(after < before for before, after in zip(first["train/loss"], last["train/loss"], strict=True))
    assert all(after < before for before, after in zip(first["val/mse"], last["val/mse"], strict=True))
    for epoch in epochs:
        assert all(np.isfinite(values).all() for values in epoch.metrics.values())


def test_a_replica_is_the_same_alone_and_in_company(tiny):
    together = run(replace(CONFIG, replicas=3), tiny)
    alone = run(replace(CONFIG, replicas=1), tiny)
    for one, three in zip(alone, together, strict=True):
        for name, values in one.metrics.items():
            assert values[0] == three.metrics[name][0], name
    for name, tensor in alone[-1].result.weights.items():
        torch.testing.assert_close(tensor[0], together[-1].result.weights[name][0], rtol=0, atol=0)


@pytest.mark.parametrize("network", [MLP((32,)), Conv((4,), dense=16)])
@pytest.mark.parametrize("objective", [BetaVAE(2.0), Reconstruction()])
def test_vmapped_and_looped_replicas_have_the_same_numbers(tiny, network, objective):
    config = replace(CONFIG, network=network, objective=objective, noise_factor=0.1, replicas=3)
    looped, vmapped = run(config, tiny, engine=Engine(vmapped=False)), run(config, tiny, engine=Engine(vmapped=True))
    for one, other in zip(looped, vmapped, strict=True):
        for name in ("train/loss", "val/loss", "val/mse", "val/denoising_mse"):
            assert one.metrics[name] == pytest.approx(other.metrics[name], rel=1e-3), name


def test_replicas_differ_and_a_seed_decides_them(tiny):
    losses = run(replace(CONFIG, epochs=1), tiny)[0].metrics["train/loss"]
    assert losses[0] != losses[1]
    assert run(replace(CONFIG, epochs=1), tiny)[0].metrics["train/loss"] == losses
    assert run(replace(CONFIG, epochs=1, seed=1), tiny)[0].metrics["train/loss"] != losses


def test_training_leaves_the_global_generator_alone(tiny):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    run(replace(CONFIG, epochs=1), tiny)
    torch.testing.assert_close(torch.rand(3), expected)


def test_batch_norm_trains_under_vmap_with_buffers_of_its_own():
    def model(seed):
        torch.manual_seed(seed)
        return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))

    models = [model(0), model(1)]
    x = torch.randn(2, 50, 3)
    alone = [copy.deepcopy(one) for one in models]
    outputs = Replicas({"model": models})(lambda bound, batch: bound["model"](batch), x)
    for r in range(2):
        torch.testing.assert_close(outputs[r], alone[r](x[r]))
    means = Replicas({"model": models})
    means(lambda bound, batch: bound["model"](batch), x)
    for r in range(2):
        torch.testing.assert_close(means.state("model")["1.running_mean"][r], alone[r][1].running_mean)


def test_metrics_are_those_of_the_final_weights_by_hand(tiny):
    config = replace(CONFIG, replicas=1, epochs=2)
    result = run(config, tiny)[-1].result
    model = config.build()
    model.load_state_dict({name: tensor[0] for name, tensor in result.weights.items()})
    x = torch.from_numpy(np.array(tiny.images[tiny.test])).float() / 255
    model.requires_grad_(False)
    output = model(x, torch.zeros(1, len(x), 4))
    codes, factors = output.code.mean.double().numpy(), tiny.factors[tiny.test]
    reconstructed = torch.sigmoid(output.logits[0])
    mean, log_var = output.code.mean, output.code.log_var
    kl = 0.5 * (mean**2 + log_var.exp() - 1 - log_var).sum(1).mean()
    bce = -(x * reconstructed.log() + (1 - x) * (1 - reconstructed).log()).sum((1, 2, 3)).mean()
    expected = {
        "test/mse": float(((reconstructed - x) ** 2).mean()),
        "test/bce": float(bce),
        "test/kl": float(kl),
        "test/mig": mig(codes, factors),
        "test/sap": sap(codes, factors),
        "test/active_units": active_units(codes),
    }
    for name, value in expected.items():
        assert result.metrics[name][0] == pytest.approx(value, rel=1e-4), name
    elbo, loss = result.metrics["test/elbo"][0], result.metrics["test/loss"][0]
    assert loss == pytest.approx(-elbo + result.metrics["test/kl"][0], rel=1e-5), "beta is 2"
    sampled = [bernoulli_nll(model(x, torch.randn(1, len(x), 4)).logits[0], x).mean().item() for _ in range(50)]
    assert -elbo == pytest.approx(np.mean(sampled) + float(kl), rel=0.01)


def test_the_result_is_of_each_replicas_best_epoch(tiny):
    # Twenty images are soon learnt by heart, so that val gets worse again.
    few = replace(tiny, train=tiny.train[:20], val=tiny.val[:50])
    epochs = run(replace(CONFIG, replicas=3, epochs=80, learning_rate=0.01), few)
    result = epochs[-1].result
    for r in range(3):
        losses = [epoch.metrics["val/loss"][r] for epoch in epochs]
        assert result.epochs[r] == 1 + int(np.argmin(losses))
        assert result.metrics["val/loss"][r] == pytest.approx(min(losses), rel=1e-5)
    assert min(result.epochs) < 80


def test_test_is_measured_only_at_the_end(tiny):
    epochs = run(CONFIG, tiny)
    assert not any(name.startswith("test/") for epoch in epochs for name in epoch.metrics)
    assert [epoch.result is not None for epoch in epochs] == [False, False, True]
    assert {f"test/{name}" for name in CONFIG.metric_names()} <= set(epochs[-1].result.metrics)


@pytest.mark.parametrize(
    ("change", "missing", "extra"),
    [
        ({"objective": Reconstruction()}, {"elbo", "kl"}, set()),
        ({"objective": VAE("gaussian")}, {"bce"}, set()),
        ({"noise_factor": 0.3}, set(), {"denoising_mse", "psnr_gain"}),
    ],
)
def test_metric_names_are_the_metrics_that_come(tiny, change, missing, extra):
    config = replace(CONFIG, epochs=1, **change)
    metrics = run(config, tiny)[0].metrics
    assert set(metrics) == {"train/loss", *(f"val/{name}" for name in config.metric_names())}
    assert not missing & set(config.metric_names())
    assert extra <= set(config.metric_names())


def test_denoising_beats_its_noisy_input(tiny):
    config = replace(CONFIG, objective=Reconstruction(), noise_factor=0.5, epochs=40, learning_rate=3e-3, latent_dim=16)
    last = run(config, tiny)[-1].metrics
    assert max(last["val/denoising_mse"]) < 0.5**2 / 3
    assert all(noisy > clean for noisy, clean in zip(last["val/denoising_mse"], last["val/mse"], strict=True))


def test_a_diverged_loss_names_the_replica_and_epoch(tiny):
    with pytest.raises(NonFiniteLossError, match=r"the training loss of replica \d is (nan|inf) in epoch \d"):
        run(replace(CONFIG, learning_rate=1e9, objective=Reconstruction("gaussian")), tiny)


@pytest.mark.parametrize("vmapped", [False, True])
def test_bfloat16_trains_alike_and_is_measured_in_float32(tiny, vmapped):
    exact = run(CONFIG, tiny, engine=Engine(vmapped=vmapped))[-1]
    low = run(replace(CONFIG, precision="bfloat16"), tiny, engine=Engine(vmapped=vmapped))[-1]
    assert low.metrics["val/loss"] == pytest.approx(exact.metrics["val/loss"], rel=0.02)
    assert low.metrics["val/loss"] != exact.metrics["val/loss"]
    assert all(tensor.dtype == torch.float32 for tensor in low.result.weights.values())


def test_a_graph_without_a_gpu_is_refused(tiny):
    with pytest.raises(UserError, match="graphed=True needs a GPU, but got device='cpu'; write Engine"):
        run(CONFIG, tiny, engine=Engine(graphed=True))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"precision": "float16"}, "unknown precision 'float16': did you mean"),
        ({"latent_dim": 0}, "latent_dim must be a whole number of at least 1, but got latent_dim=0"),
        ({"epochs": 2.5}, "epochs must be a whole number"),
        ({"noise_factor": -0.1}, "noise_factor must be at least 0"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0"),
        ({"network": "mlp"}, "network must be a Network"),
    ],
)
def test_impossible_configurations_are_refused(fields, message):
    with pytest.raises(UserError, match=message):
        replace(CONFIG, **fields)


@pytest.mark.slow
def test_a_vae_on_mnist_reaches_its_likelihood(mnist_root):
    """One epoch of the benchmark in benchmarks/mnist.py, as a guard of the whole training path."""
    from pathlib import Path

    from aesearch.datasets import MNIST

    mnist = MNIST(root=str(mnist_root))
    config = TrainConfig(data=mnist, network=MLP((256, 256)), latent_dim=20, objective=VAE(), replicas=1, epochs=2)
    result = run(config, mnist.load(Path("unused")))[-1].result
    assert result.metrics["test/elbo"][0] > -125
