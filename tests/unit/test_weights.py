import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import stvsr
from pipelines.weights import photographs
from pipelines.weights.photographs import make_photographs, read_table
from stvsr import weights
from stvsr.artifact import Card, save_artifact
from stvsr.core.clip import ClipBatch
from stvsr.core.errors import CheckpointError, SourceError
from stvsr.core.resize import downsample_bicubic
from stvsr.data.clips.layout import FRAMES, MOTIONS, frame_path, read_clip_list, split_list
from stvsr.data.sources.sample import CUTOUTS, make_sample
from stvsr.evaluation.evaluate import score_frames
from stvsr.evaluation.scores import group_scores
from stvsr.models import StdanConfig, build_model
from stvsr.open_model import open_model
from stvsr.params import load_params
from stvsr.weights import load_shipped, shipped_names

LICENCES = re.compile(
    r"CC0-1\.0|CC-BY(-SA)?-[234]\.0|L?GPL-[23]\.\d(-or-later)?|GFDL-1\.2-or-later|public domain"
    r"|no known copyright restrictions"
)


@pytest.fixture
def tiny(tmp_path, monkeypatch) -> Path:
    """A package with one network, stvsr/tiny."""
    card = Card(
        model=StdanConfig(preset="small", channels=8, embedding=8),
        step=1, steps_total=1, seed=0, degradation={"name": "bicubic"}, data_hash="",
        stvsr_version=stvsr.__version__,
    )  # fmt: skip
    save_artifact(tmp_path / "tiny", build_model(card.model), card)
    monkeypatch.setattr(weights, "FOLDER", tmp_path)
    return tmp_path / "tiny"


def test_a_shipped_network_is_opened_by_its_name_where_a_folder_is_taken(tiny, monkeypatch):
    monkeypatch.chdir(tiny.parent)
    by_name, card = open_model("stvsr/tiny")
    by_folder, _ = open_model(str(tiny))
    assert card.step == 1
    lr_clip = torch.rand(1, 2, 3, 16, 16)
    with torch.inference_mode():
        assert torch.equal(by_name(lr_clip), by_folder(lr_clip))


def test_a_name_that_does_not_ship_is_refused_with_those_that_do(tiny):
    with pytest.raises(CheckpointError, match=r"stvsr/none: .* allowed: stvsr/tiny$"):
        load_shipped("stvsr/none")
    with pytest.raises(CheckpointError, match="allowed: stvsr/tiny"):
        load_shipped("stvsr/../weights")


@pytest.mark.parametrize("name", shipped_names())
def test_what_ships_is_trained_nearly_to_its_end_by_this_pipeline(name):
    _, card = load_shipped(name)
    assert 0.95 * card.steps_total <= card.step <= card.steps_total  # README says why not all
    assert card.run
    assert all(code.fingerprint for code in card.code)
    assert card.data_hash


@pytest.mark.parametrize("name", shipped_names())
def test_what_ships_beats_bicubic_linear_at_every_motion_of_the_sample(name, tmp_path):
    make_sample(0, len(MOTIONS), (256, 128), 3, tmp_path)
    model, _ = load_shipped(name)
    motions = dict(zip(read_clip_list(split_list(tmp_path, "test")), MOTIONS, strict=True))
    clips = [clip_batch(tmp_path, clip) for clip in motions]
    for motion, group in group_scores(score_frames(model, clips, motions)).items():
        assert (group.input.gain_psnr_y or 0) > 0.2, motion
        assert (group.interpolated.gain_psnr_y or 0) > 0.2, motion


def clip_batch(root: Path, clip: str) -> ClipBatch:
    """A clip of a folder, degraded as shards are."""
    frames = [np.asarray(Image.open(frame_path(root, clip, frame))) for frame in FRAMES]
    hr_clip = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)[None] / 255
    reduced = [downsample_bicubic(frame) for frame in frames[::2]]
    lr_clip = torch.from_numpy(np.stack(reduced)).permute(0, 3, 1, 2)[None] / 255
    return ClipBatch(lr_clip, hr_clip, (clip,))


def test_what_ships_has_four_megabytes_at_most():
    assert sum(file.stat().st_size for file in weights.FOLDER.rglob("*.safetensors")) <= 4e6


def test_each_photograph_has_an_author_and_a_free_licence_and_its_package_a_checksum():
    packages = {row["package"]: row for row in read_table("packages.csv")}
    for row in read_table("photographs.csv"):
        assert row["author"]
        assert LICENCES.fullmatch(row["licence"]), row
        assert re.fullmatch("[0-9a-f]{64}", packages[row["package"]]["sha256"])
        assert row["split"] in ("train", "test")


def test_no_test_photograph_of_the_sample_is_trained_on():
    kept_back = {Path(name).name for name in CUTOUTS["test"]}
    rows = read_table("photographs.csv")
    trained = {Path(row["member"]).name for row in rows if row["split"] == "train"}
    tested = {Path(row["member"]).name for row in rows if row["split"] == "test"}
    assert not kept_back & trained
    assert tested <= kept_back


def test_a_package_that_is_not_the_pinned_one_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda _: None)
    (tmp_path / "packages").mkdir()
    (tmp_path / "packages" / "budgie-backgrounds_3.0-1_all.deb").write_bytes(b"another")
    with pytest.raises(SourceError, match=r"budgie-backgrounds 3\.0-1: needs apt-get"):
        make_photographs(tmp_path / "packages", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_parameters_are_valid():
    params = load_params(Path(photographs.__file__).with_name("params.yaml"))
    assert params.source.kind == "rendered"
    assert params.model == StdanConfig(preset="small")
