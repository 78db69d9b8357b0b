"""What a run's label says."""

from __future__ import annotations

from dataclasses import dataclass

from sttp_riemann.lab.training.recipe import LETTERS

FRAMES = ("riemannian", "householder")
RANK = "-rank"
SPECTRA = (*(letter.lower() for letter in LETTERS), "other")


@dataclass(frozen=True)
class Variant:
    """A label taken apart; see `Recipe.label`.

    Attributes
    ----------
    method : str
        ``dense``, ``sn``, ``sr``, ``svdp`` or ``sttp``.
    letter : str
        Spectrum of a GAN's discriminator, ``c``, ``l``, ``r`` or ``other``; empty where the label says nothing of it.
    frames : str
        Empty for a method that has none.
    rank : str
        Empty where the label says nothing of it: only one is then compared.
    """

    method: str
    letter: str = ""
    frames: str = ""
    rank: str = ""

    @classmethod
    def of(cls, label: str) -> Variant:
        """Take apart a label such as ``sttp-r-riemannian-rank8``."""
        name, _, rank = label.partition(RANK)
        method, *rest = name.split("-")
        return cls(
            method,
            letter=next((part for part in rest if part in SPECTRA), ""),
            frames=next((part for part in rest if part in FRAMES), ""),
            rank=rank,
        )

    @property
    def curve(self) -> str:
        """Label without the rank: the same for all variants that differ in nothing else."""
        return "-".join(part for part in (self.method, self.letter, self.frames) if part)

    @property
    def title(self) -> str:
        """Name for a reader: ``STTP-R riemannian r=8``."""
        if self.method == "dense":
            return self.method
        name = "-".join(part for part in (self.method, self.letter) if part).upper()
        return " ".join(part for part in (name, self.frames, f"r={self.rank}" if self.rank else "") if part)

    @property
    def paper_name(self) -> str:
        """Name that the paper has for it, whatever its frames: ``STTP-C``, ``SN``; with its rank, ``STTP-R r=32``."""
        return Variant(self.method, self.letter, rank=self.rank).title


def title(label: str) -> str:
    """Name of a variant for a reader: ``sttp-riemannian`` becomes ``STTP riemannian``."""
    return Variant.of(label).title
