"""`stvsr finetune`: adapt a network to somebody's own videos, in a folder of its own.

The folder is a small project: `finetune.json` says of what, `videos/` links to the videos,
`params.yaml` has the parameters, and the pipeline's stages write beside them what they write in any
project. A stage that is done is not repeated, and each resumes by itself.
"""

import hashlib
import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from rich.table import Table

from stvsr.artifact import read_card
from stvsr.core.config import Config, Field, Sha256
from stvsr.core.errors import SourceError
from stvsr.core.files import only_writer, sha256_of, whole_folder
from stvsr.core.progress import progress
from stvsr.core.terminal import output
from stvsr.data.clips.layout import RECORD_NAME, SPLITS
from stvsr.data.index.build import build_index
from stvsr.data.shards.format import LINEAGE
from stvsr.data.shards.write import write_shards
from stvsr.data.sources.source import SAMPLE_SIZE, SMALLEST_SIDE, make_source
from stvsr.data.sources.videos import SUFFIXES, list_videos, shown_size
from stvsr.evaluation.comparison import Conditions
from stvsr.evaluation.evaluate import evaluate
from stvsr.evaluation.page import GAIN_SHOWN
from stvsr.evaluation.report import write_report
from stvsr.evaluation.scores import Comparison, GroupScores, Quality, Scores, read_scores
from stvsr.launch.start import Start, open_start
from stvsr.launch.train import train
from stvsr.open_model import absolute_name
from stvsr.params import Params, load_params, parse_params
from stvsr.tracking.config import RegisterConfig
from stvsr.training.config import CROP_MULTIPLE
from stvsr.video.reader import VideoError, shown_name

logger = logging.getLogger(__name__)

DEFAULT_START = "stvsr/small"
"""The network that is adapted where none is named: it ships."""

RECORD_FILE = "finetune.json"
PARAMS_FILE = "params.yaml"
VIDEOS = "videos"
MODEL = "model"

MOST_CLIPS = {"train_clips": 400, "test_clips": 24}
"""Clips at most, evenly spread over the videos."""

DECODED_MIB = 1024
"""Memory for decoded clips: `MOST_CLIPS` of the largest size fit."""

LARGEST_CROP = 32
"""Side of the training crop in LR pixels, unless the clips are smaller."""

Sections = Mapping[str, Mapping[str, Any]]
"""The content of a params.yaml, as far as it has sections of values."""


class FinetuneRecord(Config):
    """The content of finetune.json: what tells one run from another."""

    format: Literal[1] = 1
    """Version of this file."""
    videos: dict[Annotated[str, Field(max_length=4096)], Sha256] = Field(min_length=1)
    """Checksum of each video, by the name of its link in `videos/`."""
    start_sha256: Sha256
    """Checksum of the weights that training starts from."""
    size: tuple[int, int]
    """Width and height of the clips."""
    steps: int | None
    """Steps of training; null: the recipe's."""
    learning_rate: float | None
    """Its learning rate; null: the recipe's."""


@dataclass(frozen=True)
class FinetuneRequest:
    """The request for a fine-tuned network.

    Attributes:
        files: videos, and folders of videos.
        model: name of the network to start from.
        steps: of training; None: the recipe's.
        learning_rate: None: the recipe's.
        size: width and height of the clips; None: what all the videos have, 448x256 at most.
        register: name of the registered model that the result becomes a version of; "" for none.
    """

    files: Sequence[Path]
    model: str = DEFAULT_START
    steps: int | None = None
    learning_rate: float | None = None
    size: tuple[int, int] | None = None
    register: str = ""


def finetune(request: FinetuneRequest, out: Path | None = None) -> None:
    """Adapt a network to videos, score it on clips that were held out, and print the result.

    Given again, after whatever end, it resumes. Other videos, another start or other parameters
    are another run.

    Args:
        request: of what, and from where.
        out: folder of the run; None: finetune/NAME-DIGITS, which the request decides.

    Raises:
        StvsrError: anything that the user can act on.
    """
    registered_as = _register_config(request.register) if request.register else None
    start = open_start(absolute_name(request.model))
    videos = find_videos(request.files)
    size = request.size or clip_size(videos)
    record = FinetuneRecord(
        videos=_checksums(videos),
        start_sha256=start.sha256,
        size=size,
        steps=request.steps,
        learning_rate=request.learning_rate,
    )
    params = _params(request, size, start)
    folder = out or Path("finetune", _run_name(request.files[0], record))
    with only_writer(folder, holds=RECORD_FILE):
        _open_folder(folder, record, params, videos)
        scores = _run_stages(folder, load_params(folder / PARAMS_FILE))
        is_better = _is_better(scores.groups["all"])
        registered = _register(folder, registered_as) if registered_as and is_better else ""
    _print_result(scores.groups["all"], start.name, folder, registered)


