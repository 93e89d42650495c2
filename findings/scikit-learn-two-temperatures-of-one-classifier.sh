#!/usr/bin/env bash
# scikit-learn 1.9.1, numpy 2.4.6, Python 3.11
#
# CalibratedClassifierCV(method="temperature") divides the logits of a classifier by a temperature.
# Of a binary logistic regression it is given decision_function, the difference z of the two logits,
# and makes of it the logits (-z, z), which are 2 z apart. So a model that is calibrated already is
# told T = 2; the same model, wrapped so that it has only predict_proba, is told T = 1. The
# probabilities come out alike; the temperature, by which overconfidence is reported, does not.
#
# Seen, T: 1.954 and 0.977; the probabilities differ by less than 1e-9.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet scikit-learn==1.9.1 numpy==2.4.6
"$folder/env/bin/python" - <<'PYTHON'
import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression


class OnlyProbabilities(ClassifierMixin, BaseEstimator):
    def __init__(self, model):
        self.model = model

    def fit(self, x, y):
        self.classes_ = self.model.classes_
        return self

    def predict_proba(self, x):
        return self.model.predict_proba(x)

    def predict(self, x):
        return self.model.predict(x)


rng = np.random.default_rng(0)
x = rng.normal(size=(40_000, 2))
y = rng.random(40_000) < 1 / (1 + np.exp(-(x @ [1.5, -1.0])))
model = LogisticRegression().fit(x[:20_000], y[:20_000])
found, probabilities = {}, {}
for name, wrapped in (
    ("decision_function", model),
    ("predict_proba", OnlyProbabilities(model).fit(x, y)),
):
    calibrated = CalibratedClassifierCV(FrozenEstimator(wrapped), method="temperature")
    calibrated.fit(x[20_000:], y[20_000:])
    calibrator = calibrated.calibrated_classifiers_[0].calibrators[0]
    found[name] = 1 / calibrator.beta_
    probabilities[name] = calibrated.predict_proba(x[:1000])[:, 1]
    print(f"through {name}: T = {found[name]:.3f}")
apart = np.abs(probabilities["decision_function"] - probabilities["predict_proba"]).max()
print(f"the probabilities differ by at most {apart:.1e}")
assert abs(found["predict_proba"] - 1) < 0.1
assert apart < 1e-3
assert abs(found["decision_function"] - 2) < 0.2, "the temperature is that of the logits now"
PYTHON
