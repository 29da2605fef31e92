"""Kinds of the loss and of the parts of the evidence lower bound.

Training and ``Likelihood`` measure them.
"""

from aesearch.metrics.kinds import MetricKind

LOSS = MetricKind(
    name="loss",
    better="less",
    unit="nats per image",
    explanation="what training minimises, with one code sample and schedules at their end.",
    floor=None,
    ceiling=None,
    cost="pass",
)
ELBO = MetricKind(
    name="elbo",
    better="more",
    unit="nats per image",
    explanation="the evidence lower bound with one code sample.",
    floor=None,
    ceiling=None,
    cost="pass",
)
KL = MetricKind(
    name="kl",
    better="less",
    unit="nats per image",
    explanation="KL(q(z | x) || p(z)), how far the codes are from the prior.",
    floor=None,
    ceiling=None,
    cost="pass",
)
BCE = MetricKind(
    name="bce",
    better="less",
    unit="nats per image",
    explanation="binary cross entropy of the image decoded from the code mean.",
    floor=None,
    ceiling=None,
    cost="pass",
)
LOG_LIKELIHOOD = MetricKind(
    name="log_likelihood",
    better="more",
    unit="nats per image",
    explanation="the importance-weighted bound with as many codes as the name says, of 1,000 images at most.",
    floor=None,
    ceiling=None,
    cost="images",
    number="codes per image",
)
BITS_PER_DIM = MetricKind(
    name="bits_per_dim",
    better="less",
    unit="bits per pixel and channel",
    explanation="minus the bound of the log probability of pixels of 256 values.",
    floor=None,
    ceiling=None,
    cost="images",
    number="codes per image",
)
RATE = MetricKind(
    name="rate",
    better="less",
    unit="nats per image",
    explanation="KL(q(z | x) || p(z)), mean over the codes of log_likelihood.",
    floor=None,
    ceiling=None,
    cost="images",
)
DISTORTION = MetricKind(
    name="distortion",
    better="less",
    unit="nats per image",
    explanation="-log p(x | z), mean over the codes of log_likelihood; -(rate + distortion) is the elbo.",
    floor=None,
    ceiling=None,
    cost="images",
)
