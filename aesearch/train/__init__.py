"""Training: a configuration in, the metrics of each epoch out."""

from aesearch.train.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from aesearch.train.cohort import Values
from aesearch.train.config import TrainConfig
from aesearch.train.loop import Epoch, NonFiniteLossError, Result, replica_seed, train

__all__ = [
    "Checkpoint",
    "Epoch",
    "NonFiniteLossError",
    "Result",
    "TrainConfig",
    "Values",
    "read_checkpoint",
    "replica_seed",
    "train",
    "write_checkpoint",
]
