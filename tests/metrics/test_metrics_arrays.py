"""Detection, quality and downstream metrics against scikit-learn, closed forms and counts of pairs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from sklearn.decomposition import PCA
from sklearn.metrics import average_precision_score, roc_auc_score

from aesearch.metrics import (
    auroc,
    average_precision,
    bits_per_dimension,
    fpr_at_tpr,
    frechet,
    knn_accuracy,
    labelled,
    pca_mse,
    probe_accuracy,
    psnr,
    random_conv_features,
    ssim,
    threshold,
)


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 10_000), levels=st.integers(1, 30))
def test_detection_with_ties_is_that_of_scikit_learn(seed, levels):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, levels, 40) / levels
    anomalous = rng.permutation(np.arange(40) < rng.integers(1, 40))
    pairs = np.sign(scores[anomalous][:, None] - scores[~anomalous])
    assert auroc(scores, anomalous) == pytest.approx((pairs + 1).mean() / 2)
    assert auroc(scores, anomalous) == pytest.approx(roc_auc_score(anomalous, scores))
    assert average_precision(scores, anomalous) == pytest.approx(average_precision_score(anomalous, scores))


def test_false_positives_at_a_rate_of_found_anomalies():
    scores = np.array([9.0, 8, 7, 6, 5, 4])
    anomalous = np.array([True, False, True, True, False, False])
    assert fpr_at_tpr(scores, anomalous, tpr=1 / 3) == 0
    assert fpr_at_tpr(scores, anomalous) == pytest.approx(1 / 3)
    assert fpr_at_tpr(np.ones(6), anomalous) == 1, "equal scores are found all at once"


@pytest.mark.parametrize("metric", [auroc, average_precision, fpr_at_tpr])
def test_items_of_one_kind_are_refused(metric):
    with pytest.raises(ValueError, match="items are of one kind"):
        metric(np.arange(3.0), np.zeros(3, bool))


def test_thresholds_are_a_quantile_or_deviations():
    clean = np.random.default_rng(0).normal(3, 2, 100_000)
    assert threshold(clean) == pytest.approx(3 + 1.645 * 2, abs=0.05)
    assert threshold(clean, "deviation") == pytest.approx(3 + 2 * 2, abs=0.05)
    with pytest.raises(ValueError, match="clean has 0 scores"):
        threshold(np.empty(0))


def test_psnr_of_known_noise_and_bits_of_known_nats():
    images = np.full((2, 1, 64, 64), 0.5)
    noise = 0.1 * np.random.default_rng(0).normal(size=images.shape)
    np.testing.assert_allclose(psnr(images + noise, images), 20, atol=0.2)
    assert np.isinf(psnr(images, images)).all()
    assert bits_per_dimension(784 * np.log(2), 784) == pytest.approx(1)


def test_ssim_is_the_formula_and_shrinks_its_window():
    rng = np.random.default_rng(0)
    x, y = rng.random((2, 20, 24))

    def blur(image):
        return gaussian_filter(image, 1.5, truncate=3.5)[5:-5, 5:-5]

    mx, my = blur(x), blur(y)
    vx, vy, cov = blur(x * x) - mx**2, blur(y * y) - my**2, blur(x * y) - mx * my
    whole = (2 * mx * my + 1e-4) * (2 * cov + 9e-4) / ((mx**2 + my**2 + 1e-4) * (vx + vy + 9e-4))
    assert ssim(x[None, None], y[None, None]) == pytest.approx(whole.mean())
    small = rng.random((4, 3, 8, 5))
    np.testing.assert_allclose(ssim(small, small), 1)
    with pytest.raises(ValueError, match="alike"):
        ssim(small, small[:2])


def test_pca_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    data = rng.normal(size=(700, 30)) @ rng.normal(size=(30, 30)) + 5
    train, test = data[:500], data[500:]
    for size, found in zip([0, 3, 30], pca_mse(train, test, [0, 3, 30]), strict=True):
        pca = PCA(size).fit(train)
        rebuilt = pca.inverse_transform(pca.transform(test)) if size else np.broadcast_to(train.mean(0), test.shape)
        assert found == pytest.approx(((rebuilt - test) ** 2).mean(), abs=1e-9)
    with pytest.raises(ValueError, match="sizes must be from 0 to 30"):
        pca_mse(train, test, [31])


def test_pca_of_many_dimensions_is_close_to_exact():
    rng = np.random.default_rng(0)
    data = (rng.normal(size=(600, 40)) * 0.8 ** np.arange(40)) @ rng.normal(size=(40, 1100))
    data += 0.05 * rng.normal(size=data.shape)
    found = pca_mse(data[:500], data[500:], [1, 5, 20])
    _, _, rows = np.linalg.svd(data[:500] - data[:500].mean(0), full_matrices=False)
    centred = data[500:] - data[:500].mean(0)
    exact = [((centred - centred @ rows[:size].T @ rows[:size]) ** 2).mean() for size in (1, 5, 20)]
    assert found == pytest.approx(exact, rel=0.01)


def test_features_tell_which_samples_differ():
    rng = np.random.default_rng(0)
    smooth = gaussian_filter(rng.random((900, 1, 16, 16)), (0, 0, 2, 2))
    features = random_conv_features(smooth)
    assert features.shape == (900, 256)
    np.testing.assert_array_equal(features, random_conv_features(smooth))
    same = frechet(features[:300], features[300:600])
    other = frechet(features[:300], random_conv_features(rng.random((300, 1, 16, 16))))
    assert same < 0.1 * other
    assert random_conv_features(smooth[:2, :, :4, :7]).shape == (2, 256)
    with pytest.raises(ValueError, match="2 or more"):
        frechet(features[:1], features)


def test_labels_are_drawn_evenly_and_enough_make_a_probe():
    rng = np.random.default_rng(0)
    labels = rng.choice(4, 3000, p=[0.7, 0.1, 0.1, 0.1])
    codes = np.eye(4)[labels] * 4 + rng.normal(size=(3000, 4))
    assert (np.bincount(labels[labelled(labels, 100, 0)]) == 25).all()
    accuracies = [probe_accuracy(codes, labels, codes, labels, n) for n in (10, 100, None)]
    assert accuracies[0] > 0.6
    assert accuracies[-1] > 0.97
    assert knn_accuracy(codes, labels, codes, labels, n_labels=100) > 0.9
    assert probe_accuracy(codes @ np.diag([9, 1, 1, 0.1]), labels, codes @ np.diag([9, 1, 1, 0.1]), labels) > 0.97
    with pytest.raises(ValueError, match="from 4 to 3000"):
        probe_accuracy(codes, labels, codes, labels, 3)
