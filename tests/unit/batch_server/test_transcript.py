"""The plain text that a base model goes on with."""

from __future__ import annotations

from batch_server.responders.transcript import transcript

ROW = {"role": "user", "content": "A dog finds a bone."}


def test_transcript_lays_out_system_text_examples_and_the_row() -> None:
    """System text first, then each pair, then the row, with nothing else but the labels."""
    text = transcript(
        [
            {"role": "system", "content": "Say what it is about."},
            {"role": "user", "content": "A cat sleeps."},
            {"role": "assistant", "content": '{"about": "a cat"}'},
            ROW,
        ]
    )
    assert text == (
        "Say what it is about.\n\n"
        'Input: A cat sleeps.\nOutput:\n{"about": "a cat"}\n\n'
        "Input: A dog finds a bone.\nOutput:\n"
    )


def test_transcript_of_a_row_alone_has_no_system_part() -> None:
    """A task without system text and examples is the row and the place of its answer."""
    assert transcript([ROW]) == "Input: A dog finds a bone.\nOutput:\n"


def test_transcript_never_ends_in_a_space() -> None:
    """Blanks around a text are dropped, and the answer's place is a new line."""
    text = transcript([{"role": "user", "content": "  a text with blanks \n\n "}])
    assert text == "Input: a text with blanks\nOutput:\n"


def test_transcript_keeps_a_refused_answer_and_the_request_to_mend_it() -> None:
    """Messages after the row, as a repair has them, go on in the same form."""
    text = transcript(
        [
            ROW,
            {"role": "assistant", "content": "{}"},
            {"role": "user", "content": "Your answer does not fit."},
        ]
    )
    assert text.endswith("Output:\n{}\n\nInput: Your answer does not fit.\nOutput:\n")


def test_rows_of_a_task_share_the_beginning() -> None:
    """Two rows differ only behind the constant part, so that it is read once."""
    system = {"role": "system", "content": "Say what it is about."}
    first = transcript([system, ROW])
    second = transcript([system, {"role": "user", "content": "Two cats."}])
    constant = "Say what it is about.\n\nInput: "
    assert first.startswith(constant)
    assert second.startswith(constant)
