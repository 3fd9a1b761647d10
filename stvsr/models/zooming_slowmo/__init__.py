"""Zooming Slow-Mo (ZSM), the first one-stage space-time super-resolution network."""

from stvsr.models.zooming_slowmo.config import ZoomingSlowMoConfig
from stvsr.models.zooming_slowmo.model import ZoomingSlowMo

__all__ = ["ZoomingSlowMo", "ZoomingSlowMoConfig"]
