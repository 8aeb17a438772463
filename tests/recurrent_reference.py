"""Recurrent cells in NumPy: one step after the other, forward and backpropagation through time, as the equations have them.

Nothing is shared with the package. A layer is a dict of float64 arrays under torch's names: ``weight_ih`` (rows, input),
``weight_hh`` (rows, hidden), ``bias_ih`` and ``bias_hh`` (rows,), or ``bias``, and ``weight_peephole`` (3, hidden).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import numpy as np

Array = np.ndarray
Layer = dict[str, Array]


@dataclass
class Step:
    """What one step remembers for the way back."""

    x: Array
    h: Array
    c: Array
    values: dict[str, Array] = field(default_factory=dict)


def sigmoid(x: Array) -> Array:
    return 1.0 / (1.0 + np.exp(-x))


class Reference(ABC):
    """One cell: a step forward, and the same step backward."""

    has_cell_state = False

    def __init__(self, layer: Layer) -> None:
        self.layer = layer
        self.size = layer["weight_hh"].shape[1]

    @abstractmethod
    def step(self, x: Array, h: Array, c: Array) -> tuple[Array, Array, dict[str, Array]]:
        """Return the next h and c, and the values that the way back needs."""

    @abstractmethod
    def back(self, step: Step, dh: Array, dc: Array, gradients: Layer) -> tuple[Array, Array, Array]:
        """Return the gradients of the step's input, of h and of c before it, and add to those of the weights."""

    def run(self, x: Array, h: Array, c: Array) -> tuple[Array, Array, Array, list[Step]]:
        """Read ``(step, input)``; return ``(step, hidden)``, the final h and c, and what the way back needs."""
        outputs, steps = [], []
        for frame in x:
            step = Step(frame, h, c)
            h, c, step.values = self.step(frame, h, c)
            outputs.append(h)
            steps.append(step)
        return np.array(outputs).reshape(len(x), self.size), h, c, steps

    def run_back(self, steps: list[Step], d_outputs: Array, dh: Array, dc: Array) -> tuple[Array, Array, Array, Layer]:
        """Return the gradients of the inputs, of the first h and c, and of the weights."""
        gradients = {name: np.zeros_like(value) for name, value in self.layer.items()}
        d_inputs = []
        for step, d_output in zip(reversed(steps), reversed(d_outputs), strict=True):
            dx, dh, dc = self.back(step, dh + d_output, dc, gradients)
            d_inputs.append(dx)
        return np.array(d_inputs[::-1]), dh, dc, gradients

    def sums(self, x: Array, h: Array) -> list[Array]:
        """Return W x + U h + b, split into gates."""
        layer = self.layer
        total = layer["weight_ih"] @ x + layer["weight_hh"] @ h
        total = total + sum(value for name, value in layer.items() if name.startswith("bias"))
        return np.split(total, len(total) // self.size)

    def back_sums(self, step: Step, parts: list[Array], gradients: Layer) -> tuple[Array, Array]:
        """Return the gradients of x and h, given those of the gates' sums."""
        total = np.concatenate(parts)
        gradients["weight_ih"] += np.outer(total, step.x)
        gradients["weight_hh"] += np.outer(total, step.h)
        for name in gradients:
            if name.startswith("bias"):
                gradients[name] += total
        return self.layer["weight_ih"].T @ total, self.layer["weight_hh"].T @ total


class Tanh(Reference):
    def step(self, x: Array, h: Array, c: Array) -> tuple[Array, Array, dict[str, Array]]:
        h = np.tanh(self.sums(x, h)[0])
        return h, c, {"h": h}

    def back(self, step: Step, dh: Array, dc: Array, gradients: Layer) -> tuple[Array, Array, Array]:
        h = step.values["h"]
        return *self.back_sums(step, [dh * (1 - h**2)], gradients), dc


class Relu(Reference):
    def step(self, x: Array, h: Array, c: Array) -> tuple[Array, Array, dict[str, Array]]:
        h = np.maximum(self.sums(x, h)[0], 0.0)
        return h, c, {"h": h}

    def back(self, step: Step, dh: Array, dc: Array, gradients: Layer) -> tuple[Array, Array, Array]:
        return *self.back_sums(step, [dh * (step.values["h"] > 0)], gradients), dc


class Lstm(Reference):
    has_cell_state = True

    def step(self, x: Array, h: Array, c: Array) -> tuple[Array, Array, dict[str, Array]]:
        i, f, g, o = self.sums(x, h)
        i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
        c = f * c + i * g
        return o * np.tanh(c), c, {"i": i, "f": f, "g": g, "o": o, "c": c}

    def back(self, step: Step, dh: Array, dc: Array, gradients: Layer) -> tuple[Array, Array, Array]:
        i, f, g, o, c = (step.values[name] for name in "ifgoc")
        dc = dc + dh * o * (1 - np.tanh(c) ** 2)
        d_i = dc * g * i * (1 - i)
        d_f = dc * step.c * f * (1 - f)
        d_g = dc * i * (1 - g**2)
        d_o = dh * np.tanh(c) * o * (1 - o)
        return *self.back_sums(step, [d_i, d_f, d_g, d_o], gradients), dc * f


class Peephole(Reference):
    has_cell_state = True

    def step(self, x: Array, h: Array, c: Array) -> tuple[Array, Array, dict[str, Array]]:
        p_i, p_f, p_o = self.layer["weight_peephole"]
        i, f, g, o = self.sums(x, h)
        i, f, g = sigmoid(i + p_i * c), sigmoid(f + p_f * c), np.tanh(g)
        c = f * c + i * g
        o = sigmoid(o + p_o * c)
        return o * np.tanh(c), c, {"i": i, "f": f, "g": g, "o": o, "c": c}

    def back(self, step: Step, dh: Array, dc: Array, gradients: Layer) -> tuple[Array, Array, Array]:
        p_i, p_f, p_o = self.layer["weight_peephole"]
        i, f, g, o, c = (step.values[name] for name in "ifgoc")
        d_o = dh * np.tanh(c) * o * (1 - o)
        dc = dc + dh * o * (1 - np.tanh(c) ** 2) + d_o * p_o
        d_i = dc * g * i * (1 - i)
        d_f = dc * step.c * f * (1 - f)
        d_g = dc * i * (1 - g**2)
        gradients["weight_peephole"] += np.stack([d_i * step.c, d_f * step.c, d_o * c])
        dx, dh = self.back_sums(step, [d_i, d_f, d_g, d_o], gradients)
        return dx, dh, dc * f + d_i * p_i + d_f * p_f


class Coupled(Reference):
    has_cell_state = True

    def step(self, x: Array, h: Array, c: Array) -> tuple[Array, Array, dict[str, Array]]:
        f, o, g = self.sums(x, h)
        f, o, g = sigmoid(f), sigmoid(o), np.tanh(g)
        i = 1 - f
        c = f * c + i * g
        return o * np.tanh(c), c, {"i": i, "f": f, "g": g, "o": o, "c": c}

    def back(self, step: Step, dh: Array, dc: Array, gradients: Layer) -> tuple[Array, Array, Array]:
        i, f, g, o, c = (step.values[name] for name in "ifgoc")
        dc = dc + dh * o * (1 - np.tanh(c) ** 2)
        d_f = dc * (step.c - g) * f * (1 - f)
        d_g = dc * i * (1 - g**2)
        d_o = dh * np.tanh(c) * o * (1 - o)
        return *self.back_sums(step, [d_f, d_o, d_g], gradients), dc * f


class Gru(Reference):
    def step(self, x: Array, h: Array, c: Array) -> tuple[Array, Array, dict[str, Array]]:
        layer = self.layer
        x_r, x_z, x_n = np.split(layer["weight_ih"] @ x + layer["bias_ih"], 3)
        h_r, h_z, h_n = np.split(layer["weight_hh"] @ h + layer["bias_hh"], 3)
        r, z = sigmoid(x_r + h_r), sigmoid(x_z + h_z)
        n = np.tanh(x_n + r * h_n)
        return (1 - z) * n + z * h, c, {"r": r, "z": z, "n": n, "h_n": h_n}

    def back(self, step: Step, dh: Array, dc: Array, gradients: Layer) -> tuple[Array, Array, Array]:
        r, z, n, h_n = (step.values[name] for name in ("r", "z", "n", "h_n"))
        d_n = dh * (1 - z) * (1 - n**2)
        d_r = d_n * h_n * r * (1 - r)
        d_z = dh * (step.h - n) * z * (1 - z)
        from_x, from_h = np.concatenate([d_r, d_z, d_n]), np.concatenate([d_r, d_z, d_n * r])
        gradients["weight_ih"] += np.outer(from_x, step.x)
        gradients["bias_ih"] += from_x
        gradients["weight_hh"] += np.outer(from_h, step.h)
        gradients["bias_hh"] += from_h
        return self.layer["weight_ih"].T @ from_x, self.layer["weight_hh"].T @ from_h + dh * z, dc


REFERENCES: dict[str, type[Reference]] = {
    "rnn-tanh": Tanh,
    "rnn-relu": Relu,
    "lstm": Lstm,
    "gru": Gru,
    "peephole_lstm": Peephole,
    "coupled_lstm": Coupled,
}
