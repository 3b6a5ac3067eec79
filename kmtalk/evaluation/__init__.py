"""Research tools: alignment of corpora, evaluation, and reproduction of the paper's tables."""
