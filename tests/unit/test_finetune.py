"""`stvsr finetune`: what it takes, what it refuses, and how it tells one run from another."""

from pathlib import Path

import pytest

from stvsr.cli import main
from stvsr.core.errors import SourceError
from stvsr.finetune import clip_size, find_videos
from tests.support.models import write_tiny_artifact
from tests.support.videos import encode, numbered


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_tiny_artifact(Path("start"))


def video(path: str, frames: int = 8, width: int = 160, height: int = 96) -> Path:
    return encode(Path(path), (numbered(n, width, height) for n in range(frames)))


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    """The lines of a refused command, without its name."""
    assert main(["finetune", *arguments]) == 1
    lines = capsys.readouterr().err.splitlines()
    return [line for line in lines if not line[:2].isdigit()]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["none.mp4", "--model", "start"], "none.mp4: no such file; give video files"),
        (["empty", "--model", "start"], "empty holds no video (found: nothing)"),
        (["text.mp4", "--model", "start"], "text.mp4: not a readable video"),
        (["tiny.mp4", "--model", "start"], "tiny.mp4: 48x48 pixels, at least 64x64 needed"),
        (["clip.mp4", "--model", "nowhere"], "nowhere/model.json: cannot be read"),
        (["clip.mp4", "--model", "stvsr/none"], "stvsr/none: no network of this name ships"),
        (["clip.mp4", "--model", "text.mp4"], "text.mp4"),
        (["clip.mp4", "--model", "start", "--steps", "0"], "train.steps: found 0; allowed: "),
        (["clip.mp4", "--model", "start", "--size", "9"], "--size: found '9'; allowed: WIDTHxHEI"),
        (["clip.mp4", "--model", "start", "--size", "7x9"], "source.size: found [7, 9]; allowed: "),
        (["clip.mp4", "--model", "start", "--register", "a/b"], "register.name: found 'a/b'; all"),
    ],
)
def test_what_cannot_be_used_is_one_line_and_leaves_nothing(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    video("clip.mp4")
    video("tiny.mp4", width=48, height=48)
    Path("text.mp4").write_text("no video")
    Path("empty").mkdir()
    (line,) = refusal(capsys, *arguments)
    assert expected in line
    assert not Path("finetune").exists()


def test_every_video_that_cannot_be_used_is_named_with_its_reason(
    capsys: pytest.CaptureFixture[str],
) -> None:
    video("all/tiny.mp4", width=48, height=48)
    Path("all/text.mp4").write_text("no video")
    lines = refusal(capsys, "all", "--model", "start")
    assert [line.split(": ")[2].split(" (")[0] for line in lines] == [
        "not a readable video",
        "48x48 pixels, at least 64x64 needed",
    ]


def test_a_video_too_short_for_a_clip_is_named_with_its_frames(
    capsys: pytest.CaptureFixture[str],
) -> None:
    video("short.mp4", frames=5)
    (line,) = refusal(capsys, "short.mp4", "--model", "start")
    assert "short.mp4: 5 frames, no segment of the 7 that a clip spans" in line


def test_videos_of_one_name_get_links_of_their_own_and_each_is_taken_once() -> None:
    for path in ("a/clip.mp4", "b/clip.mp4", "b/deep/clip.mov", "b/.hidden.mp4", "other"):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(b"")
    files = [Path(path) for path in ("a/clip.mp4", "b/clip.mp4", "b", "a/clip.mp4", "other")]
    found = {name: path.relative_to(Path.cwd()) for name, path in find_videos(files).items()}
    assert found == {
        "2-clip.mp4": Path("b/clip.mp4"),
        "b/deep/clip.mov": Path("b/deep/clip.mov"),
        "clip.mp4": Path("a/clip.mp4"),
        "other.mkv": Path("other"),
    }


def test_clips_have_the_size_that_all_usable_videos_have() -> None:
    videos = {
        "wide": video("wide.mp4", width=640, height=100),
        "tall": video("tall.mp4", width=182, height=480),
        "tiny": video("tiny.mp4", width=48, height=48),
    }
    assert clip_size(videos) == (180, 100)
    assert clip_size({"tall": videos["tall"]}) == (180, 256)
    with pytest.raises(SourceError, match="at least 64x64 needed"):
        clip_size({"tiny": videos["tiny"]})
