"""Cards whose numbers follow no rule, as a vendor lists them: ICCID and IMSI card by card.

Arrays, no object a card: some 36 bytes each.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Int64s = npt.NDArray[np.int64]


class CardList:
    """Cards by ICCID and by IMSI; no two have either in common, which the caller sees to."""

    def __init__(
        self, iccids: Sequence[str] = (), imsis: Sequence[int] = (), skus: Sequence[str] = ()
    ) -> None:
        numbers = np.array(imsis, np.int64)
        order = np.argsort(numbers)
        #: Ascending.
        self.imsis: Int64s = numbers[order]
        self._names, sku = np.unique(np.array(skus, np.str_), return_inverse=True)
        self._sku = sku.astype(np.int16 if len(self._names) < 2**15 else np.int32)[order]
        self._iccid = np.array(iccids, "S22")[order]
        self._by_iccid = np.argsort(self._iccid).astype(np.int32)

    def __len__(self) -> int:
        return len(self.imsis)

    @property
    def nbytes(self) -> int:
        """Bytes that the cards take."""
        arrays = (self.imsis, self._sku, self._iccid, self._by_iccid)
        return sum(array.nbytes for array in arrays)

    def imsi_of(self, iccid: str) -> int | None:
        """The IMSI of a card; None if it is not listed."""
        wanted = np.bytes_(iccid.encode())
        place = int(np.searchsorted(self._iccid, wanted, sorter=self._by_iccid))
        if place == len(self) or self._iccid[self._by_iccid[place]] != wanted:
            return None
        return int(self.imsis[self._by_iccid[place]])

    def card(self, imsi: int) -> tuple[str, str] | None:
        """The ICCID and the SKU of a listed IMSI; None for any other."""
        place = int(np.searchsorted(self.imsis, imsi))
        if place == len(self) or self.imsis[place] != imsi:
            return None
        return self._iccid[place].decode(), str(self._names[self._sku[place]])

    def listed(self, imsis: Int64s) -> npt.NDArray[np.bool_]:
        """Which IMSIs are listed; same shape."""
        if not len(self):
            return np.zeros(len(imsis), bool)
        places = np.minimum(np.searchsorted(self.imsis, imsis), len(self) - 1)
        found: npt.NDArray[np.bool_] = self.imsis[places] == imsis
        return found
