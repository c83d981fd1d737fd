"""Pure functions from predictions to figures, each with its definition and its policy for edge cases.

``segmentation``, ``surface`` and ``detection`` take masks; ``classification``, ``curves`` and ``calibration``
take labels and probabilities; ``bootstrap``, ``intervals``, ``delong``, ``paired`` and ``seeds`` (all
gathered in ``statistics``) say how sure a figure is; ``summary`` does it all for a whole test set.
``sharpness``, ``landscape`` and ``objective`` look at the network itself and are the only ones to need torch.
Nothing here reads files or draws.

Two rules hold everywhere. A figure that is not defined for the data at hand is ``None``, never NaN and never
a made-up 0 or 1. A case never vanishes from a mean without being counted.
"""
