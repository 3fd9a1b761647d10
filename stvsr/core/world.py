"""World: who this process is among its peers, as a value."""

from dataclasses import dataclass


@dataclass(frozen=True)
class World:
    """One process's place in a run: passed in, never looked up.

    Attributes:
        rank: index of this process, 0 <= rank < size.
        size: number of processes.
        local_rank: index of this process on its machine.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.size:
            raise ValueError(f"rank {self.rank} is outside 0..{self.size - 1}")

    @property
    def is_main(self) -> bool:
        """True if this process speaks for the run (logs, saves, reports)."""
        return self.rank == 0
