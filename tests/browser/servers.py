"""A study that was made by hand, the commands that show it, as processes that always end, and what they show."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from seekr_tune.analysis.tensorboard import TrialWriter
from seekr_tune.records import write_record
from seekr_tune.study.directory.layout import journal_path, result_path, trial_path
from tests.analysis.report.reported import study_records, write_study
from tests.analysis.synthetic import RecordFactory

PATIENCE = 60_000  # milliseconds

INSIDE = """(wanted) => {
    const found = [];
    const visit = (root) => {
        for (const one of root.childNodes) {
            if (one.shadowRoot) visit(one.shadowRoot);
            if (wanted === '' && one.nodeType === Node.TEXT_NODE) found.push(one.textContent);
            if (one.tagName === wanted) found.push(one.naturalWidth);
            if (!['STYLE', 'SCRIPT', 'TEMPLATE'].includes(one.tagName)) visit(one);
        }
    };
    visit(document.body);
    return found;
}"""
"""Texts, or widths of pictures, of the whole page: what TensorBoard shows lies in shadow roots."""

SHOWN = ("bound-seqft", "trial-0000", "trial-0002")
"""Runs that have curves."""


def made_by_hand(directory: Path) -> Path:
    """A study with results, curves and a journal."""
    directory.mkdir()
    write_study(directory)
    for record in study_records():
        write_record(result_path(directory, record.trial), record)
        if record.trial in SHOWN:
            _write_events(trial_path(directory, record.trial) / "events", record)
    journal_path(directory).parent.mkdir()
    storage = JournalStorage(JournalFileBackend(str(journal_path(directory))))
    search = optuna.create_study(study_name="seekr-tune", storage=storage, direction="maximize")
    for value in (60.0, 75.0, 82.0):
        trial = search.ask({"method.memory.percent": optuna.distributions.FloatDistribution(1, 10)})
        search.tell(trial, value)
    return directory


def _write_events(directory: Path, record: Any) -> None:
    factory = RecordFactory()
    with TrialWriter(directory) as writer:
        for done in range(1, len(record.tasks) + 1):
            for row in factory.steps(done - 1, 20):
                writer.log_step(row)
            writer.log_task(record.model_copy(update={"tasks_done": done}))
        writer.close(record)


@contextmanager
def served(*arguments: object) -> Iterator[str]:
    """A command of ours that serves; the address that it says."""
    command = [sys.executable, "-m", "seekr_tune.cli", *map(str, arguments), "--port", "0"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stderr is not None
        said = iter(process.stderr.readline, "")
        address = next((found[0] for line in said if (found := re.search(r"http://127\.0\.0\.1:\d+\S*", line))), None)
        assert address is not None, f"ended with {process.wait()}"
        yield address
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        finally:
            process.kill()


def open_tab(page: Any, address: str, name: str, selector: str) -> Any:
    """Open a tab of TensorBoard and wait until it shows something."""
    from playwright.sync_api import TimeoutError as PatienceEnded  # not installed where no browser is

    for _ in range(3):  # what was asked for before the first files were read is not asked for again
        page.goto(f"{address}?darkMode=false#{name}", wait_until="load")
        page.reload(wait_until="load")
        try:
            page.wait_for_selector(selector, timeout=PATIENCE / 3)
            return page
        except PatienceEnded:
            continue
    page.wait_for_selector(selector, timeout=1)
    return page


def texts(page: Any) -> str:
    """All that a page of TensorBoard says."""
    page.wait_for_timeout(1500)
    return " ".join(" ".join(page.evaluate(INSIDE, "")).split())