# --- what is asked for


def find_videos(files: Sequence[Path]) -> dict[str, Path]:
    """The videos of some files and folders, by the name that each is linked under.

    Raises:
        SourceError: one does not exist, or a folder holds no video.
    """
    found: dict[str, Path] = {}
    for file in files:
        if not file.exists():
            raise SourceError(
                f"{shown_name(file)}: no such file; give video files, or folders of videos"
            )
        for path in list_videos(file):
            if path.resolve() not in found.values():
                found[_link_name(file, path, found)] = path.resolve()
    return dict(sorted(found.items()))


def _link_name(file: Path, path: Path, taken: Mapping[str, Path]) -> str:
    """A free name below `videos/` that the source stage takes for a video's."""
    relative = Path(file.resolve().name) / path.relative_to(file)
    name = shown_name(relative if path != file else file.name).lstrip(".")
    if path.suffix.lower() not in SUFFIXES:
        name += ".mkv"  # what a file is, its content decides
    numbered = (f"{number}-{name}" for number in range(2, len(taken) + 3))
    return next(free for free in (name, *numbered) if free not in taken)


def clip_size(videos: Mapping[str, Path]) -> tuple[int, int]:
    """The largest size of clips that all the videos have, 448x256 at most, in multiples of 4.

    Raises:
        SourceError: none of them can be used; a line for each.
    """
    sizes, faults = list[tuple[int, int]](), list[str]()
    for path in videos.values():
        try:
            size = shown_size(path)
        except VideoError as error:
            faults.append(str(error))
            continue
        if size is None:
            faults.append(f"{shown_name(path)}: no frame can be decoded")
        elif min(size) < SMALLEST_SIDE:
            need = f"{SMALLEST_SIDE}x{SMALLEST_SIDE}"
            faults.append(f"{shown_name(path)}: {size[0]}x{size[1]} pixels, at least {need} needed")
        else:
            sizes.append(size)
    if not sizes:
        raise SourceError(faults)
    width, height = (min(sides) // 4 * 4 for sides in zip(SAMPLE_SIZE, *sizes, strict=True))
    return width, height


def _checksums(videos: Mapping[str, Path]) -> dict[str, str]:
    read = progress(videos.items(), len(videos), "reading videos")
    return {name: sha256_of(path) for name, path in read}


def _register_config(name: str) -> RegisterConfig:
    return parse_params({"register": {"name": name}}, "--register").register_


def _run_name(first: Path, record: FinetuneRecord) -> str:
    stem = re.sub(r"[^A-Za-z0-9_-]+", "-", first.resolve().stem).strip("-")[:40] or "videos"
    return f"{stem}-{hashlib.sha256(record.model_dump_json().encode()).hexdigest()[:8]}"


def _params(request: FinetuneRequest, size: tuple[int, int], start: Start) -> Sections:
    """The content of params.yaml; checked, so that nothing is begun with what is not allowed."""
    fitting = min(size) // 4 // CROP_MULTIPLE * CROP_MULTIPLE
    recipe = {
        "recipe": "finetune",
        "start_from": absolute_name(request.model),
        "crop": min(LARGEST_CROP, max(fitting, CROP_MULTIPLE)),
        "steps": request.steps,
        "learning_rate": request.learning_rate,
    }
    params: Sections = {
        "source": {"kind": "videos", "path": VIDEOS, "size": list(size), **MOST_CLIPS},
        "degradation": start.card.degradation,
        "loader": {"kind": "torch", "decoded_mib": DECODED_MIB},
        "model": start.card.model.model_dump(mode="json"),
        "train": {key: value for key, value in recipe.items() if value is not None},
    }
    parse_params(params, "stvsr finetune")
    return params


# --- the folder


def _open_folder(
    folder: Path, record: FinetuneRecord, params: Sections, videos: Mapping[str, Path]
) -> None:
    """Make the run's folder, or check that the one that is there is of this very run."""
    try:
        remedy = "give another folder with --out"
        found = FinetuneRecord.read(folder / RECORD_FILE, SourceError, remedy)
    except FileNotFoundError:
        with whole_folder(folder) as partial:
            for name, path in videos.items():
                link = partial / VIDEOS / name
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(path)
            text = _as_yaml(params)  # its reader refuses a path that is not in UTF-8
            (partial / PARAMS_FILE).write_text(text, encoding="utf-8", errors="surrogateescape")
            text = record.model_dump_json(indent=1) + "\n"
            (partial / RECORD_FILE).write_text(text, encoding="utf-8")
        return
    names = FinetuneRecord.model_fields
    others = [name for name in names if getattr(found, name) != getattr(record, name)]
    if others:
        raise SourceError(
            f"{folder}: holds the run of other {', '.join(others)}; {remedy}, or leave --out away"
        )


def _as_yaml(params: Sections) -> str:
    """Sections of plain values as YAML, each value as in JSON."""
    lines = ["# Made by `stvsr finetune`; `stvsr params --explain KEY` explains a key."]
    for section, values in params.items():
        lines += ["", f"{section}:"]
        lines += [
            f"  {key}: {json.dumps(value, ensure_ascii=False)}" for key, value in values.items()
        ]
    return "\n".join(lines) + "\n"


def _run_stages(folder: Path, params: Params) -> Scores:
    """Run those stages of the pipeline that are not done."""
    data, model = folder / "data", folder / MODEL
    if not (data / "source" / RECORD_NAME).is_file():
        source = params.source.model_copy(update={"path": str(folder / params.source.path)})
        make_source(source, params.seed, data / "source")
    if not (data / "index" / "manifest.parquet").is_file():
        build_index(data / "source", data / "index", params.index)
    for split in SPLITS:
        out = data / "shards" / split
        if not (out / LINEAGE).is_file():
            write_shards(data / "index", split, out, params.shards, params.degradation)
    train(params, str(data / "shards"), model, runs=folder / "runs")
    if not _is_scored(folder):
        evaluate(model, str(data / "shards" / "test"), folder / "evaluation", params.evaluate)
    write_report(folder / "evaluation", model, folder / "report" / "index.html")
    return read_scores(folder / "evaluation")


def _is_scored(folder: Path) -> bool:
    """True if the folder's evaluation is of its model."""
    try:
        scores = read_scores(folder / "evaluation")
    except SourceError:
        return False
    is_this = scores.model.weights_sha256 == read_card(folder / MODEL).weights_sha256
    return is_this and scores.start is not None


def _register(folder: Path, config: RegisterConfig) -> str:
    """Register the folder's network; the name of the version."""
    from stvsr.promotion import Terms, register_network  # MLflow takes seconds

    params = load_params(folder / PARAMS_FILE)
    shards = str(folder / "data" / "shards" / "test")
    on = Conditions(shards, params.evaluate, config.protocol, params.degradation)
    paths = folder / MODEL, folder / "evaluation"
    out = folder / "registration"
    return register_network(*paths, Terms(config, on), params.tracking, out).uri


# --- the result


def _print_result(group: GroupScores, start: str, folder: Path, registered: str) -> None:
    """Print the table of the three, and what was gained."""
    console = output(width=100)
    console.print(_table(group, start))
    kinds = f"input {_gain(group.input)}, interpolated {_gain(group.interpolated)}"
    clips = f"{group.clips} held-out clip{'s' if group.clips != 1 else ''}"
    text = f"{_gain(group.all)} dB over {start} on {clips} ({kinds})"
    if not _is_better(group):
        console.print(f"nothing was gained: {text}; keep {start}", soft_wrap=True)
        return
    console.print(f"gained {text}; model: {folder / MODEL}", soft_wrap=True)
    if registered:
        console.print(f"registered  {registered}", soft_wrap=True)


def _table(group: GroupScores, start: str) -> Table:
    table = Table(title="PSNR-Y in dB", title_justify="left")
    for heading in ("", "input", "interpolated", "all"):
        table.add_column(heading, justify="right" if heading else "left")
    compared = (group.input, group.interpolated, group.all)
    rows: dict[str, list[Quality | None]] = {
        "bicubic+linear": [part.bicubic_linear for part in compared],
        start: [part.start for part in compared],
        "fine-tuned": [part.network for part in compared],
    }
    for name, qualities in rows.items():
        values = [quality.psnr_y if quality else None for quality in qualities]
        table.add_row(name, *("-" if value is None else f"{value:.2f}" for value in values))
    return table


def _is_better(group: GroupScores) -> bool:
    """True if the network gained over the start, by as much as is shown."""
    gain = group.all.gain_over_start_psnr_y
    return gain is not None and gain >= GAIN_SHOWN


def _gain(compared: Comparison) -> str:
    gain = compared.gain_over_start_psnr_y
    return "-" if gain is None else f"{gain:+.2f}"
