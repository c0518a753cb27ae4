"""What is special in a notebook: progress below the cell, and tables in HTML."""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from importlib import import_module
from typing import TYPE_CHECKING, Any, final

if TYPE_CHECKING:
    from dpvae_cli.foundation.progress import ProgressEvent

DELAY, REFRESH = 0.5, 0.2
"""Seconds after which a task is worth a bar, and between two updates of it."""


def is_notebook() -> bool:
    """Tell whether this process is the kernel of a notebook."""
    ipython: Any = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return hasattr(shell, "kernel")


def html_table(columns: Sequence[str], rows: Sequence[Sequence[str]], caption: str = "") -> str:
    """Return a table of text, escaped."""
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    head = "".join(f"<th>{escape(each)}</th>" for each in columns)
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows
    )
    return f"<table>{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


@final
@dataclass
class _Task:
    started: float
    updated: float
    handle: Any = None
    """Of the display; None before there is one."""


@final
@dataclass
class NotebookProgress:
    """Shows each slow task as a bar, which in the end says how long the task took."""

    _tasks: "dict[str, _Task]" = field(default_factory=dict)

    def __call__(self, event: "ProgressEvent") -> None:
        """Show an event; of those that come fast only some."""
        now = time.perf_counter()
        task = self._tasks.setdefault(event.task, _Task(now, now))
        is_due = now - task.updated > (REFRESH if task.handle else DELAY)
        if is_due or (event.is_finished and task.handle):
            task.updated = now
            self._display(task, progress_html(event, now - task.started))
        if event.is_finished:
            del self._tasks[event.task]

    def _display(self, task: _Task, html: str) -> None:
        ipython = import_module("IPython.display")
        if task.handle is None:
            task.handle = ipython.display(ipython.HTML(html), display_id=True)
        else:
            task.handle.update(ipython.HTML(html))


def progress_html(event: "ProgressEvent", seconds: float) -> str:
    """Return a bar with the counts, or what was done and in which time."""
    if event.is_finished:
        return f"<small>{escape(event.task)}: {event.done:,} in {seconds:.0f} s</small>"
    of = "" if event.total is None else f" of {event.total:,}"
    ends = "" if event.total is None else f' value="{event.done}" max="{event.total}"'
    text = f"{event.task}: {event.done:,}{of}  {event.text}"
    return f"<progress{ends}></progress> <small>{escape(text)}</small>"
