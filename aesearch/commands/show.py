"""Run ``show``: what a study would do."""

import argparse


def show(options: argparse.Namespace) -> int:
    """Print the question, the space and three configurations."""
    from aesearch.study import load_study

    study = load_study(options.study)
    print(study.question, end="\n\n")
    print("metrics:", ", ".join(f"{metric.direction} {metric.name}" for metric in study.searched))
    print("trials:", study.n_trials or len(study.grid()), f"by {study.sampler}")
    print("space:")
    for name, distribution in study.distributions.items():
        print(f"  {name}: {distribution}")
    for trial, config in study.probes[:3]:
        parameters = sum(tensor.numel() for tensor in config.build().parameters())
        print(f"\n{trial.params}\n  {parameters:,} parameters per replica\n  {config}")
    return 0
