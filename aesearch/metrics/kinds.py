"""Description of a metric: name, better direction, unit, explanation, cost."""

import re
from dataclasses import dataclass
from typing import Literal, get_args

Direction = Literal["less", "more"]
Cost = Literal["pass", "codes", "fit", "images", "pairs"]

# The floor and the ceiling of metrics on codes and factors.
NOISE = "codes of noise, as many as the model has"
FACTORS = "the factors themselves as codes"


@dataclass(frozen=True)
class MetricKind:
    """Description of a metric: all that is known of it before it is measured.

    name: without split, protocol and number, such as ``bits_per_dim`` of test/bits_per_dim_64.
    better: whether "less" or "more" of it is better.
    unit: such as "nats per image"; "" for a pure number.
    explanation: its definition. A report prints it after the name and a colon.
    floor, ceiling: the source of the value to expect without any merit, and with full merit; None where there is none.
    cost: "pass", nothing beside the pass over the images; "codes", up to two seconds for 10,000 codes on one core;
    "fit", classifiers or components fitted to codes; "images", more images decoded or encoded; "pairs", two models at
    a time.
    number: the meaning of a number at the end of a name; None where names have none.
    factor: whether the name of a factor may come first, as in shape_probe_100.
    measure: its name in protocols, such as dci for dci_completeness; None for metrics outside of protocols.
    compares: whether it is the agreement of models with each other, which needs no labels.

    Raises ValueError for a value that a field cannot have.
    """

    name: str
    better: Direction
    unit: str
    explanation: str
    floor: str | None
    ceiling: str | None
    cost: Cost
    number: str | None = None
    factor: bool = False
    measure: str | None = None
    compares: bool = False

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z]\w*", self.name):
            raise ValueError(
                f"the metric's name {self.name!r} has other characters than letters, digits and '_', or does not begin "
                "with a letter; rename it"
            )
        for field, given, known in (("better", self.better, Direction), ("cost", self.cost, Cost)):
            if given not in get_args(known):
                raise ValueError(f"unknown {field} {given!r} of {self.name}: known: {', '.join(get_args(known))}")
        if not self.explanation.strip():
            raise ValueError(f"the explanation of {self.name} is empty; write what it measures")

    @property
    def sign(self) -> int:
        """Sign, 1 where less is better, else -1: ``sign * value`` is to be minimised."""
        return 1 if self.better == "less" else -1
