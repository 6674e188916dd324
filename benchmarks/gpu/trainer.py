"""Steps of transformers' own `Trainer`, handed out one at a time so that they can take turns with other loops."""

from __future__ import annotations

import tempfile
from collections.abc import Generator, Sequence
from queue import SimpleQueue
from threading import Semaphore, Thread
from typing import Any

import torch
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from benchmarks.gpu.bare import BETAS, MAX_GRAD_NORM, padded
from seekr_tune.data.collate import EncodedExample


class Gate(TrainerCallback):
    """Holds `Trainer` after each step until the next one is asked for.

    It waits at the very end of a step, so that all that `Trainer` does for one (fetching the batch too) is in the time
    of the one who asks.
    """

    def __init__(self) -> None:
        self.asked = Semaphore(0)
        self.done: SimpleQueue[BaseException | None] = SimpleQueue()
        self.closed = False

    def on_train_begin(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        self._wait(control)

    def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        self.done.put(None)
        self._wait(control)

    def _wait(self, control: Any) -> None:
        self.asked.acquire()
        control.should_training_stop = self.closed


def trainer_steps(
    model: Any, batches: Sequence[Sequence[EncodedExample]], learning_rate: float, most: int = 1000
) -> Generator[None]:
    """Training steps of `Trainer` on the batches in turn, with the settings of `bare_steps`.

    It computes in the precision of the weights. Nothing is logged, saved or evaluated. `Trainer` is set up, and its
    thread started, when the first step is asked for.
    """
    with tempfile.TemporaryDirectory() as scratch:
        trainer, gate = trainer_of(model, batches, learning_rate, most, scratch), Gate()
        trainer.add_callback(gate)
        thread = Thread(target=_train, args=(trainer, gate), daemon=True)
        thread.start()
        try:
            for _ in range(most):
                gate.asked.release()
                error = gate.done.get()
                if error is not None:
                    raise error
                yield None
        finally:
            gate.closed = True
            gate.asked.release()
            thread.join()


def _train(trainer: Trainer, gate: Gate) -> None:
    try:
        trainer.train()
    except BaseException as error:  # raised again where the step was asked for
        gate.done.put(error)


def trainer_of(
    model: Any, batches: Sequence[Sequence[EncodedExample]], learning_rate: float, steps: int, scratch: str
) -> Trainer:
    """A `Trainer` for so many steps on the batches, in their order and over again.

    Args:
        scratch: directory that it may write to; it writes nothing.
    """
    on_cpu = next(model.parameters()).device.type == "cpu"
    size = len(batches[0])
    assert all(len(batch) == size for batch in batches), "Trainer has one batch size"
    examples = [example for batch in batches for example in batch]
    arguments = TrainingArguments(
        output_dir=scratch,
        use_cpu=on_cpu,
        max_steps=steps,
        per_device_train_batch_size=size,
        train_sampling_strategy="sequential",
        learning_rate=learning_rate,
        lr_scheduler_type="constant",
        optim="adamw_torch" if on_cpu else "adamw_torch_fused",
        adam_beta1=BETAS[0],
        adam_beta2=BETAS[1],
        weight_decay=0.0,
        max_grad_norm=MAX_GRAD_NORM,
        logging_strategy="no",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
    )
    # One long epoch: its end would cost time that no other side spends.
    dataset: Any = examples * -(-steps * size // len(examples))
    trainer = Trainer(model=model, args=arguments, train_dataset=dataset, data_collator=_collated)
    trainer.remove_callback(PrinterCallback)
    return trainer


def _collated(batch: Sequence[EncodedExample]) -> dict[str, torch.Tensor]:
    ids, mask, labels, _ = padded(batch, torch.device("cpu"))
    positions = (mask.cumsum(dim=1) - 1).clamp_min(0)
    return {"input_ids": ids, "attention_mask": mask, "position_ids": positions, "labels": labels}
