"""Models of a study in MLflow: servable, registered, and fetched again."""

import json
from pathlib import Path

import numpy as np
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.pyfunc import add_to_model
from mlflow.types import DataType, ParamSchema, ParamSpec, Schema, TensorSpec

from aesearch.errors import UserError
from aesearch.tracking.addresses import shown
from aesearch.tracking.store import KEY_TAG, LOST, first_line, is_refusal, located, open_client


def write_mlmodel(folder: Path) -> None:
    """Describe the model in ``folder`` as one that MLflow can load and serve.

    ``mlflow.pyfunc.load_model`` and ``mlflow models predict`` know it then.
    Its input is a batch of items as floats, (-1, C, H, W); its output what the parameter ``output`` names: codes,
    reconstructions or anomaly scores. No code and no pickle is stored: MLflow calls aesearch.serving.
    """
    if not (folder / "info.json").exists():
        return
    shape = json.loads((folder / "info.json").read_text())["shape"]
    signature = ModelSignature(
        Schema([TensorSpec(np.dtype(np.float32), (-1, *shape))]),
        Schema([TensorSpec(np.dtype(np.float32), (-1, *((-1,) * len(shape))))]),
        ParamSchema([ParamSpec("output", DataType.string, "reconstruction")]),
    )
    model = Model(signature=signature)
    add_to_model(model, loader_module="aesearch.serving", data=".")  # type: ignore[no-untyped-call]
    model.save(str(folder / "MLmodel"))


def fetch_model(uri: str, run: str) -> Path:
    """Download the model of an MLflow run; give its folder.

    Raises UserError where there is none.
    """
    try:
        open_client(uri)
        return Path(download_artifacts(run_id=run, artifact_path="model", tracking_uri=located(uri)))
    except UserError:
        raise
    except LOST as error:
        raise UserError(f"the run {run} must have a model in {shown(uri)}, but: {first_line(error, uri)}") from None


def register_model(uri: str, name: str, run: str, key: int, alias: str) -> str:
    """Register a chosen model of a study as ``models:/NAME@ALIAS``.

    run, key: of its trial. alias: such as knee. Gives "", or a remark where the store has no registry. Idempotent: a
    run has one version.
    """
    try:
        client = open_client(uri)
        _make_registered(client, name)
        known = [found for found in client.search_model_versions(f"name='{name}'") if found.run_id == run]
        if known:
            version = known[0].version
        else:
            source = f"{client.get_run(run).info.artifact_uri}/model"
            version = client.create_model_version(name, source, run, tags={KEY_TAG: str(key)}).version
        client.set_registered_model_alias(name, alias, str(version))
    except LOST as error:
        return f"the model of trial {key} is not registered in {shown(uri)}: {first_line(error, uri)}"
    return ""


def _make_registered(client: MlflowClient, name: str) -> None:
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS" or not is_refusal(error):
            raise
