"""Pure functions from predictions to metrics, each with its definition and its policy for edge cases.

``table`` holds a row for each metric and is the place to begin; ``summary`` takes all of them for a test set.
``segmentation`` and ``regions`` take masks; ``classification``, ``roc`` and ``calibration`` take
labels and probabilities; ``intervals`` says how sure a metric is, ``paired`` and ``seeds`` compare models.
``hessian`` looks at the network itself and is the only one to need torch. Nothing here reads files or draws.

Two rules hold everywhere. A metric that is not defined for the data at hand is ``None``, never NaN and
never a made-up 0 or 1. A case never vanishes from a mean without being counted.
"""
