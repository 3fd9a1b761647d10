"""Python imports this at its start where this folder is in PYTHONPATH: see `clips.held_up`."""

import os
import sys
import time


def _wait_while_held(event: str, arguments: tuple[object, ...]) -> None:
    if event == "open" and arguments[0] is not None:
        path = str(arguments[0])
        while path.endswith(".png") and os.path.lexists(f"{path}.held"):
            time.sleep(0.05)


sys.addaudithook(_wait_while_held)
