"""Run ``show``: what a study would do."""

import argparse

from aesearch.escapes import say


def show(options: argparse.Namespace) -> int:
    """Print the question, the space and three configurations."""
    from aesearch.study import load_study

    study = load_study(options.study)
    say(*study.question.split("\n"), "")
    say(f"metrics: {', '.join(f'{metric.direction} {metric.name}' for metric in study.searched)}")
    if study.per:
        say(f"compared within each: {', '.join(study.per)} ({study.conditions} conditions)")
    say(f"trials: {study.n_trials or len(study.grid())} by {study.sampler}")
    say("space:", *(f"  {name}: {distribution}" for name, distribution in study.distributions.items()))
    for trial, config in study.probes[:3]:
        parameters = sum(tensor.numel() for tensor in config.build().parameters())
        say("", str(trial.params), f"  {parameters:,} parameters per replica", f"  {config}")
    return 0
