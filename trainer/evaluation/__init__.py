"""How right a network is on a data set: weights in PyTorch and plans alike, and reports of it."""

from ..data import DataSet
from .evaluate import evaluate
from .evaluation import Evaluation, Example, GroupScores, TaskEvaluation
from .page import to_html
from .report_tables import ReportTable, report_tables
from .reports import check_report_path, to_json, to_markdown, write_report
from .tally import Tally

__all__ = [
    "DataSet",
    "Evaluation",
    "Example",
    "GroupScores",
    "ReportTable",
    "Tally",
    "TaskEvaluation",
    "check_report_path",
    "evaluate",
    "report_tables",
    "to_html",
    "to_json",
    "to_markdown",
    "write_report",
]
