"""Every column of the ranking and every number of a study: formula, unit, which way is better, how to read it.

Notation: T tasks, a[i, j] = score in percent on task j after training task i, b[j] = score on task j before any
training. Numbers that need cells which were not evaluated are null, and so is a quotient whose divisor is 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal

from seekr_tune.analysis.table import COUNT, Column
from seekr_tune.config.meaning import setting_text
from seekr_tune.config.messages import hint
from seekr_tune.errors import StudyError

Better = Literal["higher", "lower"]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """What a number (or a name) is.

    Attributes:
        formula: how it is computed, or what it says.
        unit: of the number; `-` where it has none.
        better: which way is better; None where neither is.
        reads: columns of the ledger or of the ranking that it is computed from.
        reading: how to read it.
        trap: what it does not say, or says wrongly; empty where there is nothing to beware of.
    """

    formula: str
    unit: str = "-"
    better: Better | None = None
    reads: tuple[str, ...] = ()
    reading: str
    trap: str = ""


_SCORES = ("scores.score",)
_INTERVAL = "95 % bootstrap interval of the mean over settings (order, seed, memory draw)"
_FEW = (
    "no interval of resampled means leaves the range of its values: with n settings it covers at most 1 - 2^(1-n), "
    "50 % with 2, 75 % with 3, 94 % with 5; null with one"
)
_SMALLEST = "always favours the smallest memory: a model that keeps one sample and learns nothing has a fine quotient"

METRICS: dict[str, Metric] = {
    "op": Metric(
        formula="mean over j of a[T, j], in percent",
        unit="%",
        better="higher",
        reads=_SCORES,
        reading="overall performance: the mean score of all tasks when the last one was learned",
        trap="a mean over tasks with different scorers; read it above the best constant answer, which `validate` tells",
    ),
    "bwt": Metric(
        formula="mean over j < T of (a[T, j] - a[j, j]): divided by T - 1",
        unit="points",
        better="higher",
        reads=_SCORES,
        reading="what later tasks did to earlier ones; below 0 is forgetting",
        trap="what was never learned cannot be forgotten: 0 with a low op is no success",
    ),
    "bwt_official": Metric(
        formula="sum over j < T of (a[T, j] - a[j, j]), divided by T as the official code does",
        unit="points",
        better="higher",
        reads=_SCORES,
        reading="bwt for comparison with numbers that the authors' release prints",
        trap="smaller in size than bwt by (T - 1) / T; never compare one with the other",
    ),
    "fwt": Metric(
        formula="mean over j > 1 of (a[j-1, j] - b[j])",
        unit="points",
        better="higher",
        reads=_SCORES,
        reading="what earlier tasks did for a task not yet learned",
        trap="null unless evaluation.matrix is full, for it needs scores of tasks that were not learned yet",
    ),
    "forgetting": Metric(
        formula="mean over j < T of (max over j <= i < T of a[i, j] - a[T, j])",
        unit="points",
        better="lower",
        reads=_SCORES,
        reading="loss from the best that was ever reached",
        trap="null unless evaluation.matrix is full or seen",
    ),
    "op_floor": Metric(
        formula="mean over tasks of what the best constant answer scores: the train answer that does best on the split",
        unit="%",
        reads=("prospects.floor",),
        reading="op has to be above it: below, nothing was learned, and nothing can be forgotten",
        trap="null where an earlier version ran it",
    ),
    "op_ceiling": Metric(
        formula="mean over tasks of what the answers themselves score once they have been tokens, cut as in training",
        unit="%",
        reads=("prospects.ceiling",),
        reading="the most that any model can reach; below 100, answers are cut or lose characters",
        trap="null where an earlier version ran it",
    ),
    "op_sample_error": Metric(
        formula="standard error of op over the scored samples: sqrt(sum over tasks of squared scores.error) / T",
        unit="points",
        reads=("scores.error",),
        reading="how far op may be off because the scored split is small; not the spread over seeds, which op_se is",
        trap="a mean over the runs of a configuration: they answer the same samples, so more runs do not lower it",
    ),
    "op_margin_error": Metric(
        formula="standard error of op - op_floor, sample by sample: sqrt(sum over tasks of squared "
        "scores.margin_error) / T",
        unit="points",
        reads=("scores.margin_error",),
        reading="op is above the floor where op - op_floor exceeds about twice this",
        trap="as of op_sample_error",
    ),
    "scored_samples": Metric(
        formula="samples of the scored split, summed over tasks",
        unit="samples",
        reads=("prospects.rows",),
        reading="what the scores rest on",
    ),
    "tasks_learned": Metric(
        formula="tasks whose score just after learning is above the best constant answer: Student's 95 % interval of "
        "the mean difference, sample by sample, lies above 0; of joint training, whose score at the end is",
        unit="tasks",
        better="higher",
        reads=("scores.score", "scores.margin_error", "prospects.floor"),
        reading="fewer than all: what was not learned cannot be forgotten, and its scores say nothing of replay",
        trap="null, and not 0, where an earlier version ran it; one in 40 is above by chance",
    ),
    "prompts_cut": Metric(
        formula="share of the prompts, train and scored, that recipe.max_prompt_tokens cuts on the left",
        unit="share",
        reads=("prospects.prompts_cut",),
        reading="much of it, and the input is not in the prompt any more; `validate` says what length cuts nothing",
    ),
    "answers_cut": Metric(
        formula="share of the answers, train and scored, that recipe.max_answer_tokens cuts",
        unit="share",
        reads=("prospects.answers_cut",),
        reading="what is cut can neither be learned nor given",
    ),
    "unknown_tokens": Metric(
        formula="share of the tokens of prompts and answers that stand for what the vocabulary lacks",
        unit="share",
        reads=("prospects.unknown_tokens",),
        reading="what the model cannot see of the texts",
        trap="null where the tokenizer has no token for that: some drop what they do not know",
    ),
    "distinct_replayed_samples": Metric(
        formula="different samples that were shown in replay at least once",
        unit="samples",
        better="lower",
        reads=("replay.first_presentations",),
        reading="first reading of replayed samples: what the result used of the memory; the x of the front",
        trap="not what is stored: nothing replays the last task's samples yet, and semantics official may show a part "
        "of the memory; null where version 2 of the ledger did not count that part",
    ),
    "stored_samples": Metric(
        formula="samples kept in the replay memory, summed over tasks",
        unit="samples",
        better="lower",
        reads=("replay.stored_samples",),
        reading="what has to be kept, the last task's samples too: `extend` replays them",
    ),
    "replay_presentations": Metric(
        formula="times that a replayed sample was shown during training, repeats counted",
        unit="presentations",
        better="lower",
        reads=("replay.presentations",),
        reading="second reading: what replay costs in samples trained",
    ),
    "replay_updates": Metric(
        formula="training steps on replayed samples",
        unit="steps",
        better="lower",
        reads=("replay.replay_updates",),
        reading="what replay costs in optimizer steps",
    ),
    "replay_tokens": Metric(
        formula="tokens of the presentations, pads not counted",
        unit="tokens",
        better="lower",
        reads=("replay.tokens",),
        reading="third reading: what replay costs in compute, for samples differ in length",
    ),
    "memory_bytes": Metric(
        formula="bytes of the replay memory, teacher tensors included, summed over tasks",
        unit="bytes",
        better="lower",
        reads=("replay.bytes",),
        reading="fourth reading: what the memory takes on disk; tells plain replay from distillation",
    ),
    "op_per_replayed_sample": Metric(
        formula="op / distinct_replayed_samples; null without replay, which ranks last",
        unit="% per sample",
        better="higher",
        reads=("op", "distinct_replayed_samples"),
        reading="the literal quotient, and the default order; read it beside normalised_gain and the front",
        trap=_SMALLEST,
    ),
    "op_per_presentation": Metric(
        formula="op / replay_presentations; null without replay",
        unit="% per presentation",
        better="higher",
        reads=("op", "replay_presentations"),
        reading="the literal quotient in the second reading",
        trap=_SMALLEST,
    ),
    "op_per_replayed_token": Metric(
        formula="op / replay_tokens; null without replay",
        unit="% per token",
        better="higher",
        reads=("op", "replay_tokens"),
        reading="the literal quotient in the third reading",
        trap=_SMALLEST,
    ),
    "op_per_replayed_byte": Metric(
        formula="op / memory_bytes; null without replay",
        unit="% per byte",
        better="higher",
        reads=("op", "memory_bytes"),
        reading="the literal quotient in the fourth reading",
        trap=_SMALLEST,
    ),
    "normalised_gain": Metric(
        formula="(op - op_seqft) / (op_joint - op_seqft): share of the gap between the bounds that is closed; "
        "taken in each order and seed, then averaged; null where joint training is not better than seqft",
        unit="share of the gap",
        better="higher",
        reads=("op", "op_seqft", "op_joint"),
        reading="0 is no better than no replay, 1 is as good as learning all tasks at once",
        trap="says nothing of the price; a small gap makes it noisy; needs both bounds in each order and seed; null "
        "for all where joint training is not above seqft beyond the 95 % interval of their difference over samples, or "
        "neither is above the best constant answers: why_no_gain says which",
    ),
    "why_no_gain": Metric(
        formula="why normalised_gain is null; null where it is not",
        reads=("normalised_gain", "op_sample_error", "op_margin_error", "op_floor"),
        reading="a gap that the scored samples do not show cannot be closed",
        trap="a gap of runs of an earlier version is taken as it is, for they kept no errors",
    ),
    "gain_per_replayed_sample": Metric(
        formula="(op - op_seqft) / distinct_replayed_samples; null without replay",
        unit="points per sample",
        better="higher",
        reads=("op", "op_seqft", "distinct_replayed_samples"),
        reading="points above no replay that a replayed sample buys",
        trap="noise / few samples is large: compare it with its interval only",
    ),
    "op_seqft": Metric(
        formula="op of the bound without replay, in the same stream and with the same seed",
        unit="%",
        reads=("op",),
        reading="the lower bound; what replay has to beat",
    ),
    "op_joint": Metric(
        formula="op of the bound that learns all tasks at once",
        unit="%",
        reads=("op",),
        reading="the upper bound",
        trap="of this recipe, not of what can be reached: a configuration can exceed it",
    ),
    "beats_seqft": Metric(
        formula="op > op_seqft",
        reads=("op", "op_seqft"),
        reading="false: storing samples bought nothing, whatever the rank; marked `!` in the table",
        trap="compares means: a small margin within op_low..op_high is no evidence",
    ),
    "replicates": Metric(
        formula="finished runs of the configuration; its numbers are means over them",
        unit="runs",
        reads=("status",),
        reading="how much a row rests on",
    ),
    "op_se": Metric(
        formula="standard error of op: sample standard deviation over the finished runs / sqrt(replicates); null for "
        "one",
        unit="points",
        better="lower",
        reads=("op",),
        reading="spread of the mean over orders, seeds and memory draws",
        trap="part of it is how hard an order is for all, which cancels in differences: see p_best and `compare`",
    ),
    "op_low": Metric(
        formula=f"lower end of the {_INTERVAL} of op",
        unit="%",
        better="higher",
        reads=("op",),
        reading="what op is at least, as far as the settings tell; a careful order",
        trap=_FEW,
    ),
    "op_high": Metric(
        formula=f"upper end of the {_INTERVAL} of op",
        unit="%",
        better="higher",
        reads=("op",),
        reading="what op is at most, as far as the settings tell",
        trap=_FEW,
    ),
    "normalised_gain_low": Metric(
        formula=f"lower end of the {_INTERVAL} of normalised_gain",
        unit="share of the gap",
        better="higher",
        reads=("normalised_gain",),
        reading="above 0: better than no replay in all that the settings tell",
        trap=_FEW,
    ),
    "normalised_gain_high": Metric(
        formula=f"upper end of the {_INTERVAL} of normalised_gain",
        unit="share of the gap",
        better="higher",
        reads=("normalised_gain",),
        reading="below 1: worse than joint training in all that the settings tell",
        trap=_FEW,
    ),
    "gain_per_replayed_sample_low": Metric(
        formula=f"lower end of the {_INTERVAL} of gain_per_replayed_sample",
        unit="points per sample",
        better="higher",
        reads=("gain_per_replayed_sample",),
        reading="above 0: a stored sample buys something",
        trap=_FEW,
    ),
    "gain_per_replayed_sample_high": Metric(
        formula=f"upper end of the {_INTERVAL} of gain_per_replayed_sample",
        unit="points per sample",
        better="higher",
        reads=("gain_per_replayed_sample",),
        reading="what a stored sample buys at most",
        trap=_FEW,
    ),
    "p_best": Metric(
        formula="share of the paired resamples in which its mean of the column that orders is the best of all finished "
        "configurations; ties are shared out",
        unit="probability",
        better="higher",
        reads=("the column that orders",),
        reading="how sure first place is; all are read at the same drawn orders, seeds and memory draws",
        trap="with few settings it is 0 or 1 too often: with two, 1 says no more than best in both; null with one",
    ),
    "rank": Metric(
        formula="place by the column that orders, the better first; ties go to the higher op, then to the smaller key",
        better="lower",
        reads=("the column that orders",),
        reading="only finished configurations have one",
        trap="neighbours are seldom told apart by few replicates: look at p_best and the intervals",
    ),
    "pareto": Metric(
        formula="no finished trial has op at least as high with as few distinct_replayed_samples, and one of them "
        "better",
        reads=("op", "distinct_replayed_samples"),
        reading="true: whoever has no more room for samples cannot do better; marked `*` in the table",
        trap="says nothing of noise: on a long front some are there by luck",
    ),
    "knee": Metric(
        formula="the point of the front with the largest y - x, where x = log10(samples) and y = op, each scaled to "
        "[0, 1] over the front; of equals the one with fewest samples",
        reads=("pareto", "op", "distinct_replayed_samples"),
        reading="behind it more samples pay least; marked `K` in the table",
        trap="depends on where the front ends; there is none with fewer than 3 points that have samples, or none above "
        "the chord",
    ),
    "hypervolume": Metric(
        formula="integral over x = log10(samples), over study.sample_range, of max(0, best op of the configurations "
        "with at most 10^x distinct_replayed_samples - mean op of the seqft bounds)",
        unit="% x decades",
        better="higher",
        reads=("op", "distinct_replayed_samples", "op_seqft"),
        reading="one number for a whole front",
        trap="compare studies only with the same declared range, stream and bounds; without one it is the range seen",
    ),
    "samples_to_target": Metric(
        formula="fewest distinct_replayed_samples of a configuration whose normalised_gain reaches 60, 75, 90 %",
        unit="samples",
        better="lower",
        reads=("normalised_gain", "distinct_replayed_samples"),
        reading="the price of most of what joint training has over no replay; null where nobody reached it",
        trap="the cheapest of many noisy ones reaches a target early by luck",
    ),
    "wall_seconds": Metric(
        formula="time that the trial ran, summed over resumes",
        unit="s",
        better="lower",
        reads=("result.json",),
        reading="what a run takes, evaluation included",
        trap="spared what `shared_seconds` says; runs side by side slow each other down",
    ),
    "shared_seconds": Metric(
        formula="time of training and scoring that the trial was spared, because another run had done the same; "
        "summed over tasks",
        unit="s",
        reads=("timing.shared_seconds",),
        reading="wall_seconds + shared_seconds is about what it takes alone",
    ),
    "tokens_per_second": Metric(
        formula="tokens trained, new and replayed, in the time of the training steps; summed over tasks",
        unit="tokens/s",
        better="higher",
        reads=("timing.tokens", "timing.new_seconds", "timing.replay_seconds"),
        reading="speed of training, over all workers",
    ),
    "peak_memory_bytes": Metric(
        formula="most bytes at once on the fullest worker from the start of a task to its end, the largest of the "
        "tasks: of device memory on a GPU, resident on a CPU; null where the system cannot count a CPU's peak anew "
        "(anything but Linux)",
        unit="bytes",
        better="lower",
        reads=("timing.peak_memory_bytes",),
        reading="what a worker has to have",
        trap="on a CPU some 400 MB of libraries are in it; runs of an earlier version may also count what trials "
        "before them had left in their process",
    ),
    "flops_utilisation": Metric(
        formula="operations of the forward and backward passes, by those that the devices could have done in "
        "the time of the training steps; null where their peak is not known",
        unit="share",
        better="higher",
        reads=("timing.model_flops", "timing.flops_utilisation"),
        reading="how well the devices are used; distillation shows as a lower share",
    ),
    "tasks_done": Metric(
        formula="tasks that are finished",
        unit="tasks",
        better="higher",
        reads=("result.json",),
        reading="how far it came",
    ),
    "trial": Metric(formula="key of the configuration: that of its first run", reading="its directory under trials/"),
    "configuration": Metric(
        formula="key of the configuration; null for a run that stands alone", reading="joins replicates"
    ),
    "replicate": Metric(
        formula="which run of its configuration, from 0: one for each order, seed and memory draw",
        reading="0 in a row of the ranking, which stands for all of them",
    ),
    "role": Metric(formula="trial, bound or run", reading="bounds are references, never ranked"),
    "status": Metric(
        formula="finished, running, pruned or failed; finished when every replicate is",
        reading="only finished configurations are ranked; one that gets no further replicates counts as pruned",
    ),
    "method": Metric(formula="method.name of the config", reading="seqft, replay, derpp, seekr or joint"),
    "semantics": Metric(formula="method.semantics of the config", reading="official or corrected (docs/method.md)"),
    "tasks": Metric(formula="tasks in learning order", reading="of the first replicate; others may have other orders"),
    "split": Metric(formula="split whose scores are in the row", reading="eval while tuning; test after `finalize`"),
    "error": Metric(formula="why it failed, in one line", reading="the traceback is in the run's error.txt"),
    "optuna_number": Metric(formula="number of the Optuna trial", reading="its name in optuna-dashboard"),
    "ray_trial_id": Metric(formula="id of the Ray Tune trial", reading="its name in Ray's logs"),
    "num_layers": Metric(formula="layers of the model", reading="what layer_ratio is a share of"),
    "num_heads": Metric(formula="attention heads of each layer", reading="times num_layers: what head_budget is of"),
    "code_version": Metric(formula="version of this package that ran the trial", reading="one study, one version"),
    "accepted_changes": Metric(
        formula="how often the data or the model had changed, and that was accepted (`--accept-change`), when the run "
        "was last begun or taken up",
        reading="runs with different numbers have seen different data or models: compare them among themselves",
    ),
    "params": Metric(
        formula="what the search chose, by config path (JSON)", reading="the searched settings that it has"
    ),
    "config": Metric(formula="the resolved experiment (JSON)", reading="`config.<path>` has each field by itself"),
}
"""By column; `hypervolume` and `samples_to_target` are of a whole study."""


HEADINGS = {
    "rank": "#",
    "replicates": "n",
    "op": "OP",
    "op_floor": "floor",
    "op_ceiling": "ceiling",
    "op_seqft": "seqft",
    "op_joint": "joint",
    "bwt": "BWT",
    "fwt": "FWT",
    "p_best": "best",
    "distinct_replayed_samples": "samples",
    "stored_samples": "stored",
    "replay_presentations": "shown",
    "replay_tokens": "tokens",
    "memory_bytes": "bytes",
    "normalised_gain": "gain",
    "gain_per_replayed_sample": "gain/sample",
    "op_per_replayed_sample": "OP/sample",
    "op_per_presentation": "OP/showing",
    "op_per_replayed_token": "OP/token",
    "op_per_replayed_byte": "OP/byte",
    "pareto": "front",
    "wall_seconds": "sec",
    "shared_seconds": "sec spared",
    "tokens_per_second": "tokens/s",
    "peak_memory_bytes": "peak bytes",
    "flops_utilisation": "FLOPs used",
}
"""What stands above a column in all tables for people, where it is not its name."""

_ASKED_FOR = {"P": "pareto", **{heading: name for name, heading in HEADINGS.items()}}
"""By heading: the column that it stands above. `P` is the one of marks in the terminal's ranking."""

