"""Figures of a two-by-two table against scikit-learn, Bayes, and the stated policy for empty cells."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from gcsam_med.metrics.classification import confusion_matrix
from gcsam_med.metrics.confusion import (
    TABLE_METRICS,
    Counts,
    defined,
    multiclass_mcc,
    npv_at_prevalence,
    one_vs_rest,
    ppv_at_prevalence,
    table_metrics,
)

SHARE = st.floats(0, 1)
SCIKIT = {
    "accuracy": sk.accuracy_score,
    "balanced_accuracy": sk.balanced_accuracy_score,
    "sensitivity": sk.recall_score,
    "specificity": lambda t, p: sk.recall_score(1 - t, 1 - p),
    "precision": sk.precision_score,
    "npv": lambda t, p: sk.precision_score(1 - t, 1 - p),
    "f1": sk.f1_score,
    "mcc": sk.matthews_corrcoef,
}


@settings(max_examples=250, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=30))
def test_binary_figures_equal_scikit_learn_where_it_defines_them(pairs):
    """Oracle: scikit-learn; where its denominator is 0 ours is None (F1 and MCC as the policy says)."""
    t, p = np.array(pairs).T
    counts = one_vs_rest(confusion_matrix(t, p, 2), 1)
    both = 0 < t.sum() < len(t)
    known = {
        "accuracy": True,
        "balanced_accuracy": both,
        "sensitivity": t.any(),
        "specificity": not t.all(),
        "precision": p.any(),
        "npv": not p.all(),
        "f1": t.any() or p.any(),
        "mcc": both,
    }
    assert set(known) == set(TABLE_METRICS) == set(SCIKIT)
    for name, metric in TABLE_METRICS.items():
        value = defined(metric(counts))
        if known[name]:
            assert value == pytest.approx(SCIKIT[name](t, p)), name
        else:
            assert value is None, name


@pytest.mark.parametrize("n_classes", [3, 5])
def test_multiclass_figures_equal_scikit_learn(n_classes):
    """Oracle: scikit-learn macro averages and its multiclass MCC, 100 random sets with every class called."""
    rng = np.random.default_rng(n_classes)
    for _ in range(100):
        t = np.concatenate((np.arange(n_classes), rng.integers(0, n_classes, 40)))
        p = np.where(rng.random(len(t)) < 0.4, t, rng.permutation(t))
        values = table_metrics(confusion_matrix(t, p, n_classes))
        assert values["accuracy"] == pytest.approx(sk.accuracy_score(t, p))
        assert values["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(t, p))
        assert values["sensitivity"] == pytest.approx(sk.recall_score(t, p, average="macro"))
        assert values["f1"] == pytest.approx(sk.f1_score(t, p, average="macro"))
        assert values["mcc"] == pytest.approx(sk.matthews_corrcoef(t, p))
        if len(np.unique(p)) == n_classes:
            assert values["precision"] == pytest.approx(sk.precision_score(t, p, average="macro"))


def test_a_missing_class_leaves_macro_figures_undefined():
    """Oracle: the policy; an average over the classes that happen to be there is another figure."""
    values = table_metrics(confusion_matrix([0, 1, 1], [0, 1, 0], 3))
    for name in ("sensitivity", "balanced_accuracy", "mcc"):
        assert defined(values[name]) is None
    assert defined(values["accuracy"]) == pytest.approx(2 / 3)


def test_stacks_of_tables_equal_single_tables():
    """Oracle: the same functions, one table at a time; a bootstrap relies on it."""
    rng = np.random.default_rng(0)
    for n_classes in (2, 3):
        stack = rng.integers(0, 4, (50, n_classes, n_classes))
        together = table_metrics(stack)
        for i, table in enumerate(stack):
            for name, value in table_metrics(table).items():
                np.testing.assert_allclose(together[name][i], value, err_msg=name)


def test_mcc_of_large_sets_does_not_overflow():
    """Oracle: exact integers; the product of four margins of a million cases exceeds 64 bits."""
    million = Counts(*(np.int64(10**6 * k) for k in (3, 1, 1, 3)))
    assert TABLE_METRICS["mcc"](million) == pytest.approx(0.5)
    assert multiclass_mcc(np.array([[3, 1], [1, 3]]) * 10**6) == pytest.approx(0.5)


@settings(max_examples=200)
@given(SHARE, SHARE, SHARE)
def test_predictive_values_follow_bayes(sens, spec, prevalence):
    """Oracle: Bayes' theorem by shares of a population of one."""
    sick_called, well_called = sens * prevalence, (1 - spec) * (1 - prevalence)
    sick_cleared, well_cleared = (1 - sens) * prevalence, spec * (1 - prevalence)
    ppv, npv = ppv_at_prevalence(sens, spec, prevalence), npv_at_prevalence(sens, spec, prevalence)
    if sick_called + well_called > 0:
        assert ppv == pytest.approx(sick_called / (sick_called + well_called))
    else:
        assert ppv is None
    if sick_cleared + well_cleared > 0:
        assert npv == pytest.approx(well_cleared / (sick_cleared + well_cleared))
    else:
        assert npv is None


def test_predictive_values_at_the_prevalence_at_hand_are_those_of_the_table():
    """Oracle: the table itself."""
    c = Counts(40, 10, 5, 45)
    at = (40 / 45, 45 / 55, 0.45)
    assert ppv_at_prevalence(*at) == pytest.approx(TABLE_METRICS["precision"](c))
    assert npv_at_prevalence(*at) == pytest.approx(TABLE_METRICS["npv"](c))
    with pytest.raises(ValueError, match="prevalence"):
        ppv_at_prevalence(0.9, 0.9, 1.5)
