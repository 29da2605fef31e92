"""Export of a model: weights, configuration, model card, standalone program."""

import json
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from aesearch.errors import UserError
from aesearch.escapes import markdown
from aesearch.model import Model, save_model, to_json
from aesearch.objectives import pixels

PROGRAM = "model.pt2"
TOLERANCE = 1e-5


class _Program(nn.Module):
    """A model as one module, for torch.export.

    It maps images (B, C, H, W), and labels (B,) if the model is conditional, to codes (B, L) and reconstructions
    (B, C, H, W).
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.network = model.network
        self.likelihood = model.config.objective.likelihood

    def forward(self, images: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        codes = self.network.encode(images, label)
        return codes, pixels(self.network.decode(codes, label), self.likelihood)


def export(model: Model, out: Path) -> list[str]:
    """Write the folder of one replica and return lines to print.

    It has model.safetensors, config.json, info.json, model_card.md and a torch.export program.
    """
    config = replace(model.config, replicas=1)
    weights = {name: tensor[None] for name, tensor in model.network.state_dict().items()}
    save_model(out, config, weights, dict(model.info) | {"replica": 0}, model.reference)
    (out / "model_card.md").write_text(card(model))
    error = export_program(model, out / PROGRAM)
    return [f"model.safetensors, config.json, model_card.md and {PROGRAM} (equal to {error:.1e}): {out}"]


def export_program(model: Model, path: Path) -> float:
    """Write the torch.export program, and check it against the model.

    Returns the largest relative difference between the outputs of the program, read again, and those of the model.
    Raises UserError where it is above 1e-5.
    """
    program = _Program(model).eval()
    torch.manual_seed(0)
    x = torch.rand(3, *model.shape)
    inputs = (x, torch.zeros(3, dtype=torch.int64)) if model.network.classes else (x,)
    batch = torch.export.Dim("batch", min=1)
    shapes = tuple({0: batch} for _ in inputs)
    with torch.no_grad():
        exported = torch.export.export(program, inputs, dynamic_shapes=shapes)
        torch.export.save(exported, path)
        again = torch.export.load(path).module()
        other = tuple(torch.cat([tensor, tensor]) for tensor in inputs)
        differences: list[float] = [
            ((a - b).abs() / b.abs().clamp(min=1)).max().item()
            for a, b in zip(again(*other), program(*other), strict=True)
        ]
    if max(differences) > TOLERANCE:
        raise UserError(
            f"the exported program differs from the model by {max(differences):.2e}, more than {TOLERANCE}; use "
            "aesearch.load_model instead"
        )
    return max(differences)


def card(model: Model) -> str:
    """Write a model card as Markdown text.

    Source: Mitchell et al., "Model Cards for Model Reporting", 2019.
    """
    config = model.config
    metrics = model.info.get("metrics", {})
    rows = "\n".join(
        f"| {markdown(name)} | {values[model.replica]:.5g} | {min(values):.5g} to {max(values):.5g} |"
        for name, values in sorted(metrics.items())
        if name.startswith("test/")
    )
    parameters = sum(p.numel() for p in model.network.parameters())
    given = ", label (B,) int64" if model.network.classes else ""
    fitted = "\nColumns are scaled as `fitted` in info.json says." if model.info.get("fitted") else ""
    return f"""# {type(config.objective).__name__} autoencoder

{parameters:,} parameters, code of {config.latent_dim} numbers, trained by aesearch.

## Data
{markdown(str(config.data))}: items of {model.shape}, {len(model.classes)} classes. Images are floats in [0, 1].{fitted}

## Use
```python
import torch
program = torch.export.load("{PROGRAM}").module()
codes, reconstructions = program(images)  # images (B, {", ".join(map(str, model.shape))}) float32{given}
```
or `aesearch.load_model(".")`, which also samples, interpolates and scores anomalies.

## Measured on test
| metric | this replica | over {config.replicas} replicas |
|---|---|---|
{rows}

## Limits
The model has learnt from its training data only: evaluate it on your own data before you rely on it. Reconstructions
are expected values, so they are smoother than the data. Anomaly scores of two models cannot be compared.

## Configuration
```json
{json.dumps(to_json(config), indent=1)}
```
"""
