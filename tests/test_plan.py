"""What a study would cost: counts by hand, what is between two probes, and a real probe."""

import sys
from dataclasses import replace
from functools import partial

import pytest
import torch
from helpers.small import TINY, make
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from aesearch import Adaptive, Minimize, Pareto, Study, TrainConfig
from aesearch.bottlenecks import Gaussian, InverseAutoregressive, VampPrior, VectorQuantized
from aesearch.errors import UserError
from aesearch.networks import MLP, Conv, ResNet
from aesearch.objectives import IWAE, VAE, Reconstruction
from aesearch.plan import Measured, Plan, _cost, lines, make_plan, makespan, operations, quick, span, work
from aesearch.train import probe


def config(hidden: int = 16, **fields) -> TrainConfig:
    return TrainConfig(**{"data": TINY, "network": MLP((hidden,)), "latent_dim": 3, "objective": VAE()} | fields)


def test_the_work_of_a_step_is_counted():
    # 256 -> 16 -> 6 and 3 -> 16 -> 256, two operations per weight, three passes, 128 images, one sample of the code.
    encoder, decoder = 256 * 16 + 16 * 6, 3 * 16 + 16 * 256
    assert work(config()) == 3 * 2 * 128 * (encoder + decoder)
    assert work(config(batch_size=64)) == work(config()) / 2
    assert work(config(objective=IWAE(5))) == 3 * 2 * 128 * (encoder + 5 * decoder)
    plain = work(config(objective=Reconstruction()))
    assert plain == 3 * 2 * 128 * (256 * 16 + 16 * 3 + decoder)


class Attending(nn.Module):
    """Multiplies matrices in a way that only PyTorch's own counter knows."""

    def forward(self, x):
        return torch.einsum("bi,ij->bj", x, torch.ones(4, 4)) @ torch.ones(4, 2)


def test_operations_are_those_that_pytorch_counts():
    configs = [config(network=network) for network in (MLP((16,)), Conv((8, 16)), ResNet((8,)))]
    configs += [
        config(bottleneck=InverseAutoregressive()),
        config(bottleneck=Gaussian(VampPrior(4))),
        config(network=Conv((8,)), objective=Reconstruction(), bottleneck=VectorQuantized(8)),
    ]
    for one in configs:
        model = one.build().eval()
        run = partial(model, torch.zeros(2, *one.data.shape), torch.zeros(1, 2, one.latent_dim), None)
        with FlopCounterMode(display=False) as theirs:
            run()
        assert operations(run) == theirs.get_total_flops() > 0, one
    assert operations(partial(Attending(), torch.ones(3, 4))) == 2 * 3 * 4 * (4 + 2)


def test_counting_operations_imports_no_compiler(monkeypatch):
    monkeypatch.setitem(sys.modules, FlopCounterMode.__module__, None)
    assert work(config(network=Conv((8,)))) > 0
    with pytest.raises(ModuleNotFoundError):
        operations(partial(Attending(), torch.ones(3, 4)))


def measured(config: TrainConfig, step: float) -> Measured:
    return Measured(work(config), 10, step, 0.5, 2.0, 100.0, 10.0, 1e9, 0.0)


def test_a_configuration_costs_what_lies_between_two_probes():
    small, middle, large = config(16), config(32), config(48)
    ends = measured(small, 0.1), replace(measured(large, 0.3), model=300.0)
    for one, step, model in ((small, 0.1, 100), (middle, 0.2, 200), (large, 0.3, 300)):
        cost = _cost(replace(one, epochs=7), ends)
        assert cost.seconds == pytest.approx(7 * (10 * step + 0.5) + 2.0 + 0.15)
        assert cost.model == pytest.approx(model)


def test_a_probe_measures_steps_and_leaves_a_result(tiny):
    costs = probe(config(replicas=2, epochs=50), tiny, steps=3)
    assert 0 < costs.step < 1
    assert 0 < costs.epoch < 10
    assert 0 < costs.end < 10
    assert len(costs.result.metrics["val/mse"]) == 2
    assert probe(config(), tiny, steps=2, ends=False).result is None


