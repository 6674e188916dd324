"""Code that comes with a model or with data is never run; there is no setting that would allow it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from seekr_tune.config import ModelConfig
from seekr_tune.errors import ConfigError, DataError, ModelError
from seekr_tune.sequence.model import load_model, read_model_config
from seekr_tune.stream.builtin import builtin_model_directory
from seekr_tune.stream.sources import load_stream

from .small import small_config

KIND = "remote code"


@pytest.mark.parametrize("what", ["AutoConfig", "AutoModelForCausalLM", "AutoTokenizer"])
def test_a_model_that_brings_code(tmp_path: Path, marker: Path, what: str) -> None:
    model = tmp_path / "model"
    shutil.copytree(builtin_model_directory(), model)
    (model / "code.py").write_text(f"from pathlib import Path\nPath({str(marker)!r}).touch()\n")
    path = model / ("tokenizer_config.json" if what == "AutoTokenizer" else "config.json")
    settings = json.loads(path.read_text()) | {"auto_map": {what: "code.Mine"}, "model_type": "foreign"}
    path.write_text(json.dumps(settings))
    config = ModelConfig(path=str(model))
    try:
        read_model_config(config)
        load_model(config)
    except ModelError:
        assert what != "AutoTokenizer", "transformers has a tokenizer of its own for that"
    assert not marker.exists()


def test_the_experiment_file_cannot_allow_it() -> None:
    with pytest.raises(ConfigError, match="unknown field 'model.trust_remote_code'"):
        small_config(model={"trust_remote_code": True})


@pytest.mark.parametrize("name", ["star.py", "star/star.py", "dataset_infos.json"])
def test_a_data_set_that_brings_code(tmp_path: Path, marker: Path, name: str) -> None:
    script = tmp_path / "data" / name
    (tmp_path / "data" / "star").mkdir(parents=True)
    (tmp_path / "data" / "last").mkdir()
    script.write_text(f"from pathlib import Path\nPath({str(marker)!r}).touch()\n")
    config = small_config(stream={"source": "datasets", "root": str(tmp_path / "data"), "tasks": ["star", "last"]})
    with pytest.raises(DataError):
        load_stream(config, ("train",))
    assert not marker.exists()
