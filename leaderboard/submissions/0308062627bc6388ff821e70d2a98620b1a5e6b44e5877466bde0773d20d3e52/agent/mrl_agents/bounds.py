"""Types of settings with their bounds. The harness refuses a Config with a value outside of them."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Gt, Interval, MinLen

Count = Annotated[int, Ge(1)]
Steps = Annotated[int, Ge(0)]  # 0 leaves them out
Bins = Annotated[int, Ge(2)]
Width = Annotated[int, Interval(ge=1, le=2**14)]  # of a layer
Widths = tuple[Width, ...]  # of hidden layers; () makes the network linear
Lengths = Annotated[tuple[Count, ...], MinLen(1)]
Rate = Annotated[float, Interval(gt=0, le=10)]  # a learning rate
Share = Annotated[float, Interval(ge=0, le=1)]  # a probability, or a factor such as gamma
Part = Annotated[float, Interval(gt=0, le=1)]  # a share that is not 0
Positive = Annotated[float, Gt(0)]
Weight = Annotated[float, Ge(0)]
MIN_STD, MAX_STD = 0.05, 2.7  # of actions, in a setting and in what is learned
ActionStd = Annotated[float, Interval(ge=MIN_STD, le=MAX_STD)]
