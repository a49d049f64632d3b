"""The queue in one SQLite file. sqlite-utils lives here.

store.py    the connection: pragmas, transactions, backups, errors
schema.py   tables and migrations; the state machine as triggers
enqueue.py  taking in        claims.py  the owner's writes, fenced      reaper.py   taking from the dead
owners.py   the locks        control.py pausing                          manage.py   retry, cancel, tidying
queries.py  looking          versions.py older to newer                   api.py      `SqliteQueue`, all of it together
"""
