"""docs/add-a-model.md, word for word: its code blocks make a model that trains and is scored."""

import json
import re
import shutil
from pathlib import Path

import pytest

import stvsr as stvsr_package
from stvsr.data.shards.format import Lineage
from tests.support.projects import make_project, stvsr

PAGE = Path(__file__).parents[2] / "docs" / "add-a-model.md"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
STATEMENTS = (
    re.compile(r"^from stvsr\.models import .*$", re.MULTILINE),
    re.compile(r"^MODELS: .*?\)$", re.DOTALL | re.MULTILINE),
)
"""The two that a new model changes in `stvsr/models/__init__.py`."""

FILE = re.compile(r"# (stvsr/\S+\.py)\n")

pytestmark = pytest.mark.slow


def follow_the_page(root: Path) -> None:
    """Copy the package to `root` and do there what the page says."""
    shutil.copytree(Path(stvsr_package.__file__).parent, root / "stvsr")
    blocks = BLOCK.findall(PAGE.read_text(encoding="utf-8"))
    for block in blocks:
        if named := FILE.match(block):
            path = root / named[1]
            path.parent.mkdir(exist_ok=True)
            path.write_text(block[named.end() :], encoding="utf-8")
    (edit,) = (block for block in blocks if block.startswith("from stvsr.models import plain"))
    door = root / "stvsr" / "models" / "__init__.py"
    text = door.read_text(encoding="utf-8")
    for statement in STATEMENTS:
        (new,), (old,) = statement.findall(edit), statement.findall(text)
        text = text.replace(old, new)
    door.write_text(text, encoding="utf-8")


def test_a_model_made_by_the_page_trains_and_is_scored(tmp_path: Path, tiny_sets: Path) -> None:
    follow_the_page(tmp_path / "code")
    project = make_project(tmp_path / "project", tiny_sets, steps=2, validate_every=2)
    params = json.loads((project / "params.yaml").read_text())
    params["model"] = {"name": "plain", "preset": "small"}
    (project / "params.yaml").write_text(json.dumps(params))
    code = {"PYTHONPATH": str(tmp_path / "code")}
    for verb in ("train", "evaluate"):
        status, output = stvsr(project, verb, **code)
        assert status == 0, output
    card = json.loads((project / "model" / "model.json").read_text())
    assert card["model"] == {"name": "plain", "preset": "small", "channels": 8}
    lineage = Lineage.model_validate_json((tiny_sets / "train" / "lineage.json").read_bytes())
    assert card["data_hash"] == lineage.data_hash
    assert "psnr_y" in json.loads((project / "evaluation" / "metrics.json").read_text())

    params["model"]["preset"] = "published"
    params["train"] = {"workers": 1}
    (project / "params.yaml").write_text(json.dumps(params))
    status, output = stvsr(project, "params", **code)
    assert status == 0, output
    assert json.loads(output)["train"]["steps"] == 100_000
