"""Live figure: softmax, entmax and sparsemax of three logits as answers to one problem."""

from __future__ import annotations

from collections.abc import Sequence

from omnivault.live.figure import LiveFigure, some_logits


def one_problem(logits: Sequence[float] = (1.0, 0.5, -0.5)) -> LiveFigure:
    r"""Show the distribution with the most score for the least distance from a reference.

    The problem is to maximize :math:`\langle p, z \rangle - T B(p, q)` over the distributions p of
    three tokens: z are the logits, q is a reference, and B is the Bregman divergence of
    :math:`\Omega_\alpha(p) = (\sum_i p_i^\alpha - 1) / (\alpha (\alpha - 1))`, which for
    :math:`\alpha = 1` stands for the negative entropy, so that B is KL(p || q).

    Parameters
    ----------
    logits
        Three numbers in [-3, 3] to start with, in steps of 0.1.

    Returns
    -------
    LiveFigure
        Its values: ``probs``, the solution, and the size of its ``support``; ``score`` and
        ``penalty``, the two terms of the objective there, and ``objective``, their difference;
        ``loss``, the largest logit minus the score; the reference ``q``; the ``path`` of the
        solution from its ``limit`` as T goes to 0 to q as T goes to infinity, a list of
        distributions; ``leaves``, for each token the T at which and below which it is ruled out,
        and ``corner_temperature``, the T at which and below which one token has everything, each
        None if there is none; ``contours``, each a level and a list of distributions, the border
        of the set in which the objective is not below this level.

    Raises
    ------
    ValueError
        There are not three logits, or one is out of reach or between the steps of 0.1.

    Notes
    -----
    The reference only moves the logits. With :math:`\nabla = \nabla \Omega_\alpha(q)`, whose
    components are :math:`q_i^{\alpha - 1} / (\alpha - 1)`, or :math:`\log q_i + 1` for
    :math:`\alpha = 1`,

    .. math::
        B(p, q) = \Omega_\alpha(p) - \Omega_\alpha(q) - \langle \nabla, p - q \rangle,

    and so the objective is
    :math:`T (\langle p, z / T + \nabla \rangle - \Omega_\alpha(p))` plus what does not depend on p:
    p is entmax of :math:`z / T + \nabla` (softmax of :math:`z / T + \log q` for
    :math:`\alpha = 1`). All components of :math:`\nabla` are equal if q is uniform, and without
    effect. As :math:`\alpha \to 1`, :math:`(q_i^{\alpha - 1} - 1) / (\alpha - 1) \to \log q_i`.

    For :math:`1 < \alpha \le 2` write
    :math:`v_i = (\alpha - 1) z_i / T + q_i^{\alpha - 1}`. Token i is ruled out if and only if
    :math:`\sum_j \max(v_j - v_i, 0)^{1 / (\alpha - 1)} \ge 1`. The sum is a convex function of
    1 / T, since no exponent is below 1, and it is less than 1 at 1 / T = 0, since q has no zero. So
    it reaches 1 at most once, and a token that is ruled out stays so when T is lowered further.

    Examples
    --------
    >>> values, = one_problem((1.0, 0.5, -0.5)).values({"alpha": 2, "temperature": 1})
    >>> values["probs"], values["support"]
    ([0.75, 0.25, 0], 2)
    >>> values["corner_temperature"]
    0.5
    """
    return LiveFigure(
        "one_problem",
        "Softmax, entmax and sparsemax of three logits in the probability simplex",
        {"logits": some_logits(logits, 3, 3)},
    )
