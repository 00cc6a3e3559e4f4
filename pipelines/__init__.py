"""The batch jobs; each file reads top to bottom as a list of steps."""
