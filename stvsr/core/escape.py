"""Text from outside (names of clips, files and runs), made harmless where it is shown.

HTML is not here: Jinja escapes it where the page is written.
"""

import re

_MARKDOWN = re.compile(r"([\\`*\[\]<>#|~&$]|_(?![^\W_])|(?<![^\W_])_)")
"""Characters with a meaning in Markdown, in a table or outside; _ inside a word has none."""

_FORMULA = ("=", "+", "-", "@")
"""Beginnings of what a spreadsheet computes."""


def one_line(text: object) -> str:
    r"""The text in one line of visible characters; others are escaped, a line's end as `\n`.

    That includes what moves a terminal's cursor, colours it, or turns the direction of the text.
    """
    given = str(text)
    return given if given.isprintable() else "".join(map(_visible, given))


def lines(text: str) -> str:
    r"""The text with its line ends and tabs; other characters as `one_line` has them."""
    return "".join(c if c in "\n\t" else _visible(c) for c in text)


def _visible(character: str) -> str:
    return character if character.isprintable() else repr(character)[1:-1]


def markdown(text: object) -> str:
    """The text for a cell of a Markdown table: one line, nothing in it is markup."""
    return _MARKDOWN.sub(r"\\\1", one_line(text))


def csv_cell(value: object) -> object:
    """The value for a CSV file: a text is one line and no formula to a spreadsheet."""
    if not isinstance(value, str):
        return value
    shown = one_line(value)
    return f"'{shown}" if shown.lstrip().startswith(_FORMULA) else shown
