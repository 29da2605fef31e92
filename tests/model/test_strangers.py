"""Models whose files anybody may have written: one error line, no memory, no other file."""

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.small import TINY
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch.nn.modules.module import register_module_parameter_registration_hook

from aesearch.__main__ import main
from aesearch.bottlenecks import Gaussian, InverseAutoregressive, VampPrior, VectorQuantized
from aesearch.datasets import MNIST, Arrays, Data, Digits, ImageFolder, OneClass, Table, read_items
from aesearch.errors import UserError
from aesearch.model import load_model, save_model, to_json
from aesearch.model.artifacts import save_artifacts
from aesearch.networks import MLP, Conv, ResNet
from aesearch.objectives import VAE, BetaVAE, Reconstruction
from aesearch.protocols import fast
from aesearch.scores import Disentanglement
from aesearch.train import Result, TrainConfig

CONFIG = TrainConfig(
    TINY, MLP((8,)), 3, BetaVAE(2.0), Gaussian(), replicas=2, scores=(Disentanglement(("mig",), fast),)
)
JSONS, TENSORS = ("config.json", "info.json"), ("model.safetensors", "reference.safetensors")
NONSENSE = {
    "nothing": b"",
    "half": b'{"type": "TrainC',
    "null": b"null",
    "number": b"5",
    "text": b'"x"',
    "list": b"[]",
    "object": b"{}",
    "NaN": b"NaN",
    "lists": b"[" * 100_000,
    "objects": b'{"data":' * 100_000,
    "whole lists": b"[" * 100_000 + b"]" * 100_000,
    "digits": b'{"type": ' + b"9" * 5000 + b"}",
    "bytes": bytes(range(256)),
}
VALUES: tuple[Any, ...] = (None, True, -1, 0, 10**30, 2**62, float("inf"), float("nan"), 0.5, "x", [], {}, [[]])
VALUES += ({"type": "Popen"}, {"type": "MLP"}, {"type": "Code"}, [1] * 3, "\x1b[31m\n" * 999)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, tiny: Data) -> dict[str, bytes]:
    """The files of a sound model."""
    folder = tmp_path_factory.mktemp("whole")
    torch.manual_seed(0)
    states = [CONFIG.build().state_dict() for _ in range(2)]
    weights = {name: torch.stack([state[name] for state in states]) for name in states[0]}
    save_artifacts(folder, CONFIG, Result({"val/loss": (2.0, 1.0)}, (1, 1), weights), tiny)
    return {name: (folder / name).read_bytes() for name in (*JSONS, *TENSORS)}


@pytest.fixture
def folder(tmp_path: Path, whole: dict[str, bytes]) -> Path:
    return written(tmp_path / "model", whole)


def written(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def refusal(folder: Path) -> str:
    """Load a model; give its one line of error, or "" for a model that can be used."""
    try:
        model = load_model(folder)
        assert model.encode(np.zeros((2, *model.shape), np.uint8)).shape[0] == 2
        if model.reference:
            model.clean_scores()
    except UserError as error:
        line = str(error)
    else:
        line = ""
    assert line.isprintable()
    assert len(line) < 1500
    return line


def places(content: Any, above: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """List the places of all values within JSON."""
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for name, value in items:
        yield (*above, name)
        yield from places(value, (*above, name))


def changed(content: Any, place: tuple[str | int, ...], value: Any) -> Any:
    copy = json.loads(json.dumps(content))
    inner = copy
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = value
    return copy


def parameters_made(folder: Path) -> list[torch.Tensor]:
    """Load a model that must be refused; give the parameters that were made before."""
    made: list[torch.Tensor] = []
    hook = register_module_parameter_registration_hook(lambda module, name, parameter: made.append(parameter))
    try:
        with pytest.raises(UserError, match="the weights do not fit the configuration"):
            load_model(folder)
    finally:
        hook.remove()
    return made


def test_a_sound_model_is_loaded(folder):
    assert refusal(folder) == ""
    assert load_model(folder).config == CONFIG


@pytest.mark.parametrize("nonsense", NONSENSE)
@pytest.mark.parametrize("file", JSONS)
def test_nonsense_for_json_is_one_line(folder, capsys, file, nonsense):
    (folder / file).write_bytes(NONSENSE[nonsense])
    assert main(["use", str(folder), "sample", "--out", str(folder / "out")]) == 2
    error = capsys.readouterr().err
    assert "has no complete model" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:20])
