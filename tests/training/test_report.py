from pathlib import Path

from ragkit.training.report import TrainingReport, read_report, write_report


def test_a_report_comes_back_as_it_was(tmp_path):
    report = TrainingReport(
        out="runs/one",
        finished=True,
        resumed_from=3,
        steps=7,
        num_tokens=99,
        loss_nats=0.1 + 0.2,
        eval_loss_nats=None,
        bits_per_byte=None,
        seconds=1.5,
        tokens_per_s=66.0,
    )

    write_report(tmp_path / "report.json", report)

    assert read_report(tmp_path / "report.json") == report
    assert report.model == Path("runs/one/model")
