"""All kinds of malformed input."""

from tests.malformed.data import DATA
from tests.malformed.networks import NETWORKS
from tests.malformed.text import TEXTS
from tests.malformed.videos import VIDEO

KINDS = (*DATA, VIDEO, *NETWORKS, *TEXTS)
