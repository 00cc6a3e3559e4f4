"""The API: top-k recommendations from the current version of a registry. It loads no training data code.

python -m service --registry DIR --host 127.0.0.1 --port 8000

app.py        create_app(settings), serve(settings, listener, listens)
workers.py    several processes that serve one socket
listening.py  the socket, and what is said once it is served
settings.py   what an operator may choose
sources.py    where settings come from: arguments, the environment, a file
schemas.py    what is posted and answered
routes/       one function a route
live.py       the versions that are served right now, and how others take over
recent.py     histories asked for lately, by which a version is warmed
engine.py     one version: histories, and what becomes of their scores
batcher.py    lists of a moment scored together, off the event loop
index.py      the best items of a large catalogue without scoring all of it
strangeness.py how unlike the others a user is
cache.py      lists kept until something that they were made from changes
shaping.py    another order of a model's candidates, a draw of its scores, reasons
client.py     the API from Python
security.py   who may ask: API keys
rates.py      how often
protocol.py   what is no HTTP at all
admission.py  how much at once, how large, how long
observing.py  the line in the log and the figures of each request
figures.py    figures of several processes
logs.py       JSON lines on stderr
store.py      users' events, the lists they were shown and what is said of items, in SQL
impressions.py lists on their way to the store
users.py      the history of somebody known by id
catalogue.py  titles, categories and availability as of now
search.py     items by the words of their titles
page/         the page for people at /
problems.py   every error as an RFC 9457 problem document
"""
