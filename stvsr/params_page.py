"""docs/params.md, made from the docstrings of the configurations, and one key of it."""

import difflib
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from stvsr.core.config import Config
from stvsr.core.errors import ParamsError
from stvsr.models import MODELS
from stvsr.params import Params

HEAD = """# Parameters

Every key of `params.yaml`, made by `stvsr params --markdown > docs/params.md`.
`stvsr params --explain KEY` prints one, `dvc exp run -S KEY=VALUE` sets one. A key that is left
out has its default; one of `train` that is left out or null has its recipe's value, and one of
`model` its preset's.
"""


@dataclass(frozen=True)
class Key:
    """One parameter.

    Attributes:
        name: dotted, as in params.yaml; keys of a model have "model." before them.
        section: its heading on the page.
        kind: its type and range.
        default: as text.
        text: its docstring in one line.
    """

    name: str
    section: str
    kind: str
    default: str
    text: str


def params_page() -> str:
    """The page, one table per section."""
    sections: dict[str, list[Key]] = {}
    for key in all_keys():
        sections.setdefault(key.section, []).append(key)
    parts = [HEAD]
    for section, keys in sections.items():
        parts += [f"## {section}\n", "| Key | Type | Default | Meaning |", "|---|---|---|---|"]
        parts += [
            f"| `{key.name}` | {_cell(key.kind)} | `{key.default}` | {_cell(key.text)} |"
            for key in keys
        ]
        parts.append("")
    return "\n".join(parts)


def explain_key(name: str, params: Params) -> str:
    """Explain one key: meaning, type, default, and its value in `params`.

    Raises:
        ParamsError: there is no such key; the text names the nearest.
    """
    keys = [key for key in all_keys() if key.name == name]
    if not keys:
        names = sorted({key.name for key in all_keys()})
        nearest = difflib.get_close_matches(name, names, n=3, cutoff=0.4)
        raise ParamsError(
            f"{name}: no such key",
            remedy=f"nearest: {', '.join(nearest)}" if nearest else "see `stvsr params`",
        )
    here: Any = params.model_dump(mode="json", by_alias=True)
    for part in name.split("."):
        here = here.get(part, "not a field of this model") if isinstance(here, dict) else here
    lines = [name]
    for key in keys:
        if len(keys) > 1:
            lines.append(f"{key.section}:")
        lines += [f"  {key.text}", f"  type     {key.kind}", f"  default  {key.default}"]
    return "\n".join([*lines, f"  here     {here}"])


def all_keys() -> Iterator[Key]:
    """Every key, section by section."""
    for alias, field in ((f.alias or n, f) for n, f in Params.model_fields.items()):
        default = field.get_default(call_default_factory=True)
        if alias == "model":
            for entry in MODELS:
                yield from _of_config(entry.config, "model", f"model: {entry.name}")
        elif isinstance(default, Config):
            yield from _of_config(type(default), alias, alias)
        else:
            yield _key(alias, "the whole pipeline", Params, field.alias or alias)


def _of_config(config: type[Config], prefix: str, section: str) -> Iterator[Key]:
    for name in config.model_fields:
        yield _key(f"{prefix}.{name}", section, config, name)


def _key(name: str, section: str, config: type[Config], field_name: str) -> Key:
    field = config.model_fields[field_name]
    default = field.get_default(call_default_factory=True)
    bounds = [
        f"{sign} {getattr(limit, attribute)}"
        for limit in field.metadata
        for attribute, sign in _SIGNS.items()
        if hasattr(limit, attribute)
    ]
    return Key(
        name=name,
        section=section,
        kind=", ".join([_type_text(field.annotation), *bounds]),
        default="null"
        if default is None
        else str(default).lower()
        if isinstance(default, bool)
        else str(default),
        text=" ".join((field.description or "").split()),
    )


_SIGNS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<", "multiple_of": "a multiple of"}


def _type_text(annotation: Any) -> str:
    """A type as a user writes its values."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_type_text(argument) for argument in arguments)
    if origin is tuple:
        return f"list of {_type_text(arguments[0])}"
    names = {int: "integer", float: "number", str: "text", bool: "`true` or `false`"}
    names[type(None)] = "`null`"
    return names.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
