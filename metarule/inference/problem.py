"""Fits of a rule to recordings, and their likelihood on animals that were not fitted."""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Float

from metarule.analysis.ablation import term_names
from metarule.meta.curvature import Curvature
from metarule.meta.fits import Settings, Start, fit_all, floors, start_point, unflatten
from metarule.meta.gauss_newton import GaussNewton
from metarule.meta.levenberg import Iterate, Point, variances
from metarule.parallel.batching import bytes_of
from metarule.prng import run_key
from metarule.recordings.likelihood import GAUSSIAN
from metarule.recordings.tasks import RecordedTask
from metarule.rules.mlp import MLP
from metarule.types import Split, Theta

__all__ = ["Fitted", "Problem", "fresh_state", "log_likelihood", "make_problem"]

# Directions of fits that are tried side by side, in steps; each number of directions is a program of its own.
_STEP = 8
# Bytes of the networks and tangents of fits that are computed at once, and the most fits: all of them take as long as
# the longest, and idle ones end soon.
_BYTES = 2**24
_MOST_AT_ONCE = 16
# Bytes of the curvatures of all fits of a program.
_CURVATURES = 2**29


class Fitted(NamedTuple):
    """A fit to the fitted animals, and what it says about all animals.

    Attributes:
        iterate: the last state of the fit; only its best point counts.
        directions: directions of the shared unknowns in which it moved [directions, shared].
        variance: of the noise by kind, with the degrees of freedom of the fit.
        log_likelihood: of each animal, whose own unknowns are integrated out [animals].
        parameters: number of fitted numbers, those of the noise included, but not those of single animals.
    """

    iterate: Iterate
    directions: Float[np.ndarray, "directions shared"]
    variance: Float[np.ndarray, " kinds"]
    log_likelihood: Float[np.ndarray, " animals"]
    parameters: int

    @property
    def shared(self) -> Float[np.ndarray, " shared"]:
        """θ and the unknowns that all animals share, as one vector."""
        return np.asarray(self.iterate.point.shared)


