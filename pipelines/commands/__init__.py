"""The groups of commands, one file each; `pipelines.__main__` has the commands that stand alone."""
