"""The queue in a browser: `batchsr serve`.

app.py        which address is answered by what
pages.py      the pages for people
steering.py   what a person changes: a question, then a POST
submit.py     takes files in, by `batchsr enqueue`
forms.py      forms that only a page of ours can have made
token.py      without which nobody is answered beyond this machine
render.py     pages from templates
api.py        the command line's JSON, figures for Prometheus
source.py     the queue as the server reads it, asked once for all viewers
wanted.py     which files an address means
files.py      sound, by a job's number
hearing.py    pictures and clips of one file, made by a process of its own
stream.py     tells browsers that something changed
guard.py      who may ask, what a browser may do with the answer, and how much of anything
server.py     the listening socket, and clients that are too slow
"""
