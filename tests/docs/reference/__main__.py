"""Write the pages of docs/reference, from the models, the commands, the macros and the catalogs.

`make reference` runs it; a test says where they are not what this would write.
"""

from __future__ import annotations

from docs.reference.pages import PAGES, path_of

for name, make in PAGES.items():
    path_of(name).write_text(make(), encoding="utf-8")
