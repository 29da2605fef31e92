"""``show`` and ``plan``: what a study would do, and what it would cost."""

import argparse

from aesearch.commands.options import data_folder, overridden


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


def plan(options: argparse.Namespace) -> int:
    """Print what a study would cost."""
    study = overridden(options)

    from aesearch.plan import lines, make_plan

    print("\n".join(lines(make_plan(study, data_folder(options.data), study.n_trials or len(study.grid())), study)))
    return 0
