"""A training that goes on from a checkpoint is the one that was never interrupted."""

import json
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.small import TINY

from aesearch.bottlenecks import Gaussian, VampPrior, VectorQuantized
from aesearch.networks import MLP, Conv
from aesearch.objectives import VAE, BetaVAE, FactorVAE, Linear, Reconstruction
from aesearch.train import Engine, TrainConfig, read_checkpoint, train, write_checkpoint
from aesearch.train.cohort import Cohort
from aesearch.train.description import FORMAT, describe
from aesearch.train.feed import Feed

CONFIG = TrainConfig(TINY, MLP((16,)), latent_dim=3, objective=BetaVAE(2.0), replicas=2, epochs=4, batch_size=32)

CONFIGS = {
    "vae": CONFIG,
    "noise and warm-up": replace(CONFIG, noise_factor=0.2, warmup=Linear(0.5)),
    "discriminator": replace(CONFIG, objective=FactorVAE(hidden=(8,))),
    "codebook": replace(
        CONFIG, network=Conv((4, 4)), objective=Reconstruction(), bottleneck=VectorQuantized(8), latent_dim=4
    ),
    "batch norm and dropout": replace(CONFIG, network=Conv((4,), norm="batch", dropout=0.2), objective=VAE()),
    "learned prior": replace(CONFIG, objective=VAE(), bottleneck=Gaussian(VampPrior(4))),
}


def interrupted(config, data, folder, after, **options):
    """The epochs of a training that keeps a checkpoint after an epoch and is never heard of again."""
    for epoch in train(config, data, **options):
        if epoch.number == after:
            write_checkpoint(folder, epoch.checkpoint(), config)
        if epoch.number == after + 1:
            return


@pytest.mark.parametrize("vmapped", [False, True], ids=["looped", "vmapped"])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_the_epochs_after_a_checkpoint_are_the_same_to_the_bit(config, vmapped, few, tmp_path):
    whole = list(train(config, few, engine=Engine(vmapped=vmapped)))
    interrupted(config, few, tmp_path, 2, engine=Engine(vmapped=vmapped))
    start, remarks = read_checkpoint(tmp_path, config, known=9)
    assert remarks == []
    rest = list(train(config, few, engine=Engine(vmapped=vmapped), start=start))
    assert [epoch.number for epoch in rest] == [3, 4]
    for epoch, expected in zip(rest, whole[2:], strict=True):
        assert epoch.metrics == expected.metrics
    assert rest[-1].result.metrics == whole[-1].result.metrics
    assert rest[-1].result.epochs == whole[-1].result.epochs
    for name, tensor in whole[-1].result.weights.items():
        assert torch.equal(rest[-1].result.weights[name], tensor), name


