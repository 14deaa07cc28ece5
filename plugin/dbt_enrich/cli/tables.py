"""Tables as a terminal and a pull request show them."""

from __future__ import annotations

from collections.abc import Sequence

Cells = Sequence[object]


def plain_table(headers: Sequence[str], rows: Sequence[Cells]) -> str:
    """Return rows in columns, numbers to the right.

    Args:
        headers: The columns' names.
        rows: One cell a column.
    """
    texts = [[_text(cell) for cell in row] for row in rows]
    widths = [
        max([len(header), *(len(row[i]) for row in texts)]) for i, header in enumerate(headers)
    ]
    right = [bool(rows) and all(_is_number(row[i]) for row in rows) for i in range(len(headers))]
    lines = [
        "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in [list(headers), ["-" * width for width in widths], *texts]
    ]
    return "\n".join(lines)


def markdown_table(headers: Sequence[str], rows: Sequence[Cells]) -> str:
    """Return rows as a Markdown table; text that would break it is escaped."""
    right = [bool(rows) and all(_is_number(row[i]) for row in rows) for i in range(len(headers))]
    marks = ["---:" if to_right else "---" for to_right in right]
    texts = [[_escaped(_text(cell)) for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in [list(headers), marks, *texts])


def _is_number(cell: object) -> bool:
    return cell is None or (isinstance(cell, int | float) and not isinstance(cell, bool))


def _text(cell: object) -> str:
    if cell is None:
        return ""
    if isinstance(cell, bool) or not isinstance(cell, int | float):
        return " ".join(str(cell).split())
    return f"{cell:,}" if isinstance(cell, int) else f"{cell:,.2f}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("`", "\\`")
