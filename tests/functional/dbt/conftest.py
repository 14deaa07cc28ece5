"""The two doors into dbt, as a dimension of the tests here: `support.dbt_project` narrows it."""

from __future__ import annotations

import pytest
from support.dbt_project import COMMAND, PLUGIN


@pytest.fixture(params=[PLUGIN, pytest.param(COMMAND, marks=pytest.mark.matrix)])
def door(request: pytest.FixtureRequest) -> str:
    """The plugin's door, and in `make doors` the command's too."""
    return str(request.param)
