"""The page for people at `/`: search, a history built by clicking, lists with reasons, similar items, a stored user.

asked.py    what an address asks for, and the addresses of what comes next
view.py     what is shown: the page's only calls of the engine
figures.py  numbers as people read them
routes.py   the page, the same without its shell for the script, the files
templates/  HTML; every text of a catalogue is escaped
static/     one style sheet, one script, one picture
"""

from service.page.routes import router

__all__ = ["router"]
