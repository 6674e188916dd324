"""Commands for the people whose texts are learned: `samples`, `forget`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seekr_tune.cli.app import app
from seekr_tune.cli.output import say, show
from seekr_tune.foreign_text import in_one_line

Place = Annotated[Path, typer.Argument(help="Directory of a study or of a run.", show_default=False)]


@app.command()
def samples(
    directory: Place,
    find: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Samples of the data whose text holds this, stored or not.")
    ] = None,
) -> None:
    """Ids of the training samples that are stored for replay, and the runs that hold them.

    seekr-tune samples DIR --find 'Jane Doe'
    """
    from seekr_tune.study.life.forget import samples_with, stored_samples

    stored = stored_samples(directory)
    ids = list(stored) if find is None else samples_with(directory, find)
    for sample in ids:
        runs = stored.get(sample, [])
        show(in_one_line(f"{sample}\t{', '.join(runs) if runs else '-'}"))
    say(f"{len(ids)} samples" if find is None else f"{len(ids)} training samples hold this text; - is stored by no run")


@app.command()
def forget(
    directory: Place,
    sample: Annotated[
        list[str] | None,
        typer.Option(metavar="TASK:INDEX", help="Training sample, counted from 0; may be given several times."),
    ] = None,
) -> None:
    """Take training samples out of a study or a run, and prove that they are gone.

    They leave every memory, checkpoint and copy, and are not learned again. Weights that have learned them stay as they
    are. Without --sample a call that was killed is finished.
    """
    from seekr_tune.study.life.forget import erase_samples

    erasure = erase_samples(directory, sample or [])
    for path in erasure.removed:
        say(f"removed, for it was damaged: {path}")
    for name, why in erasure.samples.items():
        show(in_one_line(f"{name}: {why}; taken out of {erasure.checkpoints[name]} checkpoints"))
    found = erasure.search
    say(f"proof: {found.files} files read ({found.num_bytes / 1e6:.1f} MB); nothing of these samples is in them")
    say("models that were trained with them are as they were; take the samples out of the data, too")
