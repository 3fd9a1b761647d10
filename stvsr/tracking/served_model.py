"""The script that MLflow runs to serve a registered network: weights from safetensors, no pickle.

`mlflow.pyfunc.load_model` executes this file, with the version's own copy of stvsr on its path.
It is not for importing: MLflow wants the model set at the script's end.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel
from numpy.typing import NDArray

from stvsr.artifact import load_artifact


class ServedModel(PythonModel):
    """A registered network as an MLflow pyfunc model, on the CPU."""

    def load_context(self, context: Any) -> None:
        """Read the network from the version's model folder."""
        self._model, _ = load_artifact(Path(context.artifacts["model"]))

    # MLflow reads the annotations and warns at every load of any other than the bare ndarray.
    def predict(self, context: Any, model_input: np.ndarray, params: Any = None) -> np.ndarray:
        """Upscale clips of float32 arrays; MLflow's signature checks what comes in.

        Args:
            context: MLflow's, not needed.
            model_input: (B, T_in, 3, H, W), RGB in [0, 1].
            params: MLflow's, there are none.

        Returns:
            (B, 2 * T_in - 1, 3, 4H, 4W), not clamped.
        """
        with torch.inference_mode():
            sr_clip: NDArray[np.float32] = self._model(torch.from_numpy(model_input)).numpy()
        return sr_clip


set_model(ServedModel())
