"""A kind of malformed input: a whole project, damage to one of its files, and the doors it meets.

An input is a function of its kind and seed. A door is a public verb (or, for a training, the
trainer) and what it leaves. Whatever the damage, the door either refuses it in a line that names
the file and leaves nothing, or leaves what it leaves of the whole project.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from stvsr.cli import main

Bytes = Callable[[Random, bytes], bytes]
"""Makes malformed bytes from whole ones."""

COMMIT = "1234567"
"""What every whole project says of its code, so that git is not asked."""


def equal(whole: object, found: object) -> bool:
    """Whether a door left the same."""
    return whole == found


@dataclass(frozen=True)
class Damage:
    """One way to damage a project.

    Attributes:
        name: the way, in a word or two.
        file: path in the project; a refusal names it.
        apply: damages the file, which is given by its path.
        also: other texts, one of which a refusal may have instead, such as a clip's name.
    """

    name: str
    file: str
    apply: Callable[[Random, Path], None]
    also: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The texts of which a refusal must have one."""
        return (Path(self.file).name, *self.also)


@dataclass(frozen=True)
class Door:
    """A public entry point.

    Attributes:
        name: as reports show it.
        enter: goes through it in the working folder; returns the exit status.
        left: what it left in the working folder, in a form that can be compared.
        same: whether that is right, given what it leaves of the whole project.
        out: the file or folder that a refusal must not leave; "": none.
    """

    name: str
    enter: Callable[[], int]
    left: Callable[[], object] = lambda: None
    same: Callable[[object, object], bool] = equal
    out: str = ""


@dataclass(frozen=True)
class Kind:
    """A kind of malformed input.

    Attributes:
        name: a word.
        build: makes the whole project in the working folder, which is empty.
        damages: all ways to damage it; each seed takes one.
        doors: the doors each input goes through.
        is_chain: whether a door needs what the one before it left, so that a refusal ends it.
        share: how often it is chosen, compared with the others.
    """

    name: str
    build: Callable[[], None]
    damages: Sequence[Damage]
    doors: Sequence[Door]
    is_chain: bool = False
    share: int = 2

    def input(self, seed: int) -> tuple[Damage, Random]:
        """The damage of a seed and its randomness; the ways are taken in turns, shuffled."""
        turn, place = divmod(seed, len(self.damages))
        order = list(range(len(self.damages)))
        Random(f"{self.name} {turn}").shuffle(order)
        return self.damages[order[place]], Random(f"{self.name} {seed}")


def verb(
    *arguments: str,
    left: Callable[[], object] = lambda: None,
    same: Callable[[object, object], bool] = equal,
    out: str = "",
) -> Door:
    """A verb of the command line."""
    return Door(" ".join(arguments), lambda: main(arguments), left, same, out)


def in_file(name: str, file: str, change: Bytes, also: tuple[str, ...] = ()) -> Damage:
    """Damage to the bytes of a file."""

    def apply(random: Random, path: Path) -> None:
        path.write_bytes(change(random, path.read_bytes()))

    return Damage(name, file, apply, also)


def replaced(
    name: str, file: str, put: Callable[[Path], None], also: tuple[str, ...] = ()
) -> Damage:
    """Something else in a file's place."""

    def apply(random: Random, path: Path) -> None:
        path.unlink()
        put(path)

    return Damage(name, file, apply, also)


def special(file: str, also: tuple[str, ...] = ()) -> list[Damage]:
    """Things that are no regular file, in a file's place."""
    things: dict[str, Callable[[Path], None]] = {
        "fifo": os.mkfifo,
        "link to /dev/zero": lambda path: path.symlink_to("/dev/zero"),
        "dangling link": lambda path: path.symlink_to("nowhere"),
        "cyclic link": lambda path: path.symlink_to(path.name),
        "folder": Path.mkdir,
    }
    return [replaced(name, file, put, also) for name, put in things.items()]
