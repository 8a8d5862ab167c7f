"""How the weights commands look on a terminal, and in a log. Knows nothing of how files are fetched."""

from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

LINE_EVERY_PERCENT = 10  # in a log, where no bar can be drawn


class TerminalListener:
    """Sentences as lines; a bar for the file on its way, or a line for every tenth of it in a log."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._name: str | None = None
        self._tenth = 0

    def say(self, text: str) -> None:
        """A line."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def progress(self, name: str, done: int, total: int | None) -> None:
        """Moves the bar."""
        if name != self._name:
            self._name, self._tenth = name, 0
            for task in self._bars.task_ids:
                self._bars.remove_task(task)
            self._bars.add_task(name, total=total)
        if self._console.is_terminal:
            self._bars.update(self._bars.task_ids[0], completed=done, total=total)
        elif total and (tenth := done * 100 // total // LINE_EVERY_PERCENT) > self._tenth:
            self._tenth = tenth
            self.say(f"{name}: {tenth * LINE_EVERY_PERCENT} % of {total / 2**20:.1f} MiB")

    def __enter__(self) -> "TerminalListener":
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()
