"""Pre-train the built-in base model and write it to seekr_tune/data/base_model.

Run `python scripts/make_base_model.py [--output DIRECTORY] [--steps N]`, or `make base-model`. One thread, about two
CPU minutes. The shipped file was made once and is kept: another CPU may round differently and give another model.

The model learns to copy, and to answer six kinds of question about notes, three wordings each. None of these
wordings is a question of the stream, and the notes have six to eight words.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors.torch import save
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import LlamaConfig, LlamaForCausalLM

from seekr_tune.data.builtin import NAMES, NOUNS, QUESTIONS, Note, draw_note, prompt_of

PAD, BOS, EOS = 0, 1, 2
SPECIALS = ("<pad>", "<bos>", "<eos>", "<unk>")
STRUCTURE = ("note", "question", "answer", "copy", ":", ".", "?", "*", "=", "(", ")")
VOCABULARY_SIZE = 144
BATCH_SIZE = 32
PEAK_LEARNING_RATE = 3e-3
WARMUP_STEPS = 100
COPY_SHARE = 0.2
SEED = 0

Pair = tuple[str, str]

WORDINGS: dict[str, tuple[str, str, str]] = {
    "first": ("which word opens it ?", "what is at the top ?", "tell me the head ."),
    "last": ("which word closes it ?", "what is at the bottom ?", "tell me the end ."),
    "star": ("which word is marked ?", "what is behind the sign ?", "tell me the flagged ."),
    "paren": ("which word is enclosed ?", "what is inside ?", "tell me the wrapped ."),
    "second": ("which word is number two ?", "what is one below the top ?", "tell me the one after the head ."),
    "second_last": ("which word is not quite final ?", "what is one above the bottom ?", "tell me the penultimate ."),
}

ANSWERS: dict[str, Callable[[Note], str]] = {
    "first": lambda note: note.words[0],
    "last": lambda note: note.words[-1],
    "star": lambda note: note.words[note.starred],
    "paren": lambda note: note.words[note.bracketed],
    "second": lambda note: note.words[1],
    "second_last": lambda note: note.words[-2],
}


def vocabulary() -> dict[str, int]:
    """Every word of the notes and questions, filled up to 144 with words that only the copying task uses."""
    words = [*SPECIALS, *STRUCTURE, *NOUNS, *NAMES]
    for sentence in (*QUESTIONS.values(), *(wording for three in WORDINGS.values() for wording in three)):
        words += [word for word in sentence.split() if word not in words]
    assert len(words) <= VOCABULARY_SIZE, f"{len(words)} words do not fit"
    words += [f"spare{index}" for index in range(VOCABULARY_SIZE - len(words))]
    return {word: index for index, word in enumerate(words)}


def make_tokenizer(words: dict[str, int]) -> Tokenizer:
    """One token a blank-separated word; `<bos>` in front by default, like the tokenizers of Llama models."""
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(list(SPECIALS))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", pair="<bos> $A $B", special_tokens=[("<bos>", BOS)]
    )
    return tokenizer


def skill_pair(rng: random.Random, skill: str) -> Pair:
    """A prompt and its answer for one of the six kinds of question, in one of three wordings."""
    note = draw_note(rng, rng.randint(6, 8))
    return prompt_of(note, rng.choice(WORDINGS[skill])), ANSWERS[skill](note)


def copy_pair(rng: random.Random, words: Sequence[str]) -> Pair:
    """Five to twelve random words, to be said again."""
    text = " ".join(rng.choices(words, k=rng.randint(5, 12)))
    return f"copy : {text} .", text


def training_pair(rng: random.Random, words: Sequence[str]) -> Pair:
    """One draw of the mixture."""
    if rng.random() < COPY_SHARE:
        return copy_pair(rng, words)
    return skill_pair(rng, rng.choice(list(WORDINGS)))


def make_batch(pairs: Sequence[Pair], ids: dict[str, int]) -> dict[str, torch.Tensor]:
    """Left-padded `input_ids`, `attention_mask` and `labels` (the answer and EOS), each [batch, length]."""
    prompts = [[BOS, *(ids[word] for word in prompt.split())] for prompt, _ in pairs]
    answers = [[*(ids[word] for word in answer.split()), EOS] for _, answer in pairs]
    length = max(len(prompt) + len(answer) for prompt, answer in zip(prompts, answers, strict=True))
    rows, masks, labels = [], [], []
    for prompt, answer in zip(prompts, answers, strict=True):
        pad = length - len(prompt) - len(answer)
        rows.append([PAD] * pad + prompt + answer)
        masks.append([0] * pad + [1] * (length - pad))
        labels.append([-100] * (length - len(answer)) + answer)
    return {
        "input_ids": torch.tensor(rows),
        "attention_mask": torch.tensor(masks),
        "labels": torch.tensor(labels),
    }


def make_model() -> LlamaForCausalLM:
    """The untrained model: 3 layers of 4 heads, 132,544 parameters."""
    config = LlamaConfig(
        vocab_size=VOCABULARY_SIZE,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=128,
        initializer_range=0.05,
        tie_word_embeddings=True,
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=EOS,
    )
    return LlamaForCausalLM(config)


def pretrain(steps: int, ids: dict[str, int], seed: int = SEED, report_every: int = 500) -> LlamaForCausalLM:
    """Train from random weights: warm-up, flat for two thirds, then linearly to zero."""
    torch.manual_seed(seed)
    rng = random.Random(f"pretrain/{seed}")
    words = [word for word in ids if word not in SPECIALS]
    model = make_model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_LEARNING_RATE, betas=(0.9, 0.95), weight_decay=0.01)

    def share_of_peak(step: int) -> float:
        return min((step + 1) / WARMUP_STEPS, 1.0, 3.0 * (steps - step) / steps)

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, share_of_peak)
    model.train()
    for step in range(steps):
        batch = make_batch([training_pair(rng, words) for _ in range(BATCH_SIZE)], ids)
        loss = model(**batch, use_cache=False).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if (step + 1) % report_every == 0:
            print(f"step {step + 1}: loss {loss.item():.3f}", json.dumps(accuracies(model, ids, num=60)), flush=True)
    return model


@torch.no_grad()
def accuracies(model: LlamaForCausalLM, ids: dict[str, int], num: int = 300) -> dict[str, float]:
    """Percent of unseen prompts whose whole answer, EOS included, is the most likely one, for each skill."""
    words = [word for word in ids if word not in SPECIALS]
    result = {}
    for skill in (*WORDINGS, "copy"):
        rng = random.Random(f"check/{skill}")
        pairs = [copy_pair(rng, words) if skill == "copy" else skill_pair(rng, skill) for _ in range(num)]
        batch = make_batch(pairs, ids)
        guesses = model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, :-1].argmax(-1)
        labels = batch["labels"][:, 1:]
        right = ((guesses == labels) | (labels == -100)).all(-1)
        result[skill] = round(100 * right.float().mean().item(), 1)
    return result


def write(model: LlamaForCausalLM, ids: dict[str, int], directory: Path) -> None:
    """Write configuration, tokenizer, half-precision weights and checksums."""
    directory.mkdir(parents=True, exist_ok=True)
    make_tokenizer(ids).save(str(directory / "tokenizer.json"))
    special = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>"}
    tokenizer_config = {
        **special,
        "tokenizer_class": "PreTrainedTokenizerFast",
        "padding_side": "left",
        "model_max_length": 128,
        "clean_up_tokenization_spaces": False,
    }
    config = {**model.config.to_diff_dict(), "architectures": ["LlamaForCausalLM"], "dtype": "float16"}
    generation = {"bos_token_id": BOS, "eos_token_id": EOS, "pad_token_id": PAD, "do_sample": False}
    for name, content in (
        ("config.json", config),
        ("generation_config.json", generation),
        ("tokenizer_config.json", tokenizer_config),
    ):
        (directory / name).write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    weights = {name: value.half().contiguous() for name, value in model.state_dict().items()}
    del weights["lm_head.weight"]  # tied to the embeddings
    (directory / "model.safetensors").write_bytes(save(weights, metadata={"format": "pt"}))
    names = sorted(path.name for path in directory.iterdir() if path.suffix in (".json", ".safetensors"))
    sums = [f"{hashlib.sha256((directory / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
    (directory / "SHA256SUMS").write_text("".join(sums), encoding="utf-8")


def main() -> None:
    """Train, write, and report the accuracy of the rounded weights."""
    parser = argparse.ArgumentParser(description="Pre-train the built-in base model.")
    default = Path(__file__).resolve().parent.parent / "seekr_tune" / "data" / "base_model"
    parser.add_argument("--output", type=Path, default=default, help="directory to write")
    parser.add_argument("--steps", type=int, default=3000, help="optimizer steps")
    parser.add_argument("--seed", type=int, default=SEED, help="seed of weights and data")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # the order of float sums, hence the file, must not depend on the number of cores
    torch.use_deterministic_algorithms(True)
    ids = vocabulary()
    model = pretrain(arguments.steps, ids, arguments.seed)
    model.load_state_dict({name: value.half().float() for name, value in model.state_dict().items()})
    write(model, ids, arguments.output)
    print("accuracy of the written weights, percent:", json.dumps(accuracies(model, ids)))


if __name__ == "__main__":
    main()
