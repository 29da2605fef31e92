"""What is known of a metric by its name, and what may not be forgotten."""

from dataclasses import MISSING, fields, replace

import pytest

from aesearch.metrics import MetricKind, metric_of
from aesearch.metrics.kinds import FACTORS, NOISE
from aesearch.metrics.registry import KINDS

OWN = MetricKind("sharpness", "more", "", "mean gradient.", None, None, "images")


@pytest.mark.parametrize(
    ("name", "kind", "better"),
    [
        ("val/mse", "mse", "less"),
        ("train/loss", "loss", "less"),
        ("test/fast.mig", "mig", "more"),
        ("val/my-own_2.dci_completeness", "dci_completeness", "more"),
        ("test/bits_per_dim_64", "bits_per_dim", "less"),
        ("val/study.udr_lasso", "udr_lasso", "more"),
        ("test/psnr_gain", "psnr_gain", "more"),
        ("test/psnr_gain_0.1", "psnr_gain", "more"),
        ("val/probe_all", "probe", "more"),
        ("val/shape_probe_100", "probe", "more"),
        ("val/shape_knn_all", "knn", "more"),
        ("val/raw_probe_100", "raw_probe", "more"),
        ("test/fpr_at_95_tpr", "fpr_at_95_tpr", "less"),
        ("test/chen.total_correlation", "total_correlation", "less"),
        ("sharpness", "sharpness", "more"),
    ],
)
def test_a_name_is_resolved_with_its_split_protocol_and_number(name, kind, better):
    found = metric_of(name, (OWN,))
    assert (found.name, found.better) == (kind, better)
    assert found.sign == (1 if better == "less" else -1)


@pytest.mark.parametrize("name", ["val/mgi", "val/mse_64", "val/fast.mgi", "val/sharpness", "val/", "test/udr"])
def test_an_unknown_name_is_an_error(name):
    with pytest.raises(ValueError, match=f"no MetricKind describes the metric {name!r}"):
        metric_of(name)


def test_what_decides_must_be_given():
    optional = {field.name for field in fields(MetricKind) if field.default is not MISSING}
    assert optional == {"number", "factor", "measure", "compares"}
    with pytest.raises(TypeError, match="better"):
        MetricKind("sharpness", unit="", explanation="mean gradient.", floor=None, ceiling=None, cost="images")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"better": "larger"}, "unknown better 'larger' of sharpness: known: less, more"),
        ({"cost": "image"}, "unknown cost 'image' of sharpness: known: pass, codes, fit, images, pairs"),
        ({"explanation": " "}, "the explanation of sharpness is empty"),
        (
            {"name": "val/sharpness"},
            "the metric's name 'val/sharpness' has other characters than letters, digits and '_'",
        ),
    ],
)
def test_a_kind_that_cannot_be_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(OWN, **change)


def test_floor_and_ceiling_of_codes_and_factors_are_had_alike():
    for kind in KINDS.values():
        assert (kind.floor == NOISE) == (kind.ceiling == FACTORS)
        assert kind.measure or kind.floor != NOISE
        assert kind.explanation.endswith(".")
