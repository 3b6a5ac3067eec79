"""Training of the motion network.

Reading order: `config.py` (the YAML configuration), `data.py` and `tasks.py` (corpora to training examples),
`batches.py` (random crops and batches), `trainer.py` (the training loop).
"""
