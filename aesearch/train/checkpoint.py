"""Checkpoints of an unfinished training: plain tensors with a checksum.

    epoch-000012.safetensors   all that the next epoch depends on
    epoch-000012.json          the file's sha256, and the description of its configuration; written last

Reading a checkpoint runs no code from it. If the newest is damaged, the one before it is used.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aesearch.train.cohort import Cohort
from aesearch.train.config import TrainConfig
from aesearch.train.description import FORMAT, Change, changes, describe, migrated
from aesearch.train.first_format import first_text

KEPT = 2  # checkpoints, so that one is left if the newest is damaged


@dataclass(frozen=True)
class Checkpoint:
    """State of all replicas after an epoch.

    epoch: the number of the epoch, counted from 1.
    state: tensors by name, as ``snapshot`` copies them.
    """

    epoch: int
    state: Mapping[str, Tensor]


def snapshot(cohorts: list[Cohort]) -> dict[str, Tensor]:
    """Copy to the CPU all that the next epoch depends on, by name.

    The best weights so far are in it, too.
    """
    found: dict[str, Tensor] = {}
    for number, cohort in enumerate(cohorts):
        live = _tensors(cohort)
        live |= _moments(cohort)
        live |= {f"generator/{r}": generator.get_state() for r, generator in enumerate(cohort.generators)}
        live["best_losses"] = torch.tensor(cohort.best_losses, dtype=torch.float64)
        live["best_epochs"] = torch.tensor(cohort.best_epochs)
        found |= {f"{number}/{name}": tensor.detach().to("cpu", copy=True) for name, tensor in live.items()}
    return found


def resume(cohorts: list[Cohort], state: Mapping[str, Tensor]) -> None:
    """Put a ``snapshot`` back into the cohorts.

    Raises ValueError for a snapshot of other cohorts.
    """
    for number, cohort in enumerate(cohorts):
        own = {name.split("/", 1)[1]: t for name, t in state.items() if name.startswith(f"{number}/")}
        if "progress" in own:  # release 0.1.0 kept it instead of the steps
            own["done"] = (own["progress"].double() * cohort.steps).round().long()
        live = _tensors(cohort)
        if not live.keys() <= own.keys() or any(own[name].shape != tensor.shape for name, tensor in live.items()):
            raise ValueError("the checkpoint is of another configuration, other replicas or another kind of device")
        for name, tensor in live.items():
            tensor.copy_(own[name])
        for name, tensor in _moments(cohort).items():
            # Earlier versions noted none for a parameter that never had a gradient.
            if name in own:
                tensor.copy_(own[name])
        for r, generator in enumerate(cohort.generators):
            generator.set_state(own[f"generator/{r}"])
        cohort.best_losses = own["best_losses"].tolist()
        cohort.best_epochs = own["best_epochs"].tolist()


def _tensors(cohort: Cohort) -> dict[str, Tensor]:
    """List the tensors that are restored in place, by name.

    These are weights and buffers, the best weights, and the number of steps. They share memory with the cohort.
    """
    found = {"done": cohort.done} | {f"best/{name}": tensor for name, tensor in cohort.best.items()}
    for module in cohort.replicas.modules:
        found |= {f"module/{module}/{name}": tensor for name, tensor in cohort.replicas.state(module).items()}
    return found


def _moments(cohort: Cohort) -> dict[str, Tensor]:
    """List the state of the optimizers by name; it shares memory with the cohort."""
    return {
        f"optimizer/{of}/{name}": tensor
        for of, optimizer in cohort.optimizers.items()
        for name, tensor in optimizer.state().items()
    }


def write_checkpoint(folder: Path, checkpoint: Checkpoint, config: TrainConfig) -> None:
    """Write a checkpoint to ``folder``, and remove all older ones but the newest.

    Raises OSError where it cannot be written, such as on a full disk.
    """
    from safetensors.torch import save

    folder.mkdir(exist_ok=True)
    content = save({name: tensor.contiguous() for name, tensor in checkpoint.state.items()})
    path = folder / f"epoch-{checkpoint.epoch:06d}.safetensors"
    manifest = {"sha256": hashlib.sha256(content).hexdigest(), "format": FORMAT, "config": describe(config)}
    try:
        _write(path, content)
        _write(path.with_suffix(".json"), json.dumps(manifest).encode())
    except OSError:
        # On a full disk, half a checkpoint would take the space that the next one needs.
        for file in folder.glob("*.tmp"):
            file.unlink(missing_ok=True)
        raise
    for old in sorted(folder.glob("epoch-*.safetensors"))[:-KEPT]:
        old.with_suffix(".json").unlink(missing_ok=True)
        old.unlink()


def _write(path: Path, content: bytes) -> None:
    unfinished = path.with_name(f"{path.name}.tmp")
    with unfinished.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(path)


def _changes(manifest: Mapping[str, Any], config: TrainConfig) -> list[Change]:
    """List the differences of ``config`` from a checkpoint's configuration.

    Raises ValueError for a format of a newer release.
    """
    known, written = manifest["config"], manifest.get("format", 1)
    if written > FORMAT:
        raise ValueError(f"a newer release wrote it: its format is {written}, but {FORMAT} is the last known")
    if written == 1:
        now = first_text(config)
        return [] if known == now else [Change("its repr", known, now)]
    return list(changes("config", migrated(known, written), config))


def read_checkpoint(folder: Path, config: TrainConfig, known: int) -> tuple[Checkpoint | None, list[str]]:
    """Read the newest undamaged checkpoint of ``config`` in ``folder``.

    Gives the checkpoint, or None, and a remark for each newer one that was skipped, with the reason.

    known: the number of epochs whose metrics are known. A checkpoint of a later epoch is skipped: if the training
    resumed there, the metrics of the epochs between would be missing.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    remarks: list[str] = []
    for path in sorted(folder.glob("epoch-*.safetensors"), reverse=True):
        try:
            content = path.read_bytes()
            manifest = json.loads(path.with_suffix(".json").read_text())
            if manifest["sha256"] != hashlib.sha256(content).hexdigest():
                raise ValueError("its checksum is wrong")
            if found := _changes(manifest, config):
                raise ValueError(f"it is of another configuration: {'; '.join(map(str, found))}")
            epoch = int(path.stem.removeprefix("epoch-"))
            if epoch > known:
                raise ValueError(f"the metrics of only {known} epochs are known")
            return Checkpoint(epoch, load(content)), remarks
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            remarks.append(f"the checkpoint {path.name} is skipped: {' '.join(str(error).split())}")
    return None, remarks
