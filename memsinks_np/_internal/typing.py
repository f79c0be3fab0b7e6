"""Names for the types in annotations.

`Xp`, `Array` and `Cache` are Any on purpose: the same code runs on NumPy, CuPy and the tapes of
autograd and PyTorch, and no static type covers them all. Shapes are written in comments. Arrays
that always live on the host have NumPy's types.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Xp = Any  # an array namespace: numpy, cupy, autograd.numpy, ...
Array = Any  # an array of any namespace
Cache = Any  # what a forward saves for its backward
Params = dict[str, Array]  # parameters by name, or their gradients

Tokens = NDArray[np.int64]
Ids = NDArray[np.int64]
Losses = NDArray[np.floating[Any]]  # nats per token
Floats = NDArray[np.float64]
