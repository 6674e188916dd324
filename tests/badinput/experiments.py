"""Experiment files that are malformed, and a few that only look so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from .case import EXPERIMENT, RUN, SWEEP, VALIDATE, Case

_FILE = "mine.yaml"
_SHORT = "recipe: {max_prompt_tokens: 40}\n"


def _experiment(name: str, content: str | bytes, *says: str) -> Case:
    """A file that is refused by every command, naming the file."""
    return Case(name, {_FILE: content}, (_FILE, *says), (VALIDATE, RUN, SWEEP))


def _field(name: str, line: str, *says: str) -> Case:
    """An experiment with one more line."""
    return Case(name, {_FILE: EXPERIMENT + line + "\n"}, (_FILE, *says), (VALIDATE, RUN, SWEEP))


def _section(name: str, section: str, *says: str) -> Case:
    """An experiment whose stream, recipe or study is another one."""
    key = section.partition(":")[0]
    lines = [line for line in EXPERIMENT.splitlines() if not line.startswith(f"{key}:")]
    return Case(name, {_FILE: "\n".join([*lines, section, ""])}, (_FILE, *says), (VALIDATE, RUN, SWEEP))


def _space(name: str, section: str, *says: str) -> Case:
    """An experiment whose space cannot be found; it can be run all the same."""
    return replace(_section(name, section, *says), commands=(VALIDATE, SWEEP))


def _name(name: str, text: str, *says: str) -> Case:
    """An experiment of another name."""
    return Case(
        name, {_FILE: EXPERIMENT.replace("name: mine", f"name: {text}")}, (_FILE, *says), (VALIDATE, RUN, SWEEP)
    )


def _works(name: str, content: str | bytes) -> Case:
    return Case(name, {_FILE: content}, commands=(VALIDATE,), works=True)


def _laughs(depth: int = 12, width: int = 10) -> str:
    """A few hundred bytes that stand for `width ** depth` values."""
    lines = ["a0: &a0 [lol]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * width)}]" for i in range(1, depth)]
    return "\n".join(lines) + "\n"


def _deep(opening: str, closing: str, depth: int) -> str:
    return EXPERIMENT + "study.x: " + opening * depth + closing * depth + "\n"


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


CASES: tuple[Case, ...] = (
    # --- the file ---
    Case("no such file", {_FILE: None}, ("mine.yaml: no such file", "seekr-tune ls")),
    Case("a folder", {_FILE: None, "mine.yaml/x": ""}, ("mine.yaml", "is a folder", "give a YAML file")),
    Case("a link to itself", {_FILE: _loop}, ("mine.yaml", "cannot be read")),
    _experiment("empty", b"", "is empty", "mapping", "experiments/demo.yaml"),
    _experiment("blanks only", "\n  \n\n", "mapping"),
    _experiment("comments only", "# nothing\n", "mapping"),
    _experiment("a list", "- a\n- b\n", "mapping", "['a', 'b']"),
    _experiment("a number", "3\n", "mapping"),
    _experiment("a text", "just words\n", "mapping"),
    _experiment("null", "null\n", "mapping"),
    _experiment("two documents", EXPERIMENT + "---\nname: other\n", "not valid YAML", "document"),
    _experiment("random bytes", bytes(range(256)), "UTF-8"),
    _experiment("Latin-1", "name: caf\xe9\n".encode("latin-1"), "UTF-8"),
    _experiment("UTF-32", EXPERIMENT.encode("utf-32"), "UTF-8"),
    _experiment("a NUL byte", EXPERIMENT.encode() + b"seed: \x001\n", "not valid YAML"),
    _experiment("a control character", EXPERIMENT + "root: 'a\x07b'\n", "not valid YAML"),
    _experiment("a tab for a blank", EXPERIMENT + "method:\n\tname: replay\n", "not valid YAML", "line 6"),
    _experiment("an open bracket", "stream: {tasks: [a\n", "not valid YAML"),
    _experiment("an open quote", EXPERIMENT + 'name: "mine\n', "not valid YAML"),
    _experiment("an unknown anchor", EXPERIMENT + "method: *missing\n", "not valid YAML", "missing"),
    _experiment("a Python object", EXPERIMENT + "method: !!python/object/apply:os.system ['true']\n", "python"),
    _experiment("an unknown tag", EXPERIMENT + "method: !mine {name: replay}\n", "not valid YAML", "!mine"),
    _experiment("a key twice", EXPERIMENT + "seed: 1\nseed: 2\n", "line 6", "'seed' stands twice", "drop one"),
    _experiment(
        "a key twice in a section", "stream: {tasks: [a], tasks: [b]}\n", "line 1", "'tasks' stands twice", "drop one"
    ),
    _experiment("a billion laughs", _laughs(), "too large"),
    _experiment("an anchor that holds itself", "stream: &a {tasks: [*a]}\n", "holds itself"),
    _experiment("lists nested ten thousand deep", _deep("[", "]", 10_000), "line 5", "nested deeper"),
    _experiment("mappings nested ten thousand deep", _deep("{a: ", "}", 10_000), "line 5", "nested deeper"),
    _experiment("forty megabytes", b"# " + b"x" * 40_000_000 + b"\n", "MB"),
    _experiment("a list for a key", "? [a, b]\n: 1\n", "mine.yaml"),
    _experiment("a merge with a number", "<<: 3\n" + EXPERIMENT, "mine.yaml"),
    _experiment("a date that does not exist", EXPERIMENT + "seed: 2024-13-45\n", "mine.yaml"),
    # --- names of fields ---
    _field("an unknown field", "modle: {path: builtin}", "unknown field 'modle'", "did you mean 'model'"),
    _field("an unknown field far from all", "zzz: 1", "unknown field 'zzz'", "--fields"),
    _field("a number for a key", "1: 2", "the key '1' is no text", "quotes"),
    _field("null for a key", "null: 2", "mine.yaml", "the key 'null' is no text"),
    _field("true for a key", "true: 2", "mine.yaml", "the key 'true' is no text"),
    _field("no for a task's metric", "evaluation: {no: 1}", "the key 'no' is no text", "quotes"),
    _field("a key of blanks", "' name': x", "unknown field ' name'", "did you mean 'name'"),
    _field("an empty key", "'': x", "unknown field ''"),
    _field(
        "a dotted path at the top",
        "method.memory.percent: 3",
        "unknown field 'method.memory.percent'",
        "into the section method",
    ),
    _section("a field of another section", "recipe: {replay_percent: 3}", "recipe.replay_percent", "method.memory"),
    # --- values ---
    _section("no stream", "stream:", "stream", "mapping"),
    _section("a stream that is a list", "stream: [words]", "stream", "mapping"),
    _section("no tasks", "stream: {source: trace_json, root: data, tasks: []}", "stream.tasks", "at least 1"),
    _section(
        "tasks that are a text", "stream: {source: trace_json, root: data, tasks: words}", "stream.tasks='w", "list"
    ),
    _section("tasks that are null", "stream: {source: trace_json, root: data, tasks: null}", "stream.tasks", "list"),
    _section("a task that is a number", "stream: {root: data, tasks: [1]}", "stream.tasks.0=1", "quotes"),
    _section("a task twice", "stream: {root: data, tasks: [words, words]}", "'words' is listed twice", "drop one"),
    _section("an unknown source", "stream: {source: csv, root: data, tasks: [words]}", "stream.source='csv'", "jsonl"),
    _section("an unknown metric", "stream: {tasks: [star], metrics: {star: acc}}", "stream.metrics.star", "rouge_l"),
    _section("a limit of none", "stream: {tasks: [star], limits: {train: 0}}", "stream.limits.train=0", "1"),
    _section("a limit in words", "stream: {tasks: [star], limits: {train: ten}}", "stream.limits.train='ten'"),
    _section("an empty root", "stream: {source: trace_json, root: '', tasks: [words]}", "stream.root"),
    _name("two words for a name", "two words", "name='two words'", "letters"),
    _name("a name that leaves the folder", "../up", "name='../up'", "letters"),
    _name("a name that ends in a line", '"mine\\n"', "name='mine\\n'", "letters"),
    _name("a name as long as no file may be", "n" * 300, "name='nnn", "at most 100"),
    _name("a number for a name", "3", "name=3", "must be text"),
    _name("no for a name", "no", "name=False", "must be text"),
    _field("a negative seed", "seed: -1", "seed=-1", "0"),
    _field("a seed with a fraction", "seed: 1.5", "seed=1.5"),
    _field("a seed above 64 bits", f"seed: {10**30}", "seed=", "less than"),
    _field("a seed with five thousand digits", f"seed: {'9' * 5000}", "line 5", "is no int"),
    _field("a seed of true", "seed: true", "seed=True", "must be a number"),
    _field("a list for a section", "method: [seekr]", "method=", "mapping"),
    _field("a text for a section", "method: seekr", "method='seekr'", "mapping"),
    _field("an unknown method", "method: {name: ewc}", "method.name='ewc'", "seekr"),
    _field("a method in capitals", "method: {name: SEEKR}", "method.name='SEEKR'", "seekr"),
    _field("a percentage above 100", "method: {replay_percent: 101}", "method.memory.percent=101", "100"),
    _field("a percentage that is no number", "method: {replay_percent: .nan}", "method.memory.percent=nan"),
    _field("a percentage with its sign", "method: {replay_percent: 3%}", "method.memory.percent='3%'", "number"),
    _field("an infinite weight", "method: {attention_weight: .inf}", "method.seekr.attention_weight=inf", "finite"),
    _field(
        "a weight that is no number", "method: {attention_weight: .nan}", "method.seekr.attention_weight=nan", "finite"
    ),
    _field("a negative weight", "method: {attention_weight: -1}", "method.seekr.attention_weight=-1", "0"),
    _field("a budget of no heads", "method: {head_budget: 0}", "method.seekr.head_budget=0", "fraction"),
    _field("a budget of one and a half", "method: {head_budget: 1.5}", "method.seekr.head_budget=1.5", "count"),
    _field("a budget in words", "method: {head_budget: many}", "method.seekr.head_budget='many'", "count"),
    _field("a budget of true", "method: {head_budget: true}", "method.seekr.head_budget=True", "count"),
    _field("no layers", "method: {layer_ratio: 0}", "method.seekr.layer_ratio=0", "greater than 0"),
    _field("no queries", "method: {query_budget: 0}", "method.seekr.query_budget=0", "1"),
    _field("a logit weight above 1", "method: {logit_weight: 1.5}", "logit_weight=1.5", "1"),
    _field("a cycle without its schedule", "method: {replay_cycle: 3}", "memory.cycle", "official"),
    _field("a number with a zero in front", "seed: 010", "010 is 8 in YAML 1.1", "write 10"),
    _section("a number to base 60", "recipe: {max_prompt_tokens: 1:30}", "1:30 is 90 in YAML 1.1", "write 90"),
    _field("stray underscores", "seed: 1__0", "1__0 is 10", "write 10"),
    _field("a list of trues for seeds", "evaluation: {batch_size: yes}", "evaluation.batch_size=True", "a number"),
    _section("a learning rate of 0", "recipe: {learning_rate: 0}", "recipe.learning_rate=0", "greater than 0"),
    _section("an infinite learning rate", "recipe: {learning_rate: .inf}", "recipe.learning_rate=inf", "finite"),
    _section("epochs of none", "recipe: {epochs: 0}", "recipe.epochs=0", "from 1 to"),
    _section("epochs for more tasks", "recipe: {epochs: [1, 2]}", "recipe.epochs lists 2 numbers for 1 tasks", "give"),
    _section("half an epoch", "recipe: {epochs: 0.5}", "recipe.epochs=0.5", "whole number"),
    _section("no batch", "recipe: {batch_size: 0}", "recipe.batch_size=0", "greater than 0"),
    _section("a beta of 1", "recipe: {betas: [0.9, 1.0]}", "recipe.betas", "less than 1"),
    _section("three betas", "recipe: {betas: [0.9, 0.95, 0.99]}", "recipe.betas", "2"),
    _section("negative decay", "recipe: {weight_decay: -0.1}", "recipe.weight_decay=-0.1", "0"),
    _section("a clip of 0", "recipe: {max_grad_norm: 0}", "recipe.max_grad_norm=0", "greater than 0"),
    _section("no room for a prompt", "recipe: {max_prompt_tokens: 0}", "recipe.max_prompt_tokens=0", "greater than 0"),
    _section("an unknown schedule", "recipe: {lr_schedule: step}", "recipe.lr_schedule='step'", "cosine"),
    _section("padding to more than a row", "recipe: {pad_to_multiple_of: 100000}", "pad_to_multiple_of=100000", "1024"),
    _field("an unknown precision", "model: {dtype: float16}", "model.dtype='float16'", "bfloat16"),
    _field("finer sums than weights", "model: {dtype: bfloat16, compute_dtype: float32}", "compute_dtype", "float32"),
    _field("an adapter without rank", "model: {lora: {rank: 0}}", "model.lora.rank=0", "greater than 0"),
    _field("adapters on nothing", "model: {lora: {target_modules: []}}", "model.lora.target_modules", "at least 1"),
    _field("adapters of true", "model: {lora: true}", "model.lora=True", "mapping"),
    _field("workers below 0", "training: {workers: -1}", "training.workers=-1", "0"),
    _field("more workers than samples", "training: {workers: 8}", "recipe.batch_size", "training.workers", "fewer"),
    _field("ddp with one worker", "training: {strategy: ddp, workers: 1}", "strategy 'ddp'", "single"),
    _field("a negative resource", "training: {resources_per_worker: {CPU: -1}}", "resources_per_worker.CPU=-1"),
    _field("resources that are a list", "training: {resources_per_worker: [CPU]}", "resources_per_worker=", "mapping"),
    _field("infinitely many CPUs", "training: {resources_per_worker: {CPU: .inf}}", "per_worker.CPU=inf", "finite"),
    _field("a password in a URI", "training: {workers: 1, storage_path: 's3://k:s@b/x'}", "storage_path", "leave it"),
    _field("train as a scored split", "evaluation: {splits: [train]}", "evaluation.splits", "eval"),
    _field("a scored split twice", "evaluation: {splits: [eval, eval]}", "evaluation: splits", "twice", "drop one"),
    _section("no trials", "study: {space: space.yaml, trials: 0}", "study.trials=0", "greater than 0"),
    _section("an unknown sampler", "study: {sampler: bayes}", "study.sampler='bayes'", "tpe"),
    _section("no objectives", "study: {objectives: {}}", "study.objectives", "at least 1"),
    _section(
        "an unknown objective",
        "study: {space: space.yaml, objectives: {opp: maximize}}",
        "study.objectives",
        "'opp'",
        "'op'",
    ),
    _section("an unknown direction", "study: {objectives: {op: up}}", "study.objectives.op='up'", "maximize"),
    _section("a falling range", "study: {sample_range: [9, 1]}", "sample_range", "lowest < highest", "swap"),
    _section("a prefix without tasks", "study: {protocol: prefix}", "prefix_tasks", "3 or more"),
    _section("seeds twice", "study: {replicates: {seeds: [1, 1]}}", "replicates.seeds", "twice"),
    _section("infinite disk", "study: {disk_gigabytes: .inf}", "study.disk_gigabytes=inf", "finite"),
    _space("a space that is not there", "study: {space: none.yaml}", "'none.yaml'", "relative to the experiment"),
    _space("a space that is a folder", "study: {space: data}", "'data'", "relative to the experiment"),
    _space("an empty space name", "study: {space: ''}", "study.space"),
    # --- odd, but right ---
    _works("with a byte order mark", b"\xef\xbb\xbf" + EXPERIMENT.encode()),
    _works("with lines of Windows", EXPERIMENT.replace("\n", "\r\n")),
    _works("as JSON", '{"name": "mine", "stream": {"tasks": ["star"]}, "recipe": {"max_prompt_tokens": 40}}'),
    _works("an anchor and its alias", "stream: {tasks: &all [star]}\nstudy: {replicates: {orders: [*all]}}\n" + _SHORT),
    _works("a merge", "stream: {tasks: [star]}\nrecipe: {<<: {max_prompt_tokens: 9}, max_prompt_tokens: 40}\n"),
    _works("a comment of half a megabyte", EXPERIMENT + "# " + "x" * 500_000 + "\n"),
    _works("a rate without a point", EXPERIMENT.replace("{max", "{learning_rate: 1e-4, max")),
    _works("a document with its marks", "---\n" + EXPERIMENT + "...\n"),
)
