"""Generated tokens a second of the evaluation, against `model.generate` on batches in the order of arrival.

    python -m benchmarks.evaluation [log-uniform | uniform | alike]       # about a minute on a CPU

Prompts are random ids of mixed lengths: by default log-uniform between 16 and 512, as prompts of different tasks are.
Every answer has as many tokens, for a random model does not end one. Sides take turns in one process with one thread;
the ratio is the median over the turns. Both must give the same answers. The model is a random Llama of five million
weights.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch

from benchmarks.gpu.models import Shape, random_llama
from benchmarks.results import Figure, keep, median_of_ratios
from seekr_tune.config import EvaluationConfig
from seekr_tune.data.scoring import SCORERS
from seekr_tune.data.task import Example, Task
from seekr_tune.loop.evaluate import generate, score_task
from seekr_tune.methods.workers import SingleProcess
from seekr_tune.models.loading import LoadedModel

SHORTEST, LONGEST, PROMPTS, BATCH, NEW_TOKENS, REPEATS = 16, 512, 64, 16, 16, 5
SHAPE = Shape(layers=4, hidden=256, intermediate=704, heads=8, kv_heads=8, vocabulary=4096)
GOAL = 2.0


class Words:
    """Stands for a tokenizer: a word is the number of a token, so that prompts of any ids can be written."""

    eos_token_id = None

    def encode_prompts(self, prompts: Sequence[str]) -> list[list[int]]:
        return [[int(word) for word in prompt.split()] for prompt in prompts]

    def decode(self, ids: Sequence[int], skip_special_tokens: bool) -> str:
        return " ".join(map(str, ids))


@dataclass(frozen=True)
class Sides:
    """The two ways to answer the prompts of a task.

    Attributes:
        loaded: a random Llama.
        task: the prompts, and as expected answers those of the plain way.
    """

    loaded: LoadedModel
    task: Task

    def plain(self) -> list[str]:
        """Batches in the order of arrival."""
        prompts = self.loaded.tokenizer.encode_prompts([example.prompt for example in self.task.splits["eval"]])
        chunks = (prompts[start : start + BATCH] for start in range(0, len(prompts), BATCH))
        return [text for chunk in chunks for text in generate(self.loaded, chunk, NEW_TOKENS)]

    def ours(self) -> float:
        """What a stream does after each task; the score."""
        encoder: Any = self.loaded.tokenizer
        config = EvaluationConfig(batch_size=BATCH)
        return score_task(self.loaded, encoder, self.task, "eval", config, NEW_TOKENS, SingleProcess()).score


def sides_of(model: Any, lengths: Sequence[int]) -> Sides:
    generator = torch.Generator().manual_seed(0)
    vocabulary = model.config.vocab_size
    ids = [torch.randint(3, vocabulary, (length,), generator=generator).tolist() for length in lengths]
    loaded = LoadedModel(model, Words(), 0)
    unanswered = [Example(" ".join(map(str, own)), "") for own in ids]
    answers = Sides(loaded, Task("task", SCORERS["exact_match"], {"eval": tuple(unanswered)})).plain()
    examples = tuple(Example(one.prompt, answer) for one, answer in zip(unanswered, answers, strict=True))
    return Sides(loaded, Task("task", SCORERS["exact_match"], {"eval": examples}))


def mixtures() -> dict[str, list[int]]:
    share = torch.rand(PROMPTS, generator=torch.Generator().manual_seed(1))
    uniform = SHORTEST + share * (LONGEST - SHORTEST)
    return {
        "log-uniform": cast(list[int], (SHORTEST * (LONGEST / SHORTEST) ** share).long().tolist()),
        "uniform": cast(list[int], uniform.long().tolist()),
        "alike": [(SHORTEST + LONGEST) // 2] * PROMPTS,
    }


def main() -> int:
    torch.set_num_threads(1)
    name = sys.argv[1] if len(sys.argv) > 1 else "log-uniform"
    started = time.perf_counter()
    sides = sides_of(random_llama(SHAPE, positions=LONGEST + NEW_TOKENS), mixtures()[name])
    pairs = []
    for _ in range(REPEATS):
        before = time.perf_counter()
        sides.plain()
        between = time.perf_counter()
        equal = sides.ours()
        pairs.append((between - before, time.perf_counter() - between))
        if equal != 100:
            print(f"error: only {equal:.0f} % of the answers are equal", file=sys.stderr)
            return 1
    ratio, spread = median_of_ratios(*zip(*pairs, strict=True))
    rate = PROMPTS * NEW_TOKENS / statistics.median(ours for _, ours in pairs)
    of = f"generated tokens a second of the evaluation, {PROMPTS} prompts of {name} lengths, same answers"
    figures = [
        Figure(name=of, value=rate, unit="tokens/s"),
        Figure(
            name=of, against="batches in the order of arrival", value=ratio, spread=spread, goal=GOAL, at_least=True
        ),
    ]
    keep("evaluation", time.perf_counter() - started, figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
