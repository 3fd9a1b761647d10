"""A verb of `stvsr` that is no stage, under the supervisor: a search, a score, a rendering."""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pipelines.supervised import SAVE_S, Order, run_order
from stvsr.core.errors import StvsrError
from stvsr.core.yaml import Value

_AS_STAGE = ("/bin/sh", "-c", '"$@"; exit $?', "sh")
"""A shell as the scheduler, whose one stage is the verb: the supervisor lets a stage save."""


def run_verb(
    arguments: Sequence[str],
    overrides: Mapping[str, Value],
    project: Path,
    log: Callable[[str], None],
    save_s: float = SAVE_S,
) -> None:
    """Run `stvsr ARGUMENTS…`, and leave nothing running however this call or its process ends.

    Args:
        arguments: such as ("tune",).
        overrides: parameters of this run alone, by dotted key.
        project: the folder with params.yaml.
        log: called with each line that the verb writes.
        save_s: seconds that the verb gets, after SIGTERM, to save and leave.

    Raises:
        ParamsError: an override is refused; the verb has not run.
        ServiceError: another run is at work in this project.
        StvsrError: the verb refused; the text is its own.
    """
    program = str(Path(sys.executable).with_name("stvsr"))
    order = Order(
        (*_AS_STAGE, program, *arguments), dict(overrides), str(project.resolve()), save_s
    )
    code, lines = run_order(order, log)
    if code == 0:
        return
    begin = f"stvsr {arguments[0]}: "
    refusal = [line.removeprefix(begin) for line in lines if line.startswith(begin)]
    last = lines[-1] if lines else "it said nothing"
    raise StvsrError(refusal or f"stvsr {' '.join(arguments)}: {last} (exit code {code})")
