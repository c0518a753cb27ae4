"""Flow matching: a bijection along the straight paths from noise to codes (Lipman et al. 2023).

A velocity field v moves points from z0 at time 0 to z at time 1:

    d x_t / dt = v(x_t, t),    log|det dz/dz0| = integral over t of tr(dv/dx)(x_t, t)

It learns by regression, without integrating anything. With z0 ~ N(0, I), a code z, t uniform and
x_t = (1 - t) z0 + t z, the minimum of E |v(x_t, t) - (z - z0)|^2 moves N(0, I) to q(z).
"""

import math
from typing import cast, final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from dpvae_cli.foundation.randomness import normal_noise, stream, uniform_noise
from dpvae_cli.foundation.shapes import Codes, PerExample
from dpvae_cli.mathematics.coupling import Bijection, overflow_to_infinity

EXACT_DIMENSIONS = 64
"""Up to this L the trace of the Jacobian is exact, above it is Hutchinson's estimate."""
PROBES = 32
"""Directions of Hutchinson's estimate, the same for every code."""
FREQUENCIES = 4
"""Pairs of sine and cosine that time is embedded in."""
IN_CACHE = 2**18
"""Numbers of a hidden layer that a core works on at a time where no gradient is wanted."""


@final
class VelocityField(nn.Module):
    """v(x, t): a residual network; time enters each block through sines and cosines.

    Its last layer is zero at first, so points stay where they are and p(z) = N(0, I).
    """

    frequencies: Tensor

    def __init__(self, latent_dim: int, *, hidden: int, blocks: int, context: int = 0) -> None:
        super().__init__()
        self.register_buffer(
            "frequencies", math.pi / 2 * torch.arange(1.0, FREQUENCIES + 1), persistent=False
        )
        self.enter = nn.Linear(latent_dim, hidden)
        entries = 2 * FREQUENCIES + context
        self.times = nn.ModuleList(nn.Linear(entries, hidden) for _ in range(blocks))
        self.first = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(blocks))
        self.second = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(blocks))
        self.leave = nn.Linear(hidden, latent_dim)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, x: Codes, t: Tensor, context: Tensor | None = None) -> Codes:
        """Return the velocities at a time for each row, `(batch,)`, or for all, `()`."""
        embedded, hidden = self._embed(t, context), self.enter(x)
        for time, first, second in self._blocks():
            inner = first(torch.tanh(hidden)) + time(embedded)
            hidden = hidden + second(torch.tanh(inner))
        velocity: Tensor = self.leave(torch.tanh(hidden))
        return velocity

    def with_quadratic_forms(
        self,
        x: Codes,
        t: Tensor,
        directions: Float[Tensor, "directions latent"],
        context: Tensor | None = None,
    ) -> tuple[Codes, Float[Tensor, "directions batch"]]:
        """Return the velocities v, and u^T (dv/dx) u of each direction u.

        The derivatives along the directions go through the layers beside the values.
        """
        embedded, hidden = self._embed(t, context), self.enter(x)
        change = functional.linear(directions, self.enter.weight).unsqueeze(1)
        for time, first, second in self._blocks():
            active, inner_change = _tanh(hidden, change)
            active, inner_change = _tanh(
                first(active) + time(embedded), functional.linear(inner_change, first.weight)
            )
            hidden = hidden + second(active)
            change = change + functional.linear(inner_change, second.weight)
        active, change = _tanh(hidden, change)
        weights = directions @ self.leave.weight
        return self.leave(active), torch.einsum("dbh,dh->db", change, weights)

    def _blocks(self) -> list[tuple[nn.Linear, nn.Linear, nn.Linear]]:
        """Return the layer that time enters by and the two others, of each block."""
        layers = (cast("list[nn.Linear]", part) for part in (self.times, self.first, self.second))
        return list(zip(*layers, strict=True))

    def _embed(self, t: Tensor, context: Tensor | None) -> Tensor:
        angles = t.unsqueeze(-1) * self.frequencies
        given = [] if context is None else [context]
        return torch.cat([angles.sin(), angles.cos(), *given], dim=-1)


