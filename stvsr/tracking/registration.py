"""The record of a registration, version.json. Reading it does not import MLflow."""

from pathlib import Path

from stvsr.core.config import Config, Count, field_validator, model_validator
from stvsr.core.errors import SourceError

REGISTRATION_FILE = "version.json"


class Compared(Config):
    """A version's PSNR-Y beside its rival's on one set, as the decision about it has them."""

    set: str
    """Name of the set."""
    clips: Count
    """Clips that were scored."""
    network: float | None
    """Mean PSNR-Y of the version in dB; null where no frame could be scored."""
    rival: float | None
    """Mean PSNR-Y of its rival."""
    difference: float | None
    """Mean over clips of version minus rival."""
    low: float | None
    """Lower end of the difference's 95 % interval; null for one clip."""
    high: float | None
    """Upper end."""

    @field_validator("set")
    @classmethod
    def _is_one_line(cls, text: str) -> str:
        return _one_line(text)


class Registration(Config):
    """A registered version: the content of version.json."""

    name: str
    """Name of the registered model."""
    version: str
    """Number of the version, as MLflow gives it."""
    alias: str
    """Alias that pointed to it when it was registered: that of the champion, or challenger."""
    uri: str
    """Where to load it from, such as models:/stdan@champion."""
    load_line: str
    """The line of Python that loads it."""
    tracking_uri: str | None
    """The MLflow store without passwords; null is the one in the project's folder."""
    run_id: str
    """MLflow run that holds its files."""
    weights_sha256: str
    """SHA-256 of its weights."""
    decision: str = ""
    """Why it is champion, or is not, in one line; empty where that was not decided."""
    rival: str = ""
    """What it was compared with: the champion before, such as "version 3", or the baseline."""
    sets: tuple[Compared, ...] = ()
    """The comparison on each set; empty where none was made."""

    @field_validator("*")
    @classmethod
    def _is_one_line(cls, value: object) -> object:
        return _one_line(value) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _is_consistent(self) -> "Registration":
        for name, wanted in load_addresses(self.name, self.alias, self.tracking_uri).items():
            if getattr(self, name) != wanted:
                raise ValueError(f"{name} is not of this name, alias and store")
        return self


def load_addresses(name: str, alias: str, tracking_uri: str | None) -> dict[str, str]:
    """Fields of a registration that follow from others: where to load it from, and the line."""
    uri = f"models:/{name}@{alias}"
    place = f', "{tracking_uri}"' if tracking_uri else ""
    return {"uri": uri, "load_line": f'import stvsr; model = stvsr.load("{uri}"{place})'}


def read_registration(folder: Path) -> Registration:
    """Read what `register` wrote.

    Raises:
        SourceError: version.json is missing or damaged.
    """
    path = folder / REGISTRATION_FILE
    try:
        return Registration.read(path, SourceError, "run `stvsr register` again")
    except FileNotFoundError:
        raise SourceError(f"{path}: no such file; run `stvsr register` first") from None


def _one_line(text: str) -> str:
    if text and not text.isprintable():
        raise ValueError("found control characters, allowed is one line of text")
    return text