@pytest.mark.parametrize("file", JSONS)
def test_any_value_in_any_field_is_used_or_one_line(folder, whole, file, value):
    content = json.loads(whole[file])
    found = list(places(content))
    assert len(found) > 10
    refused = 0
    for place in found:
        (folder / file).write_text(json.dumps(changed(content, place, value)))
        refused += bool(refusal(folder))
    assert refused > (0 if file == "info.json" else 5)


@pytest.mark.parametrize("file", JSONS)
def test_a_field_that_is_missing_or_unknown_is_one_line(folder, whole, file):
    content = json.loads(whole[file])
    for name in content:
        (folder / file).write_text(json.dumps({key: value for key, value in content.items() if key != name}))
        refusal(folder)
    (folder / "config.json").write_text(json.dumps(json.loads(whole["config.json"]) | {"laten_dim": 3}))
    assert "TrainConfig has no field 'laten_dim': did you mean latent_dim?" in refusal(folder)


def test_wrong_types_are_named(folder, whole):
    content = json.loads(whole["config.json"])
    for place, value, message in [
        (("network", "hidden"), "x", "hidden of MLP must be tuple[int, ...], but got 'x'"),
        (("network", "dropout"), True, "dropout of MLP must be float, but got True"),
        (("latent_dim",), 10**30, "must lie within 2^63, but one is 1000000000000000000000000000000"),
        (("objective", "beta"), float("nan"), "must lie within 2^63, but one is nan"),
        (("replicas",), 0, "replicas must be a whole number of at least 1, but got replicas=0"),
    ]:
        (folder / "config.json").write_text(json.dumps(changed(content, place, value)))
        assert message in refusal(folder)


def test_items_too_large_for_any_machine_are_refused(folder, whole):
    info = json.loads(whole["info.json"]) | {"shape": [1, 2**14, 2**13]}
    (folder / "info.json").write_text(json.dumps(info))
    assert "shape of info.json must be 3 whole numbers of at most 67,108,864 values together" in refusal(folder)


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:20])
def test_any_scaling_of_a_table_is_used_or_one_line(tmp_path, value):
    rows = tmp_path / "rows.csv"
    rows.write_text("a,b,kind\n" + "1,x,p\n2,y,q\n5,x,q\n" * 20)
    config = TrainConfig(Table(str(rows), label="kind"), MLP((4,)), 2, VAE("gaussian"), replicas=1)
    fitted = dict(config.data.load(tmp_path).fitted)
    weights = {name: tensor[None] for name, tensor in config.build().state_dict().items()}
    save_model(tmp_path, config, weights, {"fitted": fitted})
    assert len(read_items(rows, config.data, load_model(tmp_path).info["fitted"]).images) == 60
    content = json.loads((tmp_path / "info.json").read_text())
    for place in places(fitted):
        (tmp_path / "info.json").write_text(json.dumps(changed(content, ("fitted", *place), value)))
        try:
            model = load_model(tmp_path)
            items = read_items(rows, model.config.data, model.info["fitted"])
        except UserError:
            continue
        assert items.images.shape == (60, *model.shape)
        assert np.isfinite(items.images).all()


@pytest.mark.parametrize("file", TENSORS)
def test_any_change_of_a_tensor_is_one_line(folder, file):
    tensors = load_file(folder / file)
    for name, tensor in tensors.items():
        changes = {
            "shape": tensor[..., None].clone(),
            "longer": torch.cat([tensor, tensor[:1]]),
            "scalar": torch.zeros((), dtype=tensor.dtype),
            "empty": torch.zeros(0, dtype=tensor.dtype),
            "no replicas": torch.zeros(0, *tensor.shape[1:], dtype=tensor.dtype),
            "half": tensor.to(torch.float16),
            "bool": tensor.to(torch.bool),
            "missing": None,
        }
        for what, other in changes.items():
            kept = {key: value for key, value in tensors.items() if key != name}
            save_file(kept | ({} if other is None else {name: other.contiguous()}), folder / file)
            line = refusal(folder)
            assert line or (file == "reference.safetensors" and what in ("missing", "longer", "empty")), (name, what)
    save_file({**tensors, "extra": torch.zeros(2)}, folder / file)
    assert bool(refusal(folder)) == (file == "model.safetensors")
    save_file({}, folder / file)
    assert bool(refusal(folder)) == (file == "model.safetensors")


def test_weights_that_are_not_finite_are_refused_by_replica(folder):
    tensors = load_file(folder / "model.safetensors")
    next(iter(tensors.values()))[1] = torch.nan
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(UserError, match=r"replica 1 of .* has weights that are not finite; use another replica"):
        load_model(folder)
    assert load_model(folder, 0).replica == 0


