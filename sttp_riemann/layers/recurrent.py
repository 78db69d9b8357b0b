"""torch's recurrent layers and cells, which keep two or three matrices a layer, each in a parameter of its own."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from typing_extensions import override

from sttp_riemann.layers.split import Pieces, Split


class SplitRecurrent(Split):
    """Recurrent layer with a layer for each matrix: ``ih_l0`` for ``weight_ih_l0``, and so on.

    The matrix of a parameter has the rows of all gates.
    """

    _flat_weights_names: list[str]
    hidden_size: int

    @classmethod
    @override
    def pieces_of(cls, module: nn.Module) -> Pieces:
        return {name: (name.removeprefix("weight_"),) for name in module._parameters if name.startswith("weight_")}

    @classmethod
    @override
    def adopt(cls, module: Any, parts: dict[str, nn.Module]) -> None:
        super().adopt(module, parts)
        for name in ("_flat_weights", "_flat_weight_refs"):
            module.__dict__.pop(name, None)

    @override
    def release(self) -> None:
        super().release()
        names = getattr(self, "_flat_weights_names", None)
        if names is not None:
            for name in names:
                self._parameters[name] = self._parameters.pop(name)
            self._init_flat_weights()

    @property
    def _flat_weights(self) -> list[Tensor]:
        return [getattr(self, name) for name in self._flat_weights_names]

    def _init_flat_weights(self) -> None:
        """Nothing: the weights of layers are read anew in each call."""

    _update_flat_weights = flatten_parameters = _init_flat_weights

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__.copy()

    def __setstate__(self, state: dict[str, Any]) -> None:
        nn.Module.__setstate__(self, state)

    def reset_parameters(self) -> None:
        """Draw cores and biases anew."""
        for name in self.pieces:
            for layer in self.layers(name):
                layer.reset_parameters()
        for bias in self._parameters.values():
            if bias is not None:
                nn.init.uniform_(bias, -(self.hidden_size**-0.5), self.hidden_size**-0.5)


class SplitRNN(SplitRecurrent, nn.RNN):  # type: ignore[override, misc]
    """RNN with a layer for each matrix."""

    ordinary = nn.RNN


class SplitLSTM(SplitRecurrent, nn.LSTM):  # type: ignore[override, misc]
    """LSTM with a layer for each matrix."""

    ordinary = nn.LSTM


class SplitGRU(SplitRecurrent, nn.GRU):  # type: ignore[override, misc]
    """GRU with a layer for each matrix."""

    ordinary = nn.GRU


class SplitRNNCell(SplitRecurrent, nn.RNNCell):  # type: ignore[override, misc]
    """RNNCell with a layer for each matrix."""

    ordinary = nn.RNNCell


class SplitLSTMCell(SplitRecurrent, nn.LSTMCell):  # type: ignore[override, misc]
    """LSTMCell with a layer for each matrix."""

    ordinary = nn.LSTMCell


class SplitGRUCell(SplitRecurrent, nn.GRUCell):  # type: ignore[override, misc]
    """GRUCell with a layer for each matrix."""

    ordinary = nn.GRUCell


RECURRENT: tuple[type[SplitRecurrent], ...] = (SplitRNN, SplitLSTM, SplitGRU, SplitRNNCell, SplitLSTMCell, SplitGRUCell)
