"""The directory of a study that never ran: made by hand, with names that would break a page that trusts them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from seekr_tune.analysis.ledger import write_ledger
from seekr_tune.config import Config
from seekr_tune.experiment import dump_config, parse_config
from seekr_tune.records import TrialRecord
from tests.analysis.synthetic import NAN, RecordFactory

HOSTILE = "</script><script>document.title='broken'</script><!--"
"""Name of a task that would end the element it stands in, and begin another."""
ERROR = "<img src=x onerror=\"document.title='broken'\"> & 'so on'"
"""Why a trial failed."""
NUM_FINISHED = 5
"""Configurations that finished; besides there is one that was pruned and one that failed."""

SPACE = """\
method.name: {type: categorical, choices: [replay, seekr]}
method.memory.percent: {type: float, low: 1, high: 10, log: true}
method.seekr.attention_weight: {type: float, low: 1, high: 1000, log: true}
"""


def study_config(**sections: Any) -> Config:
    """The experiment of the study."""
    values: dict[str, Any] = {
        "name": "by-hand",
        "stream": {"tasks": ["flags", "rivers", HOSTILE]},
        "study": {"trials": 7, "replicates": {"seeds": [0, 1]}},
    }
    return parse_config({**values, **sections}, "reported")


def study_records() -> list[TrialRecord]:
    """Bounds, five finished configurations with two replicates each, one pruned, one failed."""
    records = []
    for seed in (0, 1):
        records += [
            _run("bound-seqft", seed, 30.0 + seed, role="bound", method="seqft", replay=(), heads=()),
            _run("bound-joint", seed, 90.0 - seed, role="bound", method="joint", replay=(), heads=()),
        ]
        for number, (op, samples) in enumerate([(60.0, 4), (75.0, 10), (82.0, 40), (55.0, 20), (28.0, 2)]):
            is_seekr = number % 2 == 0
            params: dict[str, Any] = {"method.name": "seekr" if is_seekr else "replay"}
            params["method.memory.percent"] = 1.5 * (number + 1)
            if is_seekr:
                params["method.seekr.attention_weight"] = 10.0**number
            stored = _FACTORY.replay((samples, samples, samples))
            heads = _FACTORY.heads(4, 8) if is_seekr else ()
            more: dict[str, Any] = {"params": params, "method": params["method.name"], "replay": stored, "heads": heads}
            records.append(_run(f"trial-{number:04d}", seed, op + 3 * seed, **more))
    other = {"params": {"method.name": "replay", "method.memory.percent": 9.0}, "method": "replay"}
    records.append(_run("trial-0005", 0, 20.0, status="pruned", **other))
    records.append(_run("trial-0006", 0, NAN, status="failed", error=ERROR, scores=(), tasks_done=0, **other))
    return [_with_hostile_task(record) for record in records]


def write_study(directory: Path, records: list[TrialRecord] | None = None, config: Config | None = None) -> Path:
    """Write what a report reads; returns the directory."""
    records = study_records() if records is None else records
    steps = {
        record.trial: (*_FACTORY.steps(0, 30), *_FACTORY.steps(1, 40), *_FACTORY.steps(2, 40)) for record in records
    }
    write_ledger(directory, records, steps)
    (directory / "experiment.yaml").write_text(dump_config(config or study_config()))
    (directory / "space.yaml").write_text(SPACE)
    return directory


_FACTORY = RecordFactory()


def _run(configuration: str, seed: int, op: float, **fields: Any) -> TrialRecord:
    """The replicate of a configuration with this seed."""
    config = study_config(seed=seed).model_dump(mode="json")
    matrix = [[op - 10, NAN, NAN], [op - 20, op + 5, NAN], [op - 2, op, op + 2]]
    defaults = {"configuration": configuration, "replicate": seed, "config": config, "matrix": matrix}
    return _FACTORY(configuration + f"-r{seed}" * bool(seed), **{**defaults, **fields})


def _with_hostile_task(record: TrialRecord) -> TrialRecord:
    return TrialRecord.from_json(record.to_json().replace('"birds"', json.dumps(HOSTILE)))
