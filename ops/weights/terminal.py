"""How fetching looks on a terminal, and in a log."""

from rich.console import Console
from rich.progress import DownloadColumn, Progress, TransferSpeedColumn

LINE_EVERY_PERCENT = 10  # in a log, where no bar can be drawn


class TerminalListener:
    """Sentences as lines; a bar for the file being fetched, or a line for every tenth of it in a log."""

    def __init__(self, console: Console) -> None:
        self._console = console
        columns = (*Progress.get_default_columns(), DownloadColumn(binary_units=True), TransferSpeedColumn())
        self._bars = Progress(*columns, console=console, transient=True)
        self._name: str | None = None
        self._tenth = 0

    def say(self, text: str) -> None:
        """Prints a line."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def progress(self, name: str, done: int, total: int | None) -> None:
        """Moves the bar to `done` of `total` bytes; a new name begins a new one."""
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

    def __exit__(self, *_: object) -> None:
        self._bars.stop()
