"""Recordings and outputs in object stores (s3, gs, az) and on web servers (https, to read): the one home of obstore."""
