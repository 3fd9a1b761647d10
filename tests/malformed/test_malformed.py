"""Malformed inputs through the public doors: refused in a line that names the file, or harmless.

`--malformed N` tries N inputs, `--malformed KIND:SEED` one; the default is a few of each kind.
"""

from collections.abc import Iterator

import pytest

from tests.malformed.kinds import KINDS
from tests.malformed.worker import Worker, counts


@pytest.fixture(scope="session")
def worker() -> Iterator[Worker]:
    made = Worker()
    yield made
    made.close()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test for each kind, with its seeds."""
    wanted = str(metafunc.config.getoption("--malformed"))
    if wanted.isdecimal():
        numbers = counts([kind.share for kind in KINDS], int(wanted))
        cases = [(k.name, range(n)) for k, n in zip(KINDS, numbers, strict=True)]
    else:
        name, _, seed = wanted.partition(":")
        cases = [(name, range(int(seed), int(seed) + 1))]
    metafunc.parametrize(("kind", "seeds"), cases, ids=[name for name, _ in cases])


@pytest.mark.slow
def test_malformed_input_is_refused_in_a_line_or_does_not_matter(
    worker: Worker, kind: str, seeds: range
) -> None:
    found = {seed: worker.try_input(kind, seed) for seed in seeds}
    faults = [
        f"{kind} {seed}: {fault}\n    again: python -m tests.malformed {kind} {seed}"
        for seed, fault in found.items()
        if fault
    ]
    assert not faults, f"{len(faults)} of {len(seeds)}:\n" + "\n".join(faults)
