"""The way of the data: stage, export, run, load, publish."""
