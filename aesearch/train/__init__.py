"""Training: a configuration in, the metrics of each epoch out."""

from aesearch.train.config import TrainConfig
from aesearch.train.loop import Epoch, NonFiniteLossError, Result, replica_seed, train

__all__ = ["Epoch", "NonFiniteLossError", "Result", "TrainConfig", "replica_seed", "train"]
