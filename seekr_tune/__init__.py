"""A hyperparameter-study framework for SEEKR continual learning.

    config = seekr_tune.load_experiment("experiments/demo.yaml", ["method.memory.percent=3"])
    record = seekr_tune.run_experiment(config, "runs/three-percent")

Names are imported when they are first used, so that `import seekr_tune` is quick and a part of the package that
needs neither Ray nor Optuna (`seekr_tune.methods`, `seekr_tune.sequence`) works where they are not installed.
"""

from seekr_tune.code_path import guard_command

guard_command()  # what is imported from here on is code that was installed

from importlib import import_module  # noqa: E402
from typing import TYPE_CHECKING, Any  # noqa: E402

if TYPE_CHECKING:
    from seekr_tune.analysis.ranking import rank
    from seekr_tune.config import Config
    from seekr_tune.data.sources import load_stream
    from seekr_tune.errors import SeekrTuneError, UserError
    from seekr_tune.experiment import dump_config, load_experiment, with_values
    from seekr_tune.loop.loop import run_stream
    from seekr_tune.study.final.finalize import finalize_study
    from seekr_tune.study.life.study import resume_study, start_study, study_status
    from seekr_tune.study.runs.single import run_experiment
    from seekr_tune.validation import validate

__version__ = "0.3.0.dev0"

_HOMES = {
    "Config": "config",
    "SeekrTuneError": "errors",
    "UserError": "errors",
    "dump_config": "experiment",
    "finalize_study": "study.final.finalize",
    "load_experiment": "experiment",
    "load_stream": "data.sources",
    "rank": "analysis.ranking",
    "resume_study": "study.life.study",
    "run_experiment": "study.runs.single",
    "run_stream": "loop.loop",
    "start_study": "study.life.study",
    "study_status": "study.life.study",
    "validate": "validation",
    "with_values": "experiment",
}

__all__ = [
    "Config",
    "SeekrTuneError",
    "UserError",
    "dump_config",
    "finalize_study",
    "load_experiment",
    "load_stream",
    "rank",
    "resume_study",
    "run_experiment",
    "run_stream",
    "start_study",
    "study_status",
    "validate",
    "with_values",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return list(__all__)
