"""Makes shapley.json: exact interventional Shapley values by the `shap` package, of small networks given in the file.

    python -m venv venv && venv/bin/pip install numpy shap && venv/bin/python make-shapley.py > shapley.json
"""
import json
import warnings

import numpy as np
import shap

warnings.filterwarnings('ignore')
rng = np.random.default_rng(20260701)


def answer(case, rows):
    """tanh(x W + b) v + c + d x0 x1: every feature interacts with every other."""
    hidden = np.tanh(rows @ np.array(case['weights']) + np.array(case['biases']))
    return hidden @ np.array(case['outputs']) + case['product'] * rows[:, 0] * rows[:, 1]


cases = []
for features, backgrounds in [(2, 1), (3, 5), (5, 8), (8, 16), (10, 7)]:
    hidden = 4
    case = {
        'weights': rng.normal(size=(features, hidden)).round(3).tolist(),
        'biases': rng.normal(size=hidden).round(3).tolist(),
        'outputs': rng.normal(size=hidden).round(3).tolist(),
        'product': 0.75,
        'background': rng.normal(size=(backgrounds, features)).round(2).tolist(),
        'row': rng.normal(size=features).round(2).tolist(),
    }
    if features > 4:
        # Features that do not differ from some of the background are no players there.
        for background in case['background'][:3]:
            background[2] = case['row'][2]
    background = np.array(case['background'])
    masker = shap.maskers.Independent(background, max_samples=len(background))
    explainer = shap.explainers.Exact(lambda rows, case=case: answer(case, rows), masker)
    explanation = explainer(np.array([case['row']]))
    case['base'] = float(explanation.base_values[0])
    case['values'] = [float(value) for value in explanation.values[0]]
    cases.append(case)

print(json.dumps({'shap': shap.__version__, 'numpy': np.__version__, 'cases': cases}, indent=1))
