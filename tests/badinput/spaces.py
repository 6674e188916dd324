"""Search spaces and lists of configurations that are malformed, and odd ones that work."""

from __future__ import annotations

from .case import SPACE, SWEEP, VALIDATE, Case

_FILE = "space.yaml"
_ENQUEUE = (*SWEEP, "--enqueue", "first.yaml")


def _space(name: str, content: str | bytes, *says: str) -> Case:
    """A space that is refused, naming its file."""
    return Case(name, {_FILE: content}, (_FILE, *says), (VALIDATE, SWEEP))


def _dimension(name: str, text: str, *says: str, key: str = "method.memory.percent") -> Case:
    """A space of one dimension."""
    return _space(name, f"{key}: {text}\n", key, *says)


def _constraint(name: str, text: str, *says: str) -> Case:
    return _space(name, f"constraints: {text}\n{SPACE}", "constraints", *says)


def _works(name: str, content: str) -> Case:
    return Case(name, {_FILE: content}, commands=(VALIDATE,), works=True)


def _enqueued(name: str, content: str | bytes | None, *says: str) -> Case:
    """A list of configurations to try first that is refused, naming its file."""
    return Case(name, {"first.yaml": content}, ("first.yaml", *says), (_ENQUEUE,))


_CYCLE = """\
method.seekr.selection: {type: categorical, choices: [importance, random], when: {method.seekr.query_budget: [4]}}
method.seekr.query_budget: {type: categorical, choices: [4, 8], when: {method.seekr.selection: [random]}}
"""

