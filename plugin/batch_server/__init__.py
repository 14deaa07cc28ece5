"""The Batch API over HTTP on this machine: an emulator that a language model, or a script, answers.

routes (paths) → jobs (state and rules) → storage; wire and errors hold the shapes of each flavour.
It imports nothing of dbt_enrich and knows only the protocol and its own state.
"""
