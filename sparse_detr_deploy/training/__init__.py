"""Training after the paper: losses, saliency from the decoder's attention, a data set, a small trainer. Extra ``train``."""
