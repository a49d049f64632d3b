"""The queue: which file is to be restored how, who is at it, what became of it.

job.py      states, a job as it comes in and as it stands, how names are stored
sqlite/     the queue in one SQLite file
"""

from batchsr.queue.job import LIVE, OWNED, TERMINAL, Backend, Enqueued, Job, NewJob, Outcome, Result, State
from batchsr.queue.sqlite.api import Queue, Worker
from batchsr.queue.sqlite.clock import Clock
from batchsr.queue.sqlite.control import Pause
from batchsr.queue.sqlite.reaper import is_published
from batchsr.queue.sqlite.store import describe

__all__ = [
    "LIVE",
    "OWNED",
    "TERMINAL",
    "Backend",
    "Clock",
    "Enqueued",
    "Job",
    "NewJob",
    "Outcome",
    "Pause",
    "Queue",
    "Result",
    "State",
    "Worker",
    "describe",
    "is_published",
]