class Problem(NamedTuple):
    """Recordings, and a learner that is to do the same.

    Attributes:
        learner: the learner.
        animals: all animals, first those that are fitted.
        is_fitted: true for these [animals].
        terms: names of the coefficients, the first entries of the shared unknowns; empty for an MLP.
        scale: parameter scale of θ [entries of θ].
        settings: of the fits.
        size: number of shared unknowns.
    """

    learner: Any
    animals: RecordedTask
    is_fitted: Any
    terms: tuple[str, ...]
    scale: Any
    settings: Settings
    size: int

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of observations that are fitted."""
        return tuple(self.learner.tasks.fitted)

    @property
    def scored(self) -> Any:
        """True for the animals on which models are compared: those held out, or all if none is."""
        return np.ones_like(self.is_fitted) if self.is_fitted.all() else ~self.is_fitted

    @property
    def nuisance(self) -> Any:
        """Directions of the shared unknowns that are always fitted: all but coefficients, or the whole θ of an MLP."""
        first = len(self.terms) or len(self.scale)
        return np.eye(self.size - first, self.size, first)

    def directions(self, terms: Iterable[int]) -> Any:
        """Directions of some coefficients and of what is always fitted."""
        return np.concatenate([np.eye(self.size)[list(terms)], self.nuisance])

    def start(self, theta: Theta) -> Point:
        """Point with a θ and first values of the other unknowns."""
        return start_point(self.learner, theta, self.animals)

    def theta(self, shared: Any) -> Theta:
        """θ of a point."""
        return unflatten(self.learner, jnp.asarray(shared))[0]

    def fit(self, start: Point, directions: Any, steps: int | None = None) -> Fitted:
        """Fit once, in some directions of the shared unknowns."""
        return self.fit_each([start], [directions], steps)[0]

    def fit_each(
        self,
        starts: Sequence[Point],
        directions: Sequence[Any],
        steps: int | None = None,
        weights: Sequence[Any] | None = None,
        l1: bool = False,
        fits: int = 0,
        settled: bool = True,
    ) -> list[Fitted]:
        """Fit from several starts side by side.

        Args:
            starts: first points.
            directions: directions of the shared unknowns, one matrix a fit.
            steps: most evaluations; 1 evaluates the starts; as in the settings if None.
            weights: weight of each animal, one vector a fit; by default 1 for those that are fitted.
            l1: whether the Laplace prior of the settings counts; the Gaussian one always does.
            fits: number of fits for which the program is made, at least that of the starts; further ones are idle.
            settled: whether the own unknowns of animals that are not fitted are fitted to the end as well, given the
                shared ones, so that their likelihoods count.
        """
        own, most = starts[0].own.shape[1], max(map(len, directions))
        rows = min(-(-max(most, 1) // _STEP) * _STEP, self.size)
        each = [self.is_fitted.astype(float)] * len(starts) if weights is None else list(weights)
        if len(starts) > (block := self._most_fits(rows + own)):
            parts = [slice(begin, begin + block) for begin in range(0, len(starts), block)]
            blocks = ((starts[one], directions[one], steps, each[one], l1, block, settled) for one in parts)
            return [fitted for one in blocks for fitted in self.fit_each(*one)]
        count = max(min(fits, block), len(starts))
        idle = count - len(starts)
        padded = [np.pad(one, ((0, rows - len(one)), (0, 0))) for one in directions]
        padded += [np.zeros_like(padded[0])] * idle
        each += [each[0]] * idle
        points = jax.tree.map(lambda *leaves: jnp.stack(leaves), *starts, *[starts[0]] * idle)
        settings = self.settings
        if not l1:
            settings = settings._replace(penalty=settings.penalty._replace(l1=jnp.zeros(self.size)))
        settings = settings._replace(steps=jnp.asarray(settings.steps if steps is None else steps))
        begin = Start(points, jnp.asarray(np.stack(padded)), jnp.asarray(np.stack(each)))
        chunk = self._chunk_size(rows + own)
        result = fit_all(self.learner, self.animals, begin, settings, chunk)
        if settled and own and steps != 1 and not all(np.all(one > 0) for one in each):
            still = begin._replace(point=result.point, directions=0 * begin.directions, weights=1 + 0 * begin.weights)
            result = _settled(result, fit_all(self.learner, self.animals, still, settings, chunk), begin.weights > 0)
        result = jax.device_get(result)
        return [
            self._fitted(jax.tree.map(lambda leaf, n=n: leaf[n], result), directions[n], rows, each[n])
            for n in range(len(starts))
        ]

    def _fitted(self, iterate: Iterate, directions: Any, rows: int, weights: Any) -> Fitted:
        """Cut the idle directions off, and compute likelihoods."""
        used, own = len(directions), iterate.point.own.shape[1]
        chosen = [*range(used), *range(rows, rows + own)]
        curvature = iterate.curvature._replace(
            gradient=iterate.curvature.gradient[:, :, chosen],
            hessian=iterate.curvature.hessian[:, :, chosen][:, :, :, chosen],
        )
        iterate = iterate._replace(curvature=curvature)
        animals, noises = int(np.sum(weights > 0)), sum(kind in GAUSSIAN for kind in self.kinds)
        # The θ of an MLP was fitted before, if it is not fitted here.
        free = max(used, 0 if self.terms else self.scale.size) + animals * own
        counts = weights @ curvature.observations
        variance = np.asarray(variances(self.kinds, curvature, weights, np.asarray(floors(self.learner))))
        is_gaussian = np.array([kind in GAUSSIAN for kind in self.kinds])
        # Each kind pays for the fitted numbers by its share of the observations.
        corrected = variance * counts / np.maximum(counts - free * counts / max(counts.sum(), 1), 1)
        likelihood = log_likelihood(self.kinds, curvature, variance, own)
        corrected = np.where(is_gaussian, corrected, 1.0)
        return Fitted(iterate, directions, corrected, likelihood, free - animals * own + noises)

    def _most_fits(self, tangents: int) -> int:
        """Fits of one program, whose curvatures are stored together."""
        return max(_CURVATURES // (8 * len(self.is_fitted) * len(self.kinds) * tangents**2), 1)

    def _chunk_size(self, tangents: int) -> int:
        """Fits that are computed at once."""
        first = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), self.animals)
        state = jax.eval_shape(lambda task: fresh_state(self.learner, task), first)
        return int(np.clip(_BYTES // max((tangents + 1) * bytes_of(state), 1), 1, _MOST_AT_ONCE))


def fresh_state(learner: Any, animal: RecordedTask) -> Any:
    """State of a fresh network of an animal, for its shapes."""
    return learner.init(learner.init_theta(run_key(0)), run_key(0), animal)[1]


def _settled(fitted: Iterate, own: Iterate, is_fitted: Any) -> Iterate:
    """Fits in which animals that were not fitted have the own unknowns and the curvature of other fits."""

    def chosen(one: Any, other: Any) -> Any:
        return jnp.where(is_fitted.reshape(is_fitted.shape + (1,) * (one.ndim - 2)), one, other)

    point = fitted.point._replace(own=chosen(fitted.point.own, own.point.own))
    return fitted._replace(point=point, curvature=jax.tree.map(chosen, fitted.curvature, own.curvature))


def log_likelihood(
    kinds: tuple[str, ...], curvature: Curvature, variance: Any, own: int
) -> Float[np.ndarray, " animals"]:
    """Log-likelihood of each animal, whose own unknowns are integrated out by Laplace's approximation.

    Of a prior of variance 1 around the estimate the term −½·ln det(1 + H) counts. Without it, rules that amplify
    differences between weights would win: under them the digits of an initial weight encode what the animal did later.

    Args:
        kinds: kinds of observations.
        curvature: fit of each animal, with the directions of its own unknowns last.
        variance: of the noise by kind.
        own: number of own unknowns.

    Returns:
        It; -∞ where the loss or the curvature is not finite.
    """
    is_gaussian = np.array([kind in GAUSSIAN for kind in kinds])
    gaussian = curvature.observations * np.log(2 * np.pi * variance) / 2 + curvature.loss / variance
    likelihood = -np.where(is_gaussian, gaussian, curvature.loss).sum(axis=1)
    first = curvature.hessian.shape[-1] - own
    hessian = np.einsum("akuv,k->auv", curvature.hessian[:, :, first:, first:], 1 / variance)
    is_finite = np.all(np.isfinite(hessian), axis=(1, 2))
    # By eigenvalues: rounding makes the determinant of large H zero, and then the likelihood would be infinite. Where H
    # spans more than the digits of a number, the term is approximate, but large.
    values = np.linalg.eigvalsh(np.where(is_finite[:, None, None], hessian, 0.0))
    likelihood -= np.log1p(np.maximum(values, 0.0)).sum(axis=1) / 2
    return np.asarray(np.where(is_finite & np.isfinite(likelihood), likelihood, -np.inf))


def make_problem(learner: Any, split: Split, optimizer: Any) -> Problem:
    """Recordings of a split, and the learner.

    Args:
        learner: a learner on recordings.
        split: animals that are fitted and animals that are held out, which may be the same.
        optimizer: that of the experiment; further fits have its settings if it is Gauss–Newton.
    """
    train, test = split
    is_held_out = learner.tasks.held_out > 0
    animals = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), train, test) if is_held_out else train
    fitted = len(train.number)
    theta = learner.init_theta(run_key(0))
    newton = optimizer if isinstance(optimizer, GaussNewton) else GaussNewton()
    terms = () if isinstance(learner.rule, MLP) else tuple(term_names(learner, theta))
    return Problem(
        learner=learner,
        animals=animals,
        is_fitted=np.arange(len(animals.number)) < fitted,
        terms=terms,
        scale=np.asarray(ravel_pytree(learner.theta_scale())[0]),
        settings=newton.settings(learner),
        size=jax.eval_shape(partial(start_point, learner), theta, animals).shared.size,
    )
