"""Unassigned: lines of response files that cannot be assigned to a request, kept as they are.

They may be answers that were paid for. The reader of lines knows them by their custom_id; what
has none, or cannot be read as text, would else be gone with the service's file.
"""

from __future__ import annotations

from pathlib import Path

from dbt_enrich.endpoints.response_lines import custom_id_of
from dbt_enrich.files import link_or_copy, make_private, settle
from dbt_enrich.sql import key_text_sql, literal
from dbt_enrich.state.file_store import FileKind, FileStore, StateFile
from dbt_enrich.state.run import Run
from dbt_enrich.workspace.database import Workspace


def keep_unassigned(
    files: list[Path], manifest: Path, answers: str, kept_in: StateFile, run: Run
) -> int:
    """Write the lines that answered no request to a file; to none where all did.

    It is for shards with requests that no line answered: of the others no answer is lost.

    Args:
        files: The response files, which bound the size of what is kept.
        manifest: The shard's requests.
        answers: Table expression of what was read of the files.
        kept_in: Where the lines go, byte by byte as they came.
        run: The run, which reads the manifest and the answers.

    Returns:
        The number of lines.
    """
    read, target = _custom_ids(manifest, answers, run.workspace), run.files.path(kept_in)
    writing = target.with_name(f".{target.name}.writing")
    make_private(writing)
    count = 0
    with writing.open("wb") as kept:
        for path in files:
            with path.open("rb") as lines:
                for line in lines:
                    if line.strip() and custom_id_of(line) not in read:
                        kept.write(line if line.endswith(b"\n") else line + b"\n")
                        count += 1
    if count:
        settle(writing, target)
        run.files.put([kept_in])
    else:
        writing.unlink()
    return count


def keep_files_of_packs(files: list[Path], store: FileStore) -> str:
    """Keep whole response files with answers to packs whose rows are unknown.

    Args:
        files: The files, which stay where they are.
        store: Where runs on other machines find them too, if there are some.

    Returns:
        Where a user finds the first.
    """
    if not store.is_shared:
        return str(files[0])
    kept = [StateFile(FileKind.UNASSIGNED, path.stem) for path in files]
    for path, file in zip(files, kept, strict=True):
        link_or_copy(path, store.path(file))
    store.put(kept)
    return store.where(kept[0])


def _custom_ids(manifest: Path, answers: str, workspace: Workspace) -> set[str]:
    """Return the custom_ids of the requests of which a line was read."""
    requests = f"read_parquet({literal(manifest)})"
    is_packed = "custom_id" in workspace.columns(f"from {requests}")
    alone = f"{key_text_sql('request_key')} || '-' || attempt"
    rows = workspace.rows(
        f"select distinct {'custom_id' if is_packed else alone} from {requests} as requests "
        f"semi join {answers} as answers using (request_key, attempt)"
    )
    return {str(custom_id) for (custom_id,) in rows}
