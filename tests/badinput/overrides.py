"""Overrides and command lines that are malformed, and odd ones that work."""

from __future__ import annotations

from .case import EXPERIMENT, RUN, SWEEP, VALIDATE, Case

_CALLS = (VALIDATE, RUN, SWEEP)


def _set(name: str, assignment: str, *says: str) -> Case:
    """One `--set` that every command refuses."""
    return Case(name, {}, says, tuple((*call, "--set", assignment) for call in _CALLS))


def _works(name: str, *assignments: str) -> Case:
    return Case(name, {}, commands=((*VALIDATE, "--set", *assignments),), works=True)


def _line(name: str, command: str, *says: str) -> Case:
    """A command line, split at blanks."""
    return Case(name, {}, says, (tuple(command.split()),))


_LAUGHS = "[&a [x,x,x,x,x,x,x,x,x,x]" + "".join(
    f",&{new} [{','.join([f'*{old}'] * 10)}]" for old, new in zip("abcdef", "bcdefg", strict=True)
)

CASES: tuple[Case, ...] = (
    # --- paths ---
    _set("no value", "seed", "--set seed", "path=value"),
    _set("no path", "=3", "--set =3", "path=value"),
    _set("an unknown path", "method.replay_percnt=3", "'method.replay_percnt'", "did you mean 'method.memory.percent'"),
    _set("a path of points", "..=3", "unknown field '..'"),
    _set("a path that ends in a point", "method.=3", "unknown field 'method.'"),
    _set("a path with blanks", "method replay_percent=3", "unknown field 'method replay_percent'", "did you mean"),
    _set("a path with a colon", "method:replay_percent=3", "unknown field 'method:replay_percent'", "did you mean"),
    _set("a path in capitals", "METHOD.REPLAY_PERCENT=3", "unknown field 'METHOD'", "did you mean 'method'"),
    _set("a path below a value", "name.first=3", "name is not a section", "set name"),
    _set("a path below a number", "seed.x.y=3", "seed"),
    _set("a path below a list", "stream.tasks.0=a", "stream.tasks is not a section"),
    _set("a path of another section", "recipe.replay_percent=3", "did you mean 'method.memory.percent'"),
    _set("a path a thousand deep", ".".join(["a"] * 1000) + "=3", "unknown field"),
    _set("a value for a section", "method=3", "method=3", "mapping"),
    _set("null for a section", "method=", "method=None", "mapping"),
    # --- values ---
    _set("a value that is no YAML", "seed=[1", "--set seed=[1", "not valid YAML (line 1, column 3: expected", "quotes"),
    _set("a value with a tag", "seed=!!python/name:os.system", "--set seed", "not valid YAML"),
    _set("a value of two documents", "seed=1\n---\n2", "--set seed", "not valid YAML"),
    _set("a value nested too deep", "seed=" + "[" * 2000 + "]" * 2000, "--set seed=", "nested deeper"),
    _set("a billion laughs", f"stream.tasks={_LAUGHS}]", "--set stream.tasks", "too large"),
    _set("a key twice in a value", "method={name: seekr, name: replay}", "--set method", "'name' stands twice"),
    _set("a value of megabytes", "name=" + "x" * 100_000, "name=", "at most 100"),
    _set("a control character", "name=a\x07", "--set name", "not valid YAML"),
    _set("words for a number", "method.memory.percent=lots", "method.memory.percent='lots'", "number"),
    _set("an empty number", "method.memory.percent=", "method.memory.percent=None", "number"),
    _set("a comma for a point", "method.memory.percent=1,5", "method.memory.percent='1,5'", "number"),
    _set("two numbers for one", "method.memory.percent=[1, 2]", "method.memory.percent=[1, 2]", "number"),
    _set("no number", "method.memory.percent=.nan", "method.memory.percent=nan"),
    _set("infinity", "recipe.learning_rate=.inf", "recipe.learning_rate=inf", "finite"),
    _set("a float that overflows", "recipe.learning_rate=1.0e999", "recipe.learning_rate=inf", "finite"),
    _set("yes for a number", "seed=yes", "seed=True", "number"),
    _set(
        "a word for true or false",
        "training.activation_checkpointing=maybe",
        "activation_checkpointing='maybe'",
        "true",
    ),
    _set("a list in a text", "stream.tasks=words, other", "stream.tasks='words, other'", "list"),
    _set("a mapping for a list", "stream.tasks={words: 1}", "stream.tasks={'words': 1}", "list"),
    _set("numbers for tasks", "stream.tasks=[1]", "stream.tasks.0=1", "quotes"),
    _set("a date for a number", "seed=2024-01-01", "seed=", "whole number"),
    _set("binary for a name", "name=!!binary aGVsbG8=", "--set name", "constructor", "binary"),
    _set("a set for tasks", "stream.tasks=!!set {words}", "--set stream.tasks", "constructor", "set"),
    _set("a metric of no task", "stream.metrics.words=accuracy", "stream.metrics.words='accuracy'", "rouge_l"),
    # --- the command line ---
    _line("an unknown command", "swep mine.yaml", "'swep'", "seekr-tune --help"),
    _line("no experiment", "run", "seekr-tune run --help"),
    _line("an experiment too many", "run mine.yaml mine.yaml", "seekr-tune run --help"),
    _line("an unknown option", "run mine.yaml --fast", "--fast", "seekr-tune run --help"),
    _line("an option without its value", "run mine.yaml --out", "--out", "requires an argument", "--help"),
    _line("trials of none", "sweep mine.yaml --trials 0", "--trials", "seekr-tune sweep --help"),
    _line("trials in words", "sweep mine.yaml --trials ten", "--trials", "valid integer"),
    _line("trials beyond any number", f"sweep mine.yaml --trials {'9' * 5000}", "--trials"),
    _line("an output that is a file", "run mine.yaml --out space.yaml", "space.yaml", "choose another --out"),
    Case("an empty output", {}, ("--out is empty", "a directory of its own"), (("run", "mine.yaml", "--out", ""),)),
    _line("the working directory as output", "sweep mine.yaml --out .", "working directory", "of its own"),
    _line("a study of too long a name", f"status {'n' * 300}", "name is too long", "shorter"),
    _line("an output below a file", "run mine.yaml --out space.yaml/x", "space.yaml/x", "choose another --out"),
    _line("an output with too long a name", f"run mine.yaml --out new/{'n' * 300}", "cannot be written to", "--out"),
    _line("an address of a run without workers", "run mine.yaml --address auto", "training.workers", "leave"),
    _line("a warm start from nothing", "sweep mine.yaml --warm-start nowhere", "nowhere", "holds no study"),
    _line("a ranking of nothing", "rank nowhere", "nowhere", "there is no directory"),
    _line("a column that is none", "explain replay_purcent", "replay_purcent", "did you mean"),
    _line("nothing to validate", "validate", "needs an experiment file", "seekr-tune ls"),
    # --- odd, but right ---
    _works("a section that is null", "model.lora=null"),
    _works("a section below null", "model.lora=null", "model.lora.rank=4", "model.path=builtin"),
    _works("a value with an equals sign", "stream.metrics={}", "training.storage_path=null"),
    _works("a number in quotes", "name='3'"),
    _works("a number with underscores", "seed=1_000"),
    _works("blanks around the path", " seed =3"),
    Case(
        "a file that sets what a flag sets again",
        {"mine.yaml": EXPERIMENT + "seed: 1\n"},
        commands=((*VALIDATE, "--set", "seed=2"),),
        works=True,
    ),
)
