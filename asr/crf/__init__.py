"""CTC-CRF (Xiang and Ou 2019): lattice-free MMI over CTC's topology. Blank is 0."""

from asr.crf.loss import CtcCrf, check_size
from asr.crf.ngram import estimate_ngram, log_probability, perplexity
from asr.crf.paths import denominator

__all__ = ["CtcCrf", "check_size", "denominator", "estimate_ngram", "log_probability", "perplexity"]
