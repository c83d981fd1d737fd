"""Figures of probabilities against scikit-learn, ties and missing classes included."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from gcsam_med.errors import InputError
from gcsam_med.metrics.classification import (
    average_precision,
    call_classes,
    check_probabilities,
    classification_metrics,
    confusion_matrix,
    log_losses,
    roc_auc,
    squared_errors,
)

# Few distinct scores, so that ties are the rule.
SCORED = st.lists(st.tuples(st.booleans(), st.sampled_from([0.0, 0.1, 0.5, 0.7, 1.0])), max_size=25)


@settings(max_examples=250, deadline=None)
@given(SCORED)
def test_auc_and_average_precision_equal_scikit_learn(pairs):
    """Oracle: scikit-learn roc_auc_score and average_precision_score, ties included; None for one class."""
    truth, score = np.array([t for t, _ in pairs], bool), np.array([s for _, s in pairs])
    if truth.any() and not truth.all():
        assert roc_auc(truth, score) == pytest.approx(sk.roc_auc_score(truth, score))
        assert average_precision(truth, score) == pytest.approx(sk.average_precision_score(truth, score))
    else:
        assert roc_auc(truth, score) is None
        assert average_precision(truth, score) is None


@pytest.mark.parametrize("n_classes", [2, 3, 4])
def test_scores_of_random_sets_equal_scikit_learn(n_classes):
    """Oracle: scikit-learn on 100 random sets: Brier, log-loss, confusion matrix, macro AUC and AUPRC."""
    rng = np.random.default_rng(n_classes)
    for _ in range(100):
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


def test_one_class_only_leaves_rank_figures_undefined_but_not_the_rest():
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
    """Oracle: the policy; nothing is defined and nothing fails."""
    overall, _ = classification_metrics(np.empty(0, int), np.empty((0, 2)))
    assert set(overall.values()) == {None}


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
