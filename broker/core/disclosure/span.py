"""What published rows determine: the targets in their span, modulo a prime, found on the reduced system."""

from __future__ import annotations

import numpy as np

from broker.core.disclosure.attackers import int_rows
from broker.core.disclosure.problem import Rows
from broker.core.disclosure.reduction import reduced
from broker.core.disclosure.secondary import spanned
from broker.core.disclosure.table import BoolArray


def determined(published: Rows, targets: Rows, prime: int) -> BoolArray:
    """Per target. See `secondary` for what a prime can get wrong. prime: below 2^31."""
    left = reduced(published, np.zeros(published.shape[0], dtype=np.int64))
    columns = int_rows(targets.T)
    undetermined = np.zeros(targets.shape[0], dtype=bool)
    for component in left.components:
        here = int_rows(int_rows(columns[component.atoms]).T)
        touched = np.flatnonzero(np.diff(here.indptr))
        touched = touched[~undetermined[touched]]
        if len(touched):
            rows, parts = component.rows.toarray() % prime, here[touched].toarray() % prime
            undetermined[touched] |= ~spanned(rows, parts, prime)
    return ~undetermined
