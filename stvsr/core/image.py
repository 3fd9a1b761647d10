"""The type of a picture in the data path."""

import numpy as np
from numpy.typing import NDArray

UInt8Image = NDArray[np.uint8]
"""Picture of shape (H, W, 3), RGB in [0, 255], or a batch or a plane of such."""
