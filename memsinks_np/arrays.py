"""What annotations call things, each by one short name.

`Xp`, `Array` and `Cache` are Any on purpose: the same line runs on NumPy, on CuPy and on the tapes of autograd and
PyTorch (witnesses.py), and no type covers them all.  What matters about an array is its shape, which no type knows
either: it stands in a comment.  Arrays that are always on the host have NumPy's own types.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Xp = Any  # a namespace: numpy, cupy, autograd.numpy, ...
Array = Any  # an array of any namespace
Cache = Any  # what a forward leaves for its backward
Params = dict[str, Array]  # parameters by name, or their gradients

Tokens = NDArray[np.int64]
Losses = NDArray[np.floating[Any]]  # nats per word
Floats = NDArray[np.float64]  # measures of them
