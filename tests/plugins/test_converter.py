"""A model converter that an experiment names: when it is called, what is trained and saved of it, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from seekr_tune.cli import main
from seekr_tune.config import Config
from seekr_tune.config.plugins import with_plugins
from seekr_tune.data.sources import load_stream
from seekr_tune.errors import ConfigError, UserError
from seekr_tune.experiment import dump_config, parse_config
from seekr_tune.methods.workers import SingleProcess
from seekr_tune.models.converter import converter_of
from seekr_tune.models.loading import LoadedModel, load_model
from seekr_tune.study.runs.cache_keys import shared_directories
from seekr_tune.testing.runs import experiment_of, learn

EIGHT_BITS = '''
import torch
from torch import nn


class Eight(nn.Linear):
    """A frozen layer in 8 bits and one scale a row."""

    def __init__(self, layer):
        super().__init__(layer.in_features, layer.out_features, bias=False, device="meta")
        del self.weight
        scale = layer.weight.detach().abs().amax(dim=1, keepdim=True) / 127
        self.register_buffer("codes", (layer.weight.detach() / scale).round().to(torch.int8))
        self.register_buffer("scale", scale)

    @property
    def weight(self):
        return self.codes * self.scale

    def forward(self, inputs):
        return nn.functional.linear(inputs, self.weight)


def eight(model, only="mlp"):
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Linear) and only in name:
            holder, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(holder), leaf, Eight(module))
    return model
'''
LORA = {"rank": 2, "alpha": 4, "target_modules": ["q_proj", "v_proj"]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "bits.py").write_text(EIGHT_BITS)
    return tmp_path


def config_of(folder: Path, method: str = "seekr", **model: Any) -> Config:
    base = experiment_of((method,), {}, folder).model_dump(mode="json")
    base["model"] |= {"converter": "./bits.py:eight", **model}
    return parse_config(with_plugins(base, folder, "own"), "own")


def loaded(config: Config) -> LoadedModel:
    return load_model(config.model, convert=converter_of(config))


def test_adapters_are_trained_on_a_base_in_eight_bits(folder: Path) -> None:
    config = config_of(folder, lora=LORA)
    model = loaded(config).model
    codes = [own for name, own in model.named_buffers() if name.endswith("codes")]
    assert codes and all(own.dtype == torch.int8 for own in codes)
    assert {name.split(".")[-3] for name in loaded(config).trainable()} == {"lora_A", "lora_B"}
    whole = learn(config)
    pieces = learn(config, folder / "pieces", in_pieces=True)
    assert all(bool((own == pieces.weights[name]).all()) for name, own in whole.weights.items())
    first, plain = (learn(one, tasks=1).steps[0] for one in (config, config_of(folder, lora=LORA, converter=None)))
    assert first.loss == pytest.approx(plain.loss, rel=0.01) and first.loss != plain.loss  # before anything is learned


def test_without_adapters_what_it_leaves_is_trained_and_saved(folder: Path) -> None:
    config = config_of(folder, converter_options={"only": "up_proj"})
    names = loaded(config).trainable()
    assert not any("up_proj" in name for name in names) and any("down_proj" in name for name in names)
    whole, pieces = learn(config), learn(config, folder / "pieces", in_pieces=True)
    assert whole.weights.keys() == names.keys()
    assert all(bool((own == pieces.weights[name]).all()) for name, own in whole.weights.items())


def test_its_code_and_options_are_in_the_name_of_a_shared_first_stage(folder: Path) -> None:
    def stage(config: Config) -> Path:
        found = shared_directories(folder / "cache", config, load_stream(config, ("train",)), SingleProcess())
        assert found is not None
        return found.stage

    one, other = config_of(folder), config_of(folder, converter_options={"only": "down"})
    (folder / "bits.py").write_text(EIGHT_BITS.replace("127", "100"))
    assert len({stage(config) for config in (one, other, config_of(folder), config_of(folder, converter=None))}) == 4


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("eight = 3\n", "is no function from a model to a model"),
        ("def eight(model):\n    return 3\n", "returns a int, not a model of transformers"),
        ("def eight(model):\n    1 / 0\n", "fails (division by zero)"),
        ("def eight(model):\n    return model.requires_grad_(False)\n", "leaves nothing to be trained; set model.lora"),
        ("def eight(model, bits):\n    return model\n", "missing 1 required positional argument: 'bits'"),
    ],
)
def test_what_is_no_converter_is_refused_in_one_line(text: str, said: str, folder: Path) -> None:
    (folder / "bits.py").write_text(text)
    with pytest.raises(ConfigError) as refused:
        loaded(config_of(folder))
    assert str(refused.value).startswith("converter eight (./bits.py:eight): ")
    assert said in str(refused.value) and "\n" not in str(refused.value)


def test_one_that_takes_the_attention_from_the_tap_is_refused(folder: Path) -> None:
    (folder / "bits.py").write_text(
        "def eight(model):\n    model.config._attn_implementation = 'sdpa'\n    return model\n"
    )
    with pytest.raises(UserError, match=r"builtin, converted by eight: .* do not call it"):
        loaded(config_of(folder))


def test_options_without_a_converter_are_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match="converter_options are read by a converter alone"):
        config_of(folder, converter=None, converter_options={"only": "mlp"})


def test_a_run_says_what_it_imports_and_exports_adapters_alone(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, lora in (("adapters", LORA), ("whole", None)):
        (folder / "own.yaml").write_text(dump_config(config_of(folder, "seqft", lora=lora)))
        assert main(["run", str(folder / "own.yaml"), "--out", str(folder / name)]) == 0
    assert "imports ./bits.py:eight as converter eight (sha256 " in "".join(capsys.readouterr())
    (folder / "bits.py").unlink()
    assert main(["export", str(folder / "adapters"), "--best", "--to", str(folder / "out")]) == 0
    assert "changed before training by `./bits.py:eight (sha256 " in (folder / "out" / "README.md").read_text()
    capsys.readouterr()
    assert main(["export", str(folder / "whole"), "--best", "--to", str(folder / "none")]) == 2
    assert "changed by the converter eight before training and is not exported" in capsys.readouterr().err
