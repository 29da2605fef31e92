"""The value that describes a metric: name, better direction, unit, explanation, floor and ceiling, cost."""

import re
from dataclasses import dataclass
from typing import Literal, get_args

Direction = Literal["less", "more"]
Cost = Literal["pass", "codes", "fit", "images", "pairs"]

# How floors and ceilings of metrics on codes and factors are had.
NOISE = "codes of noise, as many as the model has"
FACTORS = "the factors themselves as codes"


@dataclass(frozen=True)
class MetricKind:
    """All that is known of a metric before it is measured. A field without a default must be given.

    name: without split, protocol and number, such as ``bits_per_dim`` of test/bits_per_dim_64.
    better: whether "less" or "more" of it is better. unit: such as "nats per image"; "" for a pure number.
    explanation: what it is, in a report, after its name and a colon.
    floor, ceiling: how the values of no and of full merit are had; None where there is none.
    cost: "pass", nothing beside the pass over the images; "codes", up to two seconds for 10,000 codes on one core;
    "fit", classifiers or components fitted to codes; "images", more images decoded or encoded; "pairs", two models at
    a time.
    number: what a number at the end of a name counts; None where names have none.
    factor: whether the name of a factor may come first, as in shape_probe_100.
    measure: the name under which protocols have it, such as dci of dci_completeness; None of other metrics.
    compares: whether it says how models agree with each other, which needs no labels.

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
            raise ValueError(f"a metric's name is made of letters, digits and '_', but got {self.name!r}")
        for field, given, known in (("better", self.better, Direction), ("cost", self.cost, Cost)):
            if given not in get_args(known):
                raise ValueError(f"unknown {field} {given!r} of {self.name}: known: {', '.join(get_args(known))}")
        if not self.explanation.strip():
            raise ValueError(f"the explanation of {self.name} is empty; write what it measures")

    @property
    def sign(self) -> int:
        """1 where less is better, else -1: ``sign * value`` is always to be minimised."""
        return 1 if self.better == "less" else -1
