"""The queue: which file is to be restored how, who is at it, what became of it.

interface.py   what a worker and the command line ask of a queue
job.py         states, a job as it comes in and as it stands, how names are stored
finished.py    a job that was done before the queue knew of it
filters.py     which jobs somebody looks for, a page at a time
steering.py    what a person changes about jobs, and the answers
roots.py       what a path is called on every host
trouble.py     what keeps jobs from being claimed
published.py   whether an output is the one that a job speaks of
clock.py       two clocks
opening.py     opens one: the only module here that knows an implementation
changes.py     what may become of each state
sqlite/        the queue in one SQLite file
postgres/      the queue of a fleet, in PostgreSQL
"""

from batchsr.queue.clock import Clock
from batchsr.queue.filters import FailureKind, JobFilter, Page, Sort
from batchsr.queue.finished import Finished
from batchsr.queue.interface import IntakeQueue, Maintenance, Overview, Pulse, Queue, Worker, WorkQueue
from batchsr.queue.job import LIVE, OWNED, TERMINAL, Backend, Enqueued, Job, NewJob, Outcome, Result, State
from batchsr.queue.published import is_published
from batchsr.queue.steering import Answer, Changed, Instructions, Move, Speed
from batchsr.queue.trouble import Pause, Place, PlaceCode, Side, Trouble

__all__ = [
    "LIVE",
    "OWNED",
    "TERMINAL",
    "Answer",
    "Backend",
    "Changed",
    "Clock",
    "Enqueued",
    "FailureKind",
    "Finished",
    "Instructions",
    "IntakeQueue",
    "Job",
    "JobFilter",
    "Maintenance",
    "Move",
    "NewJob",
    "Outcome",
    "Overview",
    "Page",
    "Pause",
    "Place",
    "PlaceCode",
    "Pulse",
    "Queue",
    "Result",
    "Side",
    "Sort",
    "Speed",
    "State",
    "Trouble",
    "WorkQueue",
    "Worker",
    "is_published",
]