def space(trial) -> TrainConfig:
    return config(trial.suggest_int("hidden", 8, 64), epochs=3, replicas=2)


@pytest.fixture(scope="module")
def planned(data_root) -> Plan:
    return make_plan(Study("s", space, Minimize("val/mse"), n_trials=20, max_concurrent=1), data_root, 20)


def test_a_plan_sums_up(planned):
    mean = sum(cost.seconds for cost in planned.sample) / len(planned.sample)
    assert planned.concurrent == 1
    assert planned.seconds == pytest.approx(8 + 20 * mean, rel=0.02), "the mean of many draws"
    assert planned.hours == pytest.approx(20 * mean / 3600)
    assert planned.low < planned.seconds < planned.high
    assert planned.probed == (1, 1)
    assert 1e8 < max(cost.memory for cost in planned.sample) < 5e9
    # Two replicas' weights of 256-64-6 and 3-64-256 at the most, what they say of val, and pictures.
    assert 5e3 < max(cost.model for cost in planned.sample) < 1e6


def test_a_plan_in_words(planned):
    study = Study("s", space, (Minimize("val/mse"), Minimize("val/kl")), 20, early_stopping=Pareto(), max_concurrent=1)
    first, second, third, told, last = lines(planned, study)
    assert first == "s: 20 trials of 2 replicas by tpe, 1 at once, each with cpus=1"
    assert second.startswith("a trial: ")
    assert " of memory, " in second
    assert third.startswith("the study: about ")
    assert told == (
        "a t test finds differences between two trials, in standard deviations over seeds, of 5.7 with 2 seeds, "
        "3.1 with 3 seeds, 2 with 5 seeds, 1.3 with 10 seeds, 0.91 with 20 seeds (80% power)"
    )
    assert last == "Pareto(grace=2, factor=2) makes it less"


def test_a_study_ends_with_its_last_trial():
    assert makespan([1.0, 2.0, 3.0], 1) == 6.0
    assert makespan([1.0, 2.0, 3.0], 2) == 4.0, "the third begins after the first"
    assert makespan([3.0, 2.0, 1.0], 2) == 3.0
    assert makespan([5.0], 4) == 5.0


def test_a_grid_is_planned_by_its_own_trials(data_root):
    def grid(trial):
        return config(trial.suggest_categorical("hidden", [8, 512, 16]), epochs=3, replicas=2)

    study = Study("g", grid, Minimize("val/mse"), sampler="grid")
    whole, two = (make_plan(study, data_root, trials) for trials in (3, 2))
    assert [len(whole.sample), len(two.sample)] == [3, 2]
    assert whole.sample[1].model == max(cost.model for cost in whole.sample)
    assert whole.sample[1].model == two.sample[1].model
    assert whole.seconds == pytest.approx(8 + makespan([cost.seconds for cost in whole.sample], whole.concurrent))


def test_more_replicas_widen_a_plan(planned, data_root):
    from aesearch.plan import _summed

    adaptive = Study("s", space, Minimize("val/mse"), n_trials=20, replicas=Adaptive(2, 6))
    plan = _summed(adaptive, 20, 1, planned.sample, (1.0, 0.0), (1, 1))
    assert plan.low == pytest.approx(planned.low)
    assert plan.high == pytest.approx(3 * planned.high)


def test_small_studies_are_not_asked_about(data_root):
    assert quick(make(space=space), data_root, 3) == 60.0
    # 10^6 trials of six epochs of four steps of a millisecond or so: hours.
    assert quick(make(space=space), data_root, 10**6) > 3600


def test_what_does_not_fit_is_refused(data_root):
    with pytest.raises(UserError, match="a trial does not fit on the machine: it needs cpus=10000"):
        make_plan(make(space=space, cpus=10_000), data_root, 3)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.25, "0.25 s"), (42, "42 s"), (600, "10 min"), (5000, "83 min"), (9000, "2.5 h"), (864000, "10.0 days")],
)
def test_spans(seconds, text):
    assert span(seconds) == text
