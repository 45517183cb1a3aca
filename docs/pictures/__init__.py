"""The pictures of the pages: each is drawn by a module of this folder, with the means of `drawing`.

The same code gives the same bytes. ``python -m docs.pictures`` writes all of them anew.

Attributes:
    PICTURES: All pictures, in the order in which they are written.
"""

from collections.abc import Sequence
from typing import Final

from docs.pictures import call, lease, outage, stale
from docs.pictures.drawing import Picture

PICTURES: Final[Sequence[Picture]] = (call.picture(), lease.picture(), stale.picture(), outage.picture())
