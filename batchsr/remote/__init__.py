"""Recordings and outputs in object stores (s3, gs, az) and on web servers (https, to read): the one home of obstore.

address.py  URLs, and which of them are refused
stores.py   a store is opened
amazon.py   S3 by its own library: profiles, listings, checksums
objects.py  what a store says of its objects
fetch.py    a copy of an object to work on
publish.py  an object gets its key, where nothing has it
answers.py  what errors of a store mean
"""
