"""The file of rules that the scripted responder reads."""

from __future__ import annotations

from pathlib import Path

import pytest
from batch_server.problems import SetupError
from batch_server.responders.scripted import ScriptedResponder


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[", "cannot be read.*a JSON list of rules"),
        ('{"match": "a"}', "is no list of rules; write it as"),
        ('["a"]', "is no list of rules; write it as"),
        ('[{"mtch": "a"}]', r"unknown key 'mtch'; did you mean 'match'\?"),
        ('[{"fault": "refuse"}]', "unknown fault 'refuse'; use one of the faults .*refusal"),
    ],
)
def test_a_wrong_script_is_named(tmp_path: Path, content: str, said: str) -> None:
    """With what it must be."""
    path = tmp_path / "rules.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(SetupError, match=said):
        ScriptedResponder.from_file(path)
