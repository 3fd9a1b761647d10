"""Tables and lines printed with rich, in which text is never markup."""

import sys
from typing import Any

from rich.console import Console
from rich.text import Text

from stvsr.core.escape import one_line


class PlainConsole(Console):
    """A console that shows every string as it is, control characters escaped; Text keeps styles.

    Cells and titles of tables are such strings, so that a clip may be named "[/bold]".
    """

    def __init__(self, *, width: int | None = None, stderr: bool = False) -> None:
        super().__init__(width=width, stderr=stderr, markup=False, emoji=False)

    def render_str(self, text: str, **options: Any) -> Text:
        """See rich: every string passes here."""
        return super().render_str(one_line(text), **options)


def output(width: int) -> PlainConsole:
    """Standard output, `width` columns wide where it is no terminal."""
    return PlainConsole(width=None if sys.stdout.isatty() else width)
