"""Training: from a configuration to the metrics of each epoch."""

from aesearch.train.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from aesearch.train.cohort import Values
from aesearch.train.config import TrainConfig
from aesearch.train.engine import Engine
from aesearch.train.loop import Costs, Epoch, NonFiniteLossError, Result, probe, replica_seed, train

__all__ = [
    "Checkpoint",
    "Costs",
    "Engine",
    "Epoch",
    "NonFiniteLossError",
    "Result",
    "TrainConfig",
    "Values",
    "probe",
    "read_checkpoint",
    "replica_seed",
    "train",
    "write_checkpoint",
]
