"""Makes vectors.json: values of special functions by mpmath (30 digits) and of tests and metrics by scipy.

    python -m venv venv && venv/bin/pip install scipy mpmath && venv/bin/python make.py > vectors.json
"""
import json

import mpmath as mp
import numpy as np
from scipy import stats

mp.mp.dps = 60


def p(a, x):
    """The lower tail by its power series: positive terms only."""
    a, x = mp.mpf(a), mp.mpf(x)
    term = total = 1 / a
    n = 0
    while term > total * mp.mpf(10) ** -mp.mp.dps:
        n += 1
        term *= x / (a + n)
        total += term
    return total * mp.e ** (a * mp.log(x) - x - mp.loggamma(a))


def q(a, x):
    """The upper tail as one minus the lower, with as many digits as that costs."""
    digits = max(0, int((x - a - a * mp.log(x / a)) / mp.log(10))) if x > a else 0
    with mp.workdps(80 + digits):
        return 1 - p(a, x)


def number(value):
    return float(value)


gamma = []
for a in [0.05, 0.3, 0.5, 1, 1.7, 4.5, 9, 14.9, 15, 40, 250.5, 3000, 1e5]:
    for ratio in [0.02, 0.3, 0.8, 0.97, 0.99, 1, 1.01, 1.02, 1.3, 2, 6, 30]:
        x = float(a * ratio)
        if a >= 3000 and not 0.9 < ratio < 1.1:
            continue
        lower, upper = p(a, x), q(a, x)
        gamma.append([a, x, number(lower), number(upper), number(mp.log(upper)) if upper > 0 else None])

log_gamma = [[x, number(mp.loggamma(x))] for x in [0.01, 0.3, 0.5, 1.5, 3, 7.25, 14.5, 15.5, 120, 1e5, 1e9]]
chi_square = [[x, df, number(q(df / 2, x / 2))] for x, df in [(150, 9), (3.84, 1), (27.9, 9), (700, 12), (0.5, 30)]]
chi_square_upper = [[pr, df, stats.chi2.isf(pr, df)] for pr in [0.9, 0.5, 0.05, 1e-5, 1e-12, 1e-200] for df in [1, 4, 9, 60]]
chi_square_lower = [[pr, df, stats.chi2.ppf(pr, df)] for pr in [1e-10, 0.01, 0.3, 0.75] for df in [1, 4, 9, 60]]
normal = [[z, number(mp.ncdf(z)), number(mp.ncdf(-z))] for z in [-30, -8.5, -3, -1, -0.1, 0, 0.4, 1.96, 5, 12, 36]]
normal_quantile = [[pr, stats.norm.ppf(pr)] for pr in [1e-300, 1e-20, 1e-5, 0.01, 0.2, 0.5, 0.7, 0.975, 0.999999]]


def noncentral(x, df, nc):
    """Poisson mixture in 60 digits."""
    half = mp.mpf(nc) / 2
    cdf, sf = mp.mpf(0), mp.mpf(0)
    weight = mp.e ** -half
    top = int(nc + x + 300)
    for j in range(top):
        cdf += weight * p(mp.mpf(df) / 2 + j, mp.mpf(x) / 2)
        sf += weight * q(mp.mpf(df) / 2 + j, mp.mpf(x) / 2)
        weight *= half / (j + 1)
    return number(cdf), number(sf)


noncentral_chi_square = [
    [x, df, nc, *noncentral(x, df, nc)]
    for x, df, nc in [(10, 9, 0.5), (20, 9, 10), (150, 9, 34.1), (5, 4, 60), (200, 3, 80), (40, 19, 0.01), (600, 9, 400)]
]

random = np.random.default_rng(7)
tables = []
for cells, n, m in [(2, 100, 100), (5, 300, 1000), (10, 1500, 50000), (20, 4000, 4000)]:
    shares = random.dirichlet(np.full(cells, 8.0))
    a, b = random.multinomial(n, shares), random.multinomial(m, shares)
    result = stats.chi2_contingency(np.array([a, b]), correction=False)
    ratio = stats.chi2_contingency(np.array([a, b]), correction=False, lambda_="log-likelihood")
    tables.append(
        {
            "a": a.tolist(),
            "b": b.tolist(),
            "pearson": [result.statistic, result.pvalue],
            "likelihoodRatio": [ratio.statistic, ratio.pvalue],
        }
    )

wilson = []
for k, n in [(0, 10), (3, 10), (50, 1000), (1000, 1000)]:
    interval = stats.binomtest(k, n).proportion_ci(0.95, method="wilson")
    wilson.append([k, n, interval.low, interval.high])

scores = np.round(random.beta(2, 5, 400), 2)
labels = (random.random(400) < scores).astype(int)
rank = stats.mannwhitneyu(scores[labels == 1], scores[labels == 0]).statistic
auc = rank / ((labels == 1).sum() * (labels == 0).sum())
clipped = np.clip(scores, 1e-15, 1 - 1e-15)
loss = -np.mean(labels * np.log(clipped) + (1 - labels) * np.log(1 - clipped))
performance = {
    "scores": scores.tolist(),
    "labels": labels.tolist(),
    "auc": auc,
    "logLoss": loss,
    "brier": float(np.mean((scores - labels) ** 2)),
}

print(
    json.dumps(
        {
            "gamma": gamma,
            "logGamma": log_gamma,
            "chiSquareSf": chi_square,
            "chiSquareUpperQuantile": chi_square_upper,
            "chiSquareQuantile": chi_square_lower,
            "normal": normal,
            "normalQuantile": normal_quantile,
            "noncentralChiSquare": noncentral_chi_square,
            "contingencyTables": tables,
            "wilson": wilson,
            "performance": performance,
        },
        separators=(",", ":"),
    )
)
