"""Format 1, of release 0.1.0.

Its checkpoints have the repr of their configuration; its studies have a hash of such reprs. A hash cannot be read
back. So today's value is described as 0.1.0 would have described it, and the results are compared. FIELDS lists the
classes and fields of 0.1.0, so it never changes.
"""

from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from aesearch.protocols import Protocol
from aesearch.train.description import ABSENT, DESCRIBED, Description, Node, at_default, describe, migrated, text

FIELDS = {
    "Plain": "nonnegative",
    "VampPrior": "components",
    "Gaussian": "prior",
    "VectorQuantized": "codes commitment codebook revive",
    "GaussianNoise": "std",
    "Masking": "rate",
    "SaltAndPepper": "rate",
    "Arrays": "path key",
    "Digits": "",
    "BreastCancer": "",
    "Wine": "",
    "Iris": "",
    "Cars3D": "root",
    "CelebA": "size attribute root",
    "DSprites": "root",
    "ImageFolder": "path size colour",
    "MPI3D": "variant root",
    "SmallNORB": "root",
    "OneClass": "data normal",
    "Shapes3D": "root",
    "Sprites": "resolution shapes scales orientations positions",
    "Table": "path label drop",
    "MNIST": "root",
    "FashionMNIST": "root",
    "KMNIST": "root",
    "EMNIST": "split root",
    "CIFAR10": "root",
    "SVHN": "root",
    "Conv": "channels dense activation kernel norm dropout",
    "MLP": "hidden activation dropout decoder_hidden decoder_activation",
    "ResNet": "channels blocks activation norm dropout",
    "Reconstruction": "likelihood",
    "Sparse": "weight likelihood",
    "KLSparse": "target weight likelihood",
    "Contractive": "weight likelihood",
    "DIPVAE": "off_diagonal diagonal kind likelihood",
    "InfoVAE": "alpha scale likelihood",
    "WAE": "weight likelihood",
    "BetaTCVAE": "beta estimator likelihood",
    "FactorVAE": "gamma hidden discriminator_rate likelihood",
    "VAE": "likelihood",
    "BetaVAE": "beta likelihood",
    "FreeBits": "nats beta likelihood",
    "AnnealedVAE": "capacity gamma over likelihood",
    "IWAE": "samples likelihood",
    "Linear": "over",
    "Cyclical": "cycles rise",
    "Protocol": (
        "name metrics draws points test_points codes without bins mig samples images sap unordered regressor "
        "votes test_votes vote_size pair_size pairs active seed"
    ),
    "Detection": "",
    "UDR": "points",
    "ModelCentrality": "votes size seed",
    "Disentanglement": "metrics protocol",
    "PCA": "",
    "Denoising": "noise",
    "Quality": "",
    "Frechet": "images seed",
    "Probe": "labels draws raw factor",
    "FineTuned": "labels draws learning_rate",
    "Likelihood": "samples images",
    "Adaptive": "first most unlikely",
    "ASHA": "grace factor",
    "Pareto": "grace factor",
    "Hyperband": "grace factor",
    "Median": "grace least",
    "Plateau": "patience gain",
    "TrainConfig": (
        "data network latent_dim objective bottleneck noise_factor corruption conditional warmup replicas "
        "epochs batch_size learning_rate precision seed monitors scores"
    ),
}
# The metrics of protocols in 0.1.0, and of its built-in protocols with fewer metrics.
METRICS = (
    "mig sap dci factor_vae beta_vae modularity explicitness irs mig_sup dcimig infomec total_correlation "
    "mutual_information"
)
FEWER = {"chen": "mig", "infogan_cr": "mig sap dci factor_vae beta_vae modularity explicitness"}


@dataclass(frozen=True)
class Form:
    """Link from a class of today to its form in 0.1.0.

    kind: the name of the class in 0.1.0.
    then: the names of fields in 0.1.0, by their names today.
    added: descriptions of the fields that migrations have added.
    """

    kind: str
    then: dict[str, str]
    added: Node


def as_first(value: Any) -> Description:
    """Describe a value as 0.1.0 would have.

    The text of the description is the repr in 0.1.0. A newer field is left out if it does what was done before.
    """
    return _as_first(value, _forms())


def first_text(value: Any) -> str:
    """Return the repr that 0.1.0 would have written for a value."""
    return text(as_first(value))


def _forms() -> dict[str, Form]:
    """List the classes of 0.1.0 by their names today.

    Each class is migrated with the names of its fields as their values. The result shows the new name of each field.
    """
    found = {}
    for kind, line in FIELDS.items():
        names: dict[str, Description] = {name: name for name in line.split()}
        now = migrated({"class": kind, **names}, DESCRIBED)
        assert isinstance(now, dict)
        then = {name: was for name, was in now.items() if isinstance(was, str) and was in names}
        added = {name: was for name, was in now.items() if name != "class" and name not in then}
        found[str(now["class"])] = Form(kind, then, added)
    return found


def _as_first(value: Any, forms: dict[str, Form]) -> Description:
    if type(value) is tuple:
        return [_as_first(item, forms) for item in value]
    if not is_dataclass(value) or isinstance(value, type):
        return repr(value)
    node: Node = {}
    later: Node = {}
    kind = type(value)
    then, since, added = _history(kind, forms)
    for each in fields(value):
        if each.name not in since:
            node[then.get(each.name, each.name)] = _as_first(getattr(value, each.name), forms)
            continue
        now = describe(getattr(value, each.name))
        if not (now == added[each.name] if each.name in added else at_default(value, each)):
            later[each.name] = now
    own = forms.get(kind.__qualname__) if _of_aesearch(kind) else None
    if own:
        # A field that was removed since has no value, so its text differs from any repr of 0.1.0.
        node = {name: node.get(name, ABSENT) for name in FIELDS[own.kind].split()}
    if isinstance(value, Protocol):
        known = FEWER.get(value.name, METRICS).split()
        node["metrics"] = [repr(metric) for metric in value.metrics if metric in known]
    return {"class": own.kind if own else kind.__qualname__, **node, **later}


def _history(kind: type, forms: dict[str, Form]) -> tuple[dict[str, str], set[str], Node]:
    """Collect the history of a class and its bases since 0.1.0.

    Gives the names of fields in 0.1.0, the names of newer fields, and the fields that migrations have added.
    """
    then: dict[str, str] = {}
    added: Node = {}
    since: set[str] = set()
    for base in kind.__mro__:
        if _of_aesearch(base) and base.__qualname__ in forms:
            form = forms[base.__qualname__]
            then |= form.then
            added |= form.added
            since |= {each.name for each in fields(base)} - form.then.keys()
    return then, since, added


def _of_aesearch(kind: type) -> bool:
    return kind.__module__.split(".")[0] == "aesearch"
