"""Rational arithmetic: exact where a number is rational, enclosed where it is not.

Every double is a rational number, and so is every sum, product and quotient of doubles: `fractions.Fraction` holds them
exactly. Roots are rounded down by integer arithmetic. Logarithms and exponentials come from `decimal`, which documents
``ln`` and ``exp`` as correctly rounded; each is widened here by far more than that rounding, so that the true value
lies between the two ends.
"""

from __future__ import annotations

import math
from decimal import MAX_EMAX, MIN_EMIN, ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from fractions import Fraction

BITS = 256
"""Significant bits of what is rounded."""

DIGITS = 70
_WIDER = Fraction(1, 10 ** (DIGITS - 3))
_DOWN = Context(prec=DIGITS, rounding=ROUND_FLOOR, Emin=MIN_EMIN, Emax=MAX_EMAX)
_UP = Context(prec=DIGITS, rounding=ROUND_CEILING, Emin=MIN_EMIN, Emax=MAX_EMAX)

SMALLEST_EXPONENT = -2000
"""exp of less than this is enclosed by 0 and exp(-2000): its digits would only take memory."""

SLACK = Fraction(1, 10**9)
"""What is possible is taken this much (relative) wider than the file says: doubles of decimal numbers that fill a
capacity to the last digit can exceed it by their rounding, and a bound must hold for such points too."""

Enclosure = tuple[Fraction, Fraction]
"""A lower and an upper end."""


def floor_to(value: Fraction, bits: int = BITS) -> Fraction:
    """Round down to `bits` significant bits, so that numbers stay short."""
    return -_rounded(-value, bits)


def ceil_to(value: Fraction, bits: int = BITS) -> Fraction:
    """Round up to `bits` significant bits."""
    return _rounded(value, bits)


def _rounded(value: Fraction, bits: int) -> Fraction:
    size = value.numerator.bit_length() - value.denominator.bit_length()
    shift = bits - size
    if shift >= 0:
        return Fraction(-((-value.numerator << shift) // value.denominator), 1 << shift)
    return Fraction(-(-value.numerator // (value.denominator << -shift)) << -shift)


def double_below(value: Fraction) -> float:
    """Return the largest double that is at most `value`.

    Raises
    ------
    OverflowError
        If there is none.

    """
    nearest = float(value)
    return nearest if Fraction(nearest) <= value else math.nextafter(nearest, -math.inf)


def sqrt_below(value: Fraction) -> Fraction:
    """Return a rational number at most the square root of `value` >= 0, short of it by less than 2^-255 of it."""
    shift = max(0, BITS - value.numerator.bit_length() + value.denominator.bit_length())
    scaled = (value.numerator << 2 * shift) // value.denominator
    return Fraction(math.isqrt(scaled), 1 << shift)


def cbrt_below(value: Fraction) -> Fraction:
    """Return a rational number at most the cube root of `value` >= 0, short of it by less than 2^-255 of it."""
    shift = max(0, BITS - value.numerator.bit_length() + value.denominator.bit_length())
    scaled = (value.numerator << 3 * shift) // value.denominator
    root = 1 << (scaled.bit_length() + 2) // 3  # above the root: Newton's method falls to it
    while scaled:
        lower = (2 * root + scaled // (root * root)) // 3
        if lower >= root:
            break
        root = lower
    return Fraction(root if scaled else 0, 1 << shift)


def ln(value: Enclosure) -> Enclosure:
    """Enclose the natural logarithm of numbers > 0."""
    low, high = _decimal(value[0], _DOWN).ln(_DOWN), _decimal(value[1], _UP).ln(_UP)
    return _wider(Fraction(low), Fraction(high))


def exp(value: Enclosure) -> Enclosure:
    """Enclose the exponential function.

    Raises
    ------
    OverflowError
        If it would have more digits than can be held.

    """
    if value[1] > -SMALLEST_EXPONENT:
        raise OverflowError("exponential of a number above 2000")
    least = Fraction(SMALLEST_EXPONENT)
    high = Fraction(_decimal(max(value[1], least), _UP).exp(_UP))
    low = Fraction(_decimal(value[0], _DOWN).exp(_DOWN)) if value[0] >= least else Fraction(0)
    return _wider(low, high)


def power(base: Enclosure, exponent: Fraction) -> Enclosure:
    """Enclose ``base ** exponent`` for a base > 0."""
    low, high = ln(base)
    ends = exponent * low, exponent * high
    return exp((min(ends), max(ends)))


def _decimal(value: Fraction, context: Context) -> Decimal:
    return context.divide(Decimal(value.numerator), Decimal(value.denominator))


def _wider(low: Fraction, high: Fraction) -> Enclosure:
    return low - abs(low) * _WIDER, high + abs(high) * _WIDER
