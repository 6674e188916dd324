"""Code that comes with a model or with data is never run; there is no setting that would allow it."""

from __future__ import annotations

import ast
import json
import re
import shutil
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from seekr_tune.cli import main
from seekr_tune.config import ModelConfig
from seekr_tune.data.builtin import builtin_model_directory
from seekr_tune.data.sources import load_stream
from seekr_tune.errors import ConfigError, DataError, ModelError
from seekr_tune.loop.footprint import ModelSize
from seekr_tune.methods.seekr.attention import TAP_ATTENTION
from seekr_tune.models.compatibility import check_parts
from seekr_tune.models.loading import load_model, read_model_config

from .small import bomb, finished_run, small_config

KIND = "remote code"


CODE = "from pathlib import Path\nPath({!r}).touch()\nclass Mine:\n    pass\n"
BRINGING: dict[str, tuple[str, dict[str, Any]]] = {
    "config": ("config.json", {"auto_map": {"AutoConfig": "code.Mine"}, "model_type": "foreign"}),
    "model": ("config.json", {"auto_map": {"AutoModelForCausalLM": "code.Mine"}, "model_type": "t5"}),
    "tokenizer": (
        "tokenizer_config.json",
        {"auto_map": {"AutoTokenizer": ["code.Mine", None]}} | {"tokenizer_class": "X"},
    ),
}
"""What brings code, the file that says so, and how."""


