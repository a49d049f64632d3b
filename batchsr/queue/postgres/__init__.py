"""The queue of a fleet: one PostgreSQL database for the workers of many hosts. psycopg lives here.

dialect.py   the statements of `queue/sqlite` in PostgreSQL's words
store.py     the connection: transactions, clocks
database.py  what is done in a transaction, and how values are kept
trouble.py   errors in our words
place.py     which database: its URL, told without a password
schema.py    tables, triggers, versions
functions.py what a worker asks for every file, as functions of the database
calls.py     those functions, called
correcting.py a record follows the output that stands there
windows.py   how far the files in a host's hands are
hosts.py     what each host has in hand, and a pause of one alone
server.py    what there is to tell of the server, and whether it will do
alive.py     a worker's signs of life, and whose have stopped
api.py       `PostgresQueue`, all of it together

Both queues run the same statements, but for what a worker asks for every file; one set of tests holds for both.
"""
