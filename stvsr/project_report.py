"""`stvsr report`: the report of an evaluation and of the version that was registered."""

import re
from pathlib import Path

from stvsr.evaluation.report import Registered, RivalScore, write_report
from stvsr.evaluation.scores import read_scores
from stvsr.tracking.registration import REGISTRATION_FILE, Registration, read_registration


def report_project(evaluation: Path, model: Path, registration: Path, out: Path) -> None:
    """Write the report.

    Args:
        evaluation: folder that `evaluate` wrote.
        model: the model folder.
        registration: folder that `register` wrote; one that is missing, or of other weights, as
            before the network was registered, has no place in the report.
        out: the HTML file, whole or not at all.

    Raises:
        StvsrError: as `write_report`, or version.json is damaged.
    """
    registered = None
    if (registration / REGISTRATION_FILE).exists():
        found = read_registration(registration)
        if found.weights_sha256 == read_scores(evaluation).model.weights_sha256:
            registered = _registered(found)
    write_report(evaluation, model, out, registered)


def _registered(found: Registration) -> Registered:
    is_server = found.tracking_uri and re.match("https?://", found.tracking_uri)
    page = f"{found.tracking_uri}/#/models/{found.name}/versions/{found.version}"
    return Registered(
        version=f"{found.name} version {found.version}",
        uri=found.uri,
        page=page if is_server else "",
        decision=f"{found.alias}: {found.decision}" if found.decision else found.alias,
        rival=found.rival,
        sets=[
            RivalScore(s.set, s.clips, s.network, s.rival, s.difference, s.low, s.high)
            for s in found.sets
        ],
    )
