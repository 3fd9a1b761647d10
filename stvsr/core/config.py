"""Config: what configurations and our own JSON files are made of. The only importer of pydantic."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    JsonValue,
    Tag,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from stvsr.core.errors import StvsrError
from stvsr.core.files import MIB, read_bytes

__all__ = [
    "Config",
    "ContentError",
    "Count",
    "Discriminator",
    "Field",
    "FieldError",
    "Number",
    "Numbers",
    "Sha256",
    "Tag",
    "Tree",
    "ValidationError",
    "field_validator",
    "model_serializer",
    "model_validator",
]

SHOWN = 80
"""Characters of a file's key that a message shows at most."""

Count = Annotated[int, Field(ge=0, lt=2**53)]
"""A whole number from 0 that float64 and int64 hold exactly."""

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""A SHA-256 in hexadecimal."""


class ContentError(ValueError):
    """Content that is not of its schema: the first fault and its place, in one line."""


class FieldError(ValueError):
    """The fault of one field, found by a validator that sees the whole section.

    Attributes:
        field: the field's name.
        text: what was found, and what is allowed.
    """

    def __init__(self, field: str, text: str) -> None:
        super().__init__(f"{field}: {text}")
        self.field = field
        self.text = text


class Config(BaseModel):
    """A frozen, typed set of values; an unknown key, a wrong type or a NaN is refused.

    Subclasses live beside the code they configure, or whose file they describe, and put a docstring
    under each field. A file of ours is read by `read`, and in no other way.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        use_attribute_docstrings=True,
        allow_inf_nan=False,
        protected_namespaces=(),
    )

    @classmethod
    def parse(cls, content: bytes) -> Self:
        """The value that a JSON text holds.

        Raises:
            ContentError: it is no JSON in UTF-8, is nested too deeply, or is not of this schema.
        """
        try:
            return cls.model_validate_json(content)
        except ValidationError as error:
            raise ContentError(first_fault(error)) from None

    @classmethod
    def read(
        cls, path: Path, error: type[StvsrError], remedy: str, *, limit: int = 16 * MIB
    ) -> Self:
        """The value that a JSON file of ours holds.

        Args:
            path: the file.
            error: class of what is raised where the file cannot be used.
            remedy: what to do then.
            limit: bytes that the file may have at most; a larger one is not read.

        Raises:
            FileNotFoundError: there is no such file.
            error: it is not a regular file, cannot be read, is too large, or `parse` refuses it.
        """
        try:
            return cls.parse(read_bytes(path, limit))
        except FileNotFoundError:
            raise
        except OSError as fault:
            raise error(f"{path}: cannot be read ({fault.strerror})", remedy=remedy) from None
        except ContentError as fault:
            raise error(f"{path}: damaged ({fault})", remedy=remedy) from None


Number = float | Annotated[int, Field(gt=-(2**53), lt=2**53)] | bool | None
"""A finite number, true, false or null."""


class Numbers(Config):
    """`Number`s by name, whatever their names."""

    model_config = ConfigDict(extra="allow")

    __pydantic_extra__: dict[str, Number] = Field(init=False)

    @property
    def by_name(self) -> dict[str, Number]:
        """The numbers, in the order of the text."""
        return dict(self.__pydantic_extra__)


class Tree(Config):
    """Any JSON object of bounded depth, to be shown; its keys are free."""

    model_config = ConfigDict(extra="allow")

    __pydantic_extra__: dict[str, JsonValue] = Field(init=False)

    @property
    def branches(self) -> dict[str, JsonValue]:
        """The values by key, in the order of the text."""
        return dict(self.__pydantic_extra__)


def first_fault(error: ValidationError) -> str:
    """The first thing that is wrong, with its place, in one line without control characters."""
    fault = error.errors()[0]
    place = ".".join(str(part)[:SHOWN] for part in fault["loc"])
    text = f"{place}: {_in_our_words(fault)}" if place else _in_our_words(fault)
    return "".join(character if character.isprintable() else "?" for character in text)


def _in_our_words(fault: Mapping[str, Any]) -> str:
    """One of pydantic's errors, as our messages say it."""
    match fault["type"]:
        case "missing":
            return "is missing"
        case "extra_forbidden":
            return "is an unknown key"
        case "json_invalid":
            return f"not valid JSON: {fault['ctx']['error']}"
        case "value_error":
            return str(fault["msg"]).removeprefix("Value error, ")
    message = str(fault["msg"])
    return message.replace("Input should be", "expected", 1).replace("Input should", "should", 1)
