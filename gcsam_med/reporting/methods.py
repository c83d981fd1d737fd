"""The methods paragraph, ready to paste, and what it cites."""

from __future__ import annotations

from gcsam_med.reporting.report import Report
from gcsam_med.reporting.text import count

GCSAM = (
    "Hassan, Vakanski, Zhang, Xian. GCSAM: Gradient Centralized Sharpness Aware Minimization. IEEE Access 13 "
    "(2025) 182661-182674."
)
SAM = (
    "Foret, Kleiner, Mobahi, Neyshabur. Sharpness-Aware Minimization for Efficiently Improving "
    "Generalization. ICLR 2021."
)
ADAM = "Kingma, Ba. Adam: A Method for Stochastic Optimization. ICLR 2015."
MONAI = (
    "Cardoso et al. MONAI: An open-source framework for deep learning in healthcare. arXiv 2211.02701 (2022)."
)
RELOADED = (
    "Maier-Hein, Reinke et al. Metrics reloaded: recommendations for image analysis validation. Nature "
    "Methods 21 (2024) 195-212."
)
NSD = (
    "Nikolov et al. Clinically Applicable Segmentation of Head and Neck Anatomy for Radiotherapy. J Med "
    "Internet Res 23(7) (2021) e26151."
)
DELONG = (
    "DeLong, DeLong, Clarke-Pearson. Comparing the areas under two or more correlated receiver operating "
    "characteristic curves. Biometrics 44 (1988) 837-845."
)
OBUCHOWSKI = "Obuchowski. Nonparametric analysis of clustered ROC curve data. Biometrics 53 (1997) 567-578."
WILSON = (
    "Wilson. Probable inference, the law of succession, and statistical inference. JASA 22 (1927) 209-212."
)
BCA = "Efron. Better bootstrap confidence intervals. JASA 82 (1987) 171-185."
TEMPERATURE = "Guo, Pleiss, Sun, Weinberger. On Calibration of Modern Neural Networks. ICML 2017."
DECISION = (
    "Vickers, Elkin. Decision curve analysis: a novel method for evaluating prediction models. Medical "
    "Decision Making 26 (2006) 565-574."
)
YOUDEN = "Youden. Index for rating diagnostic tests. Cancer 3 (1950) 32-35."
BLAND = (
    "Bland, Altman. Statistical methods for assessing agreement between two methods of clinical measurement. "
    "Lancet 327 (1986) 307-310."
)
CLAIM = (
    "Tejani et al. Checklist for Artificial Intelligence in Medical Imaging (CLAIM): 2024 Update. "
    "Radiology: AI 6(4) (2024) e240300."
)
TRIPOD = (
    "Collins et al. TRIPOD+AI statement: updated guidance for reporting clinical prediction models. BMJ "
    "385 (2024) e078378."
)

# Optimizers whose paper stands above in full.
_CITED = ("adam", "sam", "gcsam")


def methods_paragraphs(report: Report) -> list[str]:
    """Write the methods in prose, from the run's own facts.

    Parameters
    ----------
    report : Report
        What was found.

    Returns
    -------
    list of str
        Training, data, evaluation; plain text.
    """
    tail = " The images are synthetic." if report.material.synthetic else ""
    return [_training(report), _data(report) + tail, _evaluation(report)]


def _training(report: Report) -> str:
    from gcsam_med.optim import OPTIMIZERS  # brings torch, which the page of a data set does without

    subject, config = report.subject, report.config
    how, method = subject.optimizer, OPTIMIZERS.get(subject.optimizer)
    if method is not None and method.ascent is not None and config:
        rho = method.rho if config.get("rho") is None else config["rho"]
        how += f" (rho {rho:g}) on {config.get('base')}"
    told = (
        ("lr", "peak learning rate {}"),
        ("batch_size", "batch size {}"),
        ("epochs", "at most {} epochs"),
        ("seed", "seed {}"),
    )
    details = "".join(f", {text.format(config[k])}" for k, text in told if config.get(k) is not None)
    return (
        f"A {subject.model} with {subject.parameters:,} parameters was trained for {report.task} on "
        f"{subject.trained_on} at {subject.size} x {subject.size} pixels (aspect ratio kept, padded) with "
        f"{how}{details}. The weights of epoch {subject.epoch} were kept, the best on "
        f"the validation split. Software: gcsam-med {subject.tool_version}"
        + (f", PyTorch {_package(report, 'torch')}" if _package(report, "torch") else "")
        + (f", MONAI {_package(report, 'monai')}" if _package(report, "monai") else "")
        + "."
    )


