"""The schema and its values, leaf by leaf: one walk for all who ask."""

from __future__ import annotations

from seekr_tune.config import Config
from seekr_tune.config.leaves import fields_of, leaf_types, leaves_of
from seekr_tune.experiment import config_paths


def test_a_section_is_a_path_and_so_are_its_fields_but_no_leaf() -> None:
    assert {"model", "model.lora", "model.lora.rank"} <= set(config_paths())
    leaves = {path for path, _ in leaf_types(Config)}
    assert leaves == set(config_paths()) - {field.path for field in fields_of(Config) if field.sections}


def test_what_stands_in_a_mapping_of_the_users_names_is_no_path_of_the_schema() -> None:
    assert "stream.erased" in config_paths() and not [path for path in config_paths() if "erased." in path]


def test_values_are_found_by_their_path_and_an_empty_mapping_is_one() -> None:
    nested = {"a": {"b": 1, "c": {}}, "d": [1, {"e": 2}]}
    assert dict(leaves_of(nested)) == {"a.b": 1, "a.c": {}, "d": [1, {"e": 2}]}
    assert dict(leaves_of({"b": 1}, "space")) == {"space.b": 1}
