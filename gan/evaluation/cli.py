"""The command `python -m gan evaluate`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click
from tqdm import tqdm

from gan.errors import InputError
from gan.quiet import prepare_tensorflow

__all__ = ["evaluate"]

HIT_GEV = 3e-4


@click.command()
@click.option(
    "--from", "sources", multiple=True, required=True, metavar="RUN|CHECKPOINT|SHOWERS",
    help="The --out folder of a training, a checkpoint, a generator that ships (such as pretrained:conv3d), or HDF5 "
    "showers (a pattern in quotes). Give it several times to compare several.",
)  # fmt: skip
@click.option("--name", "names", multiple=True, help="Name of each --from, in order.  [default: from its path]")
@click.option(
    "--reference", multiple=True, required=True, metavar="SHOWERS",
    help="HDF5 showers to compare with (a pattern in quotes), from a simulation and not used for training.",
)  # fmt: skip
@click.option(
    "--training", multiple=True, metavar="SHOWERS",
    help="HDF5 showers that the network was trained on. With them the report says whether it repeats training events.",
)  # fmt: skip
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), default=Path("evaluation"), show_default=True,
    help="Folder for the report. It is created if missing.",
)  # fmt: skip
@click.option(
    "--events", type=click.IntRange(40), default=None, show_default="all",
    help="Number of reference events to use, drawn at random.",
)  # fmt: skip
@click.option(
    "--hit", type=click.FloatRange(min=0, min_open=True), default=HIT_GEV, show_default=True, metavar="GEV",
    help="Energy above which a cell is a hit.",
)  # fmt: skip
@click.option(
    "--precision", type=click.Choice(("fp32", "bf16")), default=None, show_default="as in the training",
    help="Number format in which networks generate.",
)  # fmt: skip
@click.option("--seed", type=int, default=1, show_default=True, help="Seed of the noise of generated showers.")
@click.option(
    "--classifier/--no-classifier", default=True, show_default=True,
    help="Train classifiers to tell the showers apart. They take most of the time.",
)  # fmt: skip
def evaluate(
    sources: tuple[str, ...],
    names: tuple[str, ...],
    reference: tuple[str, ...],
    training: tuple[str, ...],
    out: Path,
    events: int | None,
    hit: float,
    precision: str | None,
    seed: int,
    classifier: bool,
) -> None:
    """Compare generated showers with simulated ones, and write a report with figures and plots.

    A network generates one shower for the energy of each reference event. Every figure stands beside its floor: the
    same figure between two halves of the reference.
    """
    if names and len(names) != len(sources):
        raise InputError(
            f"there are {len(names)} --name and {len(sources)} --from; expected one name for each, or none"
        )
    # TensorFlow, scikit-learn and matplotlib take seconds to load: only this command needs them.
    from gan.evaluation.comparing import compare
    from gan.evaluation.report import text, write_report
    from gan.evaluation.samples import generate_sample, is_shower_file, read_sample

    prepare_tensorflow(1, len(os.sched_getaffinity(0)))
    labels = list(names) or _labels(sources)
    with _progress("Reading the reference") as bar:
        real = read_sample("simulation", reference, hit=hit, events=events, report=bar.update)
    trained_on = None
    if training:
        with _progress("Reading the training set") as bar:
            trained_on = read_sample("training set", training, hit=hit, events=len(real), report=bar.update)
    samples = []
    for name, source in zip(labels, sources, strict=True):
        if is_shower_file(source):
            with _progress(f"Reading {name}") as bar:
                samples.append(read_sample(name, [source], hit=hit, report=bar.update))
        else:
            with _progress(f"Generating with {name}", len(real)) as bar:
                samples.append(
                    generate_sample(
                        name, Path(source), real.observables.energies, precision=precision, seed=seed, hit=hit,
                        report=bar.update,
                    )
                )  # fmt: skip
    comparison = compare(
        real, samples, training=trained_on, classifier=classifier,
        report=lambda part: click.echo(f"Comparing: {part}", err=True),
    )  # fmt: skip
    files = write_report(comparison, out)
    click.echo(text(comparison))
    click.echo(
        f"\nWrote {files[0]} and {len(files) - 1} files beside it: figures as JSON, CSV and Markdown, and the plots"
    )


def _progress(title: str, total: int | None = None) -> tqdm:
    return tqdm(desc=title, total=total, unit=" events", file=sys.stderr, mininterval=1.0, leave=False)


def _labels(sources: tuple[str, ...]) -> list[str]:
    """Return a short name for each source: the last parts of the paths that tell them apart."""
    from gan.evaluation.samples import is_pattern

    parts = [Path(source).parts for source in sources]
    # A pattern such as *.h5 says nothing without its folder.
    shortest = 2 if any(map(is_pattern, sources)) else 1
    for length in range(shortest, max(shortest, *map(len, parts)) + 1):
        labels = ["/".join(each[-length:]) for each in parts]
        if len(set(labels)) == len(labels):
            return labels
    return [f"{number}: {source}" for number, source in enumerate(sources, start=1)]