CASES: tuple[Case, ...] = (
    # --- the file ---
    _space("an empty space", "", "is empty", "search_spaces/seekr.yaml"),
    _space("a space that is a list", "- method.memory.percent\n", "mapping"),
    _space("a space of bytes", b"\xff\xfe\x00", "UTF-8"),
    _space("a space cut in a line", "method.memory.percent: {type: flo", "not valid YAML", "line 1"),
    _space("a dimension twice", SPACE + SPACE, "'method.memory.percent' stands twice"),
    _space("a space of constraints only", "constraints: [heads >= layers]\n", "no dimensions", "list config paths"),
    _space("a space beyond a megabyte", SPACE + "# " + "x" * 1_000_000 + "\n", "more than 1 MB"),
    # --- keys ---
    _space("an unknown key", "method.replay: {type: float, low: 1, high: 2}\n", "'method.replay'", "did you mean"),
    _space("a number for a key", "1: {type: float, low: 1, high: 2}\n", "the key '1' is no text", "quotes"),
    _space(
        "a section for a key",
        "method: {type: float, low: 1, high: 2}\n",
        "'method' is a section",
        "name one of its fields",
    ),
    _space(
        "nested keys",
        "method: {replay_percent: {type: float, low: 1, high: 2}}\n",
        "'method' is a section",
        "such as method.",
    ),
    _space("the study's own settings", "study.trials: {type: int, low: 1, high: 2}\n", "'study.trials'", "drop it"),
    _space("the tasks", "stream.tasks: {type: categorical, choices: [a, b]}\n", "'stream.tasks'", "drop it"),
    _space("where it runs", "training.workers: {type: int, low: 1, high: 2}\n", "'training.workers'", "drop it"),
    # --- dimensions ---
    _dimension("no type", "{low: 1, high: 5}", "type is missing", "float, int or categorical"),
    _dimension("an unknown type", "{type: normal, low: 1, high: 5}", "type='normal'", "float, int or categorical"),
    _dimension("a number for a dimension", "3", "mapping"),
    _dimension("a list for a dimension", "[1, 5]", "mapping"),
    _dimension("null for a dimension", "null", "mapping"),
    _dimension("a range without its end", "{type: float, low: 1}", "high is missing", "set it"),
    _dimension("a range upside down", "{type: float, low: 5, high: 1}", "low must be below high"),
    _dimension("a range of a point", "{type: float, low: 5, high: 5}", "low must be below high"),
    _dimension("an infinite range", "{type: float, low: 1, high: .inf}", "high", "finite"),
    _dimension("a range of nothing", "{type: float, low: .nan, high: 5}", "low", "finite"),
    _dimension("a range of words", "{type: float, low: one, high: 5}", "low", "number"),
    _dimension("a logarithm of 0", "{type: float, low: 0, high: 5, log: true}", "above 0"),
    _dimension("a logarithm with a step", "{type: float, low: 1, high: 5, log: true, step: 1}", "exclude", "drop"),
    _dimension("a step of 0", "{type: float, low: 1, high: 5, step: 0}", "step", "greater than 0"),
    _dimension("an infinite step", "{type: float, low: 1, high: 5, step: .inf}", "step", "finite"),
    _dimension("a step that misses the end", "{type: float, low: 1, high: 5, step: 3}", "high=5", "multiple"),
    _dimension("a published value outside", "{type: float, low: 1, high: 5, published: 9}", "published=9", "outside"),
    _dimension("a misspelt field", "{type: float, low: 1, hihg: 5}", "'hihg'", "did you mean 'high'"),
    _dimension("choices of a range", "{type: float, low: 1, high: 5, choices: [1]}", "'choices'", "drop it"),
    _dimension(
        "half numbers", "{type: int, low: 1.5, high: 5}", "low", "whole number", key="method.seekr.query_budget"
    ),
    _dimension("one choice", "{type: categorical, choices: [1]}", "choices", "at least 2"),
    _dimension("no choices", "{type: categorical}", "choices is missing", "set it"),
    _dimension("a text for choices", "{type: categorical, choices: abc}", "choices", "list"),
    _dimension("a choice twice", "{type: categorical, choices: [1, 1]}", "choices must differ"),
    _dimension("a list for a choice", "{type: categorical, choices: [[1], [2]]}", "choices"),
    _dimension("a choice that is no number", "{type: categorical, choices: [1.0, .nan]}", "choices", "finite"),
    _dimension(
        "a published value that is no choice", "{type: categorical, choices: [1, 2], published: 3}", "published=3"
    ),
    # --- ranges and the fields they set ---
    _dimension("a share above 1", "{type: float, low: 0.5, high: 2}", "2.0", "refused", key="method.seekr.layer_ratio"),
    _dimension("a method that is none", "{type: categorical, choices: [seekr, ewc]}", "'ewc'", key="method.name"),
    _dimension("a float for a count", "{type: float, low: 1, high: 9}", "refused", key="method.seekr.query_budget"),
    _dimension("epochs of none", "{type: int, low: 0, high: 3}", "whole number", key="recipe.epochs"),
    # --- conditions ---
    _space(
        "a condition on itself",
        "method.memory.percent: {type: categorical, choices: [1, 2], when: {method.memory.percent: [1]}}\n",
        "method.memory.percent",
        "listed before",
    ),
    _space("conditions in a circle", _CYCLE, "when", "listed before"),
    _space(
        "a condition on an unknown field",
        "method.memory.percent: {type: float, low: 1, high: 2, when: {method.nmae: [seekr]}}\n",
        "'method.nmae'",
        "did you mean 'method.name'",
    ),
    _space(
        "a condition without values",
        "method.memory.percent: {type: float, low: 1, high: 2, when: {method.name: []}}\n",
        "when",
        "at least 1",
    ),
    _space(
        "a condition that never holds",
        "method.name: {type: categorical, choices: [seekr, replay]}\n"
        "method.memory.percent: {type: float, low: 1, high: 2, when: {method.name: [derpp]}}\n",
        "'derpp' is not one of the choices",
        "drop it",
    ),
    # --- constraints ---
    _constraint("a constraint that is a text", "heads >= layers", "must be a list"),
    _constraint("null for constraints", "null", "must be a list"),
    _constraint("a constraint without a comparison", "[heads]", "'heads'", "must read like"),
    _constraint("an equality", "[heads == layers]", "'heads == layers'", ">=, <=, > or <"),
    _constraint("a constraint that is a number", "[3]", "3", "must read like"),
    _constraint("an unknown quantity", "[haeds >= layers]", "'haeds'", "did you mean 'heads'"),
    _constraint("a constraint on nothing", "[heads >= nan]", "unknown 'nan'", "did you mean"),
    # --- configurations to try first ---
    _enqueued("no such list", None, "no such file"),
    _enqueued("an empty list of configurations", "", "list of mappings"),
    _enqueued("a mapping for a list", "method.memory.percent: 2\n", "list of mappings"),
    _enqueued("a list of numbers", "[1, 2]\n", "list of mappings"),
    _enqueued("configurations of bytes", b"\xff\xff", "UTF-8"),
    _enqueued("a configuration outside the space", "- {method.memory.percent: 50}\n", "configuration 1", "outside"),
    _enqueued("a configuration of words", "- {method.memory.percent: lots}\n", "'lots'", "no finite number"),
    _enqueued("a configuration of nothing", "- {method.memory.percent: .nan}\n", "configuration 1", "no finite number"),
    _enqueued(
        "what is not searched",
        "- {method.name: replay}\n",
        "configuration 1",
        "'method.name'",
        "not searched by space.yaml",
    ),
    _enqueued("a number for a path", "- {1: 2}\n", "line 1", "the key '1' is no text"),
    # --- odd, but right ---
    _works("a space with a byte order mark", "\ufeff" + SPACE),
    _works("numbers without a point", "recipe.learning_rate: {type: float, low: 1e-5, high: 1e-3, log: true}\n"),
    _works("steps without number", "method.memory.percent: {type: float, low: 1, high: 5, step: 1.0e-9}\n"),
    _works("a billion seeds", "seed: {type: int, low: 0, high: 1000000000}\n"),
    _works(
        "heads beyond the model, which are never proposed", "method.seekr.head_budget: {type: int, low: 1, high: 99}\n"
    ),
    _works("null for a choice", "method.seekr.query_budget: {type: categorical, choices: [4, null]}\n"),
    _works("a constraint on a number", f"constraints: ['method.memory.percent <= 3']\n{SPACE}"),
)
