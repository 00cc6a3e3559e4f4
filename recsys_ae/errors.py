"""Every error this project raises on purpose.

    RecsysError
    ├── InputError             what the user gave is wrong        (exit code 2)
    │   ├── ConfigError        a configuration key or value
    │   ├── LogError           an interaction log: names file and row
    │   ├── DataError          a data set, split or history
    │   └── UnknownIdError     an id no one has heard of
    ├── ModelError             a model used against its contract  (exit code 1)
    │   ├── NotFittedError     scored or saved before `fit` or `restore`
    │   └── WidthError         histories or tensors of another catalogue
    ├── CheckError             tonight's data are not like those of the nights before  (exit code 1)
    ├── GateError              tonight's model is not published, on purpose  (exit code 3)
    ├── BusyError              another process is at it  (exit code 1)
    ├── FetchError             a public data set cannot be had, or is not what was published  (exit code 1)
    ├── TableError             a database's table cannot be written  (exit code 1)
    ├── StoreError             the database of the API's events cannot be used  (exit code 1)
    └── StorageError           what lies on disk is not what was written  (exit code 1)
        ├── WriteError         or cannot be written: no room
        ├── ArtifactError      a digest, a missing file, a wrong shape
        ├── RegistryError      no such version, no current version  (exit code 2)
        └── CheckpointError    a checkpoint of another run

A message says what was found, where, and what was expected.
"""


class RecsysError(Exception):
    """Base of every error raised on purpose."""

    exit_code = 1


class InputError(RecsysError):
    """What the user gave is wrong: input or configuration."""

    exit_code = 2


class ConfigError(InputError):
    """A configuration key or value."""


class LogError(InputError):
    """An interaction log that cannot be read or holds impossible values."""


class DataError(InputError):
    """A data set, split or history that cannot be used as asked."""


class UnknownIdError(InputError):
    """An id that is not in the catalogue."""


class ModelError(RecsysError):
    """A model was used against its contract."""


class NotFittedError(ModelError):
    """The model has neither been fitted nor restored."""


class WidthError(ModelError):
    """Histories or tensors belong to a catalogue of another size."""


class CheckError(RecsysError):
    """Tonight's data are not like those of the nights before; nothing is trained on them."""


class GateError(RecsysError):
    """The gate refused to publish."""

    exit_code = 3


class BusyError(RecsysError):
    """Another process does the same work at this moment."""


class FetchError(RecsysError):
    """A public data set cannot be had, or what came is not what was published."""


class TableError(RecsysError):
    """A table of a database cannot be written."""


class StoreError(RecsysError):
    """The database of the API's events cannot be reached, fails, or is of another release."""


class StorageError(RecsysError):
    """What lies on disk is not what was written."""


class WriteError(StorageError):
    """A file cannot be written: the disk is full, or fails."""


class ArtifactError(StorageError):
    """A saved model is missing a file, damaged, or of another shape."""


class RegistryError(StorageError):
    """A registry has no such version."""

    exit_code = 2  # what was asked for is not there; nothing is damaged


class CheckpointError(StorageError):
    """A checkpoint belongs to another run or is damaged."""
