"""The API: top-k recommendations from the current version of a registry. It loads no training data code."""
