"""The files of a model's directory, looked at before a library reads them: what it would stumble over, or pass over.

transformers loads an adapter that lies beside a model, or drops it; takes a pointer of Git LFS for a damaged file; and
reads JSON without bounds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME

from seekr_tune.documents import opened, read_json
from seekr_tune.errors import DocumentError, ModelError

_CONFIG, _ADAPTER = "config.json", "adapter_config.json"
_DOCUMENTS = (_CONFIG, "tokenizer_config.json", _ADAPTER)
_POINTER = b"version https://git-lfs"
_POINTED = ("*.json", "*.safetensors", "*.bin", "*.model", "*.txt", "*.jinja")
_PICKLES = (".bin", ".ckpt", ".pt", ".pth")
_NEVER_READ = (*_PICKLES, ".gguf", ".h5", ".msgpack", ".safetensors")
_WHOLE_NUMBERS = ("I8", "U8", "I16", "U16", "I32", "U32", "I64", "U64")

Headers = dict[str, dict[str, tuple[str, list[int]]]]
"""By file: type and shape of each of its tensors, by name."""


def require_readable(name: str, directory: Path) -> None:
    """Refuse a directory with files that stand for others, with JSON that is none, or with an adapter.

    Args:
        name: of the model, in messages.
        directory: that holds it.

    Raises:
        ModelError: naming the file.
        AccessError: this user may not read it.
    """
    for file in sorted({file for pattern in _POINTED for file in directory.glob(pattern)}):
        if file.is_dir():
            continue
        try:
            with opened(file) as content:
                if content.read(len(_POINTER)) == _POINTER:
                    raise ModelError(
                        f"{name}: {file.name} is a pointer of Git LFS, not the file that it stands for; run `git lfs "
                        "pull` where it was cloned, or download the model anew"
                    )
        except DocumentError as error:
            raise ModelError(f"{name}: {file.name} {error.reason}; {error.mend}") from None
    for document in _DOCUMENTS:
        if (directory / document).exists():
            values = read_mapping(name, directory / document)
            if document == _CONFIG:
                _require_types(name, values)
    if (directory / _ADAPTER).exists():
        _refuse_adapter(name, directory)


def read_mapping(name: str, path: Path) -> dict[str, Any]:
    """The object that one of a model's JSON files holds.

    Raises:
        ModelError: it cannot be read, or is no object.
        AccessError: this user may not read it.
    """
    try:
        value = read_json(path, finite=False)  # some limits of real models are infinite
    except DocumentError as error:
        raise ModelError(f"{name}: cannot be loaded ({path.name}: {error.reason}); {error.mend}") from None
    if not isinstance(value, dict):
        raise ModelError(f"{name}: cannot be loaded ({path.name} is no JSON object); check the path")
    return value


def unread_weights(directory: Path) -> list[str]:
    """Files that look like weights, in formats or under names that are not read; empty where some are read."""
    if any((directory / own).is_file() for own in (SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME)):
        return []
    return sorted(file.name for file in directory.iterdir() if file.suffix in _NEVER_READ and file.is_file())


def require_weights(name: str, directory: Path, *, quantised: bool, named: str | None = None) -> None:
    """Refuse weights that are cut off, incomplete, in a form that is not read, or quantised without a word of it.

    Args:
        name: of the model, in messages.
        directory: that holds it.
        quantised: whether its config.json says in which form.
        named: file that its config.json names for them.

    Raises:
        ModelError: naming the file.
    """
    headers = _headers(name, directory)
    if not (directory / SAFE_WEIGHTS_NAME).exists() and (directory / SAFE_WEIGHTS_INDEX_NAME).exists():
        _require_shards(name, directory, headers)
    elif named is None and (unread := unread_weights(directory)):
        why = "a pickle, which can hold code" if Path(unread[0]).suffix in _PICKLES else "not a form that is read here"
        raise ModelError(
            f"{name}: its weights are in {unread[0]}, {why}; give the model as {SAFE_WEIGHTS_NAME}, which "
            "transformers' save_pretrained writes"
        )
    for file, types in headers.items():
        for tensor, (kind, _) in types.items():
            scaled = kind.startswith("F8") and any(other.endswith(("scale", "scale_inv")) for other in types)
            if not quantised and tensor.endswith("weight") and (kind in _WHOLE_NUMBERS or scaled):
                raise ModelError(
                    f"{name}: {file} holds {tensor} as {kind}, which is a quantised form that config.json does not "
                    "declare; give the model with weights of 16 or 32 bits"
                )


def first_misfit(directory: Path, shapes: Mapping[str, list[int]]) -> str | None:
    """The first weight of another shape than the model has for it, in words; None where there is none.

    Args:
        directory: whose weights could not be loaded.
        shapes: of the model's parameters, by name.
    """
    for file, types in _headers("", directory).items():
        for tensor, (_, found) in types.items():
            if shapes.get(tensor, found) != found:
                return f"{tensor} in {file} is {found}, its config.json asks for {shapes[tensor]}"
    return None


def _require_types(name: str, values: Mapping[str, Any]) -> None:
    form = values.get("quantization_config")
    if form is not None and not isinstance(form, dict):
        raise ModelError(f"{name}: quantization_config of its config.json is no mapping; copy it anew")
    for key in ("dtype", "torch_dtype"):
        kind = values.get(key)
        if isinstance(kind, str) and not isinstance(getattr(torch, kind, None), torch.dtype):
            raise ModelError(f"{name}: {key} of its config.json is {kind[:40]!r}, no type of torch; set it to float32")


def _refuse_adapter(name: str, directory: Path) -> None:
    settings = read_mapping(name, directory / _ADAPTER)
    base = str(settings.get("base_model_name_or_path") or "the model that it was trained on")[:100]
    merge = "PeftModel.from_pretrained(base, adapter).merge_and_unload().save_pretrained(directory), and the tokenizer"
    if not any((directory / own).exists() for own in (SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME)):
        raise ModelError(
            f"{name}: holds an adapter, not a model; merge it into its base, {base}, with PEFT and give the result: "
            f"{merge}"
        )
    raise ModelError(
        f"{name}: holds a model and an adapter of {base}, and nothing says which is meant; merge them with PEFT and "
        f"give the result ({merge}), or move {_ADAPTER} away to learn from the model alone"
    )


def _headers(name: str, directory: Path) -> Headers:
    return {file.name: _header(name, file) for file in sorted(directory.glob("*.safetensors"))}


def _header(name: str, file: Path) -> dict[str, tuple[str, list[int]]]:
    try:
        with safe_open(file, framework="pt") as tensors:
            slices = {tensor: tensors.get_slice(tensor) for tensor in tensors.keys()}
            return {tensor: (str(own.get_dtype()), list(own.get_shape())) for tensor, own in slices.items()}
    except (SafetensorError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"{name}: {file.name} is damaged ({reason}); copy it anew") from None


def _require_shards(name: str, directory: Path, headers: Headers) -> None:
    """Refuse an index whose files are not there, or lack what it says."""
    index = read_mapping(name, directory / SAFE_WEIGHTS_INDEX_NAME)
    places = index.get("weight_map")
    if not isinstance(places, dict) or not places or not all(isinstance(file, str) for file in places.values()):
        raise ModelError(f"{name}: {SAFE_WEIGHTS_INDEX_NAME} has no weight_map of names to files; copy it anew")
    if not isinstance(index.get("metadata"), dict):  # transformers reads it, and fails without
        raise ModelError(
            f'{name}: {SAFE_WEIGHTS_INDEX_NAME} has no metadata; add "metadata": {{}} to it, or save the model anew'
        )
    files = sorted(set(places.values()))
    lacking = [file for file in files if file not in headers]
    if lacking:
        raise ModelError(
            f"{name}: lacks {len(lacking)} of the {len(files)} files that {SAFE_WEIGHTS_INDEX_NAME} names (first: "
            f"{lacking[0][:100]!r}); copy them into the directory"
        )
    for tensor in _misplaced(places, headers):
        raise ModelError(
            f"{name}: {SAFE_WEIGHTS_INDEX_NAME} says that {places[tensor]} holds {tensor[:100]}, which it does not; "
            "copy index and files anew, from one place"
        )


def _misplaced(places: Mapping[str, str], headers: Headers) -> Iterator[str]:
    return (tensor for tensor, file in places.items() if tensor not in headers[file])
