"""The queue: which file is to be restored how, who is at it, what became of it. sqlite-utils lives here.

job.py      states, a job as it comes in and as it stands, how names are stored
store.py    the connection: pragmas, transactions, backups, errors
schema.py   tables and migrations; the state machine as triggers
enqueue.py  taking in        claims.py  the owner's writes, fenced      reaper.py   taking from the dead
owners.py   the locks        control.py pausing                          manage.py   retry, cancel, tidying
queries.py  looking          clock.py   two clocks                       api.py      `Queue`, all of it together
"""

from batchsr.queue.api import Queue, Worker
from batchsr.queue.clock import Clock
from batchsr.queue.control import Pause
from batchsr.queue.job import LIVE, OWNED, TERMINAL, Backend, Enqueued, Job, NewJob, Outcome, Result, State
from batchsr.queue.reaper import is_published
from batchsr.queue.store import describe

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
