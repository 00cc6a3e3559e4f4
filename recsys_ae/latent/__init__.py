"""What autoencoders are for beside recommending: maps, denoising, generation, anomalies, content; one file for each.

All of it works on `Histories` and models; it knows nothing of files and ids.
"""
