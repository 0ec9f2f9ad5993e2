"""Stands in for the vocoder pyworld."""

from types import ModuleType

import numpy as np
import numpy.typing as npt


class World(ModuleType):
    """Keeps the pitches it is asked for; what sounds is the level of the envelope, held, so that timing can be seen."""

    def __init__(self) -> None:
        super().__init__("pyworld")
        self.asked: list[npt.NDArray[np.float64]] = []

    def synthesize(
        self,
        pitch: npt.NDArray[np.float64],
        envelope: npt.NDArray[np.float64],
        noise: npt.NDArray[np.float64],
        rate: int,
        period: float,
    ) -> npt.NDArray[np.float64]:
        assert envelope.flags.c_contiguous
        assert noise.flags.c_contiguous
        assert len(pitch) == len(envelope) == len(noise)
        self.asked.append(pitch)
        return np.repeat(envelope[:, 0], int(rate * period / 1000))
