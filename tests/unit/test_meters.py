"""Further measures: what they are of known frames, and how scores have them."""

import csv
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from stvsr.cli import main
from stvsr.core.errors import InputError, ParamsError
from stvsr.evaluation.measures import MEASURES
from stvsr.evaluation.meters import Meters, parse_measures
from stvsr.evaluation.set_scores import read_set_scores
from stvsr.metrics import psnr_y
from stvsr.video.flow import optical_flow
from tests.support.sets import drifting_frames, write_set
from tests.unit.test_score import write_outputs

SIZE = (128, 96)


def clip(frames: list[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)


def shifted(step: int, frames: int = 4) -> Tensor:
    """Frames that drift by `step` pixels to the right per frame."""
    return clip(drifting_frames(step * frames, SIZE, 3)[::step][:frames])


def measured(name: str, output: Tensor, truth: Tensor) -> list[float | None]:
    (rows,) = Meters([name]).add([output], truth)
    return [row.get(name) for row in rows]


@pytest.mark.parametrize(("right", "down"), [(2, 0), (0, 3), (-1, 2)])
def test_the_flow_of_a_translation_is_that_translation(right: int, down: int) -> None:
    wide = drifting_frames(1, (160, 128), 5)[0].mean(axis=2).astype(np.uint8)
    before, after = wide[16:112, 16:144], wide[16 - down : 112 - down, 16 - right : 144 - right]
    flow = optical_flow(np.ascontiguousarray(before), np.ascontiguousarray(after))
    middle = np.median(flow[24:-24, 24:-24].reshape(-1, 2), axis=0)
    assert middle == pytest.approx([right, down], abs=0.15)


def test_tof_is_zero_for_the_same_motion_and_the_distance_for_another() -> None:
    truth, faster = shifted(1), shifted(3)
    assert measured("tof", truth, truth) == [None, 0, 0, 0]
    none, *values = measured("tof", faster, truth)
    assert none is None
    assert values == pytest.approx([2, 2, 2], abs=0.5)


def test_tof_does_not_see_a_wrong_colour_that_stays() -> None:
    truth = shifted(2)
    assert measured("tof", truth // 2 + 30, truth)[1:] == pytest.approx([0, 0, 0], abs=0.1)


def test_xpsnr_falls_with_noise_and_is_missing_where_frames_are_equal() -> None:
    truth = shifted(1)
    random = torch.Generator().manual_seed(0)
    noise = torch.randint(-9, 10, truth.shape, generator=random)
    little, much = ((truth.int() + noise // part).clamp(0, 255).to(torch.uint8) for part in (4, 1))
    assert measured("xpsnr", truth, truth) == [None] * 4
    of_little, of_much = (
        np.array(measured("xpsnr", output, truth), float) for output in (little, much)
    )
    assert (of_little > of_much).all()
    assert of_much[0] == pytest.approx(float(psnr_y(much[0], truth[0])), abs=6)


def test_frames_too_small_for_xpsnr_are_refused() -> None:
    with pytest.raises(InputError, match="XPSNR: found frames of 48x32, expected at least 4096"):
        measured("xpsnr", clip(drifting_frames(2, (48, 32), 0)), shifted(1)[:, :, :32, :48])


def test_a_measure_that_one_method_lacks_on_a_frame_none_has() -> None:
    truth = shifted(1)
    rows = Meters(["xpsnr"]).add([truth, truth // 2], truth)
    assert rows == [[{}] * 4, [{}] * 4]


def test_frames_may_come_window_by_window() -> None:
    truth, output = shifted(1, 6), shifted(2, 6)
    whole = Meters(["tof", "xpsnr"]).add([output], truth)[0]
    meters = Meters(["tof", "xpsnr"])
    parts = [meters.add([output[part]], truth[part])[0] for part in (slice(4), slice(4, 6))]
    assert [row for rows in parts for row in rows] == whole


def test_measures_are_named_in_any_order_and_unknown_ones_refused() -> None:
    assert parse_measures("") == ()
    assert parse_measures("xpsnr, tof,xpsnr") == ("tof", "xpsnr")
    with pytest.raises(ParamsError, match="--measures: found 'vmaff'; allowed: tof, xpsnr"):
        parse_measures("tof,vmaff")


def test_the_command_adds_measures_to_those_that_every_score_has(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    root = write_set(tmp_path / "set", {"long": 8, "short": 7}, size=(96, 64))
    write_outputs(tmp_path / "others", root, {"long": 8, "short": 7})
    arguments = ["score", "--outputs", "others", "--set", "set"]
    assert main(arguments) == 0
    plain = read_set_scores(tmp_path / "scores/others_set_stvsr").groups["all"].parts["all"]
    assert main([*arguments, "--measures", "tof,xpsnr", "--out", "scores/further"]) == 0
    further = read_set_scores(tmp_path / "scores/further").groups["all"].parts["all"]
    assert set(plain.network) == set(MEASURES)
    assert set(further.network) == {*MEASURES, "tof", "xpsnr"}
    assert {name: further.network[name] for name in MEASURES} == plain.network
    tof = further.gain["tof"]
    assert tof.mean is not None
    assert tof.mean < 0
    rows = list(csv.DictReader((tmp_path / "scores/further/frames.csv").open()))
    assert [row["tof"] == "" for row in rows] == [row["frame"] == "1" for row in rows]
    assert all(math.isfinite(float(row["xpsnr"])) for row in rows)
    assert "tOF 0." in capsys.readouterr().out
    assert main(["table"]) == 0
    printed = capsys.readouterr().out
    assert "| Gain PSNR-Y | tOF | XPSNR | Published |" in printed
