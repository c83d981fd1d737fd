"""Metrics of probabilities and calls against scikit-learn and Bayes, and the policy for what is undefined."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from gcsam_med.errors import InputError
from gcsam_med.metrics.classification import (
    Counts,
    call_classes,
    check_probabilities,
    confusion_matrix,
    log_losses,
    multiclass_mcc,
    npv_at_prevalence,
    one_vs_rest,
    ppv_at_prevalence,
    squared_errors,
)
from gcsam_med.metrics.roc import average_precision_of_weights, roc_auc
from gcsam_med.metrics.summary import classification_metrics
from gcsam_med.metrics.table import CLASSIFICATION

COUNTS = {name: row for name, row in CLASSIFICATION.items() if row.kind == "counts"}

# Few distinct scores, so that ties are the rule.
SCORED = st.lists(st.tuples(st.booleans(), st.sampled_from([0.0, 0.1, 0.5, 0.7, 1.0])), max_size=25)


@settings(max_examples=100, deadline=None)
@given(SCORED)
def test_auc_and_average_precision_equal_scikit_learn(pairs):
    """Oracle: scikit-learn roc_auc_score and average_precision_score, ties included; None for one class."""
    truth, score = np.array([t for t, _ in pairs], bool), np.array([s for _, s in pairs])
    area = None if not len(truth) else average_precision_of_weights(truth, score)(np.ones((1, len(truth))))[0]
    if truth.any() and not truth.all():
        assert roc_auc(truth, score) == pytest.approx(sk.roc_auc_score(truth, score))
        assert area == pytest.approx(sk.average_precision_score(truth, score))
    else:
        assert roc_auc(truth, score) is None
        assert area is None or np.isnan(area)


@pytest.mark.parametrize("n_classes", [2, 3, 4])
def test_scores_of_random_sets_equal_scikit_learn(n_classes):
    """Oracle: scikit-learn on 30 random sets: Brier, log-loss, confusion matrix, macro AUC and AUPRC."""
    rng = np.random.default_rng(n_classes)
    for _ in range(30):
        y = np.concatenate((np.arange(n_classes), rng.integers(0, n_classes, 30)))
        p = rng.dirichlet(np.ones(n_classes) * 0.5, len(y))
        overall, per_class = classification_metrics(y, p)
        confusion = confusion_matrix(y, call_classes(p), n_classes)
        np.testing.assert_array_equal(confusion, sk.confusion_matrix(y, p.argmax(1)))
        target = p[:, 1] if n_classes == 2 else p
        brier = (
            sk.brier_score_loss(y, target)
            if n_classes == 2
            else ((p - np.eye(n_classes)[y]) ** 2).sum(1).mean()
        )
        assert overall["brier"] == pytest.approx(brier)
        assert overall["log_loss"] == pytest.approx(sk.log_loss(y, p))
        assert overall["auc"] == pytest.approx(sk.roc_auc_score(y, target, multi_class="ovr"))
        onehot = np.eye(n_classes)[y][:, 1] if n_classes == 2 else np.eye(n_classes)[y]
        assert overall["auprc"] == pytest.approx(sk.average_precision_score(onehot, target))
        for k, row in enumerate(per_class):
            assert row["auc"] == pytest.approx(sk.roc_auc_score(y == k, p[:, k]))
            assert row["sensitivity"] == pytest.approx(sk.recall_score(y == k, p.argmax(1) == k))


def test_one_class_only_leaves_rank_metrics_undefined_but_not_the_rest():
    """Oracle: the policy; AUC of one class is not 0.5 and not NaN."""
    overall, _ = classification_metrics([1, 1, 1], [[0.2, 0.8], [0.6, 0.4], [0.5, 0.5]])
    assert overall["auc"] is overall["auprc"] is overall["specificity"] is overall["mcc"] is None
    assert overall["balanced_accuracy"] is None
    assert overall["sensitivity"] == pytest.approx(1 / 3)
    assert overall["brier"] == pytest.approx((0.04 + 0.36 + 0.25) / 3)
    macro, per_class = classification_metrics([0, 1], [[0.8, 0.1, 0.1], [0.2, 0.7, 0.1]])
    assert macro["auc"] is None
    assert per_class[0]["auc"] == 1.0
    assert per_class[2]["auc"] is None


def test_no_case_at_all():
    """Oracle: the contract."""
    with pytest.raises(ValueError, match="no case"):
        classification_metrics(np.empty(0, int), np.empty((0, 2)))


def test_threshold_is_inclusive_and_moves_the_table_only():
    """Oracle: the definition; AUC and Brier do not depend on the operating point."""
    y, p = np.array([0, 0, 1, 1]), np.array([0.1, 0.3, 0.3, 0.9])
    prob = np.stack((1 - p, p), axis=1)
    np.testing.assert_array_equal(call_classes(prob, 0.3), [0, 1, 1, 1])
    np.testing.assert_array_equal(call_classes(prob), [0, 0, 0, 1])
    low, high = classification_metrics(y, prob, 0.3)[0], classification_metrics(y, prob, 0.95)[0]
    assert (low["sensitivity"], high["sensitivity"]) == (1.0, 0.0)
    assert high["precision"] is None
    assert low["auc"] == high["auc"]
    assert low["brier"] == high["brier"]
    with pytest.raises(ValueError, match="two classes"):
        call_classes(np.ones((2, 3)) / 3, 0.5)


def test_certain_and_wrong_costs_a_finite_log_loss():
    """Oracle: minus the logarithm of the float64 resolution."""
    assert log_losses([0], [[0.0, 1.0]])[0] == pytest.approx(-np.log(np.finfo(float).eps))
    assert squared_errors([0], [[0.0, 1.0]])[0] == 1.0


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_probabilities_that_are_not_finite_are_an_error(bad):
    """Oracle: the policy; a NaN case must neither vanish nor be ranked somewhere."""
    with pytest.raises(InputError, match=r"1 of 2 cases"):
        classification_metrics([0, 1], [[0.5, 0.5], [bad, 0.5]])
    with pytest.raises(InputError, match="finite scores"):
        roc_auc([0, 1], [0.1, bad])


@pytest.mark.parametrize(
    ("y", "prob", "what"),
    [
        ([0, 2], [[0.5, 0.5]] * 2, r"0\.\.1"),
        ([0.0, 1.0], [[0.5, 0.5]] * 2, "integers"),
        ([0], [[0.5, 0.5]] * 2, "do not fit"),
        ([0, 1], [[0.5, 0.9]] * 2, "sum to 1"),
        ([0, 1], [[1.5, -0.5]] * 2, "0 or more"),
        ([0, 1], [0.5, 0.5], r"\[N, C\]"),
    ],
)
def test_malformed_input_is_refused(y, prob, what):
    """Oracle: the contract."""
    with pytest.raises(ValueError, match=what):
        check_probabilities(y, prob)


def test_half_precision_rows_are_scaled_to_sum_to_one():
    """Oracle: arithmetic; a float16 softmax sums to 1 only within its resolution."""
    prob = np.float16([[0.3333, 0.3333, 0.3334], [0.1, 0.2, 0.7]])
    _, p = check_probabilities([0, 1], prob)
    np.testing.assert_allclose(p.sum(axis=1), 1.0, rtol=1e-15)
    with pytest.raises(ValueError, match="do not fit"):
        confusion_matrix([0, 1], [0], 2)
    with pytest.raises(ValueError, match="do not fit"):
        roc_auc([0, 1], [0.5])


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


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=30))
def test_binary_metrics_equal_scikit_learn_where_it_defines_them(pairs):
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
    assert set(known) == set(COUNTS) == set(SCIKIT)
    for name, row in COUNTS.items():
        value = row.function(counts)
        if known[name]:
            assert value == pytest.approx(SCIKIT[name](t, p)), name
        else:
            assert np.isnan(value), name


@pytest.mark.parametrize("n_classes", [3, 5])
def test_multiclass_metrics_equal_scikit_learn(n_classes):
    """Oracle: scikit-learn macro averages and its multiclass MCC, 30 random sets with every class called."""
    rng = np.random.default_rng(n_classes)
    for _ in range(30):
        t = np.concatenate((np.arange(n_classes), rng.integers(0, n_classes, 40)))
        p = np.where(rng.random(len(t)) < 0.4, t, rng.permutation(t))
        values, _ = classification_metrics(t, np.eye(n_classes)[p])
        assert values["accuracy"] == pytest.approx(sk.accuracy_score(t, p))
        assert values["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(t, p))
        assert values["sensitivity"] == pytest.approx(sk.recall_score(t, p, average="macro"))
        assert values["f1"] == pytest.approx(sk.f1_score(t, p, average="macro"))
        assert values["mcc"] == pytest.approx(sk.matthews_corrcoef(t, p))
        if len(np.unique(p)) == n_classes:
            assert values["precision"] == pytest.approx(sk.precision_score(t, p, average="macro"))


def test_a_missing_class_leaves_macro_metrics_undefined():
    """Oracle: the policy; an average over the classes that happen to be there is another metric."""
    values, _ = classification_metrics([0, 1, 1], np.eye(3)[[0, 1, 0]])
    for name in ("sensitivity", "balanced_accuracy", "mcc"):
        assert values[name] is None
    assert values["accuracy"] == pytest.approx(2 / 3)


def test_stacks_of_tables_equal_single_tables():
    """Oracle: the same functions, one table at a time; a bootstrap relies on it."""
    rng = np.random.default_rng(0)
    for n_classes in (2, 3):
        stack = rng.integers(0, 4, (50, n_classes, n_classes))
        for name, row in COUNTS.items():
            together, several = row.function(one_vs_rest(stack, 1)), row.several and row.several(stack)
            for i, table in enumerate(stack):
                one = row.function(one_vs_rest(table, 1))
                np.testing.assert_allclose(together[i], one, err_msg=name)
                if row.several:
                    np.testing.assert_allclose(several[i], row.several(table), err_msg=name)


def test_mcc_of_large_sets_does_not_overflow():
    """Oracle: exact integers; the product of four margins of a million cases exceeds 64 bits."""
    million = Counts(*(np.int64(10**6 * k) for k in (3, 1, 1, 3)))
    assert COUNTS["mcc"].function(million) == pytest.approx(0.5)
    assert multiclass_mcc(np.array([[3, 1], [1, 3]]) * 10**6) == pytest.approx(0.5)


@settings(max_examples=100)
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
    assert ppv_at_prevalence(*at) == pytest.approx(COUNTS["precision"].function(c))
    assert npv_at_prevalence(*at) == pytest.approx(COUNTS["npv"].function(c))
    with pytest.raises(ValueError, match="prevalence"):
        ppv_at_prevalence(0.9, 0.9, 1.5)