@given(file=st.sampled_from([*JSONS, *TENSORS]), data=st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_damage_of_bytes_is_more_than_one_line(tmp_path, whole, file, data):
    content = bytearray(whole[file])
    # The header of a file of tensors says all that can be wrong; the rest is numbers.
    end = len(content) if file in JSONS else min(len(content), 900)
    for place, byte in data.draw(st.lists(st.tuples(st.integers(0, end - 1), st.integers(0, 255)), max_size=6)):
        content[place] = byte
    cut = data.draw(st.one_of(st.just(len(content)), st.integers(0, len(content))))
    refusal(written(tmp_path / "damaged", whole | {file: bytes(content[:cut])}))


@pytest.mark.parametrize(
    "asked",
    [
        {"network": MLP((30_000, 30_000))},
        {"network": MLP((1,) * 100_000)},
        {"network": Conv((4,), dense=2**40)},
        {"network": ResNet((4,), blocks=10**9)},
        {"latent_dim": 2**50},
        {"bottleneck": InverseAutoregressive(10**9, 1)},
        {"bottleneck": Gaussian(VampPrior(2**40))},
        {"network": Conv((4,)), "objective": Reconstruction(), "bottleneck": VectorQuantized(2**40)},
    ],
    ids=lambda asked: str(asked)[:40],
)
def test_what_the_weights_cannot_fill_is_never_allocated(folder, asked):
    plain = replace(CONFIG, scores=(), monitors=(), **asked)
    (folder / "config.json").write_text(json.dumps(to_json(plain)))
    made = parameters_made(folder)
    assert {parameter.device.type for parameter in made} <= {"meta"}
    assert len(made) <= len(load_file(folder / "model.safetensors")) + 1


def test_a_reason_for_discarding_is_one_line(folder):
    (folder / "discarded.txt").write_bytes(b"no\n\xff room" * 10_000)
    assert "was not kept: no" in refusal(folder)


OPENED: list[str] = []
WATCHING = [False]


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if WATCHING[0] and event in ("open", "os.listdir", "os.scandir") and isinstance(arguments[0], str | Path):
        OPENED.append(str(arguments[0]))


@pytest.fixture
def opened() -> Iterator[list[str]]:
    """The files and folders that are opened while a test runs."""
    if not OPENED:
        sys.addaudithook(_watch)
    OPENED.clear()
    WATCHING[0] = True
    yield OPENED
    WATCHING[0] = False


@pytest.mark.parametrize("name", ["folder", "rows", "arrays", "root", "nested"])
def test_loading_opens_none_of_the_named_files(tmp_path, folder, opened, name):
    refusal(folder)  # imports
    trap = tmp_path / "trap"
    (trap / "a").mkdir(parents=True)
    (trap / "rows.csv").write_text("a,b\n" + "1,2\n" * 30)
    np.save(trap / "images.npy", np.zeros((20, 1, 16, 16), np.uint8))
    data = {
        "folder": ImageFolder("/", 16, colour=False),
        "rows": Table(str(trap / "rows.csv")),
        "arrays": Arrays(str(trap / "images.npy")),
        "root": MNIST(root=str(trap)),
        "nested": {"type": "OneClass", "data": to_json(ImageFolder(str(trap), 16, colour=False)), "normal": "a"},
    }[name]
    config = json.loads((folder / "config.json").read_text())
    info = json.loads((folder / "info.json").read_text()) | {"classes": ["a", "b"]}
    (folder / "config.json").write_text(json.dumps(config | {"data": to_json(data)}))
    (folder / "info.json").write_text(json.dumps(info))
    opened.clear()
    model = load_model(folder)
    outside = [path for path in opened if not path.startswith(str(folder))]
    assert outside == []
    assert sum(path.startswith(str(folder)) for path in opened) >= 2, "the watch works"
    assert model.encode(np.zeros((2, 1, 16, 16), np.uint8)).shape == (2, 3)
    with pytest.raises(UserError, match=r"the files that a model names as its data are not opened for it: .*--input"):
        model.config.data.load(tmp_path)
    assert [path for path in opened if path.startswith(str(trap))] == []
    assert isinstance(model.config.data, OneClass) == (name == "nested")


def test_a_model_keeps_the_name_of_data_it_never_opened(tmp_path):
    config = TrainConfig(Digits(), MLP((4,)), 2, VAE(), replicas=1)
    described = to_json(config) | {"data": to_json(ImageFolder("/nowhere", 8, colour=False))}
    states = config.build().state_dict()
    save_model(tmp_path, config, {name: tensor[None] for name, tensor in states.items()})
    (tmp_path / "config.json").write_text(json.dumps(described))
    again = to_json(load_model(tmp_path).config)
    assert again["data"] == described["data"]
