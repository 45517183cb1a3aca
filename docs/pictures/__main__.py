"""``python -m docs.pictures``: writes all pictures anew, each beside this file."""

import sys
from pathlib import Path

from docs.pictures import PICTURES

for picture in PICTURES:
    path = Path(__file__).parent / f"{picture.name}.svg"
    path.write_text(picture.svg(), encoding="utf-8")
    sys.stdout.write(f"{path.parent.name}/{path.name}\n")
