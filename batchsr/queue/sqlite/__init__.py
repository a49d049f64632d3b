"""The queue in one SQLite file. sqlite-utils lives here.

api.py        `SqliteQueue`, all of it together; one_host.py: what it answers about hosts

store.py      the connection: pragmas, transactions, backups, errors
schema.py     tables and migrations; the state machine as triggers
versions.py   an older database becomes a newer one

enqueue.py    taking jobs in; importing.py: those that are done already
claims.py     what a worker writes of its job, each write with the claim's number
worker.py     a worker that has joined; owners.py: the locks by which it is known to live
reaper.py     taking jobs back from dead workers
control.py    pausing
places.py     jobs that wait for a place in trouble; folders.py: which jobs are in a folder
manage.py     retry, cancel, edit, tidying; steering.py: new instructions, moved files

queries.py    looking; browsing.py: a page at a time
reports.py    the reports of jobs that have no sidecar
checking.py   whether a database is sound; damage.py: what is the matter with one that is not
log.py        the write-ahead log
restoring.py  a backup in the place of the database
"""