_FORMS = {"%": ".2f", "points": ".2f", "probability": ".2f", "share of the gap": "z.2f", "share": ".3f", "s": ".1f"}
"""How a number is rounded, by its unit; quotients have four digits, and what else there is are counts."""


def column(name: str, group: str = "") -> Column:
    """A column of the ranking as all tables for people show it; of a field of the experiment, too."""
    if name.startswith("config."):
        return setting_column(name.removeprefix("config."), name, group)
    metric = METRICS[name]
    form = _FORMS.get(metric.unit, ".4g" if " per " in metric.unit else COUNT)
    if (metric.unit, metric.better) == ("points", "higher"):  # a change: its sign says which way
        form = f"+z{form}"
    is_text = metric.unit == "-" and metric.better is None
    heading = HEADINGS.get(name, name.replace("_", " "))
    return Column(name, heading, form, is_text, metric.formula, group, folds=False)


def setting_column(path: str, name: str | None = None, group: str = "setting") -> Column:
    """The column of a setting, headed by the end of its path; empty where a row has none."""
    heading = path.rpartition(".")[2].replace("_", " ")
    return Column(name or path, heading, partial(setting_text, path), False, f"searched setting {path}", group)


def more_is_better(column: str) -> bool:
    """Whether a column is ordered from high to low; settings of the config and costs are not."""
    return column in METRICS and METRICS[column].better == "higher"


def explain(name: str) -> Metric:
    """The entry of a column, of a heading of a table, or of a number of a study.

    Raises:
        StudyError: there is none.
    """
    name = _ASKED_FOR.get(name, name)
    if name in METRICS:
        return METRICS[name]
    if name.startswith("config."):
        raise StudyError(f"{name} is a field of the experiment; `seekr-tune validate --fields` says what it does")
    raise StudyError(f"there is no metric {name!r}; {hint(name, METRICS, '`seekr-tune explain` lists them')}")