@pytest.fixture(scope="module")
def run_on_a_copy(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A finished run, and the model's directory that it was made from."""
    place = tmp_path_factory.mktemp("run")
    shutil.copytree(builtin_model_directory(), place / "model")
    return finished_run(place / "run", model={"path": str(place / "model")}), place / "model"


def bring_code(model: Path, what: str, marker: Path) -> None:
    name, fields = BRINGING[what]
    (model / "code.py").write_text(CODE.format(str(marker)))
    change_json(model / name, fields)


def change_json(path: Path, fields: dict[str, Any]) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


@pytest.mark.parametrize("what", BRINGING)
@pytest.mark.parametrize("command", ["validate", "run", "export"])
def test_a_model_that_brings_code_is_refused_whatever_is_answered_on_the_terminal(
    tmp_path: Path,
    marker: Path,
    run_on_a_copy: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
    what: str,
) -> None:
    finished, base = run_on_a_copy
    shutil.copytree(finished, tmp_path / "run")
    model = tmp_path / "model"
    shutil.copytree(base, model)
    bring_code(model, what, marker)
    experiment = tmp_path / "run" / "config.yaml"
    experiment.write_text(experiment.read_text().replace(str(base), str(model)))
    monkeypatch.setattr("sys.stdin", StringIO("y\n" * 20))
    arguments = {
        "validate": ["validate", str(experiment), "--set", "study.space=null"],
        "run": ["run", str(experiment), "--out", str(tmp_path / "new")],
        "export": ["export", str(tmp_path / "run"), "--best", "--to", str(tmp_path / "exported")],
    }
    code = main(arguments[command])
    assert not marker.exists()
    assert code == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1 and "model.path" in said
    assert what == "model" or "it brings code of its own, which is never run" in said


def test_a_tokenizer_that_transformers_knows_is_read_without_the_code_beside_it(tmp_path: Path, marker: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(builtin_model_directory(), model)
    bring_code(model, "tokenizer", marker)
    change_json(model / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast"})
    loaded = load_model(ModelConfig(path=str(model)))
    loaded.tokenizer.save_pretrained(tmp_path / "saved")
    assert "auto_map" not in json.loads((tmp_path / "saved" / "tokenizer_config.json").read_text())
    assert not marker.exists()


ORDERS: dict[str, dict[str, Any]] = {
    **{
        name: {name: "mine/kernel"}
        for name in ("attn_implementation", "_attn_implementation", "_attn_implementation_internal")
    },
    "by part": {"attn_implementation": {"": "mine/kernel"}},
    "experts_implementation": {"experts_implementation": "mine/kernel"},
    "deepgemm": {"experts_implementation": "deepgemm"},
    "use_kernels": {"use_kernels": True, "kernel_config": {"kernel_mapping": {"RMSNorm": "mine/kernel:RMSNorm"}}},
    "fusion_config": {"fusion_config": {"patch_embeddings": True}},
    "eager": {"attn_implementation": "eager"},
}


@pytest.mark.parametrize("order", ORDERS)
def test_what_a_configuration_says_about_what_is_run_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: str
) -> None:
    """No kernel is fetched, no module is replaced, and the attention is that of the tap."""

    def fetched(*names: object, **options: object) -> None:
        raise AssertionError(f"fetches {names}")

    for name in ("get_kernel", "load_and_register_attn_kernel", "lazy_load_kernel"):
        monkeypatch.setattr(f"transformers.integrations.hub_kernels.{name}", fetched)
    monkeypatch.setattr("transformers.modeling_utils.lazy_import_flash_attention", fetched)
    monkeypatch.setattr("transformers.fusion_mapping.register_fusion_patches", fetched)
    model = tmp_path / "model"
    shutil.copytree(builtin_model_directory(), model)
    change_json(model / "config.json", ORDERS[order])
    config = small_config(model={"path": str(model), "lora": {"rank": 2, "target_modules": ["q_proj"]}})
    shape = read_model_config(config.model)
    assert shape is not None
    check_parts(config, shape, None)
    ModelSize.of(config.model, shape)
    loaded = load_model(config.model)
    assert loaded.model.config._attn_implementation == TAP_ATTENTION
    loaded.model.get_base_model().save_pretrained(tmp_path / "saved")
    assert "mine/kernel" not in (tmp_path / "saved" / "config.json").read_text() or order == "use_kernels"


@pytest.mark.parametrize("name", ["attn_implementation", "_attn_implementation", "experts_implementation"])
def test_nor_is_what_the_part_of_a_configuration_says(tmp_path: Path, name: str) -> None:
    parts = {part: {name: "mine/kernel"} for part in ("text_config", "vision_config")}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gemma3", **parts}))
    shape = read_model_config(ModelConfig(path=str(tmp_path)))
    assert shape is not None
    for part in (shape, shape.text_config, shape.vision_config):
        assert (part._attn_implementation, part._experts_implementation) == (TAP_ATTENTION, None)


@pytest.mark.parametrize("fields", [{"text_config": {"model_type": "llama"}}, {"hidden_act": "mine"}])
def test_a_configuration_that_no_model_can_be_built_from_is_refused_in_one_line(
    tmp_path: Path, fields: dict[str, Any]
) -> None:
    model = tmp_path / "model"
    shutil.copytree(builtin_model_directory(), model)
    change_json(model / "config.json", fields)
    config = small_config(model={"path": str(model), "lora": {"rank": 2, "target_modules": ["q_proj"]}})
    shape = read_model_config(config.model)
    assert shape is not None
    for look in (
        lambda: load_model(config.model),
        lambda: check_parts(config, shape, None),
        lambda: ModelSize.of(config.model, shape),
    ):
        with pytest.raises(ModelError, match="model.path") as error:
            look()
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("method", ["fp8", "mxfp4", "eetq"])
def test_weights_that_need_kernels_from_the_hub_are_refused(tmp_path: Path, method: str) -> None:
    model = tmp_path / "model"
    shutil.copytree(builtin_model_directory(), model)
    change_json(model / "config.json", {"quantization_config": {"quant_method": method}})
    with pytest.raises(ModelError, match=rf"weights are quantised \({method}\), and transformers would fetch kernels"):
        load_model(ModelConfig(path=str(model)))
    change_json(model / "config.json", {"quantization_config": None})
    load_model(ModelConfig(path=str(model)))


def test_weights_are_not_read_from_a_pickle_that_the_configuration_names(tmp_path: Path, marker: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(builtin_model_directory(), model)
    (model / "adapter_model.bin").write_bytes(bomb(marker))
    change_json(model / "config.json", {"transformers_weights": "adapter_model.bin"})
    load_model(ModelConfig(path=str(model)))
    assert not marker.exists()


def test_nothing_else_in_the_package_reads_a_model(repository: Path) -> None:
    """Each call that could ask whether to run code says that it must not; all of them are in one file."""
    reading = re.compile(r"\b(?:Auto\w+|\w*Config|\w*Tokenizer\w*|factory)\.(from_pretrained|from_config)\(")
    found = {}
    for path in (repository / "seekr_tune").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and reading.match(ast.unparse(node)):
                refuses = any(k.arg == "trust_remote_code" and ast.unparse(k.value) == "False" for k in node.keywords)
                found.setdefault(path.name, []).append(refuses)
    assert found == {"pretrained.py": [True] * 4}


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
