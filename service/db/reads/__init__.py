"""Queries that answer with wire models: what REST, dashboard and event stream show."""

from service.db.reads.curves import curves
from service.db.reads.fit_trials import fit_trials
from service.db.reads.fits import fit_detail, fit_state, list_fits, stored_law
from service.db.reads.fronts import front
from service.db.reads.profiles import profile
from service.db.reads.schedules import schedule
from service.db.reads.stops import stops
from service.db.reads.studies import best, find_study, list_studies, study_detail, summary, version
from service.db.reads.trials import decisions, find_trial, list_trials, trial_detail, trial_item

__all__ = [
    "best",
    "curves",
    "decisions",
    "find_study",
    "find_trial",
    "fit_detail",
    "fit_state",
    "fit_trials",
    "front",
    "list_fits",
    "list_studies",
    "list_trials",
    "profile",
    "schedule",
    "stops",
    "stored_law",
    "study_detail",
    "summary",
    "trial_detail",
    "trial_item",
    "version",
]
