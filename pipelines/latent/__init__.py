"""`recsys-ae latent ...`: the other uses of an autoencoder, one file for each command.

commands.py   the command line
opening.py    what all of them open: a version of the registry, a log's users over its items
"""