def _package(report: Report, name: str) -> str:
    packages = report.environment.get("packages")
    return str(packages.get(name) or "") if isinstance(packages, dict) else ""


def _data(report: Report) -> str:
    material = report.material
    kept = {
        "patient": "All images of a patient were kept in one split.",
        "near-duplicate": "Patients are not known; near-duplicate images were kept in one split.",
        "image": "Images were split individually, without regard to patients or near-duplicates.",
    }[material.group_kind]
    classes = ", ".join(f"{n} {name}" for name, n in material.classes.items())
    excluded = "".join(f" {count(n, 'case')} {why} were left out." for why, n in material.excluded.items())
    external = "an external data set, " if material.external else ""
    return (
        f"It was evaluated on {external}the {material.split} split of {material.title}: {material.n_cases} "
        f"images ({classes}) in {count(material.n_groups, 'group')}. {kept}{excluded}"
    )


def _evaluation(report: Report) -> str:
    policy = report.policy
    if report.task == "segmentation":
        figures = (
            "Masks were compared with the reference at the original image resolution by Dice, IoU, 95th "
            "percentile Hausdorff distance and normalised surface Dice (tolerance "
            f"{policy['nsd_tolerance']:g} {policy['distance_unit']}). A lesion image with an empty "
            "prediction scored Dice 0 and the image diagonal as distance; images without a lesion counted "
            "in detection figures only."
        )
    else:
        figures = (
            "Discrimination was measured by AUC and average precision, calls by sensitivity, specificity, "
            "predictive values, F1 and Matthews' correlation, and calibration by Brier score, log-loss "
            "and expected calibration error in 10 bins."
        )
        if report.calibration is not None and report.calibration.temperature is not None:
            figures += (
                f" Temperature scaling (T = {report.calibration.temperature:.3f}) was fitted on the "
                "validation split."
            )
    operating = report.operating
    point = {
        "validation": (
            f"The decision threshold ({operating.threshold:.3f}) was chosen on the validation split by "
            f"the {operating.rule.split(',')[0].split(' on validation')[0]}."
        ),
        "given": f"The decision threshold was {operating.threshold:.3f}.",
        "default": "The likeliest class was called."
        if operating.rule.startswith("the likeliest")
        else "The decision threshold was 0.5.",
    }[operating.chosen_on]
    auc = "; of the AUC by DeLong's method" if "auc" in report.metrics else ""
    return (
        f"{figures} {point} 95 % confidence intervals of proportions were computed by Wilson's "
        f"method{auc}, all others by a bias-corrected accelerated bootstrap with {policy['n_resamples']:,} "
        "resamples of whole groups; where groups hold several cases, the former two take the clustering "
        "into account."
    )


def references(report: Report) -> list[str]:
    """List what the methods paragraph and the report rest on."""
    from gcsam_med.optim import OPTIMIZERS

    optimizer = report.subject.optimizer
    method = OPTIMIZERS.get(optimizer)
    ascends = method is not None and method.ascent is not None
    found = [GCSAM] if optimizer == "gcsam" else []
    found += [SAM] if ascends else []
    found += [f"{optimizer}: {method.paper}."] if method and optimizer not in _CITED else []
    found += [ADAM] if (report.config.get("base") if ascends else optimizer) in ("adam", "adamw") else []
    found += [MONAI, RELOADED]
    if report.task == "segmentation":
        found += [NSD, BLAND]
    else:
        found += [DELONG, OBUCHOWSKI, TEMPERATURE]
        found += [YOUDEN, DECISION] if len(report.material.classes) == 2 else []
    found += [WILSON, BCA, CLAIM, TRIPOD]
    if report.material.citation:
        found.insert(0, report.material.citation)
    return found
