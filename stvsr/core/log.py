"""The one logging set-up, called by entry points only."""

import logging
import sys
from pathlib import Path

from stvsr.core.escape import one_line


def set_up_logging(level: int = logging.INFO, file: Path | None = None) -> None:
    """Send the logs of stvsr and pipelines to standard error, one plain line per record.

    Args:
        level: the least important level that is shown.
        file: append the lines to this file instead.
    """
    handler: logging.Handler = (
        logging.FileHandler(file, encoding="utf-8") if file else logging.StreamHandler(sys.stderr)
    )
    handler.setFormatter(_OneLine("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    for name in ("stvsr", "pipelines"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(level)
        logger.propagate = False


class _OneLine(logging.Formatter):
    """One line for each message, whatever the names in it; a traceback below it stays."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        """See logging."""
        record.message = one_line(record.message)
        return super().formatMessage(record)
