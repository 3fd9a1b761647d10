"""Config: what every configuration is made of. The only importer of pydantic."""

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

__all__ = [
    "Config",
    "Discriminator",
    "Field",
    "Tag",
    "ValidationError",
    "field_validator",
    "model_serializer",
    "model_validator",
]


class Config(BaseModel):
    """A frozen, typed set of parameters; an unknown key or a wrong type is refused.

    Subclasses live beside the code they configure and put a docstring under each field.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        use_attribute_docstrings=True,
        allow_inf_nan=False,
        protected_namespaces=(),
    )
