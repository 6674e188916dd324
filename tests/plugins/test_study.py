"""A study with a method of one's own that is killed in the middle and resumed, its file gone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from seekr_tune.config import Config
from seekr_tune.config.plugins import with_plugins
from seekr_tune.data.sources import load_stream
from seekr_tune.experiment import parse_config

from ..study.life.test_study_resume import assert_like_plain_python, kill_and_resume

PLUGINS = Path(__file__).parents[2] / "examples" / "plugins"
EWC = PLUGINS / "ewc" / "ewc.py"


def study_config(folder: Path, **training: Any) -> Config:
    (folder / "ewc.py").write_text(EWC.read_text())
    (folder / "two.yaml").write_text("method.ewc.strength: {type: float, low: 1, high: 10000, log: true}\n")
    values = {
        "name": "own",
        "stream": {"tasks": ["star", "last", "paren"], "limits": {"train": 64, "eval": 8, "test": 8}},
        "recipe": {
            "epochs": 3,
            "learning_rate": 5e-4,
            "batch_size": 8,
            "max_prompt_tokens": 40,
            "max_answer_tokens": 4,
        },
        "method": {"name": "./ewc.py:EWC", "ewc": {"samples": 8}},
        "evaluation": {"matrix": "diagonal_and_last"},
        "study": {"trials": 3, "bounds": [], "max_concurrent": 1},
        "training": training,
    }
    config = parse_config(with_plugins(values, folder, "own"), "own")
    (folder / "ewc.py").unlink()
    return config


@pytest.mark.ray
@pytest.mark.slow
def test_a_killed_study_goes_on_without_the_file_of_its_method(tmp_path: Path) -> None:
    records = kill_and_resume(study_config(tmp_path), tmp_path / "study")
    assert_like_plain_python(tmp_path / "study", next(iter(records.values())), tmp_path / "plain")


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("training", [{}, {"workers": 2, "resources_per_worker": {"CPU": 1}}], ids=["none", "two"])
def test_a_killed_study_goes_on_with_code_of_ones_own_at_every_other_seam(
    tmp_path: Path, training: dict[str, Any]
) -> None:
    for folder, name in (("sobol_start", "sobol_start"), ("jsonl", "jsonl"), ("chat", "chat"), ("scorer", "numbers")):
        (tmp_path / f"{name}.py").write_text((PLUGINS / folder / f"{name}.py").read_text())
    (tmp_path / "goal.py").write_text("def steps_spared(record):\n    return -float(record.tasks_done)\n")
    (tmp_path / "same.py").write_text("def same(model):\n    return model\n")
    values = study_config(tmp_path, **training).model_dump()
    with (tmp_path / "chats.jsonl").open("w") as file:
        for task in load_stream(parse_config(values, "built-in"), ("train", "eval", "test")):
            for split, examples in task.splits.items():
                for one in examples:
                    messages = [{"role": "user", "content": one.prompt}, {"role": "assistant", "content": one.answer}]
                    file.write(json.dumps({"task": task.name, "split": split, "messages": messages}) + "\n")
    values["stream"] |= {"source": "./chat.py:Chat", "root": str(tmp_path), "metrics": {"star": "./numbers.py:nearly"}}
    values["recipe"] |= {"optimizer": "torch.optim:NAdam", "max_prompt_tokens": 60}
    values["model"]["converter"] = "./same.py:same"
    values["study"] |= {"sampler": "./sobol_start.py:sobol_start", "sampler_options": {"start": 2}}
    values["study"]["objectives"] = {"./goal.py:steps_spared": "minimize"}
    values["training"]["trackers"] = ["./jsonl.py:JsonLines"]
    config = parse_config(with_plugins(values, tmp_path, "own"), "own")
    for path in tmp_path.glob("*.py"):
        path.unlink()
    records = kill_and_resume(config, tmp_path / "study")
    for key, record in records.items():
        assert record.objectives == {"steps_spared": (-1.0, -2.0, -3.0)}
        curves = tmp_path / "study" / "trials" / key / "curves.jsonl"
        steps = [json.loads(line).get("step") for line in curves.read_text().splitlines()]
        known = [step for step in steps if step is not None]
        assert known == list(range(1, len(known) + 1))


@pytest.mark.ray
@pytest.mark.slow
def test_a_killed_study_of_two_workers_goes_on(tmp_path: Path) -> None:
    config = study_config(tmp_path, workers=2, resources_per_worker={"CPU": 1})
    records = kill_and_resume(config, tmp_path / "study")
    assert all(record.tasks_done == 3 for record in records.values())