def _tanh(value: Tensor, change: Tensor) -> tuple[Tensor, Tensor]:
    """Return the tanh of a value and its change, where the value's is given."""
    active = torch.tanh(value)
    return active, (1 - active.square()) * change


@final
class VelocityFlow(Bijection):
    """z0 = g(z): the velocity field followed from z at time 1 back to z0 at time 0.

    Both ways take the same number of Runge-Kutta steps of order four, so they invert each other up
    to the error of the integration, O(steps^-4). Where the trace is estimated
    (`EXACT_DIMENSIONS`), the probes are the same for every code and call: log|det| is a
    deterministic function, whose mean over probes is the exact one, and `log_det_error` tells
    how far off it may be.

    Source: Lipman et al. 2023, equations (20)-(23) with sigma_min = 0; Hutchinson's estimate of
    the trace as in Grathwohl et al. 2019, section 3.1.

    Args:
        latent_dim: L.
        hidden: width of the network.
        blocks: residual blocks of two layers.
        steps: of the integration.
        context: entries of what g is given, if anything.

    Example:
        >>> import torch
        >>> g = VelocityFlow(2, hidden=64, blocks=2, steps=16)
        >>> z0, log_abs_det = g.forward(torch.randn(5, 2))
    """

    directions: Tensor

    def __init__(
        self, latent_dim: int, *, hidden: int, blocks: int, steps: int, context: int = 0
    ) -> None:
        super().__init__()
        self.velocity = VelocityField(latent_dim, hidden=hidden, blocks=blocks, context=context)
        self.steps = steps
        self.is_exact = latent_dim <= EXACT_DIMENSIONS
        directions = torch.eye(latent_dim)
        if not self.is_exact:
            signs = torch.randint(
                2, (PROBES, latent_dim), generator=stream(0, "flow matching", "probes")
            )
            directions = 2.0 * signs - 1.0
        self.register_buffer("directions", directions, persistent=False)
        self._chunk_rows = max(1, IN_CACHE // (hidden * len(directions)))

    def forward(self, z: Codes) -> tuple[Codes, PerExample]:
        """Return z0 = g(z) and log|det dz0/dz| in nats, `(batch,)`."""
        z0, traces = self._follow(z, start=1.0, end=0.0)
        return overflow_to_infinity(self, z, z0, self._log_det(traces))

    def inverse(self, z0: Codes) -> tuple[Codes, PerExample]:
        """Return z = g^-1(z0) and log|det dz/dz0| in nats, `(batch,)`."""
        z, traces = self._follow(z0, start=0.0, end=1.0)
        return z, self._log_det(traces)

    def points(self, z0: Codes) -> Codes:
        """Return z = g^-1(z0) alone, which costs a fraction of `inverse`."""
        return self._follow(z0, start=0.0, end=1.0, with_traces=False)[0]

    def matching_loss(self, z: Codes, *, generator: torch.Generator | None = None) -> PerExample:
        """Return |v(x_t, t) - (z - z0)|^2 at a random time and a random z0 for each code."""
        z0 = normal_noise(*z.shape, like=z, generator=generator)
        uniform = uniform_noise(len(z), like=z, generator=generator)
        # one time in each of as many equal intervals as there are codes: less noise, no bias
        t = (torch.arange(len(z), device=z.device) + uniform) / len(z)
        x = torch.lerp(z0, z, t.unsqueeze(1))
        error: Tensor = self.velocity(x, t, self.context) - (z - z0)
        return error.square().sum(dim=1)

    @torch.no_grad()
    def log_det_error(self, z0: Codes) -> PerExample:
        """Return the standard error of each log|det dz/dz0|, over probes; zero where exact."""
        if self.is_exact:
            return z0.new_zeros(len(z0))
        traces = self._follow(z0, start=0.0, end=1.0)[1]
        return traces.std(dim=0) / math.sqrt(len(traces))

    def _log_det(self, traces: Float[Tensor, "directions batch"]) -> PerExample:
        return traces.sum(dim=0) if self.is_exact else traces.mean(dim=0)

    def _follow(
        self, x: Codes, *, start: float, end: float, with_traces: bool = True
    ) -> tuple[Codes, Float[Tensor, "directions batch"]]:
        """Return where points end, and of each direction u the integral of u^T (dv/dx) u."""
        directions = self.directions if with_traces else self.directions[:0]
        rates = Rates(self.velocity, directions, self.context)
        step = RungeKuttaStep(rates, (end - start) / self.steps)

        def follow(x: Codes) -> tuple[Codes, Tensor]:
            traces = x.new_zeros(len(directions), x.shape[0])
            return step.repeat(x, traces, start=start, steps=self.steps)

        if torch.is_grad_enabled() or torch.compiler.is_exporting():
            return follow(x)  # an exported graph takes batches of any size
        rows = self._chunk_rows * torch.get_num_threads()
        if x.device.type != "cpu" or len(x) <= rows:
            return follow(x)
        points, traces = zip(*map(follow, x.split(rows)), strict=True)
        return torch.cat(points), torch.cat(traces, dim=1)


@final
class Rates(nn.Module):
    """v, and u^T (dv/dx) u of each direction u, if there is one."""

    directions: Tensor
    context: Tensor | None

    def __init__(
        self,
        velocity: VelocityField,
        directions: Float[Tensor, "directions latent"],
        context: Tensor | None,
    ) -> None:
        super().__init__()
        self.velocity = velocity
        self.register_buffer("directions", directions)
        self.register_buffer("context", context)

    def forward(self, x: Codes, t: Tensor) -> tuple[Codes, Float[Tensor, "directions batch"]]:
        """Return both, at a time for all rows."""
        if len(self.directions):
            return self.velocity.with_quadratic_forms(x, t, self.directions, self.context)
        return self.velocity(x, t, self.context), x.new_zeros(0, x.shape[0])


@final
class RungeKuttaStep(nn.Module):
    """A step of dx/dt and dy/dt = rates(x, t), by the classical method of order four."""

    def __init__(self, rates: nn.Module, size: float) -> None:
        super().__init__()
        self.rates, self.size = rates, size

    def forward(self, x: Codes, y: Tensor, times: Float[Tensor, "3"]) -> tuple[Codes, Tensor]:
        """Return x and y after the step; times are those of its begin, middle and end."""
        step = self.size
        k1, y1 = self.rates(x, times[0])
        k2, y2 = self.rates(x + step / 2 * k1, times[1])
        k3, y3 = self.rates(x + step / 2 * k2, times[1])
        k4, y4 = self.rates(x + step * k3, times[2])
        x = x + step / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        return x, y + step / 6 * (y1 + 2 * y2 + 2 * y3 + y4)

    def repeat(self, x: Codes, y: Tensor, *, start: float, steps: int) -> tuple[Codes, Tensor]:
        """Return x and y after some steps from a time.

        An exported graph has one step, which it repeats: to write them all takes minutes.
        """
        begins = [start + index * self.size for index in range(steps)]
        times = x.new_tensor([[t, t + self.size / 2, t + self.size] for t in begins])
        if not torch.compiler.is_exporting():
            for row in times:
                x, y = self(x, y, row)
            return x, y
        names, tensors = zip(*self.named_parameters(), *self.named_buffers(), strict=True)

        def step(x: Codes, y: Tensor, times: Tensor, *tensors: Tensor) -> tuple[Codes, Tensor]:
            state = dict(zip(names, tensors, strict=True))
            end: tuple[Codes, Tensor] = functional_call(self, state, (x, y, times))
            return end

        x, y = torch.ops.higher_order.scan(step, [x, y], [times], tensors)
        return x, y
