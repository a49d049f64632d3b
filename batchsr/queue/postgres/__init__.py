"""The queue of a fleet: one PostgreSQL database for the workers of many hosts. psycopg lives here.

dialect.py   the statements of `queue/sqlite` in PostgreSQL's words
store.py     the connection: transactions, clocks
database.py  what is done in a transaction, and how values are kept
trouble.py   errors in our words
place.py     which database: its URL, told without a password
schema.py    tables, triggers, versions
alive.py     a worker's signs of life, and whose have stopped
api.py       `PostgresQueue`, all of it together

Both queues run the same statements, so that one set of rules, one fence and one set of tests hold for both.
"""
