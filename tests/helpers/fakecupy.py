"""A mock of CuPy that raises where CuPy would, for machines without a GPU.

Arrays do not convert to NumPy arrays implicitly and do not mix with them. Reductions return 0-d
arrays. An index out of range wraps around silently, as on a device. There are no random numbers.
"""

import operator

import numpy as np


class ndarray:
    """A device array."""

    __array_priority__ = 100
    __hash__ = None

    def __init__(self, a):
        self._a = np.asarray(a)

    def __array__(self, *args, **kwargs):
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`.")

    def __array_ufunc__(self, ufunc, method, *args, **kwargs):
        return NotImplemented

    def __array_function__(self, *args, **kwargs):
        return NotImplemented

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        value = getattr(self._a, name)
        return wrap_call(value) if callable(value) else wrap(value)

    def __getitem__(self, key):
        return ndarray(self._a[wrap_index(unwrap(key), self._a)])

    def __setitem__(self, key, value):
        self._a[wrap_index(unwrap(key), self._a)] = unwrap(value)

    def __len__(self):
        return len(self._a)

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def __float__(self):
        return float(self._a)

    def __bool__(self):
        return bool(self._a)


def unwrap(x):
    if isinstance(x, ndarray):
        return x._a
    if isinstance(x, np.ndarray | np.generic):
        raise TypeError(f"Unsupported type {type(x)}: a host array reached the device")
    if isinstance(x, tuple | list):
        return type(x)(unwrap(v) for v in x)
    return x


def wrap(x):
    if isinstance(x, np.ndarray | np.generic):
        return ndarray(x)
    if isinstance(x, tuple) and any(isinstance(v, np.ndarray) for v in x):
        return tuple(wrap(v) for v in x)
    return x


def wrap_index(key, a):
    """Wrap an index around: CuPy does not check whether it is in range."""
    is_index = isinstance(key, np.ndarray) and key.dtype.kind in "iu"
    return key % len(a) if is_index and len(a) else key


def wrap_call(f):
    return lambda *args, **kwargs: wrap(
        f(*unwrap(args), **{k: unwrap(v) for k, v in kwargs.items()})
    )


def _operator(name, swapped=False):
    f = getattr(operator, name)
    if swapped:
        return lambda self, other: wrap(f(unwrap(other), self._a))
    return lambda self, other: wrap(f(self._a, unwrap(other)))


def _in_place(name):
    f = getattr(operator, "i" + name)

    def op(self, other):
        before = self._a
        self._a = f(self._a, unwrap(other))
        assert self._a is before or before.ndim == 0
        return self

    return op


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul"):
    setattr(ndarray, f"__{_name}__", _operator(_name))
    setattr(ndarray, f"__r{_name}__", _operator(_name, swapped=True))
    setattr(ndarray, f"__i{_name}__", _in_place(_name))
for _name in ("lt", "le", "gt", "ge", "eq", "ne"):
    setattr(ndarray, f"__{_name}__", _operator(_name))
ndarray.__neg__ = lambda self: wrap(-self._a)


class _Add:
    """cupy.add and its unbuffered `at`."""

    def __call__(self, x, y):
        return wrap(np.add(unwrap(x), unwrap(y)))

    def at(self, a, index, values):
        np.add.at(unwrap(a), unwrap(index), unwrap(values))


add = _Add()


def asarray(x, dtype=None):
    return ndarray(np.array(x._a if isinstance(x, ndarray) else x, dtype=dtype))


def asnumpy(x):
    return x._a.copy()


def is_available():
    return True


def __getattr__(name):
    if name in ("random", "load", "save") or name.startswith("__"):
        raise AttributeError(f"module fakecupy has no {name}: draw on the host, then asarray()")
    value = getattr(np, name)
    return wrap_call(value) if callable(value) and not isinstance(value, type) else value
