"""What researchers do with corpora: align, score, compare with the paper."""
