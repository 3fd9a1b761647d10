"""STDAN: the model this project is named for."""

from stvsr.models.stdan.config import StdanConfig
from stvsr.models.stdan.model import Stdan

__all__ = ["Stdan", "StdanConfig"]
