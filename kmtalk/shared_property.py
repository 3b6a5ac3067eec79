"""Properties that are computed once, also where several threads ask for them at the same time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, Self, TypeVar, overload

T = TypeVar("T")


class shared_property(Generic[T]):  # noqa: N801 (named as a function, like `functools.cached_property`)
    """A property that is computed on first use and kept; `functools.cached_property` computes it in every thread that
    asks before the first is done. The object holds a `threading.RLock` as `_loading`."""

    def __init__(self, load: Callable[[Any], T]) -> None:
        self._load = load
        self._name = load.__name__
        self.__doc__ = load.__doc__

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...

    @overload
    def __get__(self, instance: object, owner: type) -> T: ...

    def __get__(self, instance: Any, owner: type) -> Any:
        if instance is None:
            return self
        with instance._loading:
            if self._name not in instance.__dict__:
                instance.__dict__[self._name] = self._load(instance)  # which from now on is found before this property
        return instance.__dict__[self._name]
