"""What published rows determine: the targets in their span, modulo a prime, found on the reduced system."""

from __future__ import annotations

import numpy as np

from broker.core.disclosure.component import touched
from broker.core.disclosure.problem import Rows
from broker.core.disclosure.reduction import Reduced
from broker.core.disclosure.secondary import spanned
from broker.core.disclosure.table import BoolArray


def determined(left: Reduced, targets: Rows, prime: int) -> BoolArray:
    """Per target. left: the published rows, reduced; prime: below 2^31; see `secondary` for what it can get
    wrong."""
    undetermined = np.zeros(targets.shape[0], dtype=bool)
    for component, here, parts in touched(left.components, targets):
        if not undetermined[here].all():
            undetermined[here] |= ~spanned(component.dense() % prime, parts % prime, prime)
    return ~undetermined
