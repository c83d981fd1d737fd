"""Pure functions from predictions to figures, each with its definition and its policy for edge cases.

``segmentation``, ``surface`` and ``detection`` take masks; ``classification``, ``curves`` and ``calibration``
take labels and probabilities; ``bootstrap``, ``intervals``, ``delong``, ``paired`` and ``seeds`` (all
gathered in ``statistics``) say how sure a figure is. Nothing here reads files, draws, or imports torch.

Two rules hold everywhere. A figure that is not defined for the data at hand is ``None``, never NaN and never
a made-up 0 or 1. A case never vanishes from a mean without being counted.
"""
