"""The card of an exported model: what it is, what it scores and on what, how it came to be, how to load it."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from huggingface_hub import EvalResult, ModelCardData

from seekr_tune.analysis.configurations import estimate, nothing_learned_by, void_line
from seekr_tune.analysis.glossary import METRICS, column
from seekr_tune.analysis.measures import measure
from seekr_tune.analysis.score_tables import matrix_tables, scores_of
from seekr_tune.analysis.table import Column, Table, as_markdown, escape_markdown, markdown_code
from seekr_tune.analysis.worth import TaskWorth, runs_of_records, task_worths
from seekr_tune.analysis.worth_lines import outlook, warnings
from seekr_tune.config import Config
from seekr_tune.config.facts import fields_at, is_read
from seekr_tune.experiment import flatten
from seekr_tune.records import ScoredSplit, TrialRecord, tuning_split

_PACKAGES = ("torch", "transformers", "peft", "tokenizers", "safetensors")
_SETTINGS = ("method.", "recipe.", "model.", "seed", "memory_draw")
"""What of the experiment the card lists; `experiment.yaml` beside it has all of it."""

_MEASURES = ("op", "bwt", "forgetting", "distinct_replayed_samples", "replay_presentations", "memory_bytes")


@dataclass(frozen=True)
class CardSource:
    """What a card is made of.

    Attributes:
        study: name of the study's directory.
        run: key of the run.
        why: why this run.
        protocol: what was tuned on, and whether `test` was opened; None for a single run.
        changes: of data and model, as they were accepted: one line each.
        checkpoint: name of the checkpoint of its weights.
        config: its experiment.
        record: its results.
        siblings: records of all runs of its configuration; empty for a single run.
    """

    study: str
    run: str
    why: str
    protocol: str | None
    changes: tuple[str, ...]
    checkpoint: str
    config: Config
    record: TrialRecord
    siblings: tuple[TrialRecord, ...]


def model_card(source: CardSource) -> str:
    """The card as Markdown, with metadata in front as the Hugging Face hub reads it."""
    split = tuning_split(source.record)
    return f"---\n{_metadata(source, split)}\n---\n\n" + "\n".join(_text(source, split)) + "\n"


def _metadata(source: CardSource, split: ScoredSplit | None) -> str:
    config, record = source.config, source.record
    results = [
        EvalResult(
            task_type="text-generation",
            dataset_type=cell.evaluated,
            dataset_name=cell.evaluated,
            dataset_split=cell.split,
            metric_type=config.stream.metric_of(cell.evaluated),
            metric_value=cell.score,
        )
        for cell in record.scores
        if cell.split == split and cell.trained_index == len(record.tasks) - 1
    ]
    data = ModelCardData(
        library_name="peft" if config.model.lora else "transformers",
        pipeline_tag="text-generation",
        base_model=_hub_name(config),
        tags=["continual-learning", record.method],
        model_name=f"{source.study}/{source.run}",
        eval_results=(results or None) if nothing_learned_by([record]) is None else None,
    )
    return str(data.to_yaml())


def _text(source: CardSource, split: ScoredSplit | None) -> Iterator[str]:
    config, record = source.config, source.record
    kind = "A LoRA adapter" if config.model.lora else "A language model"
    yield f"# {escape_markdown(f'{source.study}/{source.run}')}"
    yield ""
    yield f"{kind} that learned {len(record.tasks)} tasks one after the other with the method"
    yield f"{markdown_code(record.method)} (semantics {markdown_code(record.semantics)}), from the base model"
    yield f"{markdown_code(str(config.model.path))}."
    yield ""
    yield "## Scores"
    yield ""
    worths = task_worths(runs_of_records([record], split))
    void = nothing_learned_by([record])
    wrong = [*source.changes, *([] if void is None else [void_line(void)]), *warnings(worths)]
    yield from (f"- **WARNING:** {escape_markdown(line)}" for line in wrong)
    yield from [""] * bool(wrong)
    yield from _scores(source, split)
    yield from (escape_markdown(line) + "  " for line in _worth_lines(worths))
    yield ""
    yield "## Settings"
    yield ""
    texts = [Column(name, name, is_text=True) for name in ("setting", "value", "by")]
    chosen = {path for key in record.params for path in fields_at(key)}
    settings = [
        {"setting": path, "value": str(value), "by": "chosen by the search" if path in chosen else ""}
        for path, value in flatten(config).items()
        if path.startswith(_SETTINGS) and is_read(path, record.method)
    ]
    yield as_markdown([Table("", tuple(texts), tuple(settings))])
    yield "## Use"
    yield ""
    yield from _use(config)
    yield ""
    yield "## Where it is from"
    yield ""
    yield from (f"- {line}" for line in _provenance(source))


def _scores(source: CardSource, split: ScoredSplit | None) -> Iterator[str]:
    if split is None:
        yield "It was not scored."
        yield ""
        return
    scores = [scores_of(source.record, split)]
    yield as_markdown(matrix_tables(scores, source.record.configuration_key, source.study, split))
    metrics = ", ".join(
        f"{escape_markdown(task)}: {escape_markdown(source.config.stream.metric_of(task))}"
        for task in source.record.tasks
    )
    yield f"Metrics: {metrics}."
    if split == "eval" and source.record.role == "trial":
        yield "The search chose its settings by scores on `eval`, so on new data this model may score lower."
    yield ""
    measures = measure(source.record, split)
    rows = [
        {"measure": name, "value": column(name).text(getattr(measures, name)), "meaning": METRICS[name].formula}
        for name in _MEASURES
    ]
    columns = Column("measure", "measure", is_text=True), Column("value", "value"), Column("meaning", "", is_text=True)
    yield as_markdown([Table("", columns, tuple(rows))])
    finished = [record for record in source.siblings if record.status == "finished"]
    if len(finished) > 1:
        op = estimate([measure(record, split).op for record in finished])
        if op.mean is not None and op.error is not None:
            yield f"It is one of {len(finished)} runs of its configuration, whose OP is {op.mean:.2f} ± {op.error:.2f}"
            yield "(mean and standard error over orders, seeds and memory draws)."
            yield ""


def _worth_lines(worths: Sequence[TaskWorth]) -> Iterator[str]:
    """What each task is worth, a sentence each."""
    for worth in worths:
        if worth.is_known:
            zero = "not measured" if worth.zero_shot is None else f"{worth.zero_shot:.1f}"
            yield f"{outlook(worth)}; zero-shot {zero}."
        else:
            yield f"{worth.task}: what a constant answer scores is not known, for an earlier version trained it."


def _use(config: Config) -> Iterator[str]:
    yield "Prompts are those of the tasks, without a chat template. Weights have the precision"
    yield f"`{config.model.dtype}`. `PATH` is this directory:"
    yield ""
    yield "```python"
    if config.model.lora:
        yield "from peft import AutoPeftModelForCausalLM"
        yield "from transformers import AutoTokenizer"
        yield ""
        yield 'model = AutoPeftModelForCausalLM.from_pretrained("PATH")  # needs the base model where it was'
    else:
        yield "from transformers import AutoModelForCausalLM, AutoTokenizer"
        yield ""
        yield 'model = AutoModelForCausalLM.from_pretrained("PATH")'
    yield 'tokenizer = AutoTokenizer.from_pretrained("PATH")'
    yield 'inputs = tokenizer("PROMPT", return_tensors="pt")'
    yield f"answer = model.generate(**inputs, max_new_tokens={config.recipe.max_answer_tokens}, do_sample=False)"
    yield "```"


def _provenance(source: CardSource) -> Iterator[str]:
    config, record = source.config, source.record
    run, study, checkpoint = (markdown_code(name) for name in (source.run, source.study, source.checkpoint))
    yield f"run: {run} of {study} ({source.why}); checkpoint {checkpoint}"
    yield f"protocol: {escape_markdown(source.protocol or 'a single run; it belongs to no study')}"
    yield f"order of the tasks: {', '.join(escape_markdown(task) for task in record.tasks)}"
    yield f"seed {config.seed}, memory draw {config.memory_draw}"
    if config.model.converter is not None:
        changed = markdown_code(_origin_of(config, config.model.converter))
        yield f"the base model was changed before training by {changed}"
    data = f"data: {markdown_code(config.stream.source)}"
    yield data + (f" in {markdown_code(str(config.stream.root))}" if config.stream.root else "")
    yield f"trained with seekr_tune {escape_markdown(record.code_version)}, in {record.wall_seconds:.0f} s"
    yield f"exported with Python {platform.python_version()}, " + ", ".join(f"{p} {version(p)}" for p in _PACKAGES)
    yield "`experiment.yaml` holds the whole resolved experiment"
    yield "the licence of the base model and those of the data apply"


def _origin_of(config: Config, name: str) -> str:
    """Where code of a user's is from, and which it is."""
    plugin = config.plugins[name]
    return f"{plugin.origin} (sha256 {str(plugin.sha256)[:16]})"


def _hub_name(config: Config) -> str | None:
    """The base model as the hub knows it; None for a directory, which means nothing elsewhere."""
    path = config.model.path
    if path is None or path == "builtin" or Path(path).is_dir():
        return None
    return path
