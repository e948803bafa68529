"""The human study of A.16: a page of pairs, and what its answers say."""

from sigma_framework.study.answers import Answer, read_answers
from sigma_framework.study.making import StudyReport, make_study
from sigma_framework.study.report import report_study

__all__ = ["Answer", "StudyReport", "make_study", "read_answers", "report_study"]
