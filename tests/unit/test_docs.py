"""What the documents name is there: files behind links, verbs, targets."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
DOCUMENTS = sorted([*PROJECT.glob("*.md"), *PROJECT.glob("docs/**/*.md")])
LINK = re.compile(r"\[[^\]]*\]\((?!https?://|#)([^)#]+)")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(PROJECT)))
def test_every_relative_link_leads_somewhere(document: Path) -> None:
    broken = [
        target
        for target in LINK.findall(document.read_text(encoding="utf-8"))
        if not (document.parent / target).exists()
    ]
    assert broken == []


def test_every_verb_in_the_readme_is_one() -> None:
    named = set(re.findall(r"`stvsr ([a-z][a-z-]*)", (PROJECT / "README.md").read_text()))
    help_text = subprocess.run(
        [sys.executable, "-m", "stvsr.cli", "--help"], capture_output=True, text=True, check=True
    ).stdout
    verbs = set(re.findall(r"^  ([a-z][a-z-]*)(?: |$)", help_text, re.MULTILINE))
    assert named
    assert named <= verbs


def test_every_make_target_in_the_documents_is_one() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    for document in DOCUMENTS:
        named = re.findall(r"`make ([a-z-]+)", document.read_text(encoding="utf-8"))
        assert set(named) <= targets, document


def test_the_page_of_parameters_is_fresh() -> None:
    """`stvsr params --markdown > docs/params.md` makes it."""
    from stvsr.params_page import params_page

    assert (PROJECT / "docs" / "params.md").read_text() == params_page().rstrip() + "\n"