def test_steps_are_counted_whole(few):
    """A sum of 1 / steps in float32 is 1.009 after a million steps, and stays as it is from some step on."""
    steps_of_epoch = -(-len(few.train) // CONFIG.batch_size)
    config = replace(CONFIG, epochs=1_000_000 // steps_of_epoch, replicas=1)
    feed = Feed(few.images, torch.device("cpu"))
    cohort = Cohort(config, few, feed, [0], Engine())
    cohort.done.fill_(cohort.steps - 2)
    cohort.train_epoch(2)
    assert cohort.progress.item() == 1
    for before in (2**24, 2**40):
        cohort.done.fill_(before)
        cohort.train_epoch(1)
        assert cohort.done.item() == before + 1
    summed = np.cumsum(np.full(cohort.steps, 1 / cohort.steps, np.float32), dtype=np.float32)
    assert summed[-1] > 1.005


def test_a_checkpoint_without_steps_goes_on(few, tmp_path):
    """Release 0.1.0 kept the part of the training that was done."""
    config = CONFIGS["noise and warm-up"]
    whole = list(train(config, few))
    interrupted(config, few, tmp_path, 2)
    start, _ = read_checkpoint(tmp_path, config, known=9)
    steps = {name: start.state[name] for name in start.state if name.endswith("/done")}
    assert len(steps) == 2
    state = {name: tensor for name, tensor in start.state.items() if name not in steps}
    progress = {name.replace("done", "progress"): torch.tensor(0.5) for name in steps}
    rest = list(train(config, few, start=replace(start, state=state | progress)))
    assert rest[-1].metrics == whole[-1].metrics


def test_the_two_newest_are_kept(few, tmp_path):
    for epoch in train(CONFIG, few):
        write_checkpoint(tmp_path, epoch.checkpoint(), CONFIG)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [f"epoch-00000{n}.{kind}" for n in (3, 4) for kind in ("json", "safetensors")]


class Payload:
    """Runs when it is unpickled."""

    def __reduce__(self):
        return exec, ("raise SystemExit('the payload ran')",)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def poison(path):
    path.write_bytes(pickle.dumps(Payload()))


def poison_with_its_checksum(path):
    import hashlib

    poison(path)
    manifest = json.loads(path.with_suffix(".json").read_text())
    manifest["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_suffix(".json").write_text(json.dumps(manifest))


def lose_the_manifest(path):
    path.with_suffix(".json").unlink()


def garble_the_manifest(path):
    path.with_suffix(".json").write_text('{"sha256": ')


@pytest.mark.parametrize(
    "damage", [truncate, flip, poison, poison_with_its_checksum, lose_the_manifest, garble_the_manifest]
)
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(damage, few, tmp_path):
    for epoch in train(replace(CONFIG, epochs=2), few):
        write_checkpoint(tmp_path, epoch.checkpoint(), CONFIG)
    damage(tmp_path / "epoch-000002.safetensors")
    start, remarks = read_checkpoint(tmp_path, CONFIG, known=9)
    assert start.epoch == 1
    assert len(remarks) == 1
    assert remarks[0].startswith("the checkpoint epoch-000002.safetensors is skipped: ")
    damage(tmp_path / "epoch-000001.safetensors")
    start, remarks = read_checkpoint(tmp_path, CONFIG, known=9)
    assert start is None
    assert len(remarks) == 2


def test_one_of_another_configuration_is_passed_over(few, tmp_path):
    interrupted(CONFIG, few, tmp_path, 1)
    start, remarks = read_checkpoint(tmp_path, replace(CONFIG, learning_rate=0.5), known=9)
    assert start is None
    assert "it is of another configuration" in remarks[0]


def test_one_of_other_replicas_is_refused(few, tmp_path):
    interrupted(CONFIG, few, tmp_path, 1)
    start, _ = read_checkpoint(tmp_path, CONFIG, known=9)
    with pytest.raises(ValueError, match="another configuration, other replicas or another kind of device"):
        list(train(CONFIG, few, engine=Engine(vmapped=True), start=start))


def test_a_full_disk_leaves_no_half_checkpoint(few, tmp_path, monkeypatch):
    import os

    first, *_ = train(CONFIG, few)
    write_checkpoint(tmp_path, first.checkpoint(), CONFIG)

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_checkpoint(tmp_path, replace(first.checkpoint(), epoch=2), CONFIG)
    monkeypatch.undo()
    assert not list(tmp_path.glob("*.tmp"))
    start, remarks = read_checkpoint(tmp_path, CONFIG, known=9)
    assert (start.epoch, remarks) == (1, [])


def rewrite(folder, **entries):
    path = folder / "epoch-000001.json"
    path.write_text(json.dumps({"sha256": json.loads(path.read_text())["sha256"], **entries}))


def test_the_manifest_describes_the_configuration(tiny, tmp_path):
    interrupted(CONFIG, tiny, tmp_path, 1)
    manifest = json.loads((tmp_path / "epoch-000001.json").read_text())
    assert manifest.keys() == {"sha256", "format", "config"}
    assert (manifest["format"], manifest["config"]) == (FORMAT, describe(CONFIG))
    _, remarks = read_checkpoint(tmp_path, replace(CONFIG, learning_rate=0.5), known=9)
    assert remarks[0].endswith("it is of another configuration: config.learning_rate was 0.001, is 0.5")


def test_a_checkpoint_of_an_older_or_a_newer_format(tiny, tmp_path):
    interrupted(CONFIG, tiny, tmp_path, 1)
    rewrite(tmp_path, config=repr(CONFIG))
    assert read_checkpoint(tmp_path, CONFIG, known=9)[0].epoch == 1
    start, remarks = read_checkpoint(tmp_path, replace(CONFIG, learning_rate=0.5), known=9)
    assert start is None
    assert "it is of another configuration: its repr was TrainConfig(" in remarks[0]
    lacking = {name: value for name, value in describe(CONFIG).items() if name != "warmup"}
    rewrite(tmp_path, format=2, config=lacking)
    assert read_checkpoint(tmp_path, CONFIG, known=9)[0].epoch == 1
    assert "config.warmup was not there" in read_checkpoint(tmp_path, replace(CONFIG, warmup=Linear()), 9)[1][0]
    rewrite(tmp_path, format=FORMAT + 1, config=describe(CONFIG))
    start, remarks = read_checkpoint(tmp_path, CONFIG, known=9)
    assert start is None
    assert f"a newer release wrote it: its format is {FORMAT + 1}, but {FORMAT} is the last known" in remarks[0]
