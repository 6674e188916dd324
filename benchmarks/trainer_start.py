"""How long a trial of several workers takes from its start to the end of its first step, against Ray's own trainer.

    python -m benchmarks.trainer_start          # about two minutes on two cores

In one Ray session a process stands for that of a trial, which starts worker groups of two processes with Gloo, in turn:
as a study does it (`run_in_workers` with `run_trial`: files, model, stream, what is read before the first task), and
as a user of Ray alone would: a `TorchTrainer` whose function loads the same model, wraps it with `prepare_model`, and
takes the same step on the same samples. The clock starts with the call in the trial's process, and stops on rank 0.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import ray
import torch

from benchmarks.results import Figure, keep
from seekr_tune.cluster.session import ray_session
from seekr_tune.cluster.trainer import run_in_workers
from seekr_tune.config import Config
from seekr_tune.data.builtin import builtin_model_directory
from seekr_tune.data.sources import load_stream
from seekr_tune.experiment import load_experiment
from seekr_tune.methods.workers import Workers
from seekr_tune.study.runs.request import TrialRequest
from seekr_tune.study.runs.run_directory import TrialFiles
from seekr_tune.study.runs.trial import run_trial

PAIRS, WORKERS = 3, 2
GOAL = 1.0
SETTINGS = (
    "stream.tasks=[star]",
    "stream.metrics={}",
    "stream.limits.train=32",
    "recipe.epochs=1",
    "evaluation.splits=[]",
    f"training.workers={WORKERS}",
)


class StampedFiles(TrialFiles):
    """The files of a run, and the moment of its first step."""

    def __init__(self, directory: Path, config: Config) -> None:
        super().__init__(directory, config)
        self._stamp = directory / "first-step"

    def start(self, *arguments: Any) -> Callable[[Any], None]:
        log_step = super().start(*arguments)

        def on_step(step: Any) -> None:
            stamp(self._stamp)
            log_step(step)

        return on_step


def stamp(path: Path) -> None:
    """Note the time, if this is the first call."""
    if not path.exists():
        path.write_text(repr(time.time()))


def run_of_study(workers: Workers, report: Any, *, config: Config, directory: Path) -> None:
    """What every rank of a trial does."""
    request, files = TrialRequest("trial", "run"), StampedFiles(directory, config)
    run_trial(config, directory, request, workers=workers, files=files)


def run_of_ray(config: dict[str, Any]) -> None:
    """The same step by what Ray and transformers offer."""
    from ray.train import get_context
    from ray.train.torch import prepare_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(1)
    rank = get_context().get_world_rank()
    tokenizer = AutoTokenizer.from_pretrained(config["model"], padding_side="left")
    model = prepare_model(AutoModelForCausalLM.from_pretrained(config["model"], dtype=torch.float32).train())
    optimizer = torch.optim.AdamW(model.parameters(), lr=config["learning_rate"])
    texts = config["texts"]
    for start in range(0, len(texts), config["batch_size"]):
        batch = tokenizer(texts[start : start + config["batch_size"]][rank::WORKERS], padding=True, return_tensors="pt")
        labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
        model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=labels).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if rank == 0:
            stamp(config["stamp"])


class Trial:
    """The process of a trial, which only waits for its workers."""

    def by_study(self, config: Config, directory: Path) -> float:
        started = time.time()
        run_in_workers(partial(run_of_study, config=config, directory=directory), config, directory / "ray", "trial")
        return float((directory / "first-step").read_text()) - started

    def by_ray(self, config: Config, texts: list[str], directory: Path) -> float:
        from ray.train import RunConfig, ScalingConfig
        from ray.train.torch import TorchConfig, TorchTrainer

        directory.mkdir(parents=True)
        settings = {
            "model": str(builtin_model_directory()),
            "learning_rate": config.recipe.learning_rate,
            "batch_size": config.recipe.batch_size,
            "texts": texts,
            "stamp": directory / "first-step",
        }
        started = time.time()
        TorchTrainer(
            run_of_ray,
            train_loop_config=settings,
            torch_config=TorchConfig(backend="gloo"),
            scaling_config=ScalingConfig(num_workers=WORKERS),
            run_config=RunConfig(name="ray", storage_path=str(directory)),
        ).fit()
        return float((directory / "first-step").read_text()) - started


def measured(pairs: int, root: Path) -> tuple[list[float], list[float]]:
    """Seconds of both sides in turn, after a pair that warms up."""
    config = load_experiment(Path(__file__).parents[1] / "experiments" / "demo.yaml", SETTINGS)
    texts = [example.prompt + example.answer for example in load_stream(config, ("train",))[0].train]
    ours, rays = [], []
    with ray_session():
        as_actor: Any = ray.remote(num_cpus=0)
        trial = as_actor(Trial).remote()
        for pair in range(1 + pairs):
            ours.append(ray.get(trial.by_study.remote(config, root / f"study-{pair}")))
            rays.append(ray.get(trial.by_ray.remote(config, texts, root / f"ray-{pair}")))
    return ours[1:], rays[1:]


def figures_of(ours: list[float], rays: list[float]) -> list[Figure]:
    more = [mine - other for mine, other in zip(ours, rays, strict=True)]
    of = f"a trial of {WORKERS} workers, from its start to its first step"
    return [
        Figure(name=of, value=statistics.median(ours), unit="s", spread=(min(ours), max(ours))),
        Figure(name=f"{of}, by Ray's TorchTrainer alone", value=statistics.median(rays), unit="s"),
        Figure(
            name=f"{of}: more than",
            against="Ray's TorchTrainer alone",
            value=statistics.median(more),
            unit="s",
            spread=(min(more), max(more)),
            goal=GOAL,
        ),
    ]


def main() -> None:
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        ours, rays = measured(PAIRS, Path(scratch))
    keep("trainer_start", time.perf_counter() - started, figures_of(ours, rays))


if __name__ == "__main__":
    main()
